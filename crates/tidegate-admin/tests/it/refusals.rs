//! What is answered to requests that cannot be understood. No input is a 500: the harness refuses one in any test.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tidegate_auth::Role;

use crate::harness::{API, Node, STAGE};

#[tokio::test]
async fn unknown_paths_and_methods() {
    let node = Node::start().await;
    for path in ["/api/", "/api/nothing", "/api/users//end", "/api/status/", "/api/connections/a/b/c"] {
        assert_eq!(node.get(path).await.refusal(), (404, "admin.unknown-path"), "{path}");
    }
    let answer = node.call_as(Role::Read, "PATCH", "/api/connections/abc", None).await;
    assert_eq!(answer.refusal(), (405, "admin.wrong-method"));
    assert_eq!(answer.headers["allow"], "DELETE, GET");
    // A name that is a word of another path keeps its own methods.
    let answer = node.call_as(Role::Read, "PATCH", "/api/channels/recheck", None).await;
    assert_eq!(answer.headers["allow"], "GET, POST");
    assert_eq!(node.get(&format!("/api/channels/recheck?api={API}&stage={STAGE}")).await.status, 200);
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once() {
    let node = Node::start().await;
    let answer = node.get("/api/connections?limit=0&limt=5&count=maybe&channel=a%20b&user=&min_age=-1").await;
    assert_eq!(answer.refusal(), (400, "admin.malformed"));
    let problems: Vec<_> =
        answer.body["problems"].as_array().unwrap().iter().map(|p| p["path"].as_str().unwrap()).collect();
    for path in ["limit", "limt", "count", "channel", "user", "min_age"] {
        assert!(problems.contains(&path), "{path} in {problems:?}");
    }
    assert!(answer.text.contains("did you mean `limit`?"));
    let body = json!({ "api": 5, "user": "", "lifetime": 4, "roles": ["a", 3], "rols": [] });
    let answer = node.post("/api/tokens", body).await;
    let problems = answer.body["problems"].to_string();
    for path in ["api", "stage", "user", "lifetime", "roles[1]", "rols"] {
        assert!(problems.contains(&format!("\"path\":\"{path}\"")), "{path} in {problems}");
    }
}

#[tokio::test]
async fn hostile_input_is_refused_and_nothing_more() {
    let node = Node::start().await;
    for target in [
        "/api/connections?limit=99999999999999999999",
        "/api/connections?limit=1&limit=2",
        "/api/connections?%ff=1",
        "/api/connections?next_token=%21",
        "/api/connections?next_token=AAAA",
        "/api/connections?address=nowhere",
        "/api/users?next_token=_w",
        "/api/audit?next_token=MS4",
        "/api/audit?since=yesterday",
        "/api/audit?since=1900-01-01T00:00:00Z",
        "/api/channels/a%00b?api=a&stage=b",
        "/api/channels/%ff?api=a&stage=b",
        "/api/connections/%ff",
    ] {
        let answer = node.get(target).await;
        assert!([400, 200].contains(&answer.status), "{target} {answer:?}");
        if answer.status == 200 {
            // A place of the log that reads, though nothing is there.
            assert!(target.ends_with("MS4"), "{target}");
        }
    }
    let deep = "[".repeat(200_000);
    for body in [
        "",
        "{",
        "null",
        "[]",
        "\"text\"",
        "{\"a\":1e999}",
        deep.as_str(),
        "\u{feff}{}",
        "{\"api\":\"\\ud800\"}",
    ] {
        for target in ["/api/tokens", "/api/publish", "/api/permissions/check", "/api/revocations"] {
            let request = Request::post(target).header("authorization", "Bearer operate");
            let request = request.body(Bytes::from(body.to_owned())).unwrap();
            assert_eq!(node.request(request).await.status, 400, "{target} {}", &body[..body.len().min(20)]);
        }
    }
    for seconds in [json!(0), json!(-1), json!(1.5), json!(u64::MAX), json!("1"), Value::Null] {
        let answer = node.post("/api/users/u/ban", json!({ "seconds": seconds })).await;
        assert_eq!(answer.status, 400, "{seconds}");
    }
    for (member, value) in [("token_age", u64::MAX), ("attempt_age", u64::MAX / 1000)] {
        assert_eq!(node.post("/api/cleanup", json!({ member: value })).await.status, 400, "{member}");
    }
}

#[tokio::test]
async fn other_types_and_too_long_bodies_are_refused() {
    let node = Node::start().await;
    let post = |target: &str, media_type: &str, body: Bytes| {
        let request = Request::post(target)
            .header("authorization", "Bearer administer")
            .header("content-type", media_type)
            .body(body)
            .unwrap();
        node.request(request)
    };
    let form = post("/api/cleanup", "application/x-www-form-urlencoded", Bytes::from_static(b"{}")).await;
    assert_eq!(form.refusal(), (415, "admin.content-type"));
    let yaml = post("/api/apply", "application/yaml", Bytes::from_static(b"apis: []")).await;
    assert_eq!(yaml.refusal(), (415, "admin.content-type"));
    let json = post("/api/cleanup", "Application/JSON; charset=utf-8", Bytes::from_static(b"{}")).await;
    assert_eq!(json.status, 200);
    let long = post("/api/cleanup", "application/json", Bytes::from(vec![b' '; 1024 * 1024 + 1])).await;
    assert_eq!(long.refusal(), (413, "admin.too-large"));
    let most = post(
        "/api/cleanup",
        "application/json",
        Bytes::from([vec![b' '; 1024 * 1024 - 2], b"{}".to_vec()].concat()),
    );
    assert_eq!(most.await.status, 200);
    let policy = format!("/api/apis/{API}/stages/{STAGE}/policy");
    for media_type in ["application/json", "application/toml"] {
        for (method, target) in [("POST", "/api/plan"), ("POST", "/api/apply"), ("PUT", &policy)] {
            let request = Request::builder().method(method).uri(target).header("content-type", media_type);
            let request = request.header("authorization", "Bearer administer").body(Bytes::new()).unwrap();
            assert_eq!(node.request(request).await.refusal(), (400, "admin.malformed"), "{method} {target}");
        }
    }
    assert_eq!(node.get(&policy).await.status, 200);
    let toml = post("/api/plan", "application/toml", Bytes::from_static(b"\xff")).await;
    assert_eq!(toml.refusal(), (400, "admin.malformed"));
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let node = Node::start().await;
    let with = |origin: &str| {
        let request = Request::get("/api/status")
            .header("authorization", "Bearer read")
            .header("host", "admin.example:8081")
            .header("origin", origin)
            .body(Bytes::new())
            .unwrap();
        node.request(request)
    };
    for origin in
        ["https://evil.example", "null", "https://admin.example", "http://admin.example:8081.evil", ""]
    {
        assert_eq!(with(origin).await.refusal(), (403, "origin.not-allowed"), "{origin}");
    }
    for origin in ["http://admin.example:8081", "https://Admin.example:8081"] {
        assert_eq!(with(origin).await.status, 200, "{origin}");
    }
}

#[tokio::test]
async fn unknown_apis_and_stages_are_told_apart() {
    let node = &Node::start().await;
    let at = |api: &str, stage: &str| {
        let target = format!("/api/channels/lobby?api={api}&stage={stage}");
        async move { node.get(&target).await.body["id"].clone() }
    };
    assert_eq!(at("nothing", STAGE).await, "api.unknown");
    assert_eq!(at(API, "nothing").await, "stage.unknown");
    for (target, body) in [
        ("/api/tokens", json!({ "api": API, "stage": "x" })),
        ("/api/publish", json!({ "api": API, "stage": "x", "all": true, "data": "" })),
        ("/api/permissions/check", json!({ "api": API, "stage": "x", "channel": "c", "right": "join" })),
    ] {
        assert_eq!(node.post(target, body).await.refusal(), (404, "stage.unknown"), "{target}");
    }
}
