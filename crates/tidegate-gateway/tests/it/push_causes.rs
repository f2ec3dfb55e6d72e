//! Management calls: who asked for what, and why it was refused.

use std::time::{Duration, SystemTime};

use serde_json::json;
use tidegate_auth::{Credential, Payload, RequestParts, Secret};
use tidegate_core::definition::{Api, Live, LiveApi, LiveStage, Stage};
use tidegate_core::id::ConnectionId;
use tidegate_core::notice::Notice;
use tidegate_core::port::DefinitionSink as _;
use tokio::io::AsyncWriteExt as _;

use crate::backend::{Answer, Gate};
use crate::client::{Client, PATH, Reply, request};
use crate::harness::{API_ID, Deployed, Plane, STAGE, Setup, users_policy};
use crate::seen::Seen;

async fn post(plane: &Plane, id: &str) -> Reply {
    plane.manage("POST", &format!("@connections/{}", id.replace('=', "%3D")), r#"{"n":1}"#).await
}

/// A post that gets 410 (or another status) for this reason; what caller and operator are told.
async fn refused(plane: &Plane, id: &str, status: u16, diagnosis: &str) -> (serde_json::Value, Seen) {
    let reply = post(plane, id).await;
    assert_eq!(reply.status, status, "{reply:?}");
    // DX-74, AG-9: a body that is empty at AWS stays empty, and headers say why.
    let told = match reply.status {
        410 => {
            assert!(reply.body.is_empty(), "{reply:?}");
            let header = |name: &str| Some(reply.value(name).to_owned()).filter(|value| !value.is_empty());
            json!({
                "id": header("x-tidegate-diagnosis"),
                "closedAt": header("x-tidegate-closed-at"),
                "reason": header("x-tidegate-close-diagnosis"),
                "code": header("x-tidegate-close-code").and_then(|code| code.parse::<u16>().ok()),
            })
        }
        _ => reply.json()["tidegate"].clone(),
    };
    assert_eq!(told["id"], diagnosis, "{reply:?}");
    let seen = plane.seen("refused", diagnosis).await;
    assert_eq!((seen.text("caller"), seen.text("sourceAddress")), ("api key 1", "127.0.0.1"));
    assert_eq!(
        (seen.text("target"), seen.number("size"), seen.facts.get("isJson")),
        ("connection", 7.0, Some(&true.into()))
    );
    (told, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_says_who_asked_for_what() {
    let plane = Plane::start_with_policy(users_policy(json!({}))).await;
    let mut client = plane.connect_user(json!({ "sub": "ada", "exp": 4_000_000_000_u64 }), "").await;
    let id = plane.id_of(&client).await;
    assert_eq!(post(&plane, &id).await.status, 200);
    let seen = plane.seen("pushed", "").await;
    assert_eq!((seen.text("caller"), seen.text("sourceAddress")), ("api key 1", "127.0.0.1"));
    assert_eq!((seen.text("target"), seen.text("connectionState")), ("connection", "open"));
    assert_eq!((seen.number("size"), seen.facts.get("isJson")), (7.0, Some(&true.into())));
    assert_eq!(seen.place.connection_id.unwrap().to_string(), id);
    assert_eq!(seen.place.user.as_deref(), Some("ada"));
    assert_eq!(seen.place.address.unwrap().to_string(), "127.0.0.1");
    // push.not-json: a flag, as text may well be meant.
    plane.notices.record.clear();
    let path = format!("@connections/{}", id.replace('=', "%3D"));
    plane.manage("POST", &path, "hello").await;
    assert_eq!(plane.seen("pushed", "").await.facts.get("isJson"), Some(&false.into()));
    assert!(plane.is_healthy());
    client.stream.shutdown().await.unwrap();
    plane.gateway.drain(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_from_inside_connect() {
    // DX-8, connections.gone-never-established
    let plane = Plane::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    plane.backend.plan(move |request| match request.is_event("CONNECT") {
        true => Answer::Gated(200, held.clone()),
        false => Answer::Status(200),
    });
    let mut client = Client::dial(plane.address, None).await;
    client.write(&client.handshake("", "")).await;
    let id = plane.id_of(&client).await;
    let (told, seen) = refused(&plane, &id, 410, "connections.gone-never-established").await;
    assert!(told["closedAt"].is_null() && told["code"].is_null() && told["reason"].is_null(), "{told}");
    assert_eq!(seen.text("connectionState"), "pending");
    assert!(seen.number("madeAt") > 1e12);
    gate.open();
    assert_eq!(client.status().await, 101);
    assert_eq!(post(&plane, &id).await.status, 200);
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_to_an_id_that_was_refused() {
    // connections.gone-refused
    let plane = Plane::start().await;
    plane.backend.plan(|_| Answer::Status(403));
    let mut client = Client::dial(plane.address, None).await;
    client.write(&client.handshake("", "")).await;
    assert_eq!(client.status().await, 403);
    let id = plane.id_of(&client).await;
    let (told, seen) = refused(&plane, &id, 410, "connections.gone-refused").await;
    assert_eq!((told["reason"].as_str(), &told["code"]), (Some("backend.refused"), &serde_json::Value::Null));
    assert_eq!((seen.text("connectionState"), seen.text("closeReason")), ("refused", "backend.refused"));
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_to_an_id_that_has_ended() {
    let plane = Plane::start_with(|settings| settings.data_plane.idle_timeout = 1).await;
    // connections.gone-client-closed, push.connection-closed
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    client.close(1001, "").await;
    plane.disconnect_of(&id).await;
    let (told, seen) = refused(&plane, &id, 410, "connections.gone-client-closed").await;
    assert_eq!((told["code"].as_u64(), told["reason"].as_str()), (Some(1001), Some("client.page-left")));
    assert!(told["closedAt"].as_str().unwrap().ends_with('Z'), "{told}");
    assert_eq!((seen.text("connectionState"), seen.number("closeCode")), ("closed", 1001.0));
    assert_eq!(
        (seen.text("closeReason"), seen.text("symptom")),
        ("client.page-left", "push.connection-closed")
    );
    assert!(seen.number("closedAt") >= seen.number("madeAt"));
    // connections.stale-record: the third one after the first.
    refused(&plane, &id, 410, "connections.gone-client-closed").await;
    refused(&plane, &id, 410, "connections.gone-client-closed").await;
    let (told, seen) = refused(&plane, &id, 410, "connections.stale-record").await;
    assert_eq!((told["reason"].as_str(), seen.number("postsSince")), (Some("client.page-left"), 3.0));
    // connections.gone-network
    let client = plane.connect().await;
    let id = plane.id_of(&client).await;
    client.reset();
    plane.disconnect_of(&id).await;
    let (told, _) = refused(&plane, &id, 410, "connections.gone-network").await;
    assert_eq!((told["code"].as_u64(), told["reason"].as_str()), (Some(1006), Some("conn.reset")));
    // connections.gone-server-closed
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    plane.manage("DELETE", &format!("@connections/{}", id.replace('=', "%3D")), "").await;
    client.closed().await;
    plane.disconnect_of(&id).await;
    let (told, _) = refused(&plane, &id, 410, "connections.gone-server-closed").await;
    assert_eq!(told["reason"], "close.backend-requested");
    // connections.gone-idle
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    client.closed().await;
    plane.disconnect_of(&id).await;
    let (told, _) = refused(&plane, &id, 410, "connections.gone-idle").await;
    assert_eq!((told["code"].as_u64(), told["reason"].as_str()), (Some(1001), Some("close.idle-timeout")));
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_to_an_id_that_was_too_old() {
    // connections.gone-max-age
    let plane = Plane::start_with(|settings| settings.data_plane.max_duration = 1).await;
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    client.closed().await;
    plane.disconnect_of(&id).await;
    let (told, _) = refused(&plane, &id, 410, "connections.gone-max-age").await;
    assert_eq!(told["reason"], "close.max-duration");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_to_an_id_of_an_earlier_process() {
    // connections.gone-restart
    let before = Plane::start().await;
    let client = before.connect().await;
    let id = before.id_of(&client).await;
    drop(client);
    before.end().await;
    // Times in ids are exact to a sixteenth of a second.
    tokio::time::sleep(Duration::from_millis(130)).await;
    let plane = Plane::start().await;
    let (_, seen) = refused(&plane, &id, 410, "connections.gone-restart").await;
    assert!(seen.number("madeAt") > 1e12);
    // connections.unknown-id: of the right form, made by somebody else.
    let foreign = ConnectionId::new(27_790_000_000, 0, 0, 1).to_string();
    let (_, seen) = refused(&plane, &foreign, 410, "connections.unknown-id").await;
    assert_eq!(seen.text("connectionState"), "unknown");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_to_what_is_no_id() {
    let plane = Plane::start().await;
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    // connections.malformed-id
    let (_, seen) = refused(&plane, "nonsense!", 400, "connections.malformed-id").await;
    assert_eq!((seen.text("badCharacter"), seen.number("length")), ("!", 9.0));
    // connections.double-encoded
    let twice = id.replace('=', "%253D");
    let (_, seen) = refused(&plane, &twice, 400, "connections.double-encoded").await;
    assert_eq!(seen.text("meant"), id);
    let (_, seen) = refused(&plane, id.trim_end_matches('='), 400, "connections.double-encoded").await;
    assert_eq!((seen.text("meant"), seen.number("length")), (id.as_str(), 15.0));
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_to_a_connection_of_another_api() {
    // connections.other-stage, push.other-api
    let plane = Plane::start().await;
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    let stage = |name: &str| LiveStage {
        stage: Stage { stage_name: name.to_owned(), ..Stage::default() },
        ..LiveStage::default()
    };
    let api = |api_id: &str, name: &str| {
        let api = Api { api_id: api_id.to_owned(), ..Api::default() };
        std::sync::Arc::new(LiveApi { api, stages: vec![stage(name)] })
    };
    plane
        .gateway
        .publish(Live { apis: vec![api(API_ID, STAGE), api("other00001", "dev")], domains: Vec::new() });
    let target = format!("/_aws/execute-api/other00001/dev/@connections/{}", id.replace('=', "%3D"));
    let reply = request(plane.address, "POST", &target, "Authorization: Bearer test-key\r\n", "x").await;
    assert_eq!((reply.status, reply.value("x-tidegate-diagnosis")), (410, "connections.other-stage"));
    let seen = plane.seen("refused", "connections.other-stage").await;
    assert_eq!((seen.text("belongsToApi"), seen.text("belongsToStage")), (API_ID, STAGE));
    assert_eq!((seen.text("symptom"), &*seen.place.api_id), ("push.other-api", "other00001"));
    plane.publish("/");
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_that_is_too_large_or_finds_a_full_queue() {
    let plane = Plane::start_with(|settings| {
        settings.data_plane.max_message_bytes = 65_536;
        settings.data_plane.outbound_buffer_bytes = 65_536;
    })
    .await;
    let client = plane.connect_with(Some(16 * 1024)).await;
    let id = plane.id_of(&client).await;
    let path = format!("@connections/{}", id.replace('=', "%3D"));
    // message.too-large-out: refused before the signature was looked at, so nothing is named to the caller.
    let reply = plane.manage("POST", &path, &"x".repeat(65_537)).await;
    assert_eq!((reply.status, reply.body.contains("tidegate")), (413, false));
    let seen = plane.seen("refused", "message.too-large-out").await;
    assert_eq!((seen.number("size"), seen.number("limit")), (65_537.0, 65_536.0));
    // conn.slow-consumer
    let payload = "x".repeat(32_768);
    let mut reply = plane.manage("POST", &path, &payload).await;
    for _ in 0..2000 {
        if reply.status != 200 {
            break;
        }
        reply = plane.manage("POST", &path, &payload).await;
    }
    assert_eq!((reply.status, reply.value("x-tidegate-diagnosis")), (429, "conn.slow-consumer"));
    assert_eq!(plane.seen("refused", "conn.slow-consumer").await.number("limit"), 65_536.0);
    drop(client);
    plane.end().await;
}

fn credential() -> Credential {
    Credential {
        access_key_id: "AKIDONE".to_owned(),
        secret: Secret::new("secret-of-one"),
        allow: vec![
            "arn:aws:execute-api:us-east-1:123456789012:tide000001/prod/GET/@connections/*".to_owned(),
        ],
    }
}

struct Signing<'a> {
    region: &'a str,
    service: &'a str,
    key: &'a str,
    secret: &'a str,
    age: Duration,
}

const RIGHT: Signing<'_> = Signing {
    region: "us-east-1",
    service: "execute-api",
    key: "AKIDONE",
    secret: "secret-of-one",
    age: Duration::ZERO,
};

async fn signed(plane: &Plane, signing: &Signing<'_>) -> Reply {
    let target =
        format!("{PATH}/@connections/{}", ConnectionId::new(1, 0, 0, 1).to_string().replace('=', "%3D"));
    let host = plane.address.to_string();
    let mut headers = http::HeaderMap::new();
    headers.insert("host", host.parse().unwrap());
    let keys = tidegate_auth::CredentialKeys::permanent(Secret::new(signing.secret));
    let signer = tidegate_auth::Signer::new(signing.key.to_owned(), keys, signing.region, signing.service);
    let parts = RequestParts { method: "POST", path: &target, query: None, headers: &headers };
    let added = signer.sign(&parts, Payload::Body(b"x"), SystemTime::now() - signing.age).unwrap();
    let lines: String = added
        .iter()
        .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()))
        .chain([format!("Host: {host}\r\n")])
        .collect();
    request(plane.address, "POST", &target, &lines, "x").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_not_admitted() {
    let plane = Plane::start_from(Setup { credentials: vec![credential()], ..Setup::default() }).await;
    // management.unsigned
    let reply = plane.manage_with("POST", "@connections/x", "", "x").await;
    assert_eq!(reply.status, 403);
    assert_eq!(plane.seen("refused", "management.unsigned").await.facts.get("caller"), None);
    for (id, signing) in [
        ("management.bad-signature", Signing { secret: "another", ..RIGHT }),
        ("management.unknown-key", Signing { key: "AKIDTWO", ..RIGHT }),
        ("management.wrong-region", Signing { region: "eu-west-1", ..RIGHT }),
        ("management.wrong-service", Signing { service: "apigateway", ..RIGHT }),
        ("management.clock-skew", Signing { age: Duration::from_secs(900), ..RIGHT }),
    ] {
        let reply = signed(&plane, &signing).await;
        assert_eq!(reply.status, 403, "{id}");
        // DX-74: who has not proven who they are is told what AWS says, and no more.
        assert!(!reply.body.contains("tidegate"), "{reply:?}");
        let seen = plane.seen("refused", id).await;
        assert_eq!(seen.text("accessKeyId"), signing.key);
        assert!(
            seen.text("scope").ends_with(&format!("{}/{}/aws4_request", signing.region, signing.service)),
            "{seen:?}"
        );
        assert!(!format!("{seen:?}").contains(signing.secret));
    }
    // management.denied
    let reply = signed(&plane, &RIGHT).await;
    assert_eq!((reply.status, reply.json()["tidegate"]["id"].as_str()), (403, Some("management.denied")));
    assert!(reply.json()["Message"].is_string(), "{reply:?}");
    let seen = plane.seen("refused", "management.denied").await;
    assert_eq!((seen.text("caller"), seen.text("action")), ("AKIDONE", "execute-api:ManageConnections"));
    assert!(seen.text("resource").ends_with("/prod/POST/@connections/{connectionId}"), "{seen:?}");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_at_the_wrong_address() {
    let plane = Plane::start().await;
    // management.wrong-listener
    let headers = "Authorization: Bearer test-key\r\n";
    let reply = request(plane.address, "GET", "/api/connections", headers, "").await;
    assert_eq!((reply.status, reply.value("x-amzn-errortype")), (404, "NotFoundException"));
    plane.seen("handshake", "management.wrong-listener").await;
    // management.stage-with-domain
    plane.deploy(&Deployed { domains: vec!["ws.example.com".to_owned()], ..Deployed::default() });
    let headers = "Host: ws.example.com\r\nAuthorization: Bearer test-key\r\n";
    let reply = request(plane.address, "POST", "/prod/@connections/abc", headers, "x").await;
    assert_eq!(reply.status, 404);
    let seen = plane.seen("refused", "management.stage-with-domain").await;
    assert_eq!(seen.text("path"), "/prod");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_to_a_channel_that_nobody_is_in() {
    let policy = json!({
        "channels": { "unlisted": "allow" },
        "control": { "key": "tidegate" },
    });
    let plane = Plane::start_with_policy(users_policy(policy)).await;
    let mut client = plane.connect_user(json!({ "sub": "ada", "exp": 4_000_000_000_u64 }), "").await;
    let id = plane.id_of(&client).await;
    let path = format!("@channels/general/connections/{}", id.replace('=', "%3D"));
    assert_eq!(plane.manage("PUT", &path, "").await.status, 204);
    let reply = plane.manage("POST", "@channels/general", "hello").await;
    assert_eq!(reply.json()["delivered"], 1);
    let seen = plane.seen("published", "").await;
    assert_eq!((seen.text("target"), seen.text("channel")), ("channel", "general"));
    assert_eq!((seen.number("members"), seen.number("delivered")), (1.0, 1.0));
    // publish.dead-entries: the counter of members that were ending.
    assert_eq!((seen.number("gone"), seen.number("slow")), (0.0, 0.0));
    assert_eq!((seen.text("caller"), seen.facts.get("isJson")), ("api key 1", Some(&false.into())));
    // A channel like no other is normal life.
    plane.notices.record.clear();
    plane.manage("POST", "@channels/quite-another", "hello").await;
    assert_eq!(plane.seen("published", "").await.number("members"), 0.0);
    assert!(plane.is_healthy());
    // publish.no-subscribers
    tokio::time::sleep(Duration::from_millis(110)).await;
    plane.manage("POST", "@channels/Genral", "hello").await;
    let seen = plane.seen("decided", "publish.no-subscribers").await;
    assert_eq!((seen.text("channel"), seen.list("similar")), ("Genral", vec!["general"]));
    client.stream.shutdown().await.unwrap();
    plane.gateway.drain(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_moves_between_channels_and_on_whose_behalf() {
    let policy = json!({ "channels": { "unlisted": "allow" } });
    let plane = Plane::start_with_policy(users_policy(policy)).await;
    let mut client =
        plane.connect_user(json!({ "sub": "ada", "exp": 4_000_000_000_u64 }), "&channel=hall").await;
    let id = plane.id_of(&client).await;
    client.told().await;
    client.ask(json!({ "action": "join", "channel": "room" })).await;
    client.ask(json!({ "action": "change", "channel": "bar" })).await;
    let path = format!("@channels/vip/connections/{}", id.replace('=', "%3D"));
    plane.manage("PUT", &path, "").await;
    // Joining again is no change.
    plane.manage("PUT", &path, "").await;
    plane.manage("DELETE", &path, "").await;
    plane.gateway.join(&id, &"staff".parse().unwrap()).unwrap();
    plane.deploy(&Deployed::with_policy(users_policy(json!({}))));
    let is_rule = |notice: &Notice| matches!(notice, Notice::MembershipChanged { by: "rules", .. });
    plane.notices.record.until("a change by the rules", 1, is_rule).await;
    let changes: Vec<(String, &str, &str)> = plane
        .notices
        .record
        .all()
        .iter()
        .filter_map(|notice| match notice {
            Notice::MembershipChanged { place, channel, change, by } => {
                assert_eq!(
                    (place.user.as_deref(), place.connection_id.unwrap().to_string()),
                    (Some("ada"), id.clone())
                );
                Some((channel.to_string(), *change, *by))
            }
            _ => None,
        })
        .collect();
    let expected = [
        ("hall", "join", "handshake"),
        ("room", "join", "client"),
        ("hall", "leave", "client"),
        ("room", "leave", "client"),
        ("bar", "join", "client"),
        ("vip", "join", "management"),
        ("vip", "leave", "management"),
        ("staff", "join", "administrator"),
        ("bar", "leave", "rules"),
    ];
    let expected = expected.map(|(channel, change, by)| (channel.to_owned(), change, by));
    assert_eq!(changes, expected);
    client.stream.shutdown().await.unwrap();
    plane.gateway.drain(Duration::from_secs(20)).await;
}
