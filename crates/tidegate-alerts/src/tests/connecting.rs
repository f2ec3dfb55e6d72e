//! Who gets in, into which channels, and how the others are told.

use serde_json::json;
use tidegate_core::app::App as _;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::identity::Identity;
use tidegate_core::journal::Facts;

use super::fake::{identity, node};
use crate::settings::{OnText, RefusalForm, Settings};

fn closing() -> Settings {
    Settings { refusal: RefusalForm::Close, ..Settings::default() }
}

#[tokio::test]
async fn every_row_of_the_table_has_its_status_code_and_text() {
    // S3-21, the table of section 4: what the gateway itself refuses.
    let rows = [
        (Diagnosis::ORIGIN_NOT_ALLOWED, 403, Some(1008), "Origin not allowed"),
        (Diagnosis::RATELIMIT_CONNECT, 429, None, "Too many connection attempts"),
        (Diagnosis::LIMIT_CONNECTIONS, 503, None, "Service unavailable"),
        (Diagnosis::NODE_DRAINING, 503, None, "Service unavailable"),
        (Diagnosis::JWT_JWKS_UNREACHABLE, 503, None, "Service unavailable"),
        (Diagnosis::JWT_MISSING, 403, Some(1008), "Missing token"),
        (Diagnosis::JWT_WRONG_PLACE, 403, Some(1008), "Missing token"),
        (Diagnosis::JWT_MALFORMED, 403, Some(1008), "Invalid token"),
        (Diagnosis::JWT_TOO_LONG, 403, Some(1008), "Invalid token"),
        (Diagnosis::JWT_AMBIGUOUS, 403, Some(1008), "Invalid token"),
        (Diagnosis::JWT_ALG_NOT_ALLOWED, 403, Some(1008), "Invalid token"),
        (Diagnosis::JWT_UNKNOWN_KEY, 403, Some(1008), "Invalid token"),
        (Diagnosis::JWT_SIGNATURE, 403, Some(1008), "Invalid token"),
        (Diagnosis::JWT_EXPIRED, 403, Some(1008), "Token expired"),
        (Diagnosis::JWT_NOT_YET_VALID, 403, Some(1008), "Token not yet valid"),
        (Diagnosis::JWT_ISSUER, 403, Some(1008), "Invalid token"),
        (Diagnosis::JWT_AUDIENCE, 403, Some(1008), "Invalid token"),
        (Diagnosis::JWT_CLAIMS_MISSING, 403, Some(1008), "Invalid token payload"),
        (Diagnosis::USER_BANNED, 403, Some(1008), "Access denied"),
        (Diagnosis::INTERNAL, 500, Some(1011), "Authentication failed"),
    ];
    let (by_status, by_code) = (node(Settings::default()), node(closing()));
    for (idx, (diagnosis, status, close_code, text)) in rows.into_iter().enumerate() {
        let address = format!("198.51.100.{idx}");
        let http = by_status.refused(diagnosis, 403, &Facts::none(), &address, false).unwrap();
        assert_eq!((http.status, http.close_code, &*http.message), (status, None, text), "{diagnosis}");
        let close = by_code.refused(diagnosis, 403, &Facts::none(), &address, false).unwrap();
        assert_eq!(
            (close.status, close.close_code, &*close.message),
            (status, close_code, text),
            "{diagnosis}"
        );
        assert_eq!(http.retry_after.is_some(), status == 503, "{diagnosis}");
        assert_eq!((http.diagnosis, close.diagnosis), (diagnosis, diagnosis));
        let check = by_code.refused(diagnosis, 403, &Facts::none(), &address, true).unwrap();
        assert_eq!((check.status, check.close_code), (status, None), "a check is answered by status");
    }
    // A handshake that is none is answered in the gateway's words.
    assert!(
        by_status
            .refused(Diagnosis::HANDSHAKE_NOT_WEBSOCKET, 426, &Facts::none(), "192.0.2.1", false)
            .is_none()
    );
    // When the gateway says how long.
    let facts = Facts::none().with("resetAt", super::fake::START + 7_001);
    let refusal = by_status.refused(Diagnosis::RATELIMIT_CONNECT, 429, &facts, "192.0.2.1", false).unwrap();
    assert_eq!(refusal.retry_after, Some(8));
}

#[tokio::test]
async fn closes_become_statuses_when_a_client_does_not_stop() {
    // S3-21, S3-20: the guide's client, whose counter goes to 0 with every open, comes to its end.
    let node = node(closing());
    let refuse = |address: &str| {
        node.refused(Diagnosis::JWT_EXPIRED, 403, &Facts::none(), address, false).unwrap().close_code
    };
    for _ in 0..10 {
        assert_eq!(refuse("192.0.2.1"), Some(1008));
        node.later(2000);
    }
    for wait in [2000, 4000, 8000, 16_000, 32_000] {
        assert_eq!(refuse("192.0.2.1"), None);
        node.later(wait);
    }
    assert_eq!(refuse("192.0.2.1"), None, "after the fifth wait");
    assert_eq!(refuse("192.0.2.2"), Some(1008), "another address has its own count");
    node.later(60_000);
    assert_eq!(refuse("192.0.2.1"), Some(1008), "after a quiet minute");
    // IPv6 clients have as many addresses as they like, in one network.
    for n in 0..10 {
        assert_eq!(refuse(&format!("2001:db8::{n}")), Some(1008));
    }
    assert_eq!(refuse("2001:db8::ffff"), None);
    assert_eq!(refuse("2001:db8:0:1::1"), Some(1008));
}

#[tokio::test]
async fn roles_have_their_channels_and_others_none() {
    // S3-34
    let node = node(Settings::default());
    let admin = node.connect(identity("1", &["admin"]), "").await.unwrap();
    assert_eq!(admin.channels, ["admin", "authority"]);
    let authority = node.connect(identity("2", &["authority"]), "token=x&whatever=1").await.unwrap();
    assert_eq!(authority.channels, ["authority"]); // S3-8
    for (role, by_case) in [("tourist", false), ("Authority", true), ("", false)] {
        let refusal = node.connect(identity("3", &[role]), "").await.err().unwrap();
        assert_eq!((refusal.status, &*refusal.message), (403, "Access denied: Authority role required"));
        assert_eq!((refusal.diagnosis, refusal.close_code), (Diagnosis::ROLE_INSUFFICIENT, None));
        assert_eq!(refusal.facts.get("role"), Some(json!(role)));
        assert_eq!(refusal.facts.get("allowedRoles"), Some(json!(["admin", "authority"])));
        assert_eq!(refusal.facts.get("differsByCase"), Some(json!(by_case)));
    }
    // `role.defaulted`: the same answer, and another reason in the journal.
    let defaulted = Identity { has_default_role: true, ..identity("3", &["tourist"]) };
    let refusal = node.connect(defaulted, "").await.err().unwrap();
    assert_eq!((refusal.status, &*refusal.message), (403, "Access denied: Authority role required"));
    assert_eq!(refusal.diagnosis, Diagnosis::ROLE_DEFAULTED);
    assert_eq!(refusal.facts.get("role"), Some(json!("tourist")));
    assert_eq!(refusal.facts.get("isDefault"), Some(json!(true)));
    // A default role that may connect is a role like any other.
    let defaulted = Identity { has_default_role: true, ..identity("3", &["authority"]) };
    assert_eq!(node.connect(defaulted, "").await.unwrap().channels, ["authority"]);
    // The union of several roles, and the gateway's own list in a token.
    let both = node.connect(identity("4", &["tourist", "admin"]), "").await.unwrap();
    assert_eq!(both.channels, ["admin", "authority"]);
    let mut listed = identity("5", &["admin"]);
    listed.channels = Some(vec!["adm*".to_owned()]);
    assert_eq!(node.connect(listed.clone(), "").await.unwrap().channels, ["admin"]);
    listed.channels = Some(Vec::new());
    let refusal = node.connect(listed, "").await.err().unwrap();
    assert_eq!(refusal.diagnosis, Diagnosis::CHANNEL_FORBIDDEN);
}

#[tokio::test]
async fn a_connection_may_ask_for_a_part_of_its_channels() {
    // S3-36
    let mut settings = Settings::default();
    settings.roles.insert("admin".to_owned(), vec!["authority".into(), "admin".into(), "a.b:c".into()]);
    let node = node(settings);
    let connect = |query: &'static str| node.connect(identity("7", &["admin"]), query);
    assert_eq!(connect("channel=admin").await.unwrap().channels, ["admin"]);
    assert_eq!(
        connect("channel=admin,authority&channel=a.b:c").await.unwrap().channels,
        ["admin", "authority"]
    );
    assert_eq!(connect("channel=police_dashboard").await.unwrap().channels, ["authority"]); // S3-34: an alias
    assert_eq!(connect("channel=").await.unwrap().channels, ["admin", "authority"]);
    assert!(connect("channel=user:7").await.is_ok());
    for (query, named) in
        [("channel=other", Some("other")), ("channel=admin,user:8", Some("user:8")), ("channel=a%20b", None)]
    {
        let refusal = connect(query).await.err().unwrap();
        assert_eq!((refusal.status, &*refusal.message), (403, "Access denied"), "{query}");
        assert_eq!(refusal.diagnosis, Diagnosis::CHANNEL_FORBIDDEN);
        assert_eq!(refusal.facts.get("channel"), named.map(|name| json!(name)));
    }
    let many = format!("channel={}", vec!["admin"; 65].join(","));
    assert!(node.connect(identity("7", &["admin"]), &many).await.is_err());
    let authority = node.connect(identity("8", &["authority"]), "channel=admin").await;
    assert_eq!(authority.err().unwrap().diagnosis, Diagnosis::CHANNEL_FORBIDDEN);
}

#[tokio::test]
async fn what_is_refused_or_only_checked_leaves_nothing_behind() {
    // S3-21, S3-24: no channel, no statistics.
    let node = node(closing());
    let refusal = node.connect(identity("1", &["tourist"]), "").await.err().unwrap();
    assert_eq!(refusal.close_code, Some(1008));
    let check = node.handshake(identity("1", &["authority"]), "", "192.0.2.1", true).await.unwrap();
    assert!(check.channels.is_empty());
    let refusal = node.handshake(identity("1", &["tourist"]), "", "192.0.2.1", true).await.err().unwrap();
    assert_eq!((refusal.status, refusal.close_code), (403, None));
    let metrics = node.app.metrics();
    assert_eq!((metrics.connections, metrics.members.len()), (0, 0));
    assert_eq!(metrics.refused, [("role.insufficient", 1)].into());
}

#[tokio::test]
async fn ping_is_answered_at_once_and_nothing_else_is() {
    // S3-26, S3-27
    let node = node(Settings::default());
    let client = node.open("1", "authority").await;
    let reply = node.say(&client, "ping", false).await;
    assert_eq!(reply.text.as_deref(), Some(b"pong".as_slice()));
    assert!(reply.is_urgent && reply.problem.is_none());
    for text in ["Ping", " ping", "ping\n", "", "pong", r#"{"type":"ping"}"#] {
        let reply = node.say(&client, text, false).await;
        assert!(reply.text.is_none() && reply.problem.is_none(), "{text}");
    }
    assert!(node.say(&client, "ping", true).await.text.is_none());
    assert!(node.host.notices.lock().is_empty() && node.host.sent.lock().is_empty());
}

#[test]
fn other_texts_are_taken_before_routes_unless_they_are_to_have_them() {
    // S3-27
    for (on_text, is_taken) in [(OnText::Ignore, true), (OnText::Route, false)] {
        let app = node(Settings { on_text, ..Settings::default() }).app;
        let pong = app.before_route("ping").expect("a heartbeat is the application's");
        assert!(pong.text.as_deref() == Some(b"pong") && pong.is_urgent);
        for text in ["Ping", "ping ", "", r#"{"action":"ping"}"#] {
            let reply = app.before_route(text);
            assert_eq!(reply.is_some(), is_taken, "{text}");
            assert!(reply.is_none_or(|reply| reply.text.is_none() && reply.problem.is_none()), "{text}");
        }
    }
}

#[tokio::test]
async fn whoever_leaves_has_left_everything() {
    // S3-32, S3-60, S3-61
    let node = node(Settings::default());
    let (admin, authority) = (node.open("1", "admin").await, node.open("2", "authority").await);
    let (status, stats) = node.call("jwt.admin.1", http::Method::GET, "/api/alerts/stats", "").await;
    let channels = json!({
        "admin": { "connection_count": 1, "user_roles": { "admin": 1 } },
        "authority": { "connection_count": 2, "user_roles": { "admin": 1, "authority": 1 } },
    });
    assert_eq!(status, 200);
    assert_eq!((&stats["total_connections"], &stats["channels"]), (&json!(2), &channels));
    assert_eq!(stats["nodes"], json!({ "local": { "total_connections": 2, "channels": channels } }));
    assert_eq!(node.call("jwt.authority.2", http::Method::GET, "/api/alerts/stats", "").await.0, 403);
    assert_eq!(node.call("key-ops", http::Method::GET, "/api/alerts/stats", "").await.0, 200);
    node.close(&admin, 1006).await;
    node.close(&admin, 1006).await;
    let metrics = node.app.metrics();
    assert_eq!(metrics.connections, 1);
    assert_eq!(metrics.members, [(("authority".into(), "authority".into()), 1)].into());
    node.close(&authority, 4999).await;
    let metrics = node.app.metrics();
    assert_eq!((metrics.connections, metrics.members.len()), (0, 0));
    assert_eq!(metrics.closed, [(1006, 1), (0, 1)].into());
    let (_, stats) = node.call("key-ops", http::Method::GET, "/api/alerts/stats", "").await;
    assert_eq!(stats["channels"], json!({}));
    let (_, answer) = node
        .publish("jwt.admin.1", json!({ "users": ["1", "2"], "all": true, "alert": { "type": "x" } }))
        .await;
    assert_eq!(answer["connections"], 0);
}
