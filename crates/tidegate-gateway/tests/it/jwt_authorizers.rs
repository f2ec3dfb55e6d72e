//! Authorizers of type `JWT` on `$connect`: keys by the issuer's discovery document, and what a token must say.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_core::definition::{Authorizer, JwtConfiguration};
use tidegate_core::notice::Notice;

use crate::backend::{After, Answer, Gate};
use crate::client::PATH;
use crate::harness::{Deployed, Plane};
use crate::key_sets::Key;
use crate::record::eventually;
use crate::session_layer::now;
use crate::told::{Told, upgrade};

const SEGMENTS: &str = "token contains an invalid number of segments";

fn ok(body: &Value) -> Answer {
    let body = body.to_string();
    let length = body.len();
    Answer::Wire(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"), After::Keep)
}

fn issuer(plane: &Plane) -> String {
    format!("http://{}/pool", plane.backend.address)
}

/// The backend is the issuer, too.
fn serve(plane: &Plane, document: Value, keys: &[&Key]) {
    let keys = json!({ "keys": keys.iter().map(|key| key.public()).collect::<Vec<_>>() });
    plane.backend.plan(move |request| match request.target.as_str() {
        "/pool/.well-known/openid-configuration" => ok(&document),
        "/keys" => ok(&keys),
        _ => Answer::Status(200),
    });
}

fn document(plane: &Plane) -> Value {
    json!({ "issuer": issuer(plane), "jwks_uri": format!("http://{}/keys", plane.backend.address) })
}

fn deployed(plane: &Plane, scopes: &[&str], source: &str) -> Deployed {
    let (issuer, source) = (issuer(plane), source.to_owned());
    let scopes: Vec<String> = scopes.iter().map(|&scope| scope.to_owned()).collect();
    let changed = Deployed::changed(move |definition| {
        definition.authorizers.push(Authorizer {
            authorizer_id: "auth001".to_owned(),
            name: "pool".to_owned(),
            authorizer_type: "JWT".to_owned(),
            identity_source: vec![source.clone()],
            jwt_configuration: Some(JwtConfiguration {
                audience: vec!["app".to_owned(), "web".to_owned()],
                issuer: Some(issuer.clone()),
            }),
            ..Authorizer::default()
        });
        definition.routes[0].authorization_type = "JWT".to_owned();
        definition.routes[0].authorizer_id = Some("auth001".to_owned());
        definition.routes[0].authorization_scopes.clone_from(&scopes);
    });
    let headers = [
        ("x-sub", "context.authorizer.claims.sub"),
        ("x-groups", "context.authorizer.claims.groups"),
        ("x-principal", "context.authorizer.principalId"),
    ];
    let headers = headers.map(|(name, source)| (name.to_owned(), source.to_owned())).to_vec();
    Deployed { headers, ..changed }
}

fn claims(plane: &Plane, more: Value) -> Value {
    let mut claims = json!({
        "iss": issuer(plane), "aud": "app", "sub": "ada", "exp": now() / 1000 + 600, "groups": ["a", "b"],
    });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

async fn told(plane: &Plane, header: &str) -> Told {
    plane.told(&upgrade(PATH, "localhost", header)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_the_issuer_let_in_and_their_claims_stay_known() {
    let plane = Plane::start().await;
    let key = Key::new("k1");
    serve(&plane, document(&plane), &[&key]);
    let running = plane.run_session_layer();
    plane.deploy(&deployed(&plane, &[], "$request.header.Authorization"));
    let token = key.token(&claims(&plane, json!({})));
    // At once: the first handshake waits for the keys.
    let mut client = plane.connect_as("", &format!("Authorization: Bearer {token}\r\n")).await;
    let id = plane.id_of(&client).await;
    client.send("hello").await;
    plane.backend.events("MESSAGE", 1).await;
    client.close(1000, "").await;
    plane.disconnect_of(&id).await;
    for event in ["CONNECT", "MESSAGE", "DISCONNECT"] {
        let request = &plane.backend.events(event, 1).await[0];
        let known = ["x-sub", "x-groups", "x-principal"].map(|name| request.value(name));
        assert_eq!(known, ["ada", "[a b]", "ada"], "{event}");
    }
    // Without the scheme, as the service takes it, and once fetched the keys are not fetched again.
    assert_eq!(plane.knock("", &format!("authorization: {token}\r\n")).await, 101);
    let n_fetches = |target: &str| plane.backend.requests.count(|request| request.target.starts_with(target));
    assert_eq!((n_fetches("/pool/.well-known"), n_fetches("/keys")), (1, 1));
    plane.assert_untold(&[&token]);
    drop(running);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_of_a_token_has_its_diagnosis() {
    // jwt.missing, jwt.malformed, jwt.alg-not-allowed, jwt.unknown-key, jwt.signature, jwt.expired, jwt.issuer,
    // jwt.audience, jwt.claims-missing
    let plane = Plane::start().await;
    let (key, forged, unknown) = (Key::new("k1"), Key::new("k1"), Key::new("k2"));
    serve(&plane, document(&plane), &[&key]);
    let running = plane.run_session_layer();
    plane.deploy(&deployed(&plane, &[], "route.request.header.Authorization"));
    let of =
        |key: &Key, more: Value| format!("Authorization: Bearer {}\r\n", key.token(&claims(&plane, more)));
    let mut without_exp = claims(&plane, json!({}));
    without_exp.as_object_mut().unwrap().remove("exp");
    let without_exp = format!("Authorization: Bearer {}\r\n", key.token(&without_exp));
    // {"alg":"none"}
    let none = "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.\r\n".to_owned();
    let invalid = |text: &str| format!(r#"Bearer scope="" error="invalid_token" error_description="{text}""#);
    for (header, id, challenge) in [
        (String::new(), "jwt.missing", "Bearer".to_owned()),
        ("Authorization: Bearer  \r\n".to_owned(), "jwt.malformed", invalid(SEGMENTS)),
        ("Authorization: Bearer a.b\r\n".to_owned(), "jwt.malformed", invalid(SEGMENTS)),
        (none, "jwt.alg-not-allowed", invalid("the token does not have a valid algorithm")),
        (of(&unknown, json!({})), "jwt.unknown-key", invalid("the token does not have a valid key id")),
        (of(&forged, json!({})), "jwt.signature", invalid("the token does not have a valid signature")),
        (of(&key, json!({ "exp": now() / 1000 - 3600 })), "jwt.expired", invalid("the token has expired")),
        (
            of(&key, json!({ "nbf": now() / 1000 + 3600 })),
            "jwt.not-yet-valid",
            invalid("the token is not valid yet"),
        ),
        (
            of(&key, json!({ "iss": "https://other.example.com" })),
            "jwt.issuer",
            invalid("the token does not have a valid issuer"),
        ),
        (
            of(&key, json!({ "aud": "other" })),
            "jwt.audience",
            invalid("the token does not have a valid audience"),
        ),
        (without_exp, "jwt.claims-missing", invalid("the token does not have all claims")),
    ] {
        let told = told(&plane, &header).await;
        assert_eq!((told.status, told.id), (401, id), "{header}");
        assert_eq!(told.reply.json()["message"], "Unauthorized");
        assert_eq!(told.reply.value("x-amzn-errortype"), "UnauthorizedException");
        assert_eq!(told.reply.value("www-authenticate"), challenge, "{id}");
        assert_eq!(
            (&told.facts["authorizer"], &told.facts["authorizerTarget"]),
            (&json!("pool"), &json!("jwt"))
        );
    }
    assert_eq!(plane.knock("", &of(&key, json!({ "aud": ["x", "web"] }))).await, 101);
    assert_eq!(plane.backend.requests.count(|request| request.is_event("CONNECT")), 1);
    drop(running);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_may_ask_for_scopes() {
    let plane = Plane::start().await;
    let key = Key::new("k1");
    serve(&plane, document(&plane), &[&key]);
    let running = plane.run_session_layer();
    plane.deploy(&deployed(&plane, &["chat.write", "admin"], "route.request.querystring.token"));
    let query = |scope: &str| format!("?token={}", key.token(&claims(&plane, json!({ "scope": scope }))));
    assert_eq!(plane.knock(&query("openid chat.write"), "").await, 101);
    let told = plane.told(&upgrade(&format!("{PATH}{}", query("openid")), "localhost", "")).await;
    assert_eq!((told.status, told.id), (403, "authorizer.denied"));
    assert_eq!(told.reply.json()["message"], "Forbidden");
    assert_eq!(told.facts["scopes"], json!(["chat.write", "admin"]));
    assert_eq!(
        told.reply.value("www-authenticate"),
        r#"Bearer scope="chat.write admin" error="insufficient_scope" error_description="the token has none of the scopes""#
    );
    // In the service's words where they are known.
    let token = key.token(&claims(&plane, json!({ "exp": 1 })));
    let told = plane.told(&upgrade(&format!("{PATH}?token={token}"), "localhost", "")).await;
    assert_eq!(
        told.reply.value("www-authenticate"),
        r#"Bearer scope="chat.write admin" error="invalid_token" error_description="the token has expired""#
    );
    drop(running);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_cannot_be_asked_is_nobodys_fault() {
    // jwt.jwks-unreachable
    let plane = Plane::start_with(|settings| settings.authorizer.timeout_ms = 300).await;
    let key = Key::new("k1");
    let running = plane.run_session_layer();
    let header = format!("Authorization: {}\r\n", key.token(&claims(&plane, json!({}))));
    let is_failure = |notice: &Notice| matches!(notice, Notice::KeySetNotFetched { diagnosis, .. } if diagnosis.as_str() == "jwt.jwks-unreachable");
    let other =
        json!({ "issuer": "http://other", "jwks_uri": format!("http://{}/keys", plane.backend.address) });
    let nowhere = json!({ "issuer": issuer(&plane), "jwks_uri": "file:///etc/passwd" });
    for (n, document) in [other, nowhere, json!({}), json!("x")].into_iter().enumerate() {
        serve(&plane, document, &[&key]);
        plane.deploy(&Deployed::default());
        plane.deploy(&deployed(&plane, &[], "route.request.header.Authorization"));
        let told = told(&plane, &header).await;
        assert_eq!((told.status, told.id), (500, "jwt.jwks-unreachable"));
        assert_eq!(told.reply.json()["message"], "Internal server error");
        eventually("a notice", || plane.notices.record.count(is_failure) == n + 1).await;
    }
    assert_eq!(plane.backend.requests.count(|request| request.target == "/keys"), 0);
    // One that never answers: the handshake waits no longer than for any authorizer.
    let gate = Gate::new();
    let held = gate.clone();
    plane.backend.plan(move |request| match request.target.starts_with("/pool/") {
        true => Answer::Gated(200, held.clone()),
        false => Answer::Status(200),
    });
    plane.deploy(&Deployed::default());
    plane.deploy(&deployed(&plane, &[], "route.request.header.Authorization"));
    let told = told(&plane, &header).await;
    assert_eq!((told.status, told.id), (500, "jwt.jwks-unreachable"));
    gate.open();
    drop(running);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_gets_the_claims() {
    use tidegate_core::function::{FunctionRunner, Invocation, InvokeError, Invoked};
    use tidegate_core::port::BoxFuture;

    #[derive(Debug, Default)]
    struct Function(crate::record::Record<Value>);

    impl FunctionRunner for Function {
        fn has(&self, _: &str) -> bool {
            true
        }

        fn invoke(&self, invocation: Invocation) -> BoxFuture<'_, Result<Invoked, InvokeError>> {
            self.0.push(serde_json::from_slice(&invocation.payload).unwrap());
            let payload = bytes::Bytes::from_static(br#"{"statusCode":200}"#);
            Box::pin(async { Ok(Invoked { status: 200, payload, function_error: None, request_id: None }) })
        }
    }

    let function = Arc::new(Function::default());
    let functions = Some(Arc::clone(&function) as Arc<dyn FunctionRunner>);
    let plane = Plane::start_from(crate::harness::Setup { functions, ..Default::default() }).await;
    let key = Key::new("k1");
    serve(&plane, document(&plane), &[&key]);
    let running = plane.run_session_layer();
    let base = deployed(&plane, &["read"], "route.request.header.Authorization");
    let of_base = base.change.clone().unwrap();
    let deployed = Deployed::changed(move |definition| {
        of_base.0(definition);
        for integration in &mut definition.integrations {
            integration.integration_type = "AWS_PROXY".to_owned();
            integration.integration_uri = Some("arn:aws:lambda:us-east-1:123456789012:function:f".to_owned());
            integration.request_parameters = None;
        }
    });
    plane.deploy(&deployed);
    let claims = claims(&plane, json!({ "scope": "read write", "level": 3 }));
    let header = format!("Authorization: {}\r\n", key.token(&claims));
    assert_eq!(plane.knock("", &header).await, 101);
    let events = function.0.until("three events", 2, |_| true).await;
    let exp = claims["exp"].to_string();
    for event in events {
        let expected = json!({
            "claims": { "aud": "app", "exp": exp, "groups": "[a b]", "iss": claims["iss"], "level": "3",
                        "scope": "read write", "sub": "ada" },
            "scopes": ["read", "write"],
        });
        assert_eq!(event["requestContext"]["authorizer"], expected, "{event}");
    }
    drop(running);
    tokio::time::timeout(std::time::Duration::from_secs(10), plane.end()).await.unwrap();
}
