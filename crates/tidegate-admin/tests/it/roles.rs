//! Who may call what: every route of the document, with nothing, with a key of each role, with signatures.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Request};
use serde_json::json;
use tidegate_admin::AdminApi;
use tidegate_auth::{CredentialKeys, Payload, RequestParts, Role, Secret, Signer};

use crate::harness::Node;

/// Method, path with its parameters filled in, and the role that the document names.
fn operations() -> Vec<(String, String, Option<Role>)> {
    let document = AdminApi::document("1");
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let path: Vec<_> =
                path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
            let role = operation["description"].as_str().map(|text| {
                let role = text.strip_prefix("Role: ").unwrap().split([',', '.']).next().unwrap();
                Role::from_name(role).unwrap()
            });
            found.push((method.to_ascii_uppercase(), path.join("/"), role));
        }
    }
    assert!(found.len() >= 35, "{found:?}");
    found
}

#[tokio::test]
async fn every_route_demands_the_role_that_the_document_names() {
    let node = Node::start().await;
    let mut n_open = 0;
    for (method, path, needed) in operations() {
        let request = Request::builder().method(method.as_str()).uri(&path).body(Bytes::new()).unwrap();
        let answer = node.request(request).await;
        let Some(needed) = needed else {
            assert_eq!((answer.status, path.as_str()), (200, "/api/openapi.json"));
            n_open += 1;
            continue;
        };
        assert_eq!(answer.refusal(), (401, "management.unsigned"), "{method} {path}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"tidegate\"");
        for role in Role::ALL {
            let answer = node.call_as(role, &method, &path, None).await;
            match role.permits(needed) {
                true => assert!(![401, 403].contains(&answer.status), "{role} {method} {path} {answer:?}"),
                false => {
                    assert_eq!(answer.refusal(), (403, "management.denied"), "{role} {method} {path}");
                    let message = answer.body["message"].as_str().unwrap();
                    assert!(message.contains(&format!("the role {needed} is needed")), "{message}");
                }
            }
        }
    }
    assert_eq!(n_open, 1);
}

#[tokio::test]
async fn roles_are_as_the_manual_says() {
    let role_of = |wanted: &str| {
        let (method, path) = wanted.split_once(' ').unwrap();
        let found = operations().into_iter().find(|(m, p, _)| m == method && p == path);
        found.unwrap_or_else(|| panic!("{wanted} is not there")).2.unwrap()
    };
    for read in ["GET /api/connections", "GET /api/export", "POST /api/permissions/check", "POST /api/plan"] {
        assert_eq!(role_of(read), Role::Read, "{read}");
    }
    for operate in [
        "POST /api/tokens",
        "DELETE /api/connections/x",
        "POST /api/users/x/ban",
        "POST /api/publish",
        "PUT /api/channels/x/connections/x",
        "POST /api/cleanup",
    ] {
        assert_eq!(role_of(operate), Role::Operate, "{operate}");
    }
    for administer in ["PUT /api/apis/x/stages/x/policy", "POST /api/apply", "POST /api/jwt"] {
        assert_eq!(role_of(administer), Role::Administer, "{administer}");
    }
}

#[tokio::test]
async fn an_unknown_key_and_an_unreadable_one_are_refused() {
    let node = Node::start().await;
    for value in ["Bearer nobody", "bearer a b", "Bearer ", "Bearer"] {
        let request = Request::get("/api/status").header("authorization", value).body(Bytes::new()).unwrap();
        assert_eq!(node.request(request).await.refusal(), (403, "management.unknown-key"), "{value}");
    }
    let request =
        Request::get("/api/status").header("authorization", "Basic eDp5").body(Bytes::new()).unwrap();
    assert_eq!(node.request(request).await.status, 403);
}

async fn signed(
    node: &Node,
    id: &str,
    secret: &str,
    method: &str,
    target: &str,
    body: &str,
) -> (u16, String) {
    let signer = Signer::new(id, CredentialKeys::permanent(Secret::new(secret)), "us-east-1", "apigateway");
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("localhost"));
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let parts = RequestParts { method, path, query, headers: &headers };
    let more = signer.sign(&parts, Payload::Body(body.as_bytes()), SystemTime::now()).unwrap();
    headers.extend(more);
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let mut request =
        Request::builder().method(method).uri(target).body(Bytes::from(body.to_owned())).unwrap();
    *request.headers_mut() = headers;
    let answer = node.request(request).await;
    (answer.status, answer.body["id"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn signatures_have_the_role_of_their_rules() {
    let node = Node::start().await;
    let cleanup = |id: &'static str| signed(&node, id, "secret", "POST", "/api/cleanup", "{}");
    assert_eq!(cleanup("AKIDROOT").await.0, 200);
    assert_eq!(cleanup("AKIDOPERATE").await.0, 200);
    assert_eq!(cleanup("AKIDPUSH").await, (403, "management.denied".to_owned()));
    assert_eq!(cleanup("AKIDNOBODY").await, (403, "management.unknown-key".to_owned()));
    let (status, id) = signed(&node, "AKIDROOT", "wrong", "GET", "/api/status", "").await;
    assert_eq!((status, id.as_str()), (403, "management.bad-signature"));
    assert_eq!(signed(&node, "AKIDROOT", "secret", "GET", "/api/connections?limit=5", "").await.0, 200);
    let policy = format!("/api/apis/{}/stages/{}/policy", crate::harness::API, crate::harness::STAGE);
    let (status, id) = signed(&node, "AKIDOPERATE", "secret", "PUT", &policy, "{}").await;
    assert_eq!((status, id.as_str()), (403, "management.denied"));
    // The record names the access key.
    let body =
        node.until("/api/audit?by=AKIDOPERATE", |body| body["audit"].as_array().unwrap().len() == 2).await;
    assert_eq!(body["audit"][0]["by_kind"], "access_key");
    assert_eq!(
        [&body["audit"][0]["outcome"], &body["audit"][1]["outcome"]],
        [&json!("refused"), &json!("done")]
    );
}

#[tokio::test]
async fn a_presigned_address_works_for_reading() {
    let node = Node::start().await;
    let keys = CredentialKeys::permanent(Secret::new("secret"));
    let signer = Signer::new("AKIDROOT", keys, "us-east-1", "apigateway");
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("localhost"));
    let parts = RequestParts {
        method: "GET",
        path: "/api/connections",
        query: Some("count=true"),
        headers: &headers,
    };
    let query = signer.presign(&parts, Duration::from_secs(60), SystemTime::now()).unwrap();
    let request =
        Request::get(format!("/api/connections?{query}")).header(HOST, "localhost").body(Bytes::new());
    let answer = node.request(request.unwrap()).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({ "count": 0 })));
}
