//! How many of each there may be, how often operations may be called, and what only a setting permits.

use serde_json::{Value, json};
use std::sync::Arc;

use http::Request;
use tidegate_control::limits::Quotas;
use tidegate_control::{Because, ControlSettings};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_store::SqliteStore;

use crate::harness::{Harness, api_body};

async fn with(change: impl FnOnce(&mut ControlSettings)) -> Harness {
    let mut settings = ControlSettings::default();
    change(&mut settings);
    Harness::over(Arc::new(SqliteStore::open_in_memory().expect("open")), settings).await
}

/// The service's quotas without its rates: a test makes more calls than those permit.
fn counts() -> Quotas {
    Quotas { calls: None, ..Quotas::AWS }
}

#[track_caller]
fn is_full(answer: &crate::harness::Answer) {
    assert_eq!((answer.status, answer.error_type.as_str()), (429, "TooManyRequestsException"), "{answer:?}");
}

/// Section 8: what fits, fits; one more does not.
#[tokio::test]
async fn the_quotas_of_the_service() {
    let h = with(|settings| settings.quotas = counts()).await;
    let api = h.api().await;
    let at = |what: &str| format!("/apis/{api}/{what}");
    let authorizer = json!({"name": "a", "authorizerType": "REQUEST", "identitySource": [],
        "authorizerUri": "arn:aws:lambda:us-east-1:000000000000:function:f"});
    for (what, most, body) in [
        ("routes", 300, json!({"routeKey": "KEY"})),
        ("integrations", 300, json!({"integrationType": "MOCK"})),
        ("authorizers", 10, authorizer),
        ("stages", 10, json!({"stageName": "KEY"})),
    ] {
        let body = |n: usize| serde_json::from_str(&body.to_string().replace("KEY", &format!("k{n}")));
        for n in 0..most {
            h.post(&at(what), body(n).expect("JSON")).await;
        }
        is_full(&h.call("POST", &at(what), body(most).expect("JSON")).await);
        let listed = h.get(&at(&format!("{what}?maxResults=500"))).await;
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(most), "{what}");
    }
    for n in 0..120 {
        h.post("/domainnames", json!({"domainName": format!("d{n}.example.com")})).await;
    }
    is_full(&h.call("POST", "/domainnames", json!({"domainName": "one-more.example.com"})).await);
    for _ in 1..600 {
        h.api().await;
    }
    is_full(&h.call("POST", "/apis", api_body()).await);
    h.delete(&format!("/apis/{api}")).await;
    h.api().await;
}

#[tokio::test]
async fn tidegate_has_room_for_more() {
    let h = Harness::new().await;
    let api = h.api().await;
    for n in 0..11 {
        h.post(&format!("/apis/{api}/stages"), json!({"stageName": format!("s{n}")})).await;
    }
    for n in 0..100 {
        assert_eq!(h.call("GET", "/apis", Value::Null).await.status, 200, "call {n}");
    }
}

/// Section 8: 10 calls a second, 40 at once. `provision.throttled`.
#[tokio::test]
async fn the_rates_of_the_service() {
    let h = with(|settings| settings.quotas = Quotas::AWS).await;
    let api = h.api().await;
    for _ in 0..39 {
        h.get(&format!("/apis/{api}")).await;
    }
    let answer = h.call("GET", &format!("/apis/{api}"), Value::Null).await;
    answer.is_refused(429, "TooManyRequestsException", "Too Many Requests");
    let request = Request::get(format!("/v2/apis/{api}")).body(bytes::Bytes::new()).expect("a request");
    let reply = h.rest.handle(request).await;
    let because = reply.extensions().get::<Because>().expect("a reason");
    assert_eq!(because.diagnosis, Diagnosis::PROVISION_THROTTLED);
    let fact = |name: &str| because.facts.get(name);
    assert_eq!(
        [fact("action"), fact("limit"), fact("burst")],
        [Some("all".into()), Some(10.0.into()), Some(40.0.into())]
    );
    // What the node does itself is nobody's call.
    let own = h.plane.request(&http::Method::GET, &format!("/v2/apis/{api}"), Value::Null).await;
    assert!(own.is_ok());
    h.later(100);
    h.get(&format!("/apis/{api}")).await;
    assert_eq!(h.call("GET", "/apis", Value::Null).await.status, 429);
}

/// Section 8: operations with a rate of their own.
#[tokio::test]
async fn operations_with_a_rate_of_their_own() {
    let h = with(|settings| settings.quotas = Quotas::AWS).await;
    let api = h.api().await;
    h.route(&api, "a").await;
    let deployments = format!("/apis/{api}/deployments");
    let link = json!({"name": "l", "subnetIds": []});
    for (target, seconds, body) in [
        (deployments.as_str(), 5, json!({})),
        ("/domainnames", 30, json!({"domainName": "NAME.example.com"})),
        ("/vpclinks", 15, link),
    ] {
        let body = |name: &str| serde_json::from_str(&body.to_string().replace("NAME", name)).expect("JSON");
        h.post(target, body("a")).await;
        let answer = h.call("POST", target, body("b")).await;
        answer.is_refused(429, "TooManyRequestsException", "Too Many Requests");
        h.get(target).await;
        h.later(seconds * 1000 - 100);
        assert_eq!(h.call("POST", target, body("b")).await.status, 429, "{target}");
        h.later(200);
        h.post(target, body("b")).await;
    }
}

fn jwt() -> Value {
    json!({"name": "j", "authorizerType": "JWT", "identitySource": ["route.request.querystring.token"],
           "jwtConfiguration": {"issuer": "https://id.example.com", "audience": ["app"]}})
}

/// 4.1, `control_plane.allow_jwt_authorizer`.
#[tokio::test]
async fn json_web_tokens_only_on_request() {
    let refused =
        "Invalid authorizer type. Only REQUEST authorizer type is supported on WEBSOCKET protocol Apis.";
    let h = Harness::new().await;
    let api = h.api().await;
    let answer = h.call("POST", &format!("/apis/{api}/authorizers"), jwt()).await;
    answer.is_refused(400, "BadRequestException", refused);

    let h = with(|settings| settings.allow_jwt_authorizer = true).await;
    let api = h.api().await;
    let authorizers = format!("/apis/{api}/authorizers");
    let made = h.post(&authorizers, jwt()).await;
    let id = made["authorizerId"].as_str().expect("an id").to_owned();
    let mut expected = jwt();
    expected["authorizerId"] = id.as_str().into();
    assert_eq!(made, expected);
    assert_eq!(h.get(&format!("{authorizers}/{id}")).await, expected);

    // Half a configuration is none, and what belongs to the other type is refused.
    for (member, value) in [
        ("jwtConfiguration", Value::Null),
        ("jwtConfiguration", json!({"audience": ["app"]})),
        ("jwtConfiguration", json!({"issuer": "https://id.example.com"})),
        ("jwtConfiguration", json!({"issuer": "id", "audience": ["app"]})),
        ("authorizerUri", json!("arn:aws:lambda:us-east-1:000000000000:function:f")),
        ("authorizerResultTtlInSeconds", json!(300)),
        ("authorizerType", json!("TOKEN")),
        ("authorizerType", json!("REQUEST")),
        ("identitySource", json!([""])),
        ("identitySource", json!(["stageVariables.token"])),
    ] {
        let mut body = jwt();
        body[member] = value;
        h.call("POST", &authorizers, body).await.is_bad_request();
    }
    let changed =
        h.patch(&format!("{authorizers}/{id}"), json!({"jwtConfiguration": {"audience": ["b"]}})).await;
    assert_eq!(changed["jwtConfiguration"], json!({"issuer": "https://id.example.com", "audience": ["b"]}));

    let routes = format!("/apis/{api}/routes");
    let route =
        |key: &str, kind: &str| json!({"routeKey": key, "authorizationType": kind, "authorizerId": id});
    h.call("POST", &routes, route("$connect", "CUSTOM")).await.is_bad_request();
    h.call("POST", &routes, route("join", "JWT")).await.is_bad_request();
    h.call("POST", &routes, json!({"routeKey": "$connect", "authorizationType": "JWT"}))
        .await
        .is_bad_request();
    let mut connect = route("$connect", "JWT");
    connect["authorizationScopes"] = json!(["read"]);
    let made = h.post(&routes, connect).await;
    assert_eq!(
        (made["authorizationType"].as_str(), made["authorizerId"].as_str()),
        (Some("JWT"), Some(id.as_str()))
    );
    assert_eq!(made["authorizationScopes"], json!(["read"]));
    let of_route = format!("{routes}/{}", made["routeId"].as_str().unwrap());
    let changed = h.patch(&of_route, json!({"authorizationScopes": ["a", "b"]})).await;
    assert_eq!(changed["authorizationScopes"], json!(["a", "b"]));
    assert_eq!(
        h.patch(&of_route, json!({"operationName": "o"})).await["authorizationScopes"],
        json!(["a", "b"])
    );
    // They belong to the type.
    h.call("POST", &routes, json!({"routeKey": "b", "authorizationScopes": ["a"]})).await.is_bad_request();
    assert_eq!(h.patch(&of_route, json!({"authorizationScopes": []})).await.get("authorizationScopes"), None);
    // As HTTP APIs write it.
    let changed = h
        .patch(&format!("{authorizers}/{id}"), json!({"identitySource": ["$request.header.Authorization"]}))
        .await;
    assert_eq!(changed["identitySource"], json!(["$request.header.Authorization"]));
    let answer = h.call("DELETE", &format!("{authorizers}/{id}"), Value::Null).await;
    assert_eq!(answer.status, 409);
}

/// 4.4: who is asked.
#[tokio::test]
async fn addresses_of_authorizers() {
    let h = with(|settings| settings.allow_integration_hosts = vec!["id.example.com".to_owned()]).await;
    let api = h.api().await;
    let authorizers = format!("/apis/{api}/authorizers");
    let body = |uri: &str| json!({"name": "a", "authorizerType": "REQUEST", "identitySource": [], "authorizerUri": uri});
    let path = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions";
    for uri in [
        "arn:aws:lambda:us-east-1:000000000000:function:f".to_owned(),
        format!("{path}/arn:aws:lambda:us-east-1:000000000000:function:f:live/invocations"),
        format!("{path}/arn:aws:lambda:us-east-1:000000000000:function:${{stageVariables.f}}/invocations"),
        "https://id.example.com/check".to_owned(),
    ] {
        let made = h.post(&authorizers, body(&uri)).await;
        assert_eq!(made["authorizerUri"], uri);
    }
    for uri in [
        "f".to_owned(),
        "ftp://id.example.com/".to_owned(),
        "https://other.example.com/".to_owned(),
        format!("{path}/f"),
        format!("{path}/${{context.f}}/invocations"),
    ] {
        h.call("POST", &authorizers, body(&uri)).await.is_bad_request();
    }
    let answer = h.call("POST", &authorizers, body("f")).await;
    let message = "Invalid Authorizer URI: f. Authorizer URI should be a valid API Gateway ARN that represents a Lambda function invocation.";
    answer.is_refused(400, "BadRequestException", message);
}
