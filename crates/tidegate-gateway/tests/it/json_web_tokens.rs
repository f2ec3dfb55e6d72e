//! JSON Web Tokens in handshakes: where they are, which keys verify them, and when their connections end.

use serde_json::{Value, json};
use tidegate_auth::{ApiKey, Secret};
use tidegate_gateway::ConnectionFilter;

use crate::harness::{Deployed, Plane};
use crate::session_layer::{SECRET, jwt_policy, now, pair, unlimited};

const OLD_SECRET: &str = "m7B2xTq9Yc4Wd1Hk6Ls3Vp8Zf5Rg0Nj_";

async fn start(options: Value) -> Plane {
    Plane::start_with_policy(jwt_policy(options)).await
}

fn query(token: &str) -> String {
    format!("?token={token}")
}

/// What can be searched for: header and claims of two tokens may have a beginning in common.
fn signature(token: &str) -> &str {
    token.rsplit('.').next().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_place_is_read_and_only_the_pair_is_answered() {
    // S3-9
    let plane = start(json!({ "cookie": "access" })).await;
    let token = plane.jwt(json!({ "sub": 7, "role": ["staff"], "email": "a@b.example" }));
    for (query, headers, answered) in [
        (query(&token), String::new(), ""),
        (String::new(), format!("Authorization: Bearer {token}\r\n"), ""),
        (String::new(), pair(&token), "tidegate.bearer"),
        (String::new(), format!("Sec-WebSocket-Protocol: chat\r\n{}", pair(&token)), "tidegate.bearer"),
        (String::new(), format!("Cookie: a=b; access=\"{token}\"\r\n"), ""),
        // The same in two places is one.
        (query(&token), format!("Authorization: bearer {token}\r\n"), ""),
    ] {
        let reply = plane.ask(&query, &headers).await;
        assert_eq!((reply.status, reply.value("sec-websocket-protocol")), (101, answered), "{headers}");
        assert!(!reply.head.contains(&token));
    }
    let connects = plane.backend.events("CONNECT", 6).await;
    for request in &connects {
        // S3-12: a number is its decimal text. S0-43
        let told = (request.value("tidegate-user"), request.value("tidegate-auth"));
        assert_eq!(told, ("7", "jwt"));
        assert!(!request.value("sec-websocket-protocol").contains(&token));
    }
    let other = plane.jwt(json!({ "sub": "eve" }));
    let bearer = format!("Authorization: Bearer {other}\r\n");
    let refusal = plane.refused(&query(&token), &bearer, "jwt.ambiguous").await;
    assert!(refusal.detail.contains("query parameter token and header authorization"), "{refusal:?}");
    let refusal = plane.refused(&format!("?access_token={token}"), "", "jwt.wrong-place").await;
    assert!(refusal.detail.contains("query parameter access_token"), "{refusal:?}");
    plane.refused("?token=", "", "jwt.missing").await;
    plane.assert_untold(&[signature(&token), signature(&other)]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_get_the_text_of_the_catalogue() {
    let plane = start(json!({ "leeway": 0, "claims": { "required": ["email"] } })).await;
    let seconds = now() / 1000;
    let good = json!({ "sub": "ada", "email": "a@b.example" });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        query(&plane.jwt(claims))
    };
    let forged = format!("{}A", &plane.jwt(good.clone())[..plane.jwt(good.clone()).len() - 1]);
    for (query, diagnosis, text) in [
        (String::new(), "jwt.missing", "Missing token"),
        ("?token=undefined".to_owned(), "jwt.malformed", "Invalid token"),
        (query(&"x".repeat(3000)), "jwt.malformed", "Invalid token"),
        (query(&forged), "jwt.signature", "Invalid token"),
        (with("exp", json!(seconds - 1)), "jwt.expired", "Token expired"),
        (with("nbf", json!(seconds + 60)), "jwt.not-yet-valid", "Token not yet valid"),
        // S3-12
        (with("email", json!("")), "jwt.claims-missing", "Invalid token payload"),
        (with("sub", json!("")), "jwt.claims-missing", "Invalid token payload"),
    ] {
        plane.refused(&query, "", diagnosis).await;
        let reply = plane.ask(&query, "").await;
        assert_eq!((reply.status, reply.json()["message"].as_str()), (403, Some(text)), "{diagnosis}");
        assert_eq!(reply.json()["check"], "jwt");
    }
    assert_eq!(plane.knock(&with("x", json!(1)), "").await, 101);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_rotate() {
    // S3-10: the first signs, all verify.
    let plane = start(json!({ "keys": [{ "secret": OLD_SECRET, "algorithms": ["HS256"] }] })).await;
    let old = plane.jwt(json!({ "sub": "ada" }));
    let keys = |secrets: &[&str]| {
        let keys: Vec<Value> =
            secrets.iter().map(|secret| json!({ "secret": secret, "algorithms": ["HS256"] })).collect();
        Deployed::with_policy(jwt_policy(json!({ "keys": keys })))
    };
    plane.deploy(&keys(&[SECRET, OLD_SECRET]));
    let new = plane.jwt(json!({ "sub": "ada" }));
    assert_ne!(signature(&old), signature(&new));
    for token in [&old, &new] {
        assert_eq!(plane.knock(&query(token), "").await, 101);
    }
    plane.deploy(&keys(&[SECRET]));
    assert_eq!(plane.knock(&query(&new), "").await, 101);
    plane.refused(&query(&old), "", "jwt.signature").await;
    plane.assert_untold(&[SECRET, OLD_SECRET]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_may_be_in_a_file() {
    // S3-10
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let plane = start(json!({ "keys": [{ "secret": SECRET, "algorithms": ["HS256"] }] })).await;
    let token = plane.jwt(json!({ "sub": "ada" }));
    let in_file = json!({ "keys": [{ "secret_file": file, "algorithms": ["HS256"] }] });
    plane.deploy(&Deployed::with_policy(jwt_policy(in_file.clone())));
    assert_eq!(plane.knock(&query(&token), "").await, 101);
    // Without its key the stage says so, and lets nobody in.
    std::fs::remove_file(&file).unwrap();
    let running = plane.run_session_layer();
    plane.deploy(&Deployed::with_policy(jwt_policy(in_file)));
    // auth.not-configured
    let refusal = plane.refused(&query(&token), "", "auth.not-configured").await;
    assert_eq!(refusal.status, 503);
    assert!(refusal.detail.contains("jwt.keys[0]"), "{refusal:?}");
    let is_told = |notice: &_| matches!(notice, tidegate_core::notice::Notice::KeySetNotFetched { detail, .. } if detail.contains("jwt.keys[0]"));
    plane.notices.record.until("KeySetNotFetched", 1, is_told).await;
    drop(running);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_end_with_their_token() {
    // S3-16: at `exp + leeway`.
    let plane = start(json!({ "leeway": 30 })).await;
    let expired = now() / 1000 - 28;
    let token = plane.jwt(json!({ "sub": "ada", "exp": expired }));
    let mut client = plane.connect_as(&query(&token), "").await;
    let mut lasting = plane.connect_as(&query(&plane.jwt(json!({ "sub": "ada" }))), "").await;
    let id = plane.id_of(&client).await;
    let frame = client.closed().await.expect("a close frame");
    assert_eq!((frame.code.as_u16(), frame.reason.as_str()), (1008, "Token expired"));
    let ends_at = (expired + 30) * 1000;
    assert!((ends_at..ends_at + 5000).contains(&now()), "{}", now() as i64 - ends_at as i64);
    assert_eq!(plane.disconnect_of(&id).await, (1008, "Token expired".to_owned()));
    plane.refused(&query(&token), "", "jwt.expired").await;
    lasting.send("still here").await;
    plane.backend.events("MESSAGE", 1).await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_outlive_their_token_where_the_policy_says_so() {
    // S3-16
    let plane = start(json!({ "leeway": 0, "close_on_expiry": false })).await;
    let token = plane.jwt(json!({ "sub": "ada", "exp": now() / 1000 + 2 }));
    let mut client = plane.connect_as(&query(&token), "").await;
    // A connection that does end with its token, a second later: by then this one would have ended too.
    let strict = start(json!({ "leeway": 0 })).await;
    let later = strict.jwt(json!({ "sub": "ada", "exp": now() / 1000 + 3 }));
    let mut witness = strict.connect_as(&query(&later), "").await;
    assert_eq!(witness.closed().await.expect("a close frame").code.as_u16(), 1008);
    strict.end().await;
    plane.refused(&query(&token), "", "jwt.expired").await;
    client.send("still here").await;
    plane.backend.events("MESSAGE", 1).await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_opens_many_connections() {
    // S3-18
    let plane = start(json!({})).await;
    let token = plane.jwt(json!({ "sub": "ada", "sid": "login-1" }));
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(plane.connect_as(&query(&token), "").await);
    }
    let of_user = ConnectionFilter { user: Some("ada".to_owned()), ..ConnectionFilter::default() };
    assert_eq!(plane.gateway.count_connections(&of_user), 10);
    drop(clients);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_need_not_show_one_must_not_show_a_wrong_one() {
    let mut policy = jwt_policy(json!({}));
    policy["admission"]["required"] = json!(false);
    let plane = Plane::start_with_policy(policy).await;
    assert_eq!(plane.knock("", "").await, 101);
    assert_eq!(plane.backend.events("CONNECT", 1).await[0].value("tidegate-auth"), "none");
    plane.refused("?token=a.b.c", "", "jwt.malformed").await;
    let header = "Authorization: Bearer a.b.c\r\n";
    plane.refused("", header, "jwt.malformed").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_may_show_an_api_key() {
    let key = "k3y-0f-a-pr0gram";
    let hash = ApiKey::of(&Secret::new(key)).to_hash_hex();
    let plane = Plane::start_with_policy(unlimited(json!({
        "admission": {
            "checks": ["token", "jwt", "api_key"],
            "api_keys": [{ "user": "billing", "sha256": hash, "roles": ["machine"] }],
        },
        "jwt": { "keys": [{ "secret": SECRET, "algorithms": ["HS256"] }] },
    })))
    .await;
    let mut client = plane.connect_as("", &format!("X-Api-Key: {key}\r\n")).await;
    let connect = &plane.backend.events("CONNECT", 1).await[0];
    assert_eq!((connect.value("tidegate-user"), connect.value("tidegate-auth")), ("billing", "api_key"));
    client.close(1000, "").await;
    plane.refused("", "X-Api-Key: wr0ng-key-0f-a-pr0gram\r\n", "apikey.unknown").await;
    plane.refused("", "", "token.missing").await;
    // S3-9: a token in a place that is not read says more than one that is nowhere.
    let jwt = plane.jwt(json!({ "sub": "ada" }));
    plane.refused(&format!("?jwt={jwt}"), "", "jwt.wrong-place").await;
    plane.assert_untold(&[key, "wr0ng-key-0f-a-pr0gram"]);
    plane.end().await;
}
