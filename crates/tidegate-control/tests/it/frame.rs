//! The HTTP frame: authentication, JSON, paging, request ids.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tidegate_control::{AuthFailure, RestApi};

use crate::harness::{Harness, api_body};

#[tokio::test]
async fn nobody_is_served_before_authentication() {
    let h = Harness::new().await;
    let authenticate = Arc::new(|head: &http::request::Parts, body: &[u8]| {
        assert_eq!(body, b"not even JSON");
        match head.headers.contains_key("authorization") {
            true => Ok(()),
            false => Err(AuthFailure {
                status: StatusCode::FORBIDDEN,
                error_type: "MissingAuthenticationTokenException".to_owned(),
                message: "Missing Authentication Token".to_owned(),
                because: None,
            }),
        }
    });
    let rest = RestApi::new(h.plane.clone(), authenticate);
    let request = |authorization: Option<&str>| {
        let mut request = Request::builder().method("POST").uri("/v2/apis");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        request.body(Bytes::from_static(b"not even JSON")).expect("a request")
    };
    let response = rest.handle(request(None)).await;
    assert_eq!(response.status(), 403);
    assert_eq!(response.headers()["x-amzn-errortype"], "MissingAuthenticationTokenException");
    assert_eq!(response.body().as_ref(), br#"{"message":"Missing Authentication Token"}"#);
    let response = rest.handle(request(Some("x"))).await;
    assert_eq!(response.headers()["x-amzn-errortype"], "BadRequestException");
}

/// AG-23, S0-9.
#[tokio::test]
async fn lists_page_in_creation_order_without_duplicates() {
    let h = Harness::new().await;
    let api = h.api().await;
    let mut keys = Vec::new();
    for n in 0..250 {
        // Not in the order of the alphabet.
        keys.push(format!("route-{}", (n * 7) % 250));
        h.route(&api, &keys[n]).await;
    }
    let list = format!("/apis/{api}/routes");
    for (first, sizes) in [("?maxResults=100", vec![100, 100, 50]), ("", vec![100, 100, 50])] {
        let mut seen = Vec::new();
        let mut counts = Vec::new();
        let mut query = first.to_owned();
        loop {
            let page = h.get(&format!("{list}{query}")).await;
            let items = page["items"].as_array().expect("items");
            counts.push(items.len());
            seen.extend(items.iter().map(|r| r["routeKey"].as_str().expect("a key").to_owned()));
            let Some(token) = page.get("nextToken") else { break };
            query = format!("?maxResults=100&nextToken={}", token.as_str().expect("a token"));
        }
        assert_eq!(counts, sizes);
        assert_eq!(seen, keys);
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 250);
    }
    assert!(h.get(&format!("{list}?maxResults=250")).await.get("nextToken").is_none());
    let one = h.get(&format!("{list}?maxResults=1")).await;
    let token = one["nextToken"].as_str().expect("a token");
    for query in [
        "?maxResults=0".to_owned(),
        "?maxResults=501".to_owned(),
        "?maxResults=ten".to_owned(),
        "?maxResults=".to_owned(),
        "?nextToken=abc".to_owned(),
    ] {
        h.call("GET", &format!("{list}{query}"), Value::Null).await.is_bad_request();
    }
    let other = format!("/apis/{api}/integrations?nextToken={token}");
    h.call("GET", &other, Value::Null).await.is_bad_request();
}

/// What is removed or added between two pages neither repeats nor hides anything else.
#[tokio::test]
async fn paging_survives_changes() {
    let h = Harness::new().await;
    let api = h.api().await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(h.route(&api, &format!("r{n}")).await);
    }
    let list = format!("/apis/{api}/routes");
    let page = h.get(&format!("{list}?maxResults=3")).await;
    let token = page["nextToken"].as_str().expect("a token");
    h.delete(&format!("{list}/{}", ids[2])).await;
    h.delete(&format!("{list}/{}", ids[3])).await;
    let rest = h.get(&format!("{list}?maxResults=3&nextToken={token}")).await;
    let keys: Vec<_> = rest["items"].as_array().expect("items").iter().map(|r| &r["routeKey"]).collect();
    assert_eq!(keys, ["r4", "r5"]);
    assert!(rest.get("nextToken").is_none());
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let h = Harness::new().await;
    for body in ["{", "[1]", "\"x\"", "{\"name\": \"\u{0}\"", "nul"] {
        let response = h.raw("POST", "/v2/apis", body).await;
        assert_eq!(response.status(), 400, "{body}");
        assert_eq!(response.headers()["x-amzn-errortype"], "BadRequestException");
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(h.raw("POST", "/v2/apis", &deep).await.status(), 400);
    assert_eq!(h.raw("POST", "/v2/apis", &" ".repeat(5 * 1024 * 1024)).await.status(), 400);
    assert_eq!(h.raw("GET", "/v2/apis/%ff", "").await.status(), 400);
    assert_eq!(h.raw("GET", "/v2/apis?nextToken=%ff", "").await.status(), 400);
    assert_eq!(h.raw("GET", "/v1/apis", "").await.status(), 404);
}

/// An encoded slash belongs to its segment; an encoded percent sign is decoded once.
#[tokio::test]
async fn path_segments_are_decoded_once() {
    let h = Harness::new().await;
    let api = h.api().await;
    let settings = json!({"a/b": {"loggingLevel": "INFO"}, "c%2Fd": {"loggingLevel": "INFO"}});
    h.post(&format!("/apis/{api}/stages"), json!({"stageName": "prod", "routeSettings": settings})).await;
    let stage = format!("/apis/{api}/stages/prod");
    h.delete(&format!("{stage}/routesettings/a%2Fb")).await;
    assert_eq!(h.get(&stage).await["routeSettings"], json!({"c%2Fd": {"loggingLevel": "INFO"}}));
    h.delete(&format!("{stage}/routesettings/c%252Fd")).await;
    assert_eq!(h.get(&stage).await["routeSettings"], json!({}));
}

#[tokio::test]
async fn in_process_requests_need_no_credentials_and_may_choose_the_id() {
    let h = Harness::new().await;
    let api = h.plane.create_api_with_id("demo", api_body()).await.expect("create");
    assert_eq!(api["apiId"], "demo");
    assert_eq!(api["apiEndpoint"], "ws://127.0.0.1:8080/_aws/execute-api/demo");
    let error = h.plane.create_api_with_id("demo", api_body()).await.expect_err("taken");
    assert_eq!(error.error_type, "ConflictException");
    let error = h.plane.create_api_with_id("Demo!", api_body()).await.expect_err("no label");
    assert_eq!(error.error_type, "BadRequestException");
    let list = h.plane.request(&Method::GET, "/v2/apis?maxResults=1", Value::Null).await.expect("list");
    assert_eq!(list["items"][0]["apiId"], "demo");
    let gone = h.plane.request(&Method::DELETE, "/v2/apis/demo", Value::Null).await.expect("delete");
    assert_eq!(gone, Value::Null);
}
