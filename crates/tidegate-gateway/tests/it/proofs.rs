//! What proves a refusal of the session layer, and the subprotocols.

use serde_json::{Value, json};
use tidegate_core::journal::Kind;
use tidegate_core::notice::Notice;
use tidegate_gateway::TokenRequest;

use crate::backend::{After, Answer};
use crate::client::PATH;
use crate::harness::{Deployed, Plane, Setup};
use crate::session_layer::{SECRET, jwt_policy, now, unlimited};
use crate::told::{Told, upgrade};

async fn ask(plane: &Plane, query: &str, headers: &str) -> Told {
    plane.told(&upgrade(&format!("{PATH}{query}"), "localhost", headers)).await
}

fn is_fingerprint(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_json_web_tokens_prove_why() {
    let plane = Plane::start_with_policy(jwt_policy(json!({
        "issuer": "https://issuer.example", "audience": "chat", "leeway": 10, "require_exp": true,
        "claims": { "required": ["email"] },
    })))
    .await;
    let seconds = now() / 1000;
    let good = json!({
        "sub": "ada", "iss": "https://issuer.example", "aud": "chat", "exp": seconds + 60, "email": "a@b.example",
    });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        match value.is_null() {
            true => drop(claims.as_object_mut().unwrap().remove(name)),
            false => claims[name] = value,
        }
        plane.jwt(claims)
    };
    let fine = plane.jwt(good.clone());
    assert_eq!(plane.knock(&format!("?token={fine}"), "").await, 101);
    // DX-9
    let decided = plane.notices.record.all().into_iter().find_map(|notice| match notice {
        Notice::Decided { kind: Kind::Jwt, remark: None, facts, place } => Some((facts, place)),
        _ => None,
    });
    let (facts, place) = decided.expect("a decision");
    assert!(is_fingerprint(&facts.get("fingerprint").unwrap()) && place.user.as_deref() == Some("ada"));

    let forged = format!("{}AAAA", &fine[..fine.len() - 4]);
    let token = |text: &str| format!("?token={text}");
    for (query, id, name, value) in [
        // jwt.missing
        (String::new(), "jwt.missing", "check", json!("jwt")),
        // jwt.wrong-place
        (format!("?access_token={fine}"), "jwt.wrong-place", "place", json!("query parameter access_token")),
        // jwt.malformed
        (token(&format!("Bearer%20{fine}")), "jwt.malformed", "hint", json!("it begins with `Bearer `")),
        // jwt.signature
        (token(&forged), "jwt.signature", "alg", json!("HS256")),
        // jwt.expired
        (token(&with("exp", json!(seconds - 11))), "jwt.expired", "leeway", json!(10_000)),
        // jwt.not-yet-valid
        (token(&with("nbf", json!(seconds + 100))), "jwt.not-yet-valid", "claim", json!("nbf")),
        // jwt.issuer
        (
            token(&with("iss", json!("https://other.example"))),
            "jwt.issuer",
            "expected",
            json!("https://issuer.example"),
        ),
        // jwt.audience
        (token(&with("aud", json!("alerts"))), "jwt.audience", "expected", json!("chat")),
        // jwt.claims-missing
        (token(&with("email", Value::Null)), "jwt.claims-missing", "missing", json!(["email"])),
        // jwt.alg-not-allowed
        (token("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."), "jwt.alg-not-allowed", "alg", json!("none")),
    ] {
        let told = ask(&plane, &query, "").await;
        assert_eq!((told.status, told.id), (403, id));
        assert_eq!(told.facts[name], value, "{id}: {:?}", told.facts);
        let has_token = !matches!(id, "jwt.missing" | "jwt.wrong-place");
        assert_eq!(told.facts.get("fingerprint").is_some_and(is_fingerprint), has_token, "{id}");
        assert_eq!(told.reply.json()["check"], "jwt");
        assert!(told.facts["tokenMs"].is_u64());
    }
    // jwt.ambiguous
    let told = ask(&plane, &token(&fine), &format!("Authorization: Bearer {forged}\r\n")).await;
    assert_eq!(told.facts["places"], json!(["query parameter token", "header authorization"]));
    assert_eq!(told.id, "jwt.ambiguous");
    // jwt.too-long
    let long = format!("Authorization: Bearer {}.x.y\r\n", "e".repeat(9000));
    let told = ask(&plane, "", &long).await;
    assert_eq!((told.id, &told.facts["limit"]), ("jwt.too-long", &json!(8192)));
    // DX-9: the same token has the same fingerprint.
    let expired = token(&with("exp", json!(seconds - 100)));
    let (first, second) = (ask(&plane, &expired, "").await, ask(&plane, &expired, "").await);
    assert_eq!(first.facts["fingerprint"], second.facts["fingerprint"]);
    assert_eq!(first.facts["exp"], (seconds - 100) * 1000);
    plane.assert_untold(&[SECRET, &fine, &forged, "a@b.example"]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_connect_tokens_prove_why() {
    let trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let plane = Plane::start_from(Setup { trusted_proxies, ..Setup::default() }).await;
    plane.deploy(&Deployed::with_policy(unlimited(json!({
        "admission": { "checks": ["token"] },
        "connect_tokens": { "cookie": "sessionid" },
    }))));
    let query = |token: &str| format!("?ws_token={token}");
    // token.missing
    let told = ask(&plane, "", "").await;
    assert_eq!((told.status, told.id, &told.facts["parameter"]), (403, "token.missing", &json!("ws_token")));
    // token.unknown
    let told = ask(&plane, "?ws_token=short", "").await;
    assert_eq!((told.id, &told.facts["length"]), ("token.unknown", &json!(5)));
    let told = ask(&plane, &query(&"0a".repeat(32)), "").await;
    assert_eq!(told.id, "token.unknown");
    assert!(is_fingerprint(&told.facts["fingerprint"]));
    // token.expired
    let token =
        plane.token_at(TokenRequest { lifetime: Some(5), ..TokenRequest::default() }, now() - 8000).await;
    let told = ask(&plane, &query(&token), "").await;
    assert_eq!((told.id, &told.facts["lifetimeMs"]), ("token.expired", &json!(5000)));
    assert!((8000..20_000).contains(&told.facts["tokenAgeMs"].as_u64().unwrap()), "{:?}", told.facts);
    // token.clock
    let token = plane.token_at(TokenRequest::default(), now() + 20_000).await;
    let told = ask(&plane, &query(&token), "").await;
    assert_eq!(told.id, "token.clock");
    assert!(told.facts["tokenAgeMs"].as_i64().unwrap() < -10_000);
    // token.reused
    let token = plane.token_of("ada").await;
    let mut client = plane.connect_as(&query(&token), "X-Forwarded-For: 203.0.113.7\r\n").await;
    let told = ask(&plane, &query(&token), "").await;
    assert_eq!((told.id, &told.facts["firstUsedFrom"]), ("token.reused", &json!("203.0.113.7")));
    assert!(told.facts["firstUsedAt"].as_u64().unwrap() > now() - 20_000);
    assert_eq!(told.facts["firstIsOpen"], true);
    let first = told.facts["fingerprint"].clone();
    // token.reused-on-reconnect
    client.close(1000, "").await;
    plane.nobody_is_left().await;
    let told = ask(&plane, &query(&token), "").await;
    assert_eq!((told.id, &told.facts["fingerprint"]), ("token.reused-on-reconnect", &first));
    // DX-9: the accepted presentation has it too.
    let is_first = |notice: &Notice| matches!(notice, Notice::Decided { kind: Kind::Token, facts, .. } if facts.get("fingerprint").as_ref() == Some(&first));
    assert_eq!(plane.notices.record.count(is_first), 1);

    let bound = async |change: fn(&mut TokenRequest)| {
        let mut request = TokenRequest { user: Some("eve".to_owned()), ..TokenRequest::default() };
        change(&mut request);
        query(&plane.token(request).await)
    };
    let session = bound(|request| request.session_cookie = Some("c00k1e-0f-eve".to_owned())).await;
    // token.session-missing
    let told = ask(&plane, &session, "Cookie: theme=dark\r\n").await;
    assert_eq!((told.id, &told.facts["differs"]), ("token.session-missing", &json!("session")));
    assert_eq!(told.facts["cookieNames"], json!(["theme"]));
    // token.session-changed
    let told = ask(&plane, &session, "Cookie: sessionid=c00k1e-0f-ada\r\n").await;
    assert_eq!((told.id, &told.facts["differs"]), ("token.session-changed", &json!("session")));
    // token.origin-mismatch
    let origin = bound(|request| request.origin = Some("https://app.example".to_owned())).await;
    let told = ask(&plane, &origin, "Origin: https://evil.example\r\n").await;
    assert_eq!((told.id, &told.facts["differs"]), ("token.origin-mismatch", &json!("origin")));
    assert_eq!(
        (&told.facts["expected"], &told.facts["origin"]),
        (&json!("https://app.example"), &json!("https://evil.example"))
    );
    // token.other-browser
    let address = bound(|request| request.address = Some([203, 0, 113, 9].into())).await;
    let told = ask(&plane, &address, "X-Forwarded-For: 203.0.113.8\r\n").await;
    assert_eq!((told.id, &told.facts["differs"]), ("token.other-browser", &json!("address")));
    assert_eq!(
        (&told.facts["clientAddress"], &told.facts["clientAddressTrusted"]),
        (&json!("203.0.113.8"), &json!(true))
    );
    plane.assert_untold(&["c00k1e-0f-eve", "c00k1e-0f-ada", &token]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_origins_and_channels_prove_why() {
    let plane = Plane::start_with_policy(json!({
        "attempts": { "per_address": 4, "window": 60 },
        "admission": { "origins": ["https://good.example"] },
        "channels": { "unlisted": "deny", "rules": [
            { "match": "general", "join": "allow" }, { "match": "staff", "join": "deny" },
        ] },
    }))
    .await;
    // origin.not-allowed
    let told = ask(&plane, "", "Origin: https://bad.example\r\n").await;
    assert_eq!((told.status, told.id, &told.facts["check"]), (403, "origin.not-allowed", &json!("origin")));
    assert_eq!(told.facts["allowedOrigins"], json!(["https://good.example"]));
    assert_eq!(told.facts["origin"], "https://bad.example");
    // channel.unlisted
    let told = ask(&plane, "?channel=genral", "").await;
    assert_eq!((told.status, told.id, &told.facts["nearest"]), (403, "channel.unlisted", &json!("general")));
    assert_eq!(told.facts["channel"], "genral");
    // channel.forbidden
    let told = ask(&plane, "?channel=staff", "").await;
    assert_eq!((told.status, told.id, &told.facts["channel"]), (403, "channel.forbidden", &json!("staff")));
    assert!(told.facts["rule"].as_str().unwrap().contains("staff"));
    assert_eq!(plane.knock("?channel=general", "").await, 101);
    // ratelimit.connect
    let told = ask(&plane, "", "").await;
    assert_eq!(
        (told.status, told.id, told.reply.json()["message"].as_str()),
        (429, "ratelimit.connect", Some("Too Many Requests"))
    );
    for (name, value) in [("limit", 4), ("count", 4), ("windowSeconds", 60)] {
        assert_eq!(told.facts[name], value, "{name}");
    }
    let reset = told.facts["resetAt"].as_u64().unwrap();
    assert!((now()..now() + 61_000).contains(&reset));
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subprotocols_that_will_not_please_prove_why() {
    let plane = Plane::start().await;
    let trouble = async |offered: &str, answered: &str| {
        let answered = match answered {
            "" => String::new(),
            names => format!("Sec-WebSocket-Protocol: {names}\r\n"),
        };
        let answer = format!("HTTP/1.1 200 OK\r\n{answered}Content-Length: 0\r\n\r\n");
        plane.backend.plan(move |request| match request.is_event("CONNECT") {
            true => Answer::Wire(answer.clone(), After::Keep),
            false => Answer::Status(200),
        });
        let is_trouble = |notice: &Notice| matches!(notice, Notice::SubprotocolTrouble { .. });
        let before = plane.notices.record.count(is_trouble);
        let offered = match offered {
            "" => String::new(),
            names => format!("Sec-WebSocket-Protocol: {names}\r\n"),
        };
        let reply = plane.ask("", &offered).await;
        assert_eq!(reply.status, 101);
        let troubles = plane.notices.record.until("any", 0, is_trouble).await;
        let id = match troubles.get(before) {
            Some(Notice::SubprotocolTrouble { diagnosis, facts, place }) => {
                assert_eq!(place.request_id.unwrap().to_string(), reply.value("tidegate-request-id"));
                assert!(facts.get("offeredSubprotocols").is_some());
                Some((diagnosis.as_str(), facts.clone().into_map()))
            }
            _ => None,
        };
        (id, reply.value("sec-websocket-protocol").to_owned())
    };
    let token = "0123456789abcdef".repeat(4);
    assert_eq!(trouble("", "").await, (None, String::new()));
    assert_eq!(trouble("chat, v2", "v2").await, (None, "v2".to_owned()));
    for (offered, answered, id, chosen) in [
        // subprotocol.not-confirmed
        ("chat", "", "subprotocol.not-confirmed", ""),
        // subprotocol.not-offered
        ("chat", "other", "subprotocol.not-offered", ""),
        // subprotocol.several
        ("chat, v2", "v2, chat", "subprotocol.several", "v2"),
        // subprotocol.null
        ("null", "", "subprotocol.null", ""),
        ("undefined", "", "subprotocol.null", ""),
        // subprotocol.token
        (token.as_str(), "", "subprotocol.token", ""),
    ] {
        let (told, answer) = trouble(offered, answered).await;
        let (found, facts) = told.unwrap_or_else(|| panic!("{id}"));
        assert_eq!((found, answer.as_str()), (id, chosen));
        let named: Vec<&str> = answered.split(", ").filter(|name| !name.is_empty()).collect();
        assert_eq!(facts["answeredSubprotocols"], json!(named));
    }
    plane.assert_untold(&[&token]);
    plane.end().await;
}
