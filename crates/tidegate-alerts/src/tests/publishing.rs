//! Alerts, from the call to the connections.

use std::sync::atomic::Ordering;

use http::Method;
use serde_json::{Value, json};
use tidegate_core::app::App;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::notice::Notice;

use super::fake::{START, identity, node};
use crate::alert::MAX_BYTES;
use crate::settings::Settings;

const PUBLISH: &str = "/api/alerts/publish";

#[tokio::test]
async fn an_alert_reaches_its_channel_and_nobody_else() {
    // S3-44, S3-46, S3-38
    let node = node(Settings::default());
    let (first, second, admin) =
        (node.open("1", "authority").await, node.open("2", "authority").await, node.open("3", "admin").await);
    let written =
        r#"{"channel":"authority","alert":{"type":"sos_alert", "zeta":1,"alpha":{"lat":0,"lon":0}}}"#;
    let response = node.send("jwt.authority.9", Method::POST, PUBLISH, written, &[]).await;
    let answer: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(answer["status"], "published");
    assert_eq!((&answer["connections"], &answer["failed"]), (&json!(3), &json!(0)));
    assert_eq!(answer["channels"], json!(["authority"]));
    assert_eq!(answer["alert_id"].as_str().unwrap().len(), 16);
    assert_eq!(response.headers["tidegate-request-id"], answer["requestId"].as_str().unwrap());
    let text =
        r#"{"type":"sos_alert","zeta":1,"alpha":{"lat":0,"lon":0},"timestamp":"2025-01-15T12:00:00.000Z"}"#;
    for client in [&first, &second, &admin] {
        assert_eq!(node.received(client), [text]);
    }
    let body = json!({ "channel": "admin", "alert": { "type": "retrain_complete", "alert_id": 5 } });
    let (_, answer) = node.publish("jwt.admin.9", body).await;
    assert_eq!((&answer["connections"], &answer["alert_id"]), (&json!(1), &json!("5")));
    assert_eq!(node.received(&admin).len(), 1);
    assert!(node.received(&first).is_empty());
    let metrics = node.app.metrics();
    assert_eq!((metrics.published, metrics.delivered, metrics.failed), (2, 4, 0)); // S3-61
}

#[tokio::test]
async fn several_selectors_are_a_union_and_everybody_gets_it_once() {
    // S3-44, S3-35, S3-34
    let node = node(Settings::default());
    let (authority, twin, admin) =
        (node.open("1", "authority").await, node.open("1", "authority").await, node.open("3", "admin").await);
    let count = async |selectors: Value| {
        let mut body = selectors;
        body["alert"] = json!({ "type": "x" });
        let (status, answer) = node.publish("key-backend", body).await;
        assert_eq!(status, 200);
        let received = [&authority, &twin, &admin].map(|client| node.received(client).len());
        assert_eq!(answer["connections"], received.iter().sum::<usize>());
        received
    };
    assert_eq!(
        count(json!({ "channels": ["authority", "admin"], "roles": ["admin"], "users": [1, "3"] })).await,
        [1, 1, 1]
    );
    assert_eq!(count(json!({ "channel": "user:1" })).await, [1, 1, 0]);
    assert_eq!(count(json!({ "users": [1] })).await, [1, 1, 0]);
    assert_eq!(count(json!({ "roles": ["admin"] })).await, [0, 0, 1]);
    assert_eq!(count(json!({ "channel": "police_dashboard" })).await, [1, 1, 1]);
    assert_eq!(count(json!({ "all": true })).await, [1, 1, 1]);
    assert_eq!(count(json!({ "channel": "user:2" })).await, [0, 0, 0]);
    assert!(
        node.told().is_empty(),
        "users who are away, and channels of the configuration, are no misspelling"
    );
}

#[tokio::test]
async fn who_may_publish() {
    // S3-45
    let node = node(Settings::default());
    let body = json!({ "channel": "authority", "alert": { "type": "x" } });
    for caller in ["jwt.authority.1", "jwt.admin.1", "jwt.service.1", "key-backend"] {
        assert_eq!(node.publish(caller, body.clone()).await.0, 200, "{caller}");
    }
    for (caller, status, diagnosis) in [
        ("", 401, Diagnosis::MANAGEMENT_UNSIGNED),
        ("bad.a.b", 401, Diagnosis::JWT_SIGNATURE),
        ("unready.a.b", 503, Diagnosis::JWT_JWKS_UNREACHABLE),
        ("jwt.tourist.1", 403, Diagnosis::ROLE_INSUFFICIENT),
        ("otherkey", 403, Diagnosis::MANAGEMENT_DENIED),
    ] {
        node.host.notices.lock().clear();
        let (got, answer) = node.publish(caller, body.clone()).await;
        assert_eq!((got, node.told()), (status, vec![diagnosis]), "{caller} {answer}");
        assert!(answer["message"].is_string() && answer["requestId"].is_string());
    }
    // A token in the query is for handshakes.
    let path = "/api/alerts/publish?token=jwt.admin.1";
    assert_eq!(node.call("", Method::POST, path, &body.to_string()).await.0, 401);
}

#[tokio::test]
async fn what_is_no_alert_is_refused_with_the_member_that_is_wrong() {
    // S3-45, S3-39
    let node = node(Settings::default());
    for (body, field) in [
        ("{", "body"),
        ("[]", "body"),
        (r#"{"channel":"authority"}"#, "alert"),
        (r#"{"channel":"authority","alert":[]}"#, "alert"),
        (r#"{"channel":"authority","alert":{"kind":"x"}}"#, "alert.type"),
        (r#"{"channel":"authority","alert":{"type":""}}"#, "alert.type"),
        (r#"{"alert":{"type":"x"}}"#, "channel"),
        (r#"{"channel":"a b","alert":{"type":"x"}}"#, "channel"),
        (r#"{"users":[{}],"alert":{"type":"x"}}"#, "users"),
    ] {
        let (status, answer) = node.call("key-a", Method::POST, PUBLISH, body).await;
        assert_eq!((status, &answer["field"]), (422, &json!(field)), "{body}");
    }
    assert!(node.told().iter().all(|diagnosis| *diagnosis == Diagnosis::PUBLISH_MALFORMED));
    let many = json!({ "users": vec![1; 1001], "alert": { "type": "x" } });
    assert_eq!(node.publish("key-a", many).await.0, 422);
    let fat = json!({ "channel": "authority", "alert": { "type": "x", "fill": "a".repeat(MAX_BYTES) } });
    node.host.notices.lock().clear();
    assert_eq!(node.publish("key-a", fat).await.0, 413);
    assert_eq!(node.told(), [Diagnosis::MESSAGE_TOO_LARGE]);
}

#[tokio::test]
async fn a_credential_has_a_rate() {
    // S3-45: 100 a second
    let node = node(Settings::default());
    let body = json!({ "channel": "authority", "alert": { "type": "x" } });
    for _ in 0..100 {
        assert_eq!(node.publish("key-a", body.clone()).await.0, 200);
    }
    let response = node.send("key-a", Method::POST, PUBLISH, &body.to_string(), &[]).await;
    assert_eq!((response.status, &response.headers["retry-after"]), (429, &http::HeaderValue::from(1)));
    assert_eq!(node.told(), [Diagnosis::MANAGEMENT_THROTTLED]);
    assert_eq!(node.publish("jwt.admin.a", body.clone()).await.0, 200, "a user is no key of the same name");
    node.later(10);
    assert_eq!(node.publish("key-a", body).await.0, 200);
}

#[tokio::test]
async fn a_repeated_call_is_answered_as_the_first_and_sends_nothing() {
    // S3-47
    let node = node(Settings::default());
    let client = node.open("1", "authority").await;
    let body = json!({ "channel": "authority", "alert": { "type": "x", "alert_id": "a1" } }).to_string();
    let call = |caller: &'static str, key: &'static str| {
        let (node, body) = (&node, &body);
        async move { node.send(caller, Method::POST, PUBLISH, body, &[("idempotency-key", key)]).await }
    };
    let first = call("key-a", "k1").await;
    node.open("2", "authority").await;
    let again = call("key-a", "k1").await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(node.received(&client).len(), 1);
    call("key-a", "k2").await;
    call("key-b", "k1").await;
    assert_eq!(node.received(&client).len(), 2, "another key, and another caller's");
    node.later(600_000);
    call("key-a", "k1").await;
    assert_eq!(node.received(&client).len(), 1, "after ten minutes");
    assert_eq!(call("key-a", "").await.status, 422);
    // By alert_id, where that is wanted.
    let deduped = |dedupe: bool| json!({ "channel": "authority", "dedupe": dedupe, "alert": { "type": "x", "alert_id": 77 } });
    let (_, first) = node.publish("key-a", deduped(true)).await;
    assert_eq!(node.publish("key-a", deduped(true)).await.1, first);
    assert_eq!(node.received(&client).len(), 1);
    node.publish("key-a", deduped(false)).await;
    assert_eq!(node.received(&client).len(), 1);
}

#[tokio::test]
async fn a_channel_that_nobody_knows_is_told() {
    // S3-37
    let node = node(Settings::default());
    node.open("1", "authority").await;
    let (status, answer) =
        node.publish("key-a", json!({ "channel": "autority", "alert": { "type": "x" } })).await;
    assert_eq!((status, &answer["connections"]), (200, &json!(0)));
    assert_eq!(node.told(), [Diagnosis::PUBLISH_NO_SUBSCRIBERS]);
    let notices = node.host.notices.lock();
    let facts = notices.iter().find_map(|notice| match notice {
        Notice::Decided { facts, .. } => Some(facts),
        _ => None,
    });
    let facts = facts.unwrap();
    assert_eq!(facts.get("channel"), Some(json!("autority")));
    assert_eq!(facts.get("members"), Some(json!(0)));
    assert_eq!(facts.get("similar"), Some(json!(["authority"])));
}

#[tokio::test]
async fn those_that_do_not_get_it_are_counted_and_stop_nothing() {
    // S3-46, S3-58, S3-33
    let node = node(Settings::default());
    let (gone, slow, well) = (
        node.open("1", "authority").await,
        node.open("2", "authority").await,
        node.open("3", "authority").await,
    );
    node.host.gone.lock().insert(gone.id());
    node.host.slow.lock().insert(slow.id());
    let (_, answer) =
        node.publish("key-a", json!({ "channel": "authority", "alert": { "type": "x" } })).await;
    assert_eq!((&answer["connections"], &answer["failed"]), (&json!(1), &json!(2)));
    assert_eq!(node.received(&well).len(), 1);
    let metrics = node.app.metrics();
    assert_eq!((metrics.delivered, metrics.failed), (1, 2));
    let notices = node.host.notices.lock();
    assert!(
        notices
            .iter()
            .any(|notice| matches!(notice, Notice::Published { delivered: 1, gone: 1, slow: 1, .. }))
    );
}

#[tokio::test]
async fn what_is_published_before_the_connection_can_be_pushed_to_waits_for_it() {
    // S3-25, S3-50
    let node = node(Settings::default());
    let client = node.connect(identity("1", &["authority"]), "").await.unwrap();
    for n in 0..3 {
        let (_, answer) =
            node.publish("key-a", json!({ "channel": "authority", "alert": { "type": "x", "n": n } })).await;
        assert_eq!(answer["connections"], 1, "it was handed over");
    }
    assert!(node.received(&client).is_empty(), "nothing may be pushed yet");
    node.app.opened(&client.facts);
    node.publish("key-a", json!({ "channel": "authority", "alert": { "type": "x", "n": 3 } })).await;
    let numbers: Vec<Value> = node
        .received(&client)
        .iter()
        .map(|text| serde_json::from_str::<Value>(text).unwrap()["n"].clone())
        .collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    // What may wait is bounded: whoever misses something is closed.
    let late = node.connect(identity("2", &["authority"]), "").await.unwrap();
    for n in 0..257 {
        node.later(10);
        let (_, answer) = node.publish("key-a", json!({ "users": ["2"], "alert": { "type": "x" } })).await;
        assert_eq!(answer["failed"], u64::from(n == 256), "{n}");
    }
    node.app.opened(&late.facts);
    assert_eq!(*node.host.closed.lock(), [(late.id(), 1008, "Too slow".to_owned())]);
    assert!(node.received(&late).is_empty());
}

#[tokio::test]
async fn missed_alerts_come_once_and_in_order() {
    // S3-50
    let node = node(Settings { history: 3, ..Settings::default() });
    let publish = async |n: u64, channels: Value| {
        node.later(1000);
        let body =
            json!({ "channels": channels, "alert": { "type": "x", "alert_id": format!("a{n}"), "n": n } });
        assert_eq!(node.publish("key-a", body).await.0, 200);
    };
    let missed = async |query: &str| {
        let client = node.connect(identity("1", &["admin"]), query).await.unwrap();
        node.close(&client, 1000).await;
        let number = |text: &String| serde_json::from_str::<Value>(text).unwrap()["n"].as_u64().unwrap();
        client.first.iter().map(number).collect::<Vec<_>>()
    };
    publish(1, json!(["authority"])).await;
    publish(2, json!(["authority", "admin"])).await;
    publish(3, json!(["admin"])).await;
    publish(4, json!(["authority"])).await;
    assert_eq!(missed("").await, [0; 0], "only for those who ask");
    assert_eq!(missed("since=a1").await, [2, 3, 4]);
    assert_eq!(missed("since=a3").await, [4]);
    assert_eq!(missed("since=a4").await, [0; 0]);
    assert_eq!(missed("since=a1&channel=admin").await, [2, 3]);
    assert_eq!(missed("since=unknown").await, [1, 2, 3, 4]);
    assert_eq!(missed(&format!("since={}", START + 3000)).await, [3, 4]);
    assert_eq!(missed("since=2025-01-15T12:00:04Z").await, [4]);
    publish(5, json!(["authority"])).await;
    assert_eq!(missed("since=unknown").await, [2, 3, 4, 5], "each channel keeps three");

    // Between replay and the 101: neither lost nor doubled.
    let client = node.connect(identity("1", &["admin"]), "since=a4").await.unwrap();
    publish(6, json!(["authority"])).await;
    node.app.opened(&client.facts);
    publish(7, json!(["authority"])).await;
    assert!(client.first.len() == 1 && client.first[0].contains(r#""n":5"#));
    let texts = node.received(&client);
    assert!(texts.len() == 2 && texts[0].contains(r#""n":6"#) && texts[1].contains(r#""n":7"#), "{texts:?}");
    // Names that anybody can make up are not kept.
    publish(8, json!(["made-up"])).await;
    assert_eq!(missed("since=a7").await, [0; 0]);
}

#[tokio::test]
async fn no_history_unless_configured() {
    // S3-50
    let node = node(Settings::default());
    node.publish("key-a", json!({ "channel": "authority", "alert": { "type": "x", "alert_id": "a" } })).await;
    assert!(node.connect(identity("1", &["authority"]), "since=0").await.unwrap().first.is_empty());
}

#[tokio::test]
async fn calls_that_do_not_exist_and_the_one_that_always_answers() {
    // S3-62
    let node = node(Settings::default());
    assert_eq!(node.send("", Method::GET, "/health", "", &[]).await.body.as_ref(), br#"{"status":"ok"}"#);
    let response = node.send("", Method::GET, PUBLISH, "", &[]).await;
    assert_eq!((response.status, &response.headers["allow"]), (405, &http::HeaderValue::from_static("POST")));
    for path in ["/api/alerts/other", "/api/broadcast/a/b", "/api/broadcasts/x", "/api/broadcast/"] {
        assert_eq!(node.call("", Method::GET, path, "").await.0, 404, "{path}");
    }
    node.host.randoms.load(Ordering::Relaxed);
}

#[tokio::test]
async fn no_text_of_an_alert_is_told_to_operators() {
    // S3-70
    let node = node(Settings::default());
    node.open("1", "authority").await;
    let body = json!({ "channel": "authority", "alert": { "type": "sos_alert", "tourist_name": "Ada Lovelace", "secret": "s3cr3t" } });
    node.publish("jwt.admin.1", body.clone()).await;
    node.publish("jwt.tourist.1", body).await;
    node.send("key-a", Method::POST, PUBLISH, r#"{"channel":"Ada Lovelace""#, &[]).await;
    let told = format!("{:?} {:?}", node.host.notices.lock(), node.app);
    assert!(told.contains("Published") && told.contains("PushRefused"));
    for secret in ["Lovelace", "s3cr3t", "jwt.admin"] {
        assert!(!told.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn settings_change_under_open_connections() {
    let node = node(Settings::default());
    let client = node.open("1", "authority").await;
    let body = || json!({ "channel": "posts", "alert": { "type": "x" } });
    let (status, _) = node.publish("jwt.tourist.9", body()).await;
    assert_eq!(status, 403);
    let mut settings =
        Settings { history: 7, publish_rate: 1.0, mounts: vec!["/else".to_owned()], ..Settings::default() };
    settings.publish_roles.push("tourist".to_owned());
    settings.aliases.insert("posts".to_owned(), "authority".to_owned());
    node.app.change(settings);
    for _ in 0..3 {
        // A rate of one call would refuse the second: it is one of those that need a restart.
        let (status, answer) = node.publish("jwt.tourist.9", body()).await;
        assert_eq!((status, &answer["connections"]), (200, &json!(1)), "{answer}");
    }
    assert_eq!(node.received(&client).len(), 3);
    let rules = node.app.rules();
    let Settings { mounts, history, .. } = &rules.settings;
    assert_eq!((mounts, *history), (&Settings::default().mounts, 0));
}
