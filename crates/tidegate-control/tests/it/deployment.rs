//! Deployments, stages and what is live: AG-22, S0-12.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_core::definition::{ApiDefinition, LiveStage};

use crate::harness::Harness;

fn stage(h: &Harness, api: &str, name: &str) -> LiveStage {
    let live = h.sink.last();
    let api = live.apis.iter().find(|a| a.api.api_id == api).expect("the API is live");
    api.stages.iter().find(|s| s.stage.stage_name == name).expect("the stage is live").clone()
}

fn frozen(h: &Harness, api: &str, name: &str) -> Arc<ApiDefinition> {
    stage(h, api, name).deployment.expect("a deployment")
}

fn keys(definition: &ApiDefinition) -> Vec<&str> {
    definition.routes.iter().map(|r| r.route_key.as_str()).collect()
}

#[tokio::test]
async fn a_deployment_freezes_and_a_stage_can_go_back() {
    let h = Harness::new().await;
    let api = h.api().await;
    let deployments = format!("/apis/{api}/deployments");
    let answer = h.call("POST", &deployments, json!({})).await;
    let message = "At least one route is required before deploying the Api.";
    answer.is_refused(400, "BadRequestException", message);

    let integration = h.integration(&api).await;
    h.post(&format!("/apis/{api}/stages"), json!({"stageName": "prod"})).await;
    assert!(stage(&h, &api, "prod").deployment.is_none());
    let target = format!("integrations/{integration}");
    h.post(&format!("/apis/{api}/routes"), json!({"routeKey": "a", "target": target})).await;
    let answer = h.post(&deployments, json!({"stageName": "prod", "description": ""})).await;
    let first = answer["deploymentId"].as_str().expect("an id").to_owned();
    assert_eq!(
        answer,
        json!({"deploymentId": first, "createdDate": "2025-01-15T12:00:00Z", "deploymentStatus": "DEPLOYED",
               "autoDeployed": false, "description": ""})
    );
    let content = frozen(&h, &api, "prod");
    assert_eq!(keys(&content), ["a"]);
    assert_eq!(content.integrations[0].integration_id, integration);

    // Changed, and not live.
    h.route(&api, "b").await;
    h.patch(&format!("/apis/{api}/integrations/{integration}"), json!({"integrationUri": "http://b/"})).await;
    let uri = frozen(&h, &api, "prod").integrations[0].integration_uri.clone();
    assert_eq!(uri.as_deref(), Some("http://127.0.0.1:8000/ws/"));
    assert!(Arc::ptr_eq(&content, &frozen(&h, &api, "prod")));
    assert_eq!(h.plane.stages_behind(), [(api.clone(), "prod".to_owned())]);

    // A variable is live at once, and the same definition stays.
    h.patch(&format!("/apis/{api}/stages/prod"), json!({"stageVariables": {"host": "x"}})).await;
    assert_eq!(stage(&h, &api, "prod").stage.stage_variables["host"], "x");
    assert!(Arc::ptr_eq(&content, &frozen(&h, &api, "prod")));

    // Without a stage a deployment is not callable.
    let second = h.deploy(&api, json!({})).await;
    assert_eq!(keys(&frozen(&h, &api, "prod")), ["a"]);
    let target = format!("/apis/{api}/stages/prod");
    assert_eq!(h.patch(&target, json!({"deploymentId": second})).await["deploymentId"], json!(second));
    assert_eq!(keys(&frozen(&h, &api, "prod")), ["a", "b"]);
    h.patch(&format!("/apis/{api}"), json!({"name": "other", "description": "", "version": "2"})).await;
    assert_eq!(h.plane.stages_behind(), [], "a name needs no deployment");

    // Deploying the same again does not make another value of it.
    let content_of_second = frozen(&h, &api, "prod");
    h.patch(&format!("/apis/{api}"), json!({"name": "n"})).await;
    let third = h.deploy(&api, json!({"stageName": "prod"})).await;
    let content_of_third = frozen(&h, &api, "prod");
    let fourth = h.deploy(&api, json!({"stageName": "prod"})).await;
    assert!(Arc::ptr_eq(&content_of_third, &frozen(&h, &api, "prod")));
    assert_eq!(keys(&frozen(&h, &api, "prod")), keys(&content_of_second));

    // Back.
    h.patch(&target, json!({"deploymentId": first})).await;
    assert!(Arc::ptr_eq(&content, &frozen(&h, &api, "prod")));

    let answer = h.call("DELETE", &format!("{deployments}/{first}"), Value::Null).await;
    let message = "Active stages pointing to this deployment must be moved or deleted";
    answer.is_refused(400, "BadRequestException", message);
    for unused in [second, third, fourth] {
        h.delete(&format!("{deployments}/{unused}")).await;
    }
    h.delete(&target).await;
    h.delete(&format!("{deployments}/{first}")).await;
}

/// The order of the command line: deployment first, then a stage that names it.
#[tokio::test]
async fn a_stage_may_come_after_its_deployment() {
    let h = Harness::new().await;
    let api = h.api().await;
    h.route(&api, "a").await;
    let deployment = h.deploy(&api, json!({})).await;
    let body = json!({"stageName": "dev", "deploymentId": deployment});
    h.post(&format!("/apis/{api}/stages"), body).await;
    assert_eq!(keys(&frozen(&h, &api, "dev")), ["a"]);
}

#[tokio::test]
async fn unchanged_apis_are_published_as_the_same_value() {
    let h = Harness::new().await;
    let (one, two) = (h.api().await, h.api().await);
    let before = h.sink.last();
    h.post(&format!("/apis/{one}/stages"), json!({"stageName": "s"})).await;
    let after = h.sink.last();
    let of = |live: &tidegate_core::definition::Live, id: &str| {
        Arc::clone(live.apis.iter().find(|a| a.api.api_id == id).expect("live"))
    };
    assert!(Arc::ptr_eq(&of(&before, &two), &of(&after, &two)));
    assert!(!Arc::ptr_eq(&of(&before, &one), &of(&after, &one)));
    h.patch(&format!("/apis/{one}"), json!({"disableExecuteApiEndpoint": true})).await;
    assert!(of(&h.sink.last(), &one).api.disable_execute_api_endpoint);
    let count = h.sink.count();
    h.route(&one, "a").await;
    assert_eq!(h.sink.count(), count, "a route is not live before a deployment");
}

#[tokio::test]
async fn auto_deploy_follows_every_change() {
    let h = Harness::new().await;
    let api = h.api().await;
    let stages = format!("/apis/{api}/stages");
    let created = h.post(&stages, json!({"stageName": "auto", "autoDeploy": true})).await;
    assert!(created.get("deploymentId").is_none(), "there is no route yet");
    let route = h.route(&api, "a").await;
    assert_eq!(keys(&frozen(&h, &api, "auto")), ["a"]);
    h.patch(&format!("/apis/{api}/routes/{route}"), json!({"routeKey": "b"})).await;
    assert_eq!(keys(&frozen(&h, &api, "auto")), ["b"]);
    let shown = h.get(&format!("{stages}/auto")).await;
    let deployment = shown["deploymentId"].as_str().expect("deployed");
    let deployment = h.get(&format!("/apis/{api}/deployments/{deployment}")).await;
    assert_eq!(deployment["autoDeployed"], true);
    assert!(shown["lastDeploymentStatusMessage"].as_str().is_some_and(|m| m.starts_with("Successfully")));

    let by_hand = json!({"deploymentId": deployment["deploymentId"]});
    h.call("PATCH", &format!("{stages}/auto"), by_hand).await.is_bad_request();
    let before = frozen(&h, &api, "auto");
    h.patch(&format!("/apis/{api}"), json!({"name": "other", "description": "x"})).await;
    assert!(Arc::ptr_eq(&before, &frozen(&h, &api, "auto")), "a name needs no deployment");

    let late = h.post(&stages, json!({"stageName": "late"})).await;
    assert!(late.get("deploymentId").is_none());
    let late = h.patch(&format!("{stages}/late"), json!({"autoDeploy": true})).await;
    assert!(late["deploymentId"].is_string(), "switching it on deploys: {late}");

    for n in 0..60 {
        h.later(200);
        h.route(&api, &format!("r{n}")).await;
    }
    let kept = h.get(&format!("/apis/{api}/deployments?maxResults=500")).await;
    assert!(kept["items"].as_array().is_some_and(|d| (2..=23).contains(&d.len())), "old ones are forgotten");
    assert_eq!(frozen(&h, &api, "auto").routes.len(), 61);
}

/// 6.4: changes within 200 ms share one deployment, and each is live at once all the same.
#[tokio::test]
async fn changes_that_follow_closely_share_a_deployment() {
    let store: Arc<dyn tidegate_core::port::DefinitionStore> =
        Arc::new(tidegate_store::SqliteStore::open_in_memory().expect("open"));
    let h = Harness::over(Arc::clone(&store), tidegate_control::ControlSettings::default()).await;
    let api = h.api().await;
    let stage_at = format!("/apis/{api}/stages/auto");
    h.post(&format!("/apis/{api}/stages"), json!({"stageName": "auto", "autoDeploy": true})).await;
    h.route(&api, "a").await;
    let first = h.get(&stage_at).await["deploymentId"].clone();
    h.later(150);
    h.route(&api, "b").await;
    assert_eq!(h.get(&stage_at).await["deploymentId"], first);
    assert_eq!(keys(&frozen(&h, &api, "auto")), ["a", "b"]);

    // What is shared is on the disk, too.
    let restarted = Harness::over(store, tidegate_control::ControlSettings::default()).await;
    assert_eq!(keys(&frozen(&restarted, &api, "auto")), ["a", "b"]);
    assert_eq!(restarted.plane.stages_behind(), []);
    drop(restarted);

    // Counted from the first change.
    h.later(50);
    h.route(&api, "c").await;
    let second = h.get(&stage_at).await["deploymentId"].clone();
    assert_ne!(second, first);
    assert_eq!(keys(&frozen(&h, &api, "auto")), ["a", "b", "c"]);

    // A stage that somebody points to it keeps what it has.
    h.post(&format!("/apis/{api}/stages"), json!({"stageName": "fixed", "deploymentId": second})).await;
    h.route(&api, "d").await;
    assert_eq!(keys(&frozen(&h, &api, "fixed")), ["a", "b", "c"]);
    assert_eq!(keys(&frozen(&h, &api, "auto")), ["a", "b", "c", "d"]);
    let listed = h.get(&format!("/apis/{api}/deployments")).await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn an_api_goes_with_everything_below_it() {
    let h = Harness::new().await;
    let (api, other) = (h.api().await, h.api().await);
    h.route(&api, "a").await;
    h.post(&format!("/apis/{api}/stages"), json!({"stageName": "prod"})).await;
    h.post(&format!("/apis/{other}/stages"), json!({"stageName": "prod"})).await;
    h.deploy(&api, json!({"stageName": "prod"})).await;
    h.post("/domainnames", json!({"domainName": "ws.example.com"})).await;
    let mappings = "/domainnames/ws.example.com/apimappings";
    h.post(mappings, json!({"apiId": api, "stage": "prod"})).await;
    h.post(mappings, json!({"apiId": other, "stage": "prod", "apiMappingKey": "o"})).await;

    h.call("DELETE", &format!("/apis/{api}/stages/prod"), Value::Null).await.is_bad_request();
    h.delete(&format!("/apis/{api}")).await;
    let live = h.sink.last();
    assert_eq!(live.apis.len(), 1);
    assert_eq!(live.domains[0].1.len(), 1, "its mappings lead nowhere and are gone");
    assert_eq!(h.call("GET", &format!("/apis/{api}/routes"), Value::Null).await.status, 404);
    h.delete("/domainnames/ws.example.com").await;
    assert!(h.sink.last().domains.is_empty());
    h.delete(&format!("/apis/{other}/stages/prod")).await;
}
