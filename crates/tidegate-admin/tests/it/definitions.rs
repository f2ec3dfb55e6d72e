//! APIs, policies, documents.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tidegate_auth::Role;

use crate::harness::{API, Answer, BACKEND_SECRET, JWT_SECRET, Node, STAGE, policy};

fn policy_path() -> String {
    format!("/api/apis/{API}/stages/{STAGE}/policy")
}

async fn with_type(node: &Node, method: &str, target: &str, media_type: &str, body: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("authorization", "Bearer administer")
        .header("content-type", media_type)
        .body(Bytes::from(body.to_owned()))
        .unwrap();
    node.request(request).await
}

#[tokio::test]
async fn apis_with_how_far_they_are() {
    let node = Node::start().await;
    let (_client, _) = node.connect_user("ann", &[]).await;
    let stage = json!({
        "name": STAGE, "is_deployed": true, "is_behind": false, "has_policy": true, "connections": 1,
    });
    let expected = json!({ "apis": [{
        "id": API,
        "name": "tide",
        "endpoint": format!("ws://{}/_aws/execute-api/{API}", node.public),
        "provisioning": "deployed",
        "stages": [stage],
    }] });
    assert_eq!(node.get("/api/apis").await.ok(), expected);
    let body = json!({ "name": "second", "protocolType": "WEBSOCKET", "routeSelectionExpression": "$request.body.action" });
    node.control.create_api_with_id("tide000002", body).await.unwrap();
    let page = node.get("/api/apis?limit=1").await.ok();
    let next = page["next_token"].as_str().unwrap();
    let page = node.get(&format!("/api/apis?limit=1&next_token={next}")).await.ok();
    assert_eq!(
        (&page["apis"][0]["id"], &page["apis"][0]["provisioning"]),
        (&json!("tide000002"), &json!("api_created"))
    );
    let status = node.get("/api/status").await.ok();
    assert_eq!(
        (&status["apis"], &status["stages"], &status["version"]),
        (&json!(2), &json!(1), &json!("1.2.3"))
    );
    assert_eq!(
        (&status["connections"], &status["users"], &status["state"]),
        (&json!(1), &json!(1), &json!("ready"))
    );
}

#[tokio::test]
async fn secrets_of_a_policy_go_in_and_do_not_come_out() {
    let node = Node::start().await;
    // S0-97
    let answer = node.get(&policy_path()).await;
    assert_eq!(answer.body["backend"]["secrets"], json!(["****"]));
    assert_eq!(answer.body["jwt"]["keys"][0]["secret"], "****");
    // What was shown may be put back: the secrets stay.
    let mut shown = answer.clone().ok();
    assert_eq!(node.put(&policy_path(), shown.clone()).await.ok()["changed"], false);
    shown["push"]["idempotency_window"] = json!(60);
    assert_eq!(node.put(&policy_path(), shown).await.ok()["changed"], true);
    let stored = node.control.policy(API, STAGE).unwrap();
    assert_eq!(stored.backend.secrets, [BACKEND_SECRET]);
    assert_eq!(stored.push.idempotency_window, 60);
    let texts = [
        answer.text,
        node.get("/api/export").await.text,
        node.get("/api/audit").await.text,
        node.post("/api/plan", node.get("/api/export").await.ok()).await.text,
    ];
    for text in texts {
        assert!(!text.contains(BACKEND_SECRET) && !text.contains(JWT_SECRET), "{text}");
    }
}

#[tokio::test]
async fn a_policy_is_checked_and_all_problems_are_told() {
    let node = Node::start().await;
    let paths = |answer: &Answer| -> Vec<String> {
        assert_eq!(answer.status, 400, "{}", answer.text);
        let problems = answer.body["problems"].as_array().unwrap();
        problems.iter().map(|problem| problem["path"].as_str().unwrap().to_owned()).collect()
    };
    let unreadable = json!({ "admision": {}, "attempts": { "window": "long" }, "push": { "slow": "maybe" } });
    let found = paths(&node.put(&policy_path(), unreadable).await);
    assert!(
        ["admision", "attempts.window", "push.slow"].iter().all(|path| found.contains(&(*path).to_owned())),
        "{found:?}"
    );
    let unusable =
        json!({ "connect_tokens": { "lifetime": 1 }, "channels": { "rules": [{ "match": "a b" }] } });
    let answer = node.put(&policy_path(), unusable).await;
    let found = paths(&answer);
    assert!(found.contains(&"connect_tokens.lifetime".to_owned()) && found.len() == 2, "{found:?}");
    assert_eq!(answer.body["problems"][0]["id"], "config.invalid-value");
    // Nothing has changed.
    assert_eq!(node.control.policy(API, STAGE).unwrap().backend.secrets, [BACKEND_SECRET]);
    // S0-96: what an operator should know, and the policy is in use all the same.
    let body = node.put(&policy_path(), json!({ "channels": { "unlisted": "allow" } })).await.ok();
    assert!(body["warnings"].to_string().contains("config.unlisted-open"), "{body}");
    let toml =
        with_type(&node, "PUT", &policy_path(), "application/toml", "[connect_tokens]\nlifetime = 90\n")
            .await;
    assert_eq!(toml.ok()["changed"], true);
    assert_eq!(node.get(&policy_path()).await.ok()["connect_tokens"]["lifetime"], 90);
    for path in [policy_path().replace(API, "other"), policy_path().replace(STAGE, "other")] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = node.call_as(Role::Administer, method, &path, Some(json!({}))).await;
            assert_eq!(answer.status, 404, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_policy_is_taken_away() {
    let node = Node::start().await;
    let path = policy_path();
    let removed = node.call_as(Role::Administer, "DELETE", &path, None).await.ok();
    assert_eq!(removed, json!({ "removed": true }));
    assert_eq!(node.call_as(Role::Administer, "DELETE", &path, None).await.ok(), json!({ "removed": false }));
    assert_eq!(node.get(&path).await.refusal(), (404, "admin.no-policy"));
    assert_eq!(node.get("/api/apis").await.ok()["apis"][0]["stages"][0]["has_policy"], false);
}

const DOCUMENT: &str = r#"
[[apis]]
name = "chat"
route_selection_expression = "$request.body.action"

[apis.integrations.backend]
uri = "http://127.0.0.1:9/ws/"

[apis.routes]
"$default" = "backend"
extra = "backend"

[apis.stages.live]
"#;

#[tokio::test]
async fn a_document_is_planned_applied_and_exported() {
    let node = Node::start().await;
    let plan = with_type(&node, "POST", "/api/plan", "application/toml", DOCUMENT).await.ok();
    let sentences = |body: &Value| -> Vec<String> {
        let steps = body["steps"].as_array().unwrap();
        steps.iter().map(|step| step["sentence"].as_str().unwrap().to_owned()).collect()
    };
    assert!(sentences(&plan).contains(&"create API chat".to_owned()), "{plan}");
    assert_eq!(node.get("/api/apis").await.ok()["apis"].as_array().unwrap().len(), 1);
    let applied = with_type(&node, "POST", "/api/apply", "application/toml", DOCUMENT).await.ok();
    assert_eq!(sentences(&applied), sentences(&plan));
    let again = with_type(&node, "POST", "/api/apply", "application/toml", DOCUMENT).await.ok();
    assert_eq!(again["steps"], json!([]));

    let mut export = node.get("/api/export").await.ok();
    assert_eq!(export["apis"].as_array().unwrap().len(), 2);
    let request = Request::get("/api/export")
        .header("authorization", "Bearer read")
        .header("accept", "text/html, application/toml;q=0.9");
    let toml = node.request(request.body(Bytes::new()).unwrap()).await;
    assert_eq!(toml.headers["content-type"], "application/toml");
    let unchanged = with_type(&node, "POST", "/api/plan", "application/toml", &toml.text).await.ok();
    assert_eq!(unchanged["steps"], json!([]));
    // As JSON, with something that goes.
    let apis = export["apis"].as_array_mut().unwrap();
    let chat = apis.iter_mut().find(|api| api["name"] == "chat").unwrap();
    chat["routes"].as_object_mut().unwrap().remove("extra").unwrap();
    let kept = node.call_as(Role::Administer, "POST", "/api/plan", Some(export.clone())).await.ok();
    assert_eq!(kept["steps"], json!([]));
    let pruned = node.call_as(Role::Administer, "POST", "/api/apply?prune=true", Some(export)).await.ok();
    assert!(sentences(&pruned).iter().any(|sentence| sentence.starts_with("remove route")), "{pruned}");

    let audit = node.get("/api/audit?operation=apply").await.ok();
    assert!(audit["audit"][0]["note"]["steps"].to_string().contains("remove route"), "{audit}");
    assert_eq!(
        (&audit["audit"][0]["query"], &audit["audit"][0]["by"]),
        (&json!({ "prune": true }), &json!("administer-key"))
    );
}

#[tokio::test]
async fn a_document_with_problems_changes_nothing() {
    let node = Node::start().await;
    let text = "[[apis]]\nname = 'x'\nrutes = {}\n[[apis]]\nname = 'y'\nstages = 5\n";
    for target in ["/api/plan", "/api/apply"] {
        let answer = with_type(&node, "POST", target, "application/toml", text).await;
        assert_eq!(answer.refusal(), (400, "admin.malformed"));
        assert!(answer.body["problems"].as_array().unwrap().len() >= 2, "{}", answer.text);
        let broken = with_type(&node, "POST", target, "application/toml", "[[apis]\n").await;
        assert!(
            broken.body["problems"][0]["message"].as_str().unwrap().starts_with("line 1"),
            "{}",
            broken.text
        );
    }
    assert_eq!(node.get("/api/apis").await.ok()["apis"].as_array().unwrap().len(), 1);
    let audit = node.get("/api/audit?operation=apply").await.ok();
    assert_eq!(
        (&audit["audit"][0]["outcome"], &audit["audit"][0]["status"]),
        (&json!("refused"), &json!(400))
    );
}

#[tokio::test]
async fn changes_of_policies_are_recorded_with_before_and_after() {
    let node = Node::start().await;
    let mut changed = policy();
    changed["connect_tokens"]["lifetime"] = json!(77);
    node.put(&policy_path(), changed).await.ok();
    let audit = node.get("/api/audit?operation=putPolicy").await.ok();
    let change = &audit["audit"][0];
    assert_eq!(change["path"], policy_path());
    assert_eq!(
        (&change["outcome"], &change["status"], &change["role"]),
        (&json!("done"), &json!(200), &json!("administer"))
    );
    assert_eq!(change["note"]["before"]["connect_tokens"]["lifetime"], 60);
    assert_eq!(change["note"]["after"]["connect_tokens"]["lifetime"], 77);
    assert_eq!(change["note"]["after"]["backend"]["secrets"], json!(["****"]));
    // The first one found nothing.
    assert_eq!(audit["audit"][1]["note"]["before"], Value::Null);
}
