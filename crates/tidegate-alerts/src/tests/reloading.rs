//! Settings that change while connections are open.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;
use serde_json::json;
use tidegate_core::app::App as _;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::port::BoxFuture;

use super::fake::{identity, node};
use crate::settings::{OnText, RefusalForm, Settings, UserCheck, UserSource, Zone};
use crate::user_check::{Directory, HttpGet};

fn roles(of: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
    of.iter().map(|(role, channel)| ((*role).to_owned(), vec![(*channel).to_owned()])).collect()
}

#[tokio::test]
async fn what_is_decided_is_decided_by_the_settings_of_now() {
    // S3-21, S3-27, S3-34, S3-45, S3-51
    let node = node(Settings { history: 3, ..Settings::default() });
    let before = node.open("1", "authority").await;
    let alert = |channel: &str, n: u64| json!({ "channel": channel, "alert": { "type": "x", "n": n } });
    for n in 1..=3 {
        assert_eq!(node.publish("jwt.service.9", alert("authority", n)).await.0, 200);
    }
    assert_eq!(node.received(&before).len(), 3);
    let new = Settings {
        refusal: RefusalForm::Close,
        on_text: OnText::Route,
        role_text: "Guards only".to_owned(),
        roles: roles(&[("guard", "gate"), ("authority", "authority")]),
        aliases: BTreeMap::from([("door".to_owned(), "gate".to_owned())]),
        publish_roles: vec!["guard".to_owned()],
        publish_rate: 1.0,
        history: 1,
        zones: BTreeMap::from([(
            "1".to_owned(),
            Zone { name: "Gate".to_owned(), lat: 1.0, lon: 1.0, radius_km: None },
        )]),
        ..Settings::default()
    };
    node.app.replace_settings(new.clone(), None).unwrap();
    assert_eq!(*node.app.settings(), new);
    let refused = node.connect(identity("2", &["admin"]), "").await.err().unwrap();
    assert_eq!((&*refused.message, refused.close_code), ("Guards only", Some(1008)));
    let told = node.refused(Diagnosis::JWT_MISSING, 403, &Facts::none(), "192.0.2.3", false).unwrap();
    assert_eq!(told.close_code, Some(1008));
    assert!(node.app.before_route("hello").is_none());
    let guard = node.open("3", "guard").await;
    // Who may publish, under which names, and how often.
    assert_eq!(node.publish("jwt.service.9", alert("gate", 4)).await.0, 403);
    assert_eq!(node.publish("jwt.guard.9", alert("door", 5)).await.1["connections"], 1);
    assert_eq!(node.publish("jwt.guard.9", alert("gate", 6)).await.0, 429);
    assert_eq!(node.received(&guard).len(), 1);
    let zone = json!({ "zone_id": "1", "title": "t", "message": "m", "severity": "low" }).to_string();
    let body = node.call("jwt.guard.8", Method::POST, "/api/broadcast/zone", &zone).await;
    assert_eq!((body.0, &body.1["zone_name"]), (200, &json!("Gate")));
    // Who was there stays, and of the alerts that were kept the newest ones do.
    node.later(1000);
    assert_eq!(node.publish("jwt.guard.9", alert("authority", 7)).await.1["connections"], 1);
    assert_eq!(node.received(&before).len(), 1);
    node.later(1000);
    let late = node.connect(identity("4", &["authority"]), "since=unknown").await.unwrap();
    assert_eq!(late.first.len(), 1, "{:?}", late.first);
    node.app.replace_settings(Settings::default(), None).unwrap();
    let late = node.connect(identity("5", &["authority"]), "since=unknown").await.unwrap();
    assert!(late.first.is_empty());
    let refused = node.connect(identity("2", &["tourist"]), "").await.err().unwrap();
    assert_eq!((refused.status, refused.close_code), (403, None));
}

#[tokio::test]
async fn what_cannot_be_in_force_changes_nothing() {
    let node = node(Settings::default());
    let wrong = [
        (Settings { mounts: vec!["/other".to_owned()], ..Settings::default() }, "mounts"),
        (Settings { history: 1001, dedupe: true, ..Settings::default() }, "history"),
    ];
    for (settings, path) in wrong {
        let problems = node.app.replace_settings(settings, None).unwrap_err();
        assert_eq!(problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(), [path]);
        assert_eq!(*node.app.settings(), Settings::default());
    }
}

/// Knows one user.
#[derive(Debug)]
struct Only(&'static str, Mutex<usize>);

impl HttpGet for Only {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<(u16, Bytes), &'static str>> {
        *self.1.lock() += 1;
        let status = if url.ends_with(self.0) { 200 } else { 404 };
        Box::pin(async move { Ok((status, Bytes::new())) })
    }
}

#[tokio::test]
async fn the_user_check_may_change() {
    // S3-23
    let node = node(Settings::default());
    let checked = |timeout_ms| {
        let source = UserSource::Http { url: "http://users/{user}".to_owned(), active: None };
        let check = UserCheck { source, roles: vec!["authority".to_owned()], timeout_ms, cache_seconds: 60 };
        Settings { user_check: Some(check), ..Settings::default() }
    };
    let is_let_in = async |user: &str| node.connect(identity(user, &["authority"]), "").await.is_ok();
    assert!(is_let_in("b").await);
    let first = Arc::new(Only("/a", Mutex::default()));
    node.app.replace_settings(checked(2000), Some(Directory::Http(Arc::clone(&first) as _))).unwrap();
    assert!(is_let_in("a").await && !is_let_in("b").await);
    // Where the check stays, what it remembers does, and nobody needs a directory.
    node.app.replace_settings(Settings { dedupe: true, ..checked(2000) }, None).unwrap();
    assert!(is_let_in("a").await);
    assert_eq!(*first.1.lock(), 2);
    let second = Arc::new(Only("/b", Mutex::default()));
    node.app.replace_settings(checked(1000), Some(Directory::Http(Arc::clone(&second) as _))).unwrap();
    assert!(!is_let_in("a").await && is_let_in("b").await);
    // Somebody wants users looked up and nobody can.
    node.app.replace_settings(checked(3000), None).unwrap();
    assert!(!is_let_in("b").await);
    node.app.replace_settings(Settings::default(), None).unwrap();
    assert!(is_let_in("a").await);
}
