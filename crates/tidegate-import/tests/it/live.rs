use serde_json::{Value, json};
use tidegate_import::{LiveApi, Part, import_live};

use crate::left_out;

fn api() -> LiveApi {
    let list = |value: Value| value.as_array().cloned().unwrap_or_default();
    LiveApi {
        api: json!({"apiId": "k3x9q2m7vd", "apiEndpoint": "wss://x", "createdDate": "2025-01-15T12:00:00Z", "name": "chat",
            "protocolType": "WEBSOCKET", "routeSelectionExpression": "$request.body.action",
            "apiKeySelectionExpression": "$request.header.x-api-key", "ipAddressType": "ipv4", "tags": {},
            "disableExecuteApiEndpoint": false}),
        routes: list(json!([
            {"routeId": "r1", "routeKey": "$connect", "target": "integrations/i1", "authorizationType": "NONE", "apiKeyRequired": false},
            {"routeId": "r2", "routeKey": "$default", "target": "integrations/i1", "authorizationType": "NONE",
                "routeResponseSelectionExpression": "$default"},
            {"routeId": "r3", "routeKey": "a/b", "target": "integrations/i2", "somethingNew": "x"},
        ])),
        route_responses: [(
            "r2".to_owned(),
            list(json!([{"routeResponseId": "rr", "routeResponseKey": "$default"}])),
        )]
        .into(),
        integrations: list(json!([
            {"integrationId": "i1", "integrationType": "HTTP_PROXY", "integrationMethod": "POST", "connectionType": "INTERNET",
                "integrationUri": "http://127.0.0.1:8000/", "passthroughBehavior": "WHEN_NO_MATCH", "payloadFormatVersion": "1.0",
                "timeoutInMillis": 29000, "integrationResponseSelectionExpression": "${integration.response.statuscode}"},
            {"integrationId": "i2", "integrationType": "AWS_PROXY", "timeoutInMillis": 29000,
                "integrationUri": "arn:aws:lambda:us-east-1:000000000000:function:say:live"},
        ])),
        integration_responses: [(
            "i1".to_owned(),
            list(json!([{"integrationResponseId": "ir", "integrationResponseKey": "$default",
            "responseTemplates": {"default": "x"}}])),
        )]
        .into(),
        stages: list(json!([
            {"stageName": "prod", "deploymentId": "d1", "stageVariables": {}, "defaultRouteSettings": {"throttlingRateLimit": 5.0,
                "dataTraceEnabled": false}, "routeSettings": {"$connect": {"throttlingBurstLimit": 3}}, "tags": {}},
        ])),
        deployments: list(json!([
            {"deploymentId": "d2", "createdDate": "2025-02-01T00:00:00Z", "deploymentStatus": "DEPLOYED"},
            {"deploymentId": "d1", "createdDate": "2025-01-01T00:00:00Z", "description": "old"},
        ])),
        domains: list(
            json!([{"domainName": "ws.example.com", "apiMappingSelectionExpression": "$request.basepath",
            "domainNameConfigurations": [{"apiGatewayDomainName": "d-1", "certificateArn": "arn:c", "endpointType": "REGIONAL",
                "securityPolicy": "TLS_1_2", "hostedZoneId": "Z1", "domainNameStatus": "AVAILABLE"}]}]),
        ),
        mappings: [(
            "ws.example.com".to_owned(),
            list(json!([
            {"apiMappingId": "m1", "apiId": "k3x9q2m7vd", "stage": "prod", "apiMappingKey": ""},
            {"apiMappingId": "m2", "apiId": "other", "stage": "prod", "apiMappingKey": "x"}])),
        )]
        .into(),
        refused: vec![("GetVpcLinks".to_owned(), "AccessDeniedException".to_owned())],
        ..LiveApi::default()
    }
}

// S0-112
#[test]
fn a_running_api_keeps_its_id_and_gets_names() {
    let made = import_live(&api()).unwrap();
    assert_eq!(
        made.document,
        json!({
            "apis": [{
                "id": "k3x9q2m7vd",
                "name": "chat",
                "route_selection_expression": "$request.body.action",
                "integrations": {
                    "connect": {"uri": "http://127.0.0.1:8000/", "responses": {"$default": {"templates": {"default": "x"}}}},
                    "a-b": {"type": "AWS_PROXY", "uri": "arn:aws:lambda:us-east-1:000000000000:function:say:live"},
                },
                "routes": {
                    "$connect": "connect",
                    "$default": {"integration": "connect", "two_way": true},
                    "a/b": "a-b",
                },
                "stages": {"prod": {"deployment_description": "old", "throttle": {"rate": 5.0},
                    "route_settings": {"$connect": {"throttle": {"burst": 3}}}}},
            }],
            "domains": [{"name": "ws.example.com", "configurations": [{"certificate_arn": "arn:c"}],
                "mappings": [{"api": "chat", "stage": "prod"}]}],
        })
    );
    assert_eq!(
        left_out(&made, Part::Api),
        ["apis/k3x9q2m7vd/routes/r3.somethingNew", "GetVpcLinks", "apis/k3x9q2m7vd/stages/prod.deploymentId"]
    );
    assert_eq!(left_out(&made, Part::Configuration), ["apis/k3x9q2m7vd/integrations/i2"]);
    assert_eq!(left_out(&made, Part::Beside), ["domainnames/ws.example.com"]);
}

#[test]
fn an_http_api_is_refused() {
    let mut live = api();
    live.api["protocolType"] = json!("HTTP");
    assert!(import_live(&live).unwrap_err().message.contains("is no WebSocket API"));
}
