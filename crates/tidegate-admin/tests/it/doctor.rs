//! `doctor` in the node: real backends, some wrong, and what it says about them.

use std::sync::Arc;

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_core::journal::JournalStore as _;
use tidegate_core::port::{Record, RecordChange, RecordKind, RecordStore as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::Node;

/// What a backend answers to a path with these headers.
type Handler = Arc<dyn Fn(&str, &[(String, String)]) -> (u16, String) + Send + Sync>;

/// A backend, and the requests that it got, as text.
struct Backend {
    address: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n_read = stream.read(&mut buffer).await.ok()?;
        if n_read == 0 {
            return None;
        }
        bytes.extend_from_slice(&buffer[..n_read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return Some(text);
            }
        }
    }
}

fn headers_of(request: &str) -> Vec<(String, String)> {
    let head = request.split("\r\n\r\n").next().unwrap_or_default();
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    head.lines().skip(1).filter_map(header).collect()
}

impl Backend {
    async fn start(handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (handler, noted) = (Arc::clone(&handler), Arc::clone(&noted));
                tokio::spawn(async move {
                    while let Some(request) = read_request(&mut stream).await {
                        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                        let (status, body) = handler(&path, &headers_of(&request));
                        noted.lock().push(request);
                        let answer =
                            format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, seen, task }
    }

    /// A view as the Django package has it below `/ws/`, which knows the API and refuses strangers.
    async fn package() -> Self {
        Self::start(Arc::new(|path, headers| {
            let has = |name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
            let demanded = [
                "X-Forwarded-For",
                "X-Forwarded-Proto",
                "X-Forwarded-Port",
                "X-Real-Ip",
                "Connectionid",
                "X-Amzn-Trace-Id",
            ];
            match path.strip_prefix("/ws/") {
                None | Some("") => (404, "<h1>Not Found</h1>".to_owned()),
                Some(_) if !demanded.into_iter().all(has) => (400, "Invalid request headers".to_owned()),
                Some("connect") if !has("Cookie") => (400, "Missing 5 headers".to_owned()),
                Some("connect") => (400, "Host is not in Origin".to_owned()),
                Some("disconnect") => (400, "Invalid connection ID".to_owned()),
                Some(_) => (400, "Invalid request format (1)".to_owned()),
            }
        }))
        .await
    }
}

/// An API with the routes of the package, deployed on `prod`.
async fn provision(node: &Node, api_id: &str, base: &str) {
    let api = json!({ "name": "package", "protocolType": "WEBSOCKET", "routeSelectionExpression": "$request.body.action" });
    node.control.create_api_with_id(api_id, api).await.unwrap();
    for word in ["connect", "disconnect", "default"] {
        let integration = json!({
            "integrationType": "HTTP_PROXY",
            "integrationMethod": "POST",
            "integrationUri": format!("{base}{word}"),
            "requestParameters": { "integration.request.header.connectionId": "context.connectionId" },
        });
        let integration = change(node, api_id, "integrations", integration).await;
        let target = format!("integrations/{}", integration["integrationId"].as_str().unwrap());
        let mut route = json!({ "routeKey": format!("${word}"), "target": target });
        if word == "default" {
            route["routeResponseSelectionExpression"] = "$default".into();
        }
        change(node, api_id, "routes", route).await;
    }
    change(node, api_id, "stages", json!({ "stageName": "prod" })).await;
    change(node, api_id, "deployments", json!({ "stageName": "prod" })).await;
}

async fn change(node: &Node, api_id: &str, path: &str, body: Value) -> Value {
    node.control.request(&Method::POST, &format!("/v2/apis/{api_id}/{path}"), body).await.unwrap()
}

async fn inspect(node: &Node, api_id: &str, body: Value) -> Value {
    node.post(&format!("/api/apis/{api_id}/doctor"), body).await.ok()
}

fn ids(answer: &Value) -> Vec<&str> {
    let findings = answer["report"]["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["id"].as_str().unwrap()).collect()
}

const ID: &str = "package001";

#[tokio::test]
async fn a_healthy_api_has_no_finding() {
    // DX-49 DX-50
    let (node, backend) = (Node::start().await, Backend::package().await);
    provision(&node, ID, &format!("http://{}/ws/", backend.address)).await;
    let answer = inspect(&node, ID, json!({})).await;
    assert_eq!(ids(&answer), Vec::<&str>::new(), "{answer}");
    let known = &answer["known"];
    let package = json!({ "answers": true, "isBaseRight": true, "hasSlug": true, "isSlugNamed": true, "knowsApi": true });
    assert_eq!(known["package"], package, "{answer}");
    assert_eq!(
        (&known["isDeployed"], &known["isCurrent"], &known["isHttpsOrLocal"]),
        (&json!(true), &json!(true), &json!(true))
    );
    let environment = answer["environment"].to_string();
    assert!(environment.contains(&format!("{ID}.execute-api.us-east-1.amazonaws.com")), "{environment}");
    let seen = backend.seen.lock().clone();
    assert!((4..=12).contains(&seen.len()), "{seen:?}");
    for request in &seen {
        assert!(request.starts_with("POST ") && request.contains("\r\nTidegate-Probe: 1\r\n"), "{request}");
        assert!(request.to_ascii_lowercase().contains("connectionid: aaaaaaaaaaaaaaa="), "{request}");
        assert!(
            !request.contains("ws_token")
                && !request.contains("sessionid")
                && !request.contains("Authorization"),
            "{request}"
        );
        assert!(request.contains(&format!("X-Amzn-Apigateway-Api-Id: {ID}")), "{request}");
    }
    let paths: Vec<&str> = seen.iter().filter_map(|request| request.split(' ').nth(1)).collect();
    assert!(paths.contains(&"/ws/tidegate-probe"), "{paths:?}");
}

#[tokio::test]
async fn without_posts_backends_get_connections_only() {
    // DX-49
    let (node, backend) = (Node::start().await, Backend::package().await);
    provision(&node, ID, &format!("http://{}/ws/", backend.address)).await;
    let answer = inspect(&node, ID, json!({ "no_post": true })).await;
    assert_eq!(ids(&answer), Vec::<&str>::new());
    assert!(backend.seen.lock().is_empty());
    assert_eq!(answer["known"]["package"], Value::Null);
}

#[tokio::test]
async fn a_base_without_its_slash_is_proven() {
    // integration.missing-slash
    let (node, backend) = (Node::start().await, Backend::package().await);
    provision(&node, ID, &format!("http://{}/ws", backend.address)).await;
    let answer = inspect(&node, ID, json!({})).await;
    let findings = answer["report"]["findings"].as_array().unwrap();
    let proven = findings.iter().find(|finding| finding["confidence"] == "proven").unwrap();
    assert_eq!(
        (proven["id"].as_str(), proven["severity"].as_str()),
        (Some("integration.missing-slash"), Some("problem")),
        "{answer}"
    );
    let text = proven["evidence"][0]["text"].as_str().unwrap();
    assert!(text.contains("/wsconnect answers 404") && text.contains("/ws/connect answers 400"), "{text}");
    assert_eq!(answer["known"]["package"]["isBaseRight"], false);
}

#[tokio::test]
async fn what_cannot_be_reached_is_named() {
    // integration.refused, integration.dns, integration.tls, local.not-https, local.not-public
    let node = Node::start().await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    provision(&node, "refused001", &format!("http://{nobody}/ws/")).await;
    let answer = inspect(&node, "refused001", json!({})).await;
    assert_eq!(ids(&answer), ["integration.refused", "local.not-public"], "{answer}");
    assert_eq!(answer["report"]["findings"][1]["confidence"], "possible");
    provision(&node, "nodns00001", "http://tidegate-does-not-exist.invalid/ws/").await;
    let found = inspect(&node, "nodns00001", json!({ "no_post": true })).await;
    assert!(ids(&found).contains(&"integration.dns"), "{found}");
    // A plain HTTP server takes the first bytes of TLS for a bad request.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    provision(&node, "notls00001", &format!("https://{plain}/ws/")).await;
    let found = inspect(&node, "notls00001", json!({})).await;
    let not_https = found["report"]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["id"] == "local.not-https");
    assert_eq!(not_https.unwrap_or_else(|| panic!("{found}"))["confidence"], "proven");
    assert!(ids(&found).contains(&"integration.tls"), "{found}");
    task.abort();
}

#[tokio::test]
async fn headers_that_something_takes_away_are_found_by_reflection() {
    // backend.headers-stripped, backend.server-drops-forwarded
    let node = Node::start().await;
    let reflector = |drops: &'static [&'static str]| {
        Backend::start(Arc::new(move |_, headers: &[(String, String)]| {
            let kept =
                headers.iter().filter(|(name, _)| !drops.iter().any(|drop| drop.eq_ignore_ascii_case(name)));
            let kept: Vec<(&str, &[u8])> =
                kept.map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
            let answer = tidegate_doctor::inspect::reflect::answer(&kept);
            (200, answer.map_or_else(String::new, |answer| answer.to_string()))
        }))
    };
    let whole = reflector(&[]).await;
    provision(&node, "reflect001", &format!("http://{}/ws/", whole.address)).await;
    let answer = inspect(&node, "reflect001", json!({})).await;
    assert_eq!(ids(&answer), Vec::<&str>::new(), "{answer}");
    let reflected = answer["report"]["probes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|probe| probe["name"] == "reflect")
        .count();
    assert_eq!(reflected, 3);
    let stripping = reflector(&["connectionid"]).await;
    provision(&node, "reflect002", &format!("http://{}/ws/", stripping.address)).await;
    let answer = inspect(&node, "reflect002", json!({})).await;
    assert!(ids(&answer).iter().all(|id| *id == "backend.headers-stripped"), "{answer}");
    assert_eq!(answer["report"]["findings"][0]["evidence"][0]["facts"]["missing"], json!(["connectionid"]));
    // As waitress does with peers that it does not trust.
    let distrusting = reflector(&["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Port"]).await;
    provision(&node, "reflect003", &format!("http://{}/ws/", distrusting.address)).await;
    let found = inspect(&node, "reflect003", json!({})).await;
    assert!(ids(&found).contains(&"backend.server-drops-forwarded"), "{found}");
}

#[tokio::test]
async fn an_api_that_changed_is_behind() {
    // stage.redeploy-needed
    let (node, backend) = (Node::start().await, Backend::package().await);
    provision(&node, ID, &format!("http://{}/ws/", backend.address)).await;
    change(&node, ID, "routes", json!({ "routeKey": "join" })).await;
    let answer = inspect(&node, ID, json!({ "no_post": true })).await;
    assert_eq!(ids(&answer), ["stage.redeploy-needed", "integration.missing"], "{answer}");
    assert_eq!(answer["known"]["isCurrent"], false);
    let path = format!("/api/apis/{ID}/route-test");
    let tested = node.post(&path, json!({ "message": r#"{"action":"join"}"# })).await.ok();
    assert_eq!(
        (&tested["deployed"][0]["routeKey"], &tested["defined"]["routeKey"]),
        (&json!("$default"), &json!("join"))
    );
    assert_eq!((&tested["deployed"][0]["diagnosis"], &tested["is_behind"]), (&Value::Null, &json!(true)));
    let refused = node.post(&path, json!({ "message": "{}", "stage": "none" })).await;
    assert_eq!(refused.refusal(), (404, "stage.unknown"));
    assert_eq!(node.post("/api/apis/none/doctor", json!({})).await.refusal(), (404, "api.unknown"));
}

#[tokio::test]
async fn a_day_of_a_node_whose_times_pass_faster_is_shorter() {
    // DX-50
    for (time_scale, n_expected) in [(1, 1), (1000, 0)] {
        let mut settings = tidegate_core::settings::Settings::default();
        settings.data_plane.time_scale = time_scale;
        let node = Node::start_with(settings).await;
        let now = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap();
        // Ten minutes ago, which are a week of the faster node.
        let at = now - 600_000_000;
        let mut entry = tidegate_core::journal::Entry::new(at, tidegate_core::journal::Kind::Close, None);
        entry.api_id = Some(crate::harness::API.to_owned());
        node.journal.append(vec![entry]).await.unwrap();
        let answer = inspect(&node, crate::harness::API, json!({ "no_post": true })).await;
        let probes = answer["report"]["probes"].as_array().unwrap();
        let statistics = probes.iter().find(|probe| probe["name"] == "statistics").unwrap();
        assert_eq!(statistics["measurements"]["disconnects"]["ends"], n_expected, "{answer}");
        let notes = answer["report"]["notes"].to_string();
        assert_eq!(notes.contains("1000 times faster"), time_scale == 1000, "{notes}");
    }
}

#[tokio::test]
async fn records_that_nobody_removes_are_found() {
    // cleanup.not-scheduled DX-50: in this node the clean-up does not run.
    let node = Node::start().await;
    let probe = |answer: &Value| {
        let probes = answer["report"]["probes"].as_array().unwrap();
        probes.iter().find(|probe| probe["name"] == "records").unwrap()["measurements"].clone()
    };
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
    let put = |key: &str, expires_at: u64| {
        RecordChange::Put(Record {
            kind: RecordKind::Token,
            key: key.to_owned(),
            created_at: now - 86_400_000,
            expires_at,
            body: "{}".to_owned(),
        })
    };
    // What should have gone a minute ago may still be there.
    node.records.write(vec![put("young", now - 60_000), put("valid", now + 60_000)]).await.unwrap();
    let answer = inspect(&node, crate::harness::API, json!({ "no_post": true })).await;
    assert!(!ids(&answer).contains(&"cleanup.not-scheduled"), "{answer}");
    assert_eq!(probe(&answer)["records"]["token"]["overdue"], 0);
    node.records.write(vec![put("old", now - 3_600_000)]).await.unwrap();
    let answer = inspect(&node, crate::harness::API, json!({ "no_post": true })).await;
    let findings = answer["report"]["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["id"] == "cleanup.not-scheduled").unwrap();
    assert_eq!((&found["confidence"], &found["count"]), (&json!("proven"), &json!(1)));
    assert_eq!(found["evidence"][0]["facts"]["object"], "token");
}

#[tokio::test]
async fn what_the_watch_finds_is_kept() {
    // DX-53
    let node = Node::start().await;
    let before = node.get("/api/doctor").await.ok();
    assert_eq!((&before["at"], &before["findings"]), (&Value::Null, &json!([])));
    let backend = Backend::package().await;
    provision(&node, ID, &format!("http://{}/ws/", backend.address)).await;
    node.api.watch().await;
    let healthy = node.get("/api/doctor").await.ok();
    assert!(healthy["at"].is_string());
    let of_package = |answer: &Value| {
        answer["findings"].as_array().unwrap().iter().filter(|finding| finding["apiId"] == ID).count()
    };
    assert_eq!(of_package(&healthy), 0, "{healthy}");
    assert!(backend.seen.lock().is_empty(), "the watch sends nothing");
    drop(backend);
    change(&node, ID, "stages", json!({ "stageName": "empty" })).await;
    node.api.watch().await;
    let counts = node.api.watched_counts();
    assert!(
        counts.iter().any(|(id, count)| id.as_str() == "stage.not-deployed" && *count == 1),
        "{counts:?}"
    );
}

#[tokio::test]
async fn a_domain_name_is_walked() {
    // domain.unknown-host, domain.no-mapping
    let node = Node::start().await;
    let answer = node.post("/api/domains/ws.tidegate.invalid/doctor", json!({})).await.ok();
    assert_eq!(ids(&answer), ["domain.unknown-host", "dns.no-record"], "{answer}");
    let domain = json!({ "domainName": "ws.tidegate.invalid" });
    node.control.request(&Method::POST, "/v2/domainnames", domain).await.unwrap();
    let answer = node.post("/api/domains/ws.tidegate.invalid/doctor", json!({})).await.ok();
    assert_eq!(ids(&answer), ["domain.no-mapping", "dns.no-record"], "{answer}");
}
