//! What an update leaves, replaces, merges and removes: S0-5, S0-10.

use serde_json::{Value, json};

use crate::harness::Harness;

/// S0-5.
#[tokio::test]
async fn an_empty_description_counts_as_set() {
    let h = Harness::new().await;
    let mut body = crate::harness::api_body();
    body["description"] = json!("");
    let api = h.create("/apis", "apiId", body).await;
    let target = format!("/apis/{api}");
    assert_eq!(h.get(&target).await["description"], "");
    assert_eq!(h.patch(&target, json!({"description": "x"})).await["description"], "x");
    assert_eq!(h.patch(&target, json!({"description": ""})).await["description"], "");
    assert_eq!(h.patch(&target, json!({"name": "m", "description": null})).await["description"], "");
    assert_eq!(h.get("/apis").await["items"][0]["description"], "");
    let plain = h.api().await;
    assert!(h.get(&format!("/apis/{plain}")).await.get("description").is_none());
}

/// S0-10.
#[tokio::test]
async fn request_parameters_merge() {
    let h = Harness::new().await;
    let api = h.api().await;
    let key = |name: &str| format!("integration.request.header.{name}");
    let list = format!("/apis/{api}/integrations");
    let parameters = json!({key("connectionId"): "context.connectionId", key("secret"): "'one'"});
    let body = json!({"integrationType": "HTTP_PROXY", "integrationUri": "http://a/",
                      "requestParameters": parameters});
    let id = h.create(&list, "integrationId", body).await;
    let target = format!("{list}/{id}");

    let answer = h.patch(&target, json!({"requestParameters": {key("secret"): "'two'"}})).await;
    let wanted = json!({key("connectionId"): "context.connectionId", key("secret"): "'two'"});
    assert_eq!(answer["requestParameters"], wanted);
    let answer = h.patch(&target, json!({"integrationUri": "http://b/"})).await;
    assert_eq!((&answer["requestParameters"], &answer["integrationUri"]), (&wanted, &json!("http://b/")));
    let body = json!({"requestParameters": {key("secret"): "", key("new"): "stageVariables.x"}});
    let answer = h.patch(&target, body).await;
    let wanted = json!({key("connectionId"): "context.connectionId", key("new"): "stageVariables.x"});
    assert_eq!(answer["requestParameters"], wanted);
    assert_eq!(h.get(&target).await["requestParameters"], wanted);
    let body = json!({"requestParameters": {key("connectionId"): "", key("new"): ""}});
    assert!(h.patch(&target, body).await.get("requestParameters").is_none());
}

#[tokio::test]
async fn every_map_merges_and_every_refused_update_changes_nothing() {
    let h = Harness::new().await;
    let api = h.api().await;
    let integrations = format!("/apis/{api}/integrations");
    let body = json!({"integrationType": "MOCK", "requestTemplates": {"a": "1", "b": "2"}});
    let integration = h.create(&integrations, "integrationId", body).await;
    let target = format!("{integrations}/{integration}");
    let answer = h.patch(&target, json!({"requestTemplates": {"b": "", "c": "3"}})).await;
    assert_eq!(answer["requestTemplates"], json!({"a": "1", "c": "3"}));

    let body = json!({"integrationResponseKey": "$default", "responseTemplates": {"a": "1"}});
    let responses = format!("{target}/integrationresponses");
    let response = h.create(&responses, "integrationResponseId", body).await;
    let answer = h.patch(&format!("{responses}/{response}"), json!({"responseTemplates": {"b": "2"}})).await;
    assert_eq!(answer["responseTemplates"], json!({"a": "1", "b": "2"}));

    let stages = format!("/apis/{api}/stages");
    let body = json!({"stageName": "s", "stageVariables": {"a": "1", "b": "2"},
                      "routeSettings": {"x": {"throttlingBurstLimit": 5}}, "tags": {"t": "1"}});
    h.post(&stages, body).await;
    let stage = format!("{stages}/s");
    let body = json!({"stageVariables": {"a": ""}, "defaultRouteSettings": {"throttlingRateLimit": 0.5},
                      "routeSettings": {"x": {"throttlingRateLimit": 1}, "y": {"loggingLevel": "INFO"}}});
    let answer = h.patch(&stage, body).await;
    assert_eq!(answer["stageVariables"], json!({"b": "2"}));
    assert_eq!(
        answer["routeSettings"],
        json!({"x": {"throttlingBurstLimit": 5, "throttlingRateLimit": 1.0}, "y": {"loggingLevel": "INFO"}})
    );
    assert_eq!(
        answer["defaultRouteSettings"],
        json!({"dataTraceEnabled": false, "detailedMetricsEnabled": false, "loggingLevel": "OFF",
               "throttlingRateLimit": 0.5})
    );

    let before = h.get(&stage).await;
    let body =
        json!({"stageVariables": {"new": "x"}, "description": "y", "accessLogSettings": {"format": "a\nb"}});
    h.call("PATCH", &stage, body).await.is_bad_request();
    assert_eq!(h.get(&stage).await, before);

    let body = json!({"accessLogSettings": {"destinationArn": "arn:x", "format": "$context.requestId"}});
    h.patch(&stage, body.clone()).await;
    let answer = h.patch(&stage, json!({"accessLogSettings": {}})).await;
    assert!(answer.get("accessLogSettings").is_none());
    h.patch(&stage, body).await;
    h.delete(&format!("{stage}/accesslogsettings")).await;
    h.delete(&format!("{stage}/accesslogsettings")).await;
    h.delete(&format!("{stage}/routesettings/x")).await;
    h.delete(&format!("{stage}/cache/authorizers")).await;
    let after = h.get(&stage).await;
    assert!(after.get("accessLogSettings").is_none());
    assert_eq!(after["routeSettings"], json!({"y": {"loggingLevel": "INFO"}}));
}

#[tokio::test]
async fn route_parameters_are_added_and_deleted_by_key() {
    let h = Harness::new().await;
    let api = h.api().await;
    let routes = format!("/apis/{api}/routes");
    let body = json!({"routeKey": "$connect",
                      "requestParameters": {"route.request.querystring.token": {"required": true}}});
    let route = h.create(&routes, "routeId", body).await;
    let target = format!("{routes}/{route}");
    let answer = h.patch(&target, json!({"requestParameters": {"route.request.header.A": {}}})).await;
    assert_eq!(
        answer["requestParameters"],
        json!({"route.request.querystring.token": {"required": true},
               "route.request.header.A": {"required": false}})
    );
    h.delete(&format!("{target}/requestparameters/route.request.querystring.token")).await;
    let gone = format!("{target}/requestparameters/route.request.querystring.token");
    assert_eq!(h.call("DELETE", &gone, Value::Null).await.status, 404);
    h.delete(&format!("{target}/requestparameters/route.request.header.A")).await;
    assert!(h.get(&target).await.get("requestParameters").is_none());
}

#[tokio::test]
async fn optional_texts_are_removed_by_an_empty_one() {
    let h = Harness::new().await;
    let api = h.api().await;
    let integration = h.integration(&api).await;
    let routes = format!("/apis/{api}/routes");
    let body = json!({"routeKey": "$default", "target": format!("integrations/{integration}"),
                      "operationName": "o", "routeResponseSelectionExpression": "$default"});
    let route = h.create(&routes, "routeId", body).await;
    let body = json!({"target": "", "operationName": "", "routeResponseSelectionExpression": ""});
    let answer = h.patch(&format!("{routes}/{route}"), body).await;
    assert_eq!(
        answer,
        json!({"routeId": route, "routeKey": "$default", "apiKeyRequired": false, "authorizationType": "NONE"})
    );
    h.delete(&format!("/apis/{api}/integrations/{integration}")).await;
}
