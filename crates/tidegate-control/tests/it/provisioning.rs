//! The calls of a provisioning client in its order, and what it reads back: S0-4, S0-6 to S0-8, S0-11, S0-16.

use serde_json::{Value, json};

use crate::harness::Harness;

#[tokio::test]
async fn provisioning_runs_through_and_can_be_resumed() {
    let h = Harness::new().await;
    let base = "https://backend.internal:8443/ws/?a=%20b&c=é";
    let created = h
        .post(
            "/apis",
            json!({"name": "chat", "description": "", "protocolType": "WEBSOCKET",
                   "routeSelectionExpression": "${request.body.service}/${request.body.action}",
                   "apiKeySelectionExpression": "$request.header.x-api-key",
                   "disableSchemaValidation": true, "routeKey": "$default", "target": base}),
        )
        .await;
    let api = created["apiId"].as_str().expect("an id").to_owned();
    assert_eq!(
        created,
        json!({"apiId": api, "name": "chat", "description": "", "protocolType": "WEBSOCKET",
               "routeSelectionExpression": "${request.body.service}/${request.body.action}",
               "apiKeySelectionExpression": "$request.header.x-api-key", "disableSchemaValidation": true,
               "disableExecuteApiEndpoint": false, "ipAddressType": "ipv4", "tags": {},
               "apiEndpoint": format!("ws://127.0.0.1:8080/_aws/execute-api/{api}"),
               "createdDate": "2025-01-15T12:00:00Z"})
    );

    let parameters = json!({"integration.request.header.connectionId": "context.connectionId",
                            "integration.request.header.X-Secret": "'a \\\"secret\\\" ü'"});
    let mut routes = Vec::new();
    for key in ["$connect", "$disconnect", "$default"] {
        let integration = h
            .post(
                &format!("/apis/{api}/integrations"),
                json!({"connectionType": "INTERNET", "integrationMethod": "POST",
                       "integrationType": "HTTP_PROXY", "integrationUri": base,
                       "passthroughBehavior": "WHEN_NO_MATCH", "payloadFormatVersion": "1.0",
                       "requestParameters": parameters, "timeoutInMillis": 29000}),
            )
            .await;
        let id = integration["integrationId"].as_str().expect("an id");
        assert_eq!((id.len(), &integration["integrationUri"]), (7, &json!(base)));
        assert_eq!(integration["requestParameters"], parameters);
        let target = format!("integrations/{id}");
        let mut body = json!({"routeKey": key, "target": target, "authorizationType": "NONE",
                              "apiKeyRequired": false});
        if key == "$default" {
            body["routeResponseSelectionExpression"] = json!("$default");
        }
        let mut route = h.post(&format!("/apis/{api}/routes"), body.clone()).await;
        let again = h.call("POST", &format!("/apis/{api}/routes"), body.clone()).await;
        let message = format!("Route with key {key} already exists for this API");
        again.is_refused(409, "ConflictException", &message);
        routes.push((route["routeId"].as_str().expect("an id").to_owned(), id.to_owned()));
        route.as_object_mut().expect("an object").remove("routeId");
        assert_eq!(route, body);
    }

    let stages = format!("/apis/{api}/stages");
    let stage = h.post(&stages, json!({"stageName": "production"})).await;
    assert_eq!(
        stage,
        json!({"stageName": "production", "autoDeploy": false, "stageVariables": {}, "routeSettings": {},
               "defaultRouteSettings": {"dataTraceEnabled": false, "detailedMetricsEnabled": false,
                                        "loggingLevel": "OFF"},
               "tags": {}, "createdDate": "2025-01-15T12:00:00Z", "lastUpdatedDate": "2025-01-15T12:00:00Z"})
    );
    let again = h.call("POST", &stages, json!({"stageName": "production"})).await;
    again.is_refused(409, "ConflictException", "Stage already exists");

    let body = json!({"stageName": "production", "description": ""});
    let deployment = h.deploy(&api, body).await;
    assert_eq!(h.get(&format!("{stages}/production")).await["deploymentId"], json!(deployment));
    let deployment = h.get(&format!("/apis/{api}/deployments/{deployment}")).await;
    assert_eq!(deployment["description"], "");

    let configuration = json!({"certificateArn": "arn:aws:acm:eu-west-3:9:certificate/x", "endpointType": "REGIONAL",
                               "domainNameStatus": "AVAILABLE", "securityPolicy": "TLS_1_2", "hostedZoneId": "Z1"});
    let body = json!({"domainName": "ws.example.com", "domainNameConfigurations": [configuration]});
    let domain = h.post("/domainnames", body.clone()).await;
    assert_eq!(
        domain,
        json!({"domainName": "ws.example.com",
               "domainNameArn": "arn:aws:apigateway:us-east-1::/domainnames/ws.example.com",
               "apiMappingSelectionExpression": "$request.basepath", "routingMode": "API_MAPPING_ONLY", "tags": {},
               "domainNameConfigurations": [{
                   "apiGatewayDomainName": "localhost", "certificateArn": "arn:aws:acm:eu-west-3:9:certificate/x",
                   "certificateUploadDate": "2025-01-15T12:00:00Z", "domainNameStatus": "AVAILABLE",
                   "endpointType": "REGIONAL", "securityPolicy": "TLS_1_2", "hostedZoneId": "Z1"}]})
    );
    let again = h.call("POST", "/domainnames", body).await;
    again.is_refused(409, "ConflictException", "The domain name resource already exists.");

    let mappings = "/domainnames/ws.example.com/apimappings";
    let body = json!({"apiId": api, "stage": "production"});
    let mapping = h.post(mappings, body.clone()).await;
    assert_eq!(mapping["apiMappingKey"], "");
    let again = h.call("POST", mappings, body).await;
    let message = "ApiMapping key already exists for this domain name";
    again.is_refused(409, "ConflictException", message);
    assert_eq!(h.sink.last().domains[0].1[0].stage, "production");

    // S0-6: what a client's columns hold.
    assert!(api.len() <= 32 && api.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));

    // S0-8.
    let (route, integration) = &routes[0];
    let integration = format!("/apis/{api}/integrations/{integration}");
    let refused = h.call("DELETE", &integration, Value::Null).await;
    assert_eq!((refused.status, refused.error_type.as_str()), (409, "ConflictException"));
    h.delete(&format!("/apis/{api}/routes/{route}")).await;
    h.delete(&integration).await;
    assert_eq!(h.call("DELETE", &integration, Value::Null).await.error_type, "NotFoundException");
}

/// S0-16: what was sent is what is read, byte for byte, from the reply, the object and the list.
#[tokio::test]
async fn values_come_back_as_they_were_sent() {
    let h = Harness::new().await;
    let api = h.api().await;
    let base = format!("/apis/{api}");
    let model = json!({"name": "Message", "contentType": "application/json", "description": " d ",
                       "schema": "{\n  \"type\":\"object\", \"x\" : 1.0e0 }"});
    let authorizer = json!({"name": "a", "authorizerType": "REQUEST",
                            "authorizerUri": "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/f/invocations",
                            "identitySource": ["route.request.header.Auth, context.stage", ""],
                            "authorizerCredentialsArn": "arn:aws:iam::1:role/r",
                            "identityValidationExpression": "^x$"});
    let http = json!({"integrationType": "HTTP", "integrationUri": "HTTP://Backend:80/a//b/?q=%7e&r={x}#f",
                      "integrationMethod": "PUT", "connectionType": "VPC_LINK", "connectionId": "${stageVariables.l}",
                      "passthroughBehavior": "NEVER", "payloadFormatVersion": "1.0", "timeoutInMillis": 50,
                      "credentialsArn": "arn:aws:iam::*:user/*", "contentHandlingStrategy": "CONVERT_TO_TEXT",
                      "description": "é\u{1F600}", "tlsConfig": {"serverNameToVerify": "backend"},
                      "templateSelectionExpression": "\\$default",
                      "requestTemplates": {"$default": "#set($a = 1)\r\n$a\t"},
                      "requestParameters": {"integration.request.path.x": "route.request.body.a.b[0]"}});
    let route = json!({"routeKey": "join room/ü", "operationName": "Join", "apiKeyRequired": true,
                       "authorizationType": "NONE",
                       "modelSelectionExpression": "${request.body.kind}", "requestModels": {"$default": "Message"},
                       "requestParameters": {"route.request.header.A": {"required": true}}});
    let stage = json!({"stageName": "s-1_A", "stageVariables": {"host": "a.b:80/c?d#e&f=g,h~"}, "autoDeploy": false,
                       "accessLogSettings": {"destinationArn": "arn:aws:logs:us-east-1:1:log-group:g",
                                             "format": "$context.requestId \"x\""},
                       "clientCertificateId": "c", "description": "", "tags": {"k": "v", "é": ""}});
    for (list, id, sent) in [
        ("models", "modelId", model),
        ("authorizers", "authorizerId", authorizer),
        ("integrations", "integrationId", http),
        ("routes", "routeId", route),
        ("stages", "stageName", stage),
    ] {
        let created = h.post(&format!("{base}/{list}"), sent.clone()).await;
        for (member, value) in sent.as_object().expect("an object") {
            assert_eq!(&created[member], value, "{list}.{member}");
        }
        let id = created[id].as_str().expect("an id");
        assert_eq!(h.get(&format!("{base}/{list}/{id}")).await, created);
        assert_eq!(h.get(&format!("{base}/{list}")).await["items"][0], created);
        assert_eq!(
            h.patch(&format!("{base}/{list}/{id}"), json!({})).await,
            created,
            "nothing given, nothing changed"
        );
        let mut same = sent.clone();
        same.as_object_mut()
            .expect("an object")
            .retain(|member, _| !matches!(member.as_str(), "stageName" | "tags"));
        assert_eq!(
            h.patch(&format!("{base}/{list}/{id}"), same).await,
            created,
            "the same again is no change"
        );
    }
}
