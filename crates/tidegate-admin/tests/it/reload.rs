//! `POST /api/reload`: what is answered, recorded and noted. What is reloaded is the binary's matter.

use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_admin::{Reload, ReloadFailure, Reloaded, SettingChange};
use tidegate_auth::Role;
use tidegate_control::declarative::Problem;
use tidegate_core::port::BoxFuture;

use crate::harness::{Answer, Node};

/// Answers what it was told to answer, and remembers who asked.
#[derive(Debug, Default)]
pub(crate) struct FakeReload {
    pub(crate) next: Mutex<Option<Result<Reloaded, ReloadFailure>>>,
    asked: Mutex<Vec<(bool, String)>>,
}

impl Reload for FakeReload {
    fn reload<'a>(
        &'a self,
        is_dry_run: bool,
        actor: &'a str,
    ) -> BoxFuture<'a, Result<Reloaded, ReloadFailure>> {
        self.asked.lock().push((is_dry_run, actor.to_owned()));
        Box::pin(async { self.next.lock().take().unwrap_or_else(|| Ok(Reloaded::default())) })
    }
}

async fn reload(node: &Node, body: Value) -> Answer {
    node.call_as(Role::Administer, "POST", "/api/reload", Some(body)).await
}

fn change(path: &str, before: Option<&str>, after: Option<&str>, needs_restart: bool) -> SettingChange {
    let (before, after) = (before.map(str::to_owned), after.map(str::to_owned));
    SettingChange { path: path.to_owned(), before, after, needs_restart }
}

#[tokio::test]
async fn changes_are_answered_and_recorded() {
    let node = Node::start().await;
    let changes = vec![
        change("api_key", Some("****"), None, false),
        change("listen", Some("127.0.0.1:1"), Some("127.0.0.1:2"), true),
    ];
    *node.reload.next.lock() = Some(Ok(Reloaded { changes, warnings: Vec::new() }));
    let answer = reload(&node, json!({ "dry_run": true })).await.ok();
    assert_eq!(answer["dry_run"], true);
    assert_eq!(answer["needs_restart"], json!(["listen"]));
    assert_eq!(
        answer["changes"][0],
        json!({ "path": "api_key", "before": "****", "after": null, "needs_restart": false })
    );
    let unchanged = reload(&node, json!({})).await.ok();
    assert_eq!((&unchanged["changes"], &unchanged["dry_run"]), (&json!([]), &json!(false)));
    let asked = node.reload.asked.lock().clone();
    assert_eq!(asked, [(true, "administer-key".to_owned()), (false, "administer-key".to_owned())]);
    let audit = node.get("/api/audit").await.ok();
    let records = audit["audit"].as_array().unwrap();
    let of_reload: Vec<_> = records.iter().filter(|record| record["operation"] == "reload").collect();
    assert_eq!(of_reload.len(), 2, "{audit}");
    assert!(of_reload.iter().any(|record| record["note"]["needs_restart"] == json!(["listen"])), "{audit}");
}

#[tokio::test]
async fn a_configuration_with_problems_is_refused_with_all_of_them() {
    let node = Node::start().await;
    let problem = Problem {
        path: "listn".to_owned(),
        message: "unknown key; did you mean `listen`?".to_owned(),
        diagnosis: Some("config.unknown-key".to_owned()),
    };
    *node.reload.next.lock() = Some(Err(ReloadFailure::Invalid(vec![problem])));
    let answer = reload(&node, json!({})).await;
    assert_eq!(answer.refusal(), (409, "config.unknown-key"));
    let expected = json!([{
        "path": "listn", "message": "unknown key; did you mean `listen`?", "id": "config.unknown-key"
    }]);
    assert_eq!(answer.body["problems"], expected);
    *node.reload.next.lock() = Some(Err(ReloadFailure::Unavailable("The store does not answer".to_owned())));
    assert_eq!(reload(&node, json!({})).await.refusal(), (503, "store.unavailable"));
}
