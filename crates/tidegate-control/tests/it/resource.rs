//! Defaults and rules of the single resources.

use serde_json::{Value, json};

use crate::harness::{Harness, api_body};

#[tokio::test]
async fn minimal_objects_have_their_defaults_and_nothing_else() {
    let h = Harness::new().await;
    let api = h.api().await;
    let base = format!("/apis/{api}");
    for (list, id, sent, shown) in [
        (
            "routes",
            "routeId",
            json!({"routeKey": "a"}),
            json!({"routeKey": "a", "apiKeyRequired": false,
                                                                "authorizationType": "NONE"}),
        ),
        (
            "integrations",
            "integrationId",
            json!({"integrationType": "MOCK"}),
            json!({"integrationType": "MOCK", "connectionType": "INTERNET", "timeoutInMillis": 29000,
                   "passthroughBehavior": "WHEN_NO_MATCH",
                   "integrationResponseSelectionExpression": "${integration.response.statuscode}"}),
        ),
        (
            "integrations",
            "integrationId",
            json!({"integrationType": "AWS", "integrationUri": "arn:aws:x"}),
            json!({"integrationType": "AWS", "integrationUri": "arn:aws:x", "integrationMethod": "POST",
                   "connectionType": "INTERNET", "timeoutInMillis": 29000, "payloadFormatVersion": "1.0",
                   "passthroughBehavior": "WHEN_NO_MATCH",
                   "integrationResponseSelectionExpression": "${integration.response.body.errorMessage}"}),
        ),
        (
            "models",
            "modelId",
            json!({"name": "m", "schema": "{}"}),
            json!({"name": "m", "schema": "{}", "contentType": "application/json"}),
        ),
        (
            "authorizers",
            "authorizerId",
            json!({"name": "a", "authorizerType": "REQUEST", "authorizerUri": "arn:x", "identitySource": []}),
            json!({"name": "a", "authorizerType": "REQUEST", "authorizerUri": "arn:x", "identitySource": []}),
        ),
    ] {
        let mut created = h.post(&format!("{base}/{list}"), sent).await;
        let removed = created.as_object_mut().expect("an object").remove(id);
        assert_eq!(removed.and_then(|v| v.as_str().map(str::len)), Some(7));
        assert_eq!(created, shown);
    }
}

#[tokio::test]
async fn responses_have_unique_keys() {
    let h = Harness::new().await;
    let api = h.api().await;
    let (route, integration) = (h.route(&api, "a").await, h.integration(&api).await);
    let list = format!("/apis/{api}/routes/{route}/routeresponses");
    let body = json!({"routeResponseKey": "$default", "responseModels": {"a": "b"},
                      "responseParameters": {"x": {"required": true}}});
    let id = h.create(&list, "routeResponseId", body.clone()).await;
    let again = h.call("POST", &list, body).await;
    again.is_refused(409, "ConflictException", "A route response with this key already exists");
    h.call("POST", &list, json!({"routeResponseKey": "other"})).await.is_bad_request();
    let shown = h.patch(&format!("{list}/{id}"), json!({"modelSelectionExpression": "$default"})).await;
    assert_eq!(shown["modelSelectionExpression"], "$default");
    h.delete(&format!("{list}/{id}")).await;
    assert_eq!(h.get(&list).await, json!({"items": []}));

    let list = format!("/apis/{api}/integrations/{integration}/integrationresponses");
    let first = h.create(&list, "integrationResponseId", json!({"integrationResponseKey": "$default"})).await;
    h.post(&list, json!({"integrationResponseKey": "/4\\d\\d/"})).await;
    h.call("POST", &list, json!({"integrationResponseKey": "400"})).await.is_bad_request();
    let same = json!({"integrationResponseKey": "/4\\d\\d/"});
    assert_eq!(h.call("POST", &list, same.clone()).await.status, 409);
    assert_eq!(h.call("PATCH", &format!("{list}/{first}"), same).await.status, 409);
    h.patch(&format!("{list}/{first}"), json!({"integrationResponseKey": "$default"})).await;
    h.delete(&format!("{list}/{first}")).await;
    h.delete(&format!("/apis/{api}/integrations/{integration}")).await;
}

#[tokio::test]
async fn what_is_used_cannot_be_deleted() {
    let h = Harness::new().await;
    let api = h.api().await;
    let base = format!("/apis/{api}");
    let body =
        json!({"name": "a", "authorizerType": "REQUEST", "authorizerUri": "arn:x", "identitySource": []});
    let authorizer = h.create(&format!("{base}/authorizers"), "authorizerId", body).await;
    let body = json!({"name": "M", "schema": "{\"properties\": {\"b\": {}, \"a\\\"\": {}}}"});
    let model = h.create(&format!("{base}/models"), "modelId", body).await;
    let link = h.create("/vpclinks", "vpcLinkId", json!({"name": "l", "subnetIds": ["s"]})).await;
    let body = json!({"integrationType": "HTTP", "integrationUri": "http://a/", "connectionType": "VPC_LINK",
                      "connectionId": link});
    let integration = h.create(&format!("{base}/integrations"), "integrationId", body).await;
    let body = json!({"routeKey": "$connect", "authorizationType": "CUSTOM", "authorizerId": authorizer,
                      "modelSelectionExpression": "x", "requestModels": {"x": "M"},
                      "target": format!("integrations/{integration}")});
    let route = h.create(&format!("{base}/routes"), "routeId", body).await;
    let used = [
        format!("{base}/authorizers/{authorizer}"),
        format!("{base}/models/{model}"),
        format!("{base}/integrations/{integration}"),
        format!("/vpclinks/{link}"),
    ];
    for address in &used {
        let answer = h.call("DELETE", address, Value::Null).await;
        assert_eq!((answer.status, answer.error_type.as_str()), (409, "ConflictException"), "{address}");
    }
    let renamed = h.call("PATCH", &used[1], json!({"name": "N"})).await;
    assert_eq!(renamed.status, 409, "a route names it by its name");
    let template = h.get(&format!("{}/template", used[1])).await;
    assert_eq!(
        template["value"],
        "{\n  \"a\\\"\" : $input.json(\"$['a\"']\"),\n  \"b\" : $input.json(\"$['b']\")\n}"
    );

    let address = format!("{base}/routes/{route}");
    h.call("PATCH", &address, json!({"routeKey": "chat"})).await.is_bad_request();
    let answer = h.patch(&address, json!({"authorizationType": "NONE"})).await;
    assert!(answer.get("authorizerId").is_none(), "{answer}");
    h.delete(&used[0]).await;
    h.delete(&address).await;
    for address in &used[1..3] {
        h.delete(address).await;
    }
    assert_eq!(h.call("DELETE", &used[3], Value::Null).await.status, 202);
    assert_eq!(h.get("/vpclinks").await, json!({"items": []}));
}

#[tokio::test]
async fn vpc_links_and_mappings_are_kept_and_changed() {
    let h = Harness::new().await;
    let link = h.post("/vpclinks", json!({"name": "l", "subnetIds": ["a", "b"], "tags": {"x": "y"}})).await;
    let id = link["vpcLinkId"].as_str().expect("an id").to_owned();
    assert_eq!(
        link,
        json!({"vpcLinkId": id, "name": "l", "subnetIds": ["a", "b"], "securityGroupIds": [], "tags": {"x": "y"},
               "createdDate": "2025-01-15T12:00:00Z", "vpcLinkStatus": "AVAILABLE", "vpcLinkVersion": "V2"})
    );
    assert_eq!(h.patch(&format!("/vpclinks/{id}"), json!({"name": "m"})).await["name"], "m");

    let api = h.api().await;
    for stage in ["one", "two"] {
        h.post(&format!("/apis/{api}/stages"), json!({"stageName": stage})).await;
    }
    let domain = h.post("/domainnames", json!({"domainName": "*.example.com"})).await;
    let configuration = &domain["domainNameConfigurations"][0];
    assert_eq!(configuration["apiGatewayDomainName"], "localhost");
    assert_eq!(configuration["domainNameStatus"], "AVAILABLE");
    let mappings = "/domainnames/%2A.example.com/apimappings";
    let body = json!({"apiId": api, "stage": "one", "apiMappingKey": "v1"});
    let id = h.create(mappings, "apiMappingId", body).await;
    let target = format!("{mappings}/{id}");
    h.call("PATCH", &target, json!({"stage": "two"})).await.is_bad_request();
    let answer = h.patch(&target, json!({"apiId": api, "stage": "two"})).await;
    assert_eq!(answer, json!({"apiMappingId": id, "apiId": api, "stage": "two", "apiMappingKey": "v1"}));
    assert_eq!(h.sink.last().domains[0].1[0].stage, "two");
    let body = json!({"domainNameConfigurations": [{"certificateArn": "arn:new"}]});
    let answer = h.patch("/domainnames/*.example.com", body).await;
    assert_eq!(answer["domainNameConfigurations"][0]["certificateArn"], "arn:new");
    h.delete(&target).await;
    assert_eq!(h.get(mappings).await, json!({"items": []}));
}

#[tokio::test]
async fn tags_merge_on_every_taggable_resource() {
    let h = Harness::new().await;
    let mut body = api_body();
    body["tags"] = json!({"_custom_id_": "my-api", "a": "1"});
    let api = h.create("/apis", "apiId", body.clone()).await;
    assert_eq!(api, "my-api");
    assert_eq!(h.call("POST", "/apis", body).await.error_type, "ConflictException");
    h.post(&format!("/apis/{api}/stages"), json!({"stageName": "prod"})).await;
    h.post("/domainnames", json!({"domainName": "ws.example.com"})).await;
    let link = h.create("/vpclinks", "vpcLinkId", json!({"name": "l", "subnetIds": []})).await;
    for path in [
        format!("/apis/{api}"),
        format!("/apis/{api}/stages/prod"),
        "/domainnames/ws.example.com".to_owned(),
        format!("/vpclinks/{link}"),
    ] {
        let encoded = format!("arn:aws:apigateway:us-east-1::{path}").replace(':', "%3A").replace('/', "%2F");
        let target = format!("/tags/{encoded}");
        assert_eq!(h.post(&target, json!({"tags": {"x": "1", "y y": "2"}})).await, json!({}));
        h.post(&target, json!({"tags": {"x": "3", "z": ""}})).await;
        let tags = h.get(&target).await["tags"].clone();
        assert_eq!((&tags["x"], &tags["y y"], &tags["z"]), (&json!("3"), &json!("2"), &json!("")));
        assert_eq!(h.get(&path).await["tags"], tags, "{path}");
        h.delete(&format!("{target}?tagKeys=x&tagKeys=y%20y&tagKeys=absent")).await;
        let tags = h.get(&target).await["tags"].clone();
        assert_eq!((tags.get("x"), tags.get("y y"), tags.get("z")), (None, None, Some(&json!(""))));
        h.call("DELETE", &target, Value::Null).await.is_bad_request();
        let many: serde_json::Map<_, _> = (0..50).map(|n| (format!("t{n}"), json!("v"))).collect();
        h.call("POST", &target, json!({"tags": many})).await.is_bad_request();
        h.call("POST", &target, json!({"tags": {"aws:x": "v"}})).await.is_bad_request();
        h.call("POST", &target, json!({})).await.is_bad_request();
        assert_eq!(h.get(&target).await["tags"], tags, "what is refused changes nothing");
    }
}

#[tokio::test]
async fn counts_are_bounded() {
    let h = Harness::new().await;
    let api = h.api().await;
    for n in 0..100 {
        h.post(&format!("/apis/{api}/stages"), json!({"stageName": format!("s{n}")})).await;
    }
    let answer = h.call("POST", &format!("/apis/{api}/stages"), json!({"stageName": "more"})).await;
    assert_eq!((answer.status, answer.error_type.as_str()), (429, "TooManyRequestsException"));
    let variables: serde_json::Map<_, _> = (0..101).map(|n| (format!("v{n}"), json!("x"))).collect();
    let body = json!({"stageVariables": variables});
    h.call("PATCH", &format!("/apis/{api}/stages/s0"), body).await.is_bad_request();
}
