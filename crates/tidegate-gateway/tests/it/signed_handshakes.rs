//! `AWS_IAM` on `$connect`: handshakes signed in headers and in the query string (AG-3, AG-13).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tidegate_auth::Payload;
use tidegate_auth::{Credential, CredentialKeys, RequestParts, Secret, Signer};
use tidegate_core::definition::{Api, ApiDefinition, Live, LiveApi, LiveStage, Route, Stage};
use tidegate_core::port::DefinitionSink as _;
use tidegate_gateway::SignatureClock;

use crate::client::{Client, PATH};
use crate::harness::{Deployed, Plane, Setup};
use crate::told::upgrade;

/// Of the vectors: 2025-01-15T12:00:00Z.
const NOON: Duration = Duration::from_secs(1_736_942_400);
const HOST: &str = "abc123def4.execute-api.us-east-1.amazonaws.com";
const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn credential(allow: &[&str]) -> Credential {
    let allow = allow.iter().map(|&rule| rule.to_owned()).collect();
    Credential { access_key_id: KEY.to_owned(), secret: Secret::new(SECRET), allow }
}

/// A data plane whose signatures are checked `after` noon.
async fn start(allow: &[&str], after: i64) -> Plane {
    let now = SystemTime::UNIX_EPOCH + NOON;
    let now = match u64::try_from(after) {
        Ok(after) => now + Duration::from_secs(after),
        Err(_) => now - Duration::from_secs(after.unsigned_abs()),
    };
    let signature_clock = SignatureClock(Arc::new(move || now));
    let setup = Setup { credentials: vec![credential(allow)], signature_clock, ..Setup::default() };
    let plane = Plane::start_from(setup).await;
    let mapped = [
        ("x-user-arn", "context.identity.userArn"),
        ("x-access-key", "context.identity.accessKey"),
        ("x-account", "context.identity.accountId"),
    ];
    let headers = mapped.map(|(name, source)| (name.to_owned(), source.to_owned())).to_vec();
    let changed =
        Deployed::changed(|definition| definition.routes[0].authorization_type = "AWS_IAM".to_owned());
    plane.deploy(&Deployed { headers, ..changed });
    plane
}

fn signer(secret: &str, region: &str, service: &str) -> Signer {
    Signer::new(KEY, CredentialKeys::permanent(Secret::new(secret)), region, service)
}

/// The target of a presigned handshake at the usual path.
fn presigned(signer: &Signer, query: &str, expires: u64) -> String {
    let mut headers = http::HeaderMap::new();
    headers.insert("host", "localhost".parse().unwrap());
    let parts = RequestParts { method: "GET", path: PATH, query: Some(query), headers: &headers };
    let at = SystemTime::UNIX_EPOCH + NOON;
    let query = signer.presign(&parts, Duration::from_secs(expires), at).unwrap();
    format!("{PATH}?{query}")
}

/// The header lines of a handshake that is signed in them.
fn signed_lines(signer: &Signer) -> String {
    let mut headers = http::HeaderMap::new();
    headers.insert("host", "localhost".parse().unwrap());
    let parts = RequestParts { method: "GET", path: PATH, query: None, headers: &headers };
    let added = signer.sign(&parts, Payload::Body(b""), SystemTime::UNIX_EPOCH + NOON).unwrap();
    added.iter().map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_presigned_vector_opens_a_connection() {
    // AG-13
    for (after, status) in [(0, 101), (300, 101), (301, 403), (-300, 101), (-301, 403)] {
        let plane = start(&[], after).await;
        let api = Api { api_id: "abc123def4".to_owned(), ..Api::default() };
        let route = Route {
            route_key: "$connect".to_owned(),
            route_id: "connect".to_owned(),
            target: Some("integrations/echo".to_owned()),
            authorization_type: "AWS_IAM".to_owned(),
            ..Route::default()
        };
        let echo = tidegate_core::definition::Integration {
            integration_id: "echo".to_owned(),
            integration_type: "HTTP_PROXY".to_owned(),
            integration_uri: Some("tidegate://echo".to_owned()),
            ..Default::default()
        };
        let definition = ApiDefinition {
            api: api.clone(),
            routes: vec![route],
            integrations: vec![echo],
            ..ApiDefinition::default()
        };
        let stage = Stage { stage_name: "prod".to_owned(), ..Stage::default() };
        let stages = vec![LiveStage { stage, deployment: Some(Arc::new(definition)), policy: None }];
        plane.gateway.publish(Live { apis: vec![Arc::new(LiveApi { api, stages })], domains: Vec::new() });
        let target = "/prod?room=a%20b&X-Amz-Algorithm=AWS4-HMAC-SHA256\
            &X-Amz-Credential=AKIDEXAMPLE%2F20250115%2Fus-east-1%2Fexecute-api%2Faws4_request\
            &X-Amz-Date=20250115T120000Z&X-Amz-Expires=300&X-Amz-SignedHeaders=host\
            &X-Amz-Signature=93f1830438521facf681a8431f9fee707497782471f5abfb9d1f766b4f122916";
        let mut client = Client::dial(plane.address, None).await;
        client.write(&client.handshake_at(target, HOST, "")).await;
        assert_eq!(client.status().await, status, "{after}");
        // With another query it is another address.
        let other = target.replace("a%20b", "a%20c");
        let mut client = Client::dial(plane.address, None).await;
        client.write(&client.handshake_at(&other, HOST, "")).await;
        assert_eq!(client.status().await, 403);
        drop(client);
        plane.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_signed_is_known_to_all_events() {
    // AG-3, AG-13
    let plane = start(&["execute-api:Invoke arn:aws:execute-api:*/prod/$connect"], 0).await;
    let good = signer(SECRET, "us-east-1", "execute-api");
    let lines = signed_lines(&good);
    let target = presigned(&good, "room=blue", 60);
    // A client's own reference comes after the signature.
    let with_reference = format!("{target}&_tgref=abcdefgh12345678");
    for (target, lines) in [(PATH, lines.as_str()), (&target, ""), (&with_reference, "")] {
        let mut client = Client::dial(plane.address, None).await;
        client.write(&client.handshake_at(target, "localhost", lines)).await;
        assert_eq!(client.status().await, 101, "{target}");
        let id = plane.id_of(&client).await;
        client.send("hello").await;
        client.close(1000, "").await;
        plane.disconnect_of(&id).await;
        let events = plane.backend.requests.until("its events", 3, |request| request.id() == id).await;
        for request in &events {
            assert_eq!(request.value("x-user-arn"), "arn:aws:iam::123456789012:user/AKIDEXAMPLE");
            assert_eq!((request.value("x-access-key"), request.value("x-account")), (KEY, "123456789012"));
        }
        // What the signature consists of does not reach the backend.
        assert_eq!(events[0].value("authorization"), "");
        assert!(!events[0].target.contains("X-Amz-Signature"), "{}", events[0].target);
        assert_eq!(events[0].target.contains("room=blue"), target.contains("room=blue"));
        assert_eq!(events[0].target.contains("X-Amz-Credential"), target.contains("X-Amz-Credential"));
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_the_words_of_the_service() {
    // AG-3, iam.connect-unsigned
    let plane = start(&[], 0).await;
    let good = signer(SECRET, "us-east-1", "execute-api");
    let mismatch = "The request signature we calculated does not match the signature you provided.";
    let scope = "Credential should be scoped to";
    for (target, lines, error_type, message) in [
        (
            PATH.to_owned(),
            String::new(),
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        ),
        (
            PATH.to_owned(),
            "Authorization: AWS4-HMAC-SHA256 x\r\n".to_owned(),
            "IncompleteSignatureException",
            "Authorization header requires 'Credential' parameter.",
        ),
        (
            presigned(&signer("another", "us-east-1", "execute-api"), "", 60),
            String::new(),
            "InvalidSignatureException",
            mismatch,
        ),
        (
            PATH.to_owned(),
            signed_lines(&signer("another", "us-east-1", "execute-api")),
            "InvalidSignatureException",
            mismatch,
        ),
        (
            presigned(&signer(SECRET, "eu-west-1", "execute-api"), "", 60),
            String::new(),
            "InvalidSignatureException",
            scope,
        ),
        (
            presigned(&signer(SECRET, "us-east-1", "apigateway"), "", 60),
            String::new(),
            "InvalidSignatureException",
            scope,
        ),
        (
            presigned(&good, "", 60).replace("AKIDEXAMPLE", "AKIDNOBODY0"),
            String::new(),
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
        (
            format!("{}&X-Amz-Security-Token=abc", presigned(&good, "", 60)),
            String::new(),
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
    ] {
        let told = plane.told(&upgrade(&target, "localhost", &lines)).await;
        assert_eq!((told.status, told.id), (403, "iam.connect-unsigned"), "{target} {lines}");
        assert_eq!(told.reply.value("x-amzn-errortype"), error_type, "{target} {lines}");
        let body = told.reply.json();
        assert!(body["message"].as_str().unwrap().starts_with(message), "{body}");
        assert_eq!(body["connectionId"], told.place.connection_id.unwrap().to_string());
        assert_eq!(told.facts["signature"], error_type);
        let facts = json!(told.facts).to_string();
        assert!(!facts.contains("Signature=") && !facts.contains("abc"), "{facts}");
    }
    assert_eq!(plane.backend.requests.all().len(), 0);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_the_key_decide() {
    // AG-3
    for allow in ["*", "execute-api:Invoke arn:aws:execute-api:us-east-1:123456789012:other/*"] {
        let plane = start(&[allow], 0).await;
        let target = presigned(&signer(SECRET, "us-east-1", "execute-api"), "", 60);
        let told = plane.told(&upgrade(&target, "localhost", "")).await;
        assert_eq!((told.status, told.id), (403, "management.denied"));
        assert_eq!(told.reply.value("x-amzn-errortype"), "AccessDeniedException");
        assert_eq!(
            told.reply.json()["message"],
            "User: arn:aws:iam::123456789012:user/AKIDEXAMPLE is not authorized to perform: execute-api:Invoke on \
             resource: arn:aws:execute-api:us-east-1:********9012:tide000001/prod/$connect"
        );
        plane.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_that_nobody_wants_stays_behind_too() {
    let plane = Plane::start().await;
    let lines = signed_lines(&signer(SECRET, "us-east-1", "execute-api"));
    drop(plane.connect_as("", &lines).await);
    drop(plane.connect_as("", "Authorization: Bearer abc\r\n").await);
    let connects = plane.backend.events("CONNECT", 2).await;
    let kept: Vec<&str> = connects.iter().map(|request| request.value("authorization")).collect();
    assert_eq!(kept, ["", "Bearer abc"]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_signing_parameters_may_be_encoded() {
    // AG-13
    let plane = start(&["execute-api:Invoke arn:aws:execute-api:*/prod/$connect"], 0).await;
    let good = signer(SECRET, "us-east-1", "execute-api");
    let target = presigned(&good, "room=blue", 60);
    let (_, signature) = target.split_once("X-Amz-Signature=").unwrap();
    // The name is not part of what is signed, so how it is written does not matter.
    for name in ["X-Amz-Sign%61ture", "%58-Amz-Signature", "X%2DAmz%2DSignature"] {
        let target = target.replace("X-Amz-Signature", name);
        let mut client = Client::dial(plane.address, None).await;
        client.write(&client.handshake_at(&target, "localhost", "")).await;
        assert_eq!(client.status().await, 101, "{name}");
        let id = plane.id_of(&client).await;
        drop(client);
        plane.disconnect_of(&id).await;
    }
    // No backend sees it, under whichever name.
    let requests = plane.backend.requests.all();
    assert_eq!(requests.iter().filter(|request| request.is_event("CONNECT")).count(), 3);
    for request in requests {
        assert!(!format!("{request:?}").contains(signature), "{request:?}");
    }
    // Another spelling of a name that is signed is another address.
    let mut client = Client::dial(plane.address, None).await;
    client.write(&client.handshake_at(&target.replace("room", "r%6fom"), "localhost", "")).await;
    assert_eq!(client.status().await, 403);
    drop(client);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_looks_at_the_signature() {
    let plane = start(&["execute-api:Invoke arn:aws:execute-api:*/prod/$connect"], 0).await;
    let good = presigned(&signer(SECRET, "us-east-1", "execute-api"), "room=blue", 60);
    let wrong = presigned(&signer("another secret", "us-east-1", "execute-api"), "room=blue", 60);
    for (target, status, id) in [
        (good.as_str(), 200, None),
        (&wrong, 403, Some("iam.connect-unsigned")),
        (PATH, 403, Some("iam.connect-unsigned")),
    ] {
        let lines = "Host: localhost\r\nTidegate-Check: 1\r\nConnection: close\r\n";
        let bytes =
            crate::told::exchange(plane.address, format!("GET {target} HTTP/1.1\r\n{lines}\r\n").as_bytes())
                .await;
        let reply = crate::told::parse(&bytes);
        assert_eq!((reply.status, reply.json()["id"].as_str()), (status, id), "{target}");
    }
    assert_eq!(plane.backend.requests.all().len(), 0);
    plane.end().await;
}
