//! The policy of a stage: live at once, gone with its stage, never stored when it cannot be used.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_control::{ControlPlane, ControlSettings, PolicyError};
use tidegate_core::policy::Policy;
use tidegate_core::port::{Change, DefinitionStore};
use tidegate_store::SqliteStore;

use crate::harness::{Harness, NOW, Sink};

pub fn policy(json: Value) -> Policy {
    serde_json::from_value(json).expect("a policy")
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn live(sink: &Sink, api: usize) -> Option<Arc<Policy>> {
    sink.last().apis[api].stages[0].policy.clone()
}

async fn stage(h: &Harness) -> String {
    let api = h.api().await;
    h.post(&format!("/apis/{api}/stages"), json!({"stageName": "prod"})).await;
    api
}

#[tokio::test]
async fn a_policy_is_live_at_once_and_the_same_until_it_changes() {
    let store = Arc::new(SqliteStore::open_in_memory().expect("open"));
    let h = Harness::over(Arc::clone(&store) as _, ControlSettings::default()).await;
    let api = stage(&h).await;
    assert_eq!(live(&h.sink, 0), None);
    // S0-71
    let wanted = policy(json!({"channels": {"default": "lobby", "unlisted": "allow",
                                            "default_by_domain": {"ws.example.com": "vip"}},
                               "backend": {"secrets": [SECRET]}}));
    let change = h.plane.put_policy(&api, "prod", wanted.clone()).await.expect("taken");
    assert!(change.is_changed);
    assert!(
        change.warnings.iter().any(|w| w.diagnosis.as_deref() == Some("config.unlisted-open")),
        "{change:?}"
    );
    let first = live(&h.sink, 0).expect("a policy");
    assert_eq!(*first, wanted);
    assert!(Arc::ptr_eq(&first, &h.plane.policy(&api, "prod").expect("a policy")));

    // Masked secrets that come back, and changes of something else, leave the pointer alone.
    let published = h.sink.count();
    let change = h.plane.put_policy(&api, "prod", wanted.redacted()).await.expect("taken");
    assert!(!change.is_changed);
    assert_eq!(h.sink.count(), published, "nothing to publish");
    h.patch(&format!("/apis/{api}/stages/prod"), json!({"description": "d"})).await;
    assert!(Arc::ptr_eq(&first, &live(&h.sink, 0).expect("a policy")));

    // A new value of a policy is published although nothing else of the API differs.
    let mut other = wanted.redacted();
    other.channels.default = "hall".to_owned();
    assert!(h.plane.put_policy(&api, "prod", other).await.expect("taken").is_changed);
    let second = live(&h.sink, 0).expect("a policy");
    assert_eq!((second.channels.default.as_str(), second.backend.secrets[0].as_str()), ("hall", SECRET));

    let again = Harness::over(Arc::clone(&store) as _, ControlSettings::default()).await;
    assert_eq!(again.plane.policy(&api, "prod"), Some(second));

    assert_eq!(h.plane.delete_policy(&api, "prod").await, Ok(true));
    assert_eq!((live(&h.sink, 0), h.plane.delete_policy(&api, "prod").await), (None, Ok(false)));
}

#[tokio::test]
async fn a_policy_that_cannot_be_used_changes_nothing() {
    let h = Harness::new().await;
    let api = stage(&h).await;
    let published = h.sink.count();
    let broken = policy(json!({"connect_tokens": {"lifetime": 0}, "messages": {"rate": -1.0},
                               "backend": {"secrets": ["****"]}}));
    let refused = h.plane.put_policy(&api, "prod", broken).await.expect_err("refused");
    let PolicyError::Problems { problems } = refused else { panic!("{refused}") };
    let paths: Vec<&str> = problems.iter().map(|p| p.path.as_str()).collect();
    for path in ["connect_tokens.lifetime", "messages.rate", "backend.secrets[0]"] {
        assert!(paths.contains(&path), "{path} in {paths:?}");
    }
    for (api, stage) in [(api.as_str(), "other"), ("other", "prod")] {
        let not_found = PolicyError::NotFound { api_id: api.to_owned(), stage: stage.to_owned() };
        assert_eq!(h.plane.put_policy(api, stage, Policy::default()).await, Err(not_found.clone()));
        assert_eq!(h.plane.delete_policy(api, stage).await, Err(not_found));
        assert_eq!(h.plane.policy(api, stage), None);
    }
    assert_eq!((h.sink.count(), h.plane.policy(&api, "prod")), (published, None));
}

#[tokio::test]
async fn a_secret_that_everybody_knows_is_refused() {
    // S3-10, S0-96
    let h = Harness::new().await;
    let api = stage(&h).await;
    for secret in ["your-256-bit-secret-your-256-bit-secret", "abababababababababababababababababababab"] {
        let mut jwt = json!({ "keys": [{ "secret": secret, "algorithms": ["HS256"] }] });
        let refused = h.plane.put_policy(&api, "prod", policy(json!({ "jwt": jwt }))).await.unwrap_err();
        let PolicyError::Problems { problems } = refused else { panic!("{refused}") };
        assert_eq!(problems[0].path, "jwt.keys[0].secret");
        assert!(!problems[0].message.contains(secret));
        jwt["allow_weak_secret"] = true.into();
        h.plane.put_policy(&api, "prod", policy(json!({ "jwt": jwt }))).await.unwrap();
    }
}

#[tokio::test]
async fn a_policy_goes_with_its_stage_and_with_its_api() {
    let store = Arc::new(SqliteStore::open_in_memory().expect("open"));
    let h = Harness::over(Arc::clone(&store) as _, ControlSettings::default()).await;
    let api = stage(&h).await;
    h.plane.put_policy(&api, "prod", Policy::default()).await.expect("taken");
    h.delete(&format!("/apis/{api}/stages/prod")).await;
    h.post(&format!("/apis/{api}/stages"), json!({"stageName": "prod"})).await;
    assert_eq!((h.plane.policy(&api, "prod"), live(&h.sink, 0)), (None, None), "a new stage has none");
    h.plane.put_policy(&api, "prod", Policy::default()).await.expect("taken");
    h.delete(&format!("/apis/{api}")).await;
    assert_eq!(store.load().await.expect("load"), []);
}

/// A policy whose stage is missing would admit, or refuse, the clients of the next stage of that name.
#[tokio::test]
async fn a_stored_policy_without_its_stage_is_refused() {
    let store = Arc::new(SqliteStore::open_in_memory().expect("open"));
    let h = Harness::over(Arc::clone(&store) as _, ControlSettings::default()).await;
    let api = stage(&h).await;
    h.plane.put_policy(&api, "prod", Policy::default()).await.expect("taken");
    let delete = Change::Delete { kind: "stage".to_owned(), parent: api.clone(), id: "prod".to_owned() };
    store.apply(vec![delete]).await.expect("write");
    let clock = Arc::new(|| NOW.parse().expect("a time"));
    let sink = Arc::new(Sink::default());
    let loaded = ControlPlane::load(store, Arc::clone(&sink) as _, ControlSettings::default(), clock).await;
    let error = loaded.expect_err("must be refused").to_string();
    assert_eq!(error, format!("the stored policy prod belongs to {api}/prod, which is missing"));
    assert_eq!(sink.count(), 0);
}
