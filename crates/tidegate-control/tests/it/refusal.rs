//! What belongs to HTTP APIs and portals: AG-25. And every other value that is refused.

use serde_json::{Value, json};
use tidegate_control::{Because, ControlSettings};
use tidegate_store::SqliteStore;

use crate::harness::{Harness, api_body};

fn with(mut body: Value, member: &str, value: Value) -> Value {
    body[member] = value;
    body
}

#[tokio::test]
async fn operations_of_http_apis_and_portals_are_refused() {
    let h = Harness::new().await;
    let api = h.api().await;
    h.post("/domainnames", json!({"domainName": "ws.example.com"})).await;
    let bad = "BadRequestException";
    for (method, address, body, error_type, message) in [
        (
            "POST",
            "/apis".to_owned(),
            json!({"name": "n", "protocolType": "HTTP"}),
            bad,
            "Tidegate serves WebSocket APIs only: protocolType must be WEBSOCKET",
        ),
        (
            "POST",
            "/apis".to_owned(),
            json!({"name": "n", "protocolType": "GRAPHQL"}),
            bad,
            "Invalid protocol specified. Must be one of [HTTP, WEBSOCKET]",
        ),
        ("PUT", "/apis".to_owned(), json!({"body": "x"}), bad, "Import is not supported for WebSocket APIs"),
        ("PUT", format!("/apis/{api}"), json!({}), bad, "Import is not supported for WebSocket APIs"),
        (
            "GET",
            format!("/apis/{api}/exports/OAS30?outputType=JSON"),
            json!(null),
            bad,
            "Export is not supported for WebSocket APIs",
        ),
        ("DELETE", format!("/apis/{api}/cors"), json!(null), bad, "CORS is not supported for WebSocket APIs"),
        (
            "POST",
            "/domainnames/ws.example.com/routingrules".to_owned(),
            json!({}),
            bad,
            "Routing rules are not supported",
        ),
        (
            "GET",
            "/domainnames/ws.example.com/routingrules/x".to_owned(),
            json!(null),
            bad,
            "Routing rules are not supported",
        ),
        ("POST", "/portals".to_owned(), json!({}), "NotFoundException", "Not supported by Tidegate"),
        (
            "GET",
            "/portalproducts/a/productpages".to_owned(),
            json!(null),
            "NotFoundException",
            "Not supported by Tidegate",
        ),
    ] {
        let status = if error_type == bad { 400 } else { 404 };
        h.call(method, &address, body).await.is_refused(status, error_type, message);
    }
    assert_eq!(h.get("/domainnames/ws.example.com/routingrules").await, json!({"routingRules": []}));
}

#[tokio::test]
async fn members_of_http_apis_are_refused_unless_empty() {
    let h = Harness::new().await;
    let api = h.api().await;
    let route = json!({"routeKey": "a"});
    let integration = json!({"integrationType": "MOCK"});
    let authorizer = json!({
        "name": "a", "authorizerType": "REQUEST", "authorizerUri": "arn:aws:lambda:us-east-1:000000000000:function:f", "identitySource": [""],
    });
    for (list, body, member, value, message) in [
        ("", api_body(), "corsConfiguration", json!({"allowOrigins": ["*"]}), None),
        ("/routes", route, "authorizationScopes", json!(["a"]), None),
        ("/integrations", integration.clone(), "responseParameters", json!({"200": {}}), None),
        ("/integrations", integration, "integrationSubtype", json!("SQS-SendMessage"), None),
        (
            "/authorizers",
            authorizer.clone(),
            "authorizerResultTtlInSeconds",
            json!(0),
            Some("AuthorizerResultTtlInSeconds cannot be set for WEBSOCKET protocol Apis."),
        ),
        (
            "/authorizers",
            authorizer.clone(),
            "authorizerPayloadFormatVersion",
            json!("2.0"),
            Some("AuthorizerPayloadFormatVersion cannot be set for WEBSOCKET protocol Apis."),
        ),
        (
            "/authorizers",
            authorizer.clone(),
            "enableSimpleResponses",
            json!(true),
            Some("EnableSimpleResponses cannot be set for WEBSOCKET protocol Apis."),
        ),
        (
            "/authorizers",
            authorizer.clone(),
            "jwtConfiguration",
            json!({"issuer": "x"}),
            Some("JwtConfiguration cannot be set for WEBSOCKET protocol Apis."),
        ),
        (
            "/authorizers",
            authorizer,
            "authorizerType",
            json!("JWT"),
            Some(
                "Invalid authorizer type. Only REQUEST authorizer type is supported on WEBSOCKET protocol Apis.",
            ),
        ),
    ] {
        let address = if list.is_empty() { "/apis".to_owned() } else { format!("/apis/{api}{list}") };
        let answer = h.call("POST", &address, with(body.clone(), member, value)).await;
        answer.is_bad_request();
        if let Some(message) = message {
            assert_eq!(answer.text("message"), message);
        }
        let empty = match member {
            "authorizerType" => continue,
            "corsConfiguration" | "jwtConfiguration" => json!(null),
            "enableSimpleResponses" => json!(false),
            "responseParameters" => json!({}),
            "authorizationScopes" => json!([]),
            _ => json!(null),
        };
        h.post(&address, with(body, member, empty)).await;
    }
}

/// AG-25, S0-4.
#[tokio::test]
async fn quick_create_members_are_ignored_and_create_nothing() {
    let h = Harness::new().await;
    let mut body = api_body();
    body["routeKey"] = json!("$default");
    body["target"] = json!("http://127.0.0.1:8000/ws/default");
    body["credentialsArn"] = json!("arn:aws:iam::1:role/x");
    let created = h.post("/apis", body).await;
    for member in ["routeKey", "target", "credentialsArn"] {
        assert!(created.get(member).is_none(), "{created}");
    }
    let api = created["apiId"].as_str().expect("an id");
    for list in ["routes", "integrations", "stages", "deployments"] {
        assert_eq!(h.get(&format!("/apis/{api}/{list}")).await, json!({"items": []}));
    }
    h.route(api, "$default").await;
}

#[tokio::test]
async fn bad_values_are_refused() {
    let h = Harness::new().await;
    let api = h.api().await;
    let integration = json!({"integrationType": "HTTP_PROXY", "integrationUri": "http://a/"});
    h.post("/domainnames", json!({"domainName": "ws.example.com"})).await;
    h.post(&format!("/apis/{api}/stages"), json!({"stageName": "prod"})).await;
    let mapping = json!({"apiId": api, "stage": "prod"});
    let rows: Vec<(&str, Value)> = vec![
        ("/apis", json!([])),
        ("/apis", json!({"protocolType": "WEBSOCKET", "routeSelectionExpression": "$request.body.a"})),
        ("/apis", json!({"name": "n", "protocolType": "WEBSOCKET"})),
        ("/apis", with(api_body(), "name", json!(""))),
        ("/apis", with(api_body(), "name", json!("x".repeat(129)))),
        ("/apis", with(api_body(), "name", json!(7))),
        ("/apis", with(api_body(), "description", json!("x".repeat(1025)))),
        ("/apis", with(api_body(), "routeSelectionExpression", json!("${request.body.action"))),
        ("/apis", with(api_body(), "apiKeySelectionExpression", json!("$request.header.other"))),
        ("/apis", with(api_body(), "ipAddressType", json!("ipv6"))),
        ("/apis", with(api_body(), "disableSchemaValidation", json!("true"))),
        ("/apis", with(api_body(), "tags", json!({"aws:x": "y"}))),
        ("/apis", with(api_body(), "tags", json!({"_custom_id_": "Not-A-Label"}))),
        ("/apis/{api}/routes", json!({})),
        ("/apis/{api}/routes", json!({"routeKey": "$other"})),
        ("/apis/{api}/routes", json!({"routeKey": "x".repeat(129)})),
        ("/apis/{api}/routes", json!({"routeKey": "a", "target": "x/y"})),
        ("/apis/{api}/routes", json!({"routeKey": "a", "authorizationType": "SOME"})),
        ("/apis/{api}/routes", json!({"routeKey": "$connect", "authorizationType": "JWT"})),
        ("/apis/{api}/routes", json!({"routeKey": "$connect", "authorizationType": "CUSTOM"})),
        ("/apis/{api}/routes", json!({"routeKey": "a", "routeResponseSelectionExpression": "$other"})),
        ("/apis/{api}/routes", json!({"routeKey": "a", "modelSelectionExpression": "$"})),
        ("/apis/{api}/routes", json!({"routeKey": "a", "requestModels": {"$default": "Missing"}})),
        ("/apis/{api}/routes", json!({"routeKey": "a", "requestParameters": {"x.y": {"required": true}}})),
        ("/apis/{api}/integrations", json!({})),
        ("/apis/{api}/integrations", json!({"integrationType": "HTTP_PROXY"})),
        ("/apis/{api}/integrations", json!({"integrationType": "SMTP"})),
        ("/apis/{api}/integrations", with(integration.clone(), "timeoutInMillis", json!(49))),
        ("/apis/{api}/integrations", with(integration.clone(), "timeoutInMillis", json!(29001))),
        ("/apis/{api}/integrations", with(integration.clone(), "timeoutInMillis", json!(-1))),
        ("/apis/{api}/integrations", with(integration.clone(), "payloadFormatVersion", json!("2.0"))),
        ("/apis/{api}/integrations", with(integration.clone(), "connectionType", json!("VPC_LINK"))),
        ("/apis/{api}/integrations", with(integration.clone(), "integrationUri", json!("ftp://a/"))),
        ("/apis/{api}/integrations", with(integration.clone(), "requestParameters", json!({"a": "'b'"}))),
        (
            "/apis/{api}/integrations",
            with(integration.clone(), "requestParameters", json!({"integration.request.header.a": "b"})),
        ),
        ("/apis/{api}/integrations", with(integration, "requestTemplates", json!({"a": "x".repeat(32_769)}))),
        ("/apis/{api}/models", json!({"name": "a-b", "schema": "{}"})),
        ("/apis/{api}/models", json!({"name": "a", "schema": "{"})),
        ("/apis/{api}/models", json!({"name": "a"})),
        ("/apis/{api}/stages", json!({"stageName": "$default"})),
        ("/apis/{api}/stages", json!({"stageName": "a b"})),
        ("/apis/{api}/stages", json!({"stageName": "a", "stageVariables": {"a-b": "x"}})),
        ("/apis/{api}/stages", json!({"stageName": "a", "stageVariables": {"a": "x y"}})),
        ("/apis/{api}/stages", json!({"stageName": "a", "defaultRouteSettings": {"loggingLevel": "ALL"}})),
        (
            "/apis/{api}/stages",
            json!({"stageName": "a", "routeSettings": {"a": {"throttlingRateLimit": -1}}}),
        ),
        (
            "/apis/{api}/stages",
            json!({"stageName": "a", "accessLogSettings": {"destinationArn": "arn:x", "format": "no id"}}),
        ),
        ("/domainnames", json!({"domainName": "a b"})),
        (
            "/domainnames",
            json!({"domainName": "a.b", "domainNameConfigurations": [{"endpointType": "EDGE"}]}),
        ),
        ("/domainnames", json!({"domainName": "a.b", "routingMode": "ROUTING_RULE_ONLY"})),
        ("/domainnames/ws.example.com/apimappings", with(mapping.clone(), "apiMappingKey", json!("a b"))),
        ("/domainnames/ws.example.com/apimappings", with(mapping.clone(), "apiMappingKey", json!("a/b"))),
        (
            "/domainnames/ws.example.com/apimappings",
            with(mapping.clone(), "apiMappingKey", json!("x".repeat(301))),
        ),
        ("/vpclinks", json!({"name": "a"})),
        ("/tags/arn:aws:s3:us-east-1::/apis/x", json!({"tags": {}})),
        ("/tags/nonsense", json!({"tags": {}})),
    ];
    for (address, body) in rows {
        let address = address.replace("{api}", &api);
        let answer = h.call("POST", &address, body.clone()).await;
        assert_eq!(
            (answer.status, answer.error_type.as_str()),
            (400, "BadRequestException"),
            "{address} {body}: {answer:?}"
        );
    }

    let target = "/domainnames/ws.example.com/apimappings";
    for key in ["/a", "a//b"] {
        let answer = h.call("POST", target, with(mapping.clone(), "apiMappingKey", json!(key))).await;
        let message = "API mapping key should not start with a '/' or have consecutive '/'s.";
        answer.is_refused(400, "BadRequestException", message);
    }
    let answer = h.call("POST", target, with(mapping, "apiMappingKey", json!("a/"))).await;
    answer.is_refused(400, "BadRequestException", "API mapping key should not end with a '/'.");

    let body = json!({"stageName": "a", "accessLogSettings": {"format": "$context.requestId"}});
    let answer = h.call("POST", &format!("/apis/{api}/stages"), body).await;
    let message = "Access Log value missing. Expected destinationArn and format.";
    answer.is_refused(400, "BadRequestException", message);

    let body = json!({"routeKey": "a", "authorizationType": "AWS_IAM"});
    let answer = h.call("POST", &format!("/apis/{api}/routes"), body).await;
    let message = "Currently, authorization is restricted to the $connect route only";
    answer.is_refused(400, "BadRequestException", message);
}

/// S0-98: also when an integration is changed.
#[tokio::test]
async fn hosts_beyond_the_list_are_refused() {
    let settings = ControlSettings {
        allow_integration_hosts: vec!["127.0.0.1".to_owned()],
        ..ControlSettings::default()
    };
    let store = SqliteStore::open_in_memory().expect("open");
    let h = Harness::over(std::sync::Arc::new(store), settings).await;
    let api = h.api().await;
    let integration = h.integration(&api).await;
    let target = format!("/apis/{api}/integrations/{integration}");
    let answer = h.call("PATCH", &target, json!({"integrationUri": "http://10.0.0.1/"})).await;
    answer.is_bad_request();
    assert_eq!(answer.text("diagnosis"), "integration.host-not-allowed");
    assert_eq!(h.get(&target).await["integrationUri"], "http://127.0.0.1:8000/ws/");
}

// provision.invalid-domain provision.invalid-certificate provision.invalid-target provision.conflict
#[tokio::test]
async fn the_cause_is_for_the_journal_and_not_for_the_caller() {
    let h = Harness::new().await;
    let api = h.api().await;
    h.post("/domainnames", json!({"domainName": "ws.example.com"})).await;
    let long = "a".repeat(64);
    for (address, body, id, fact, value) in [
        (
            "/domainnames",
            json!({"domainName": "a..b"}),
            "provision.invalid-domain",
            "rule",
            json!("a label is empty"),
        ),
        (
            "/domainnames",
            json!({"domainName": long}),
            "provision.invalid-domain",
            "rule",
            json!("a label is longer than 63 characters"),
        ),
        (
            "/domainnames",
            json!({"domainName": "a.b", "domainNameConfigurations": [{"certificateArn": "cert.pem"}]}),
            "provision.invalid-certificate",
            "detail",
            json!("it does not begin with `arn:`, or has blanks in it"),
        ),
        (
            "/domainnames",
            json!({"domainName": "WS.example.com"}),
            "provision.conflict",
            "detail",
            json!("WS.example.com exists"),
        ),
        (
            &format!("/apis/{api}/integrations"),
            json!({"integrationType": "HTTP_PROXY", "integrationUri": "//host/ws/"}),
            "provision.invalid-target",
            "endsWithSlash",
            json!(true),
        ),
    ] {
        let response = h.raw("POST", &format!("/v2{address}"), &body.to_string()).await;
        let because = response.extensions().get::<Because>().unwrap_or_else(|| panic!("{body}"));
        assert_eq!((because.diagnosis.as_str(), because.facts.get(fact)), (id, Some(value)), "{body}");
        let told: Value = serde_json::from_slice(response.body()).expect("JSON");
        assert_eq!(
            told.as_object().map(|members| members.keys().cloned().collect()),
            Some(vec!["message".to_owned()])
        );
    }
    let fine = h.raw("GET", "/v2/apis", "").await;
    assert!(fine.extensions().get::<Because>().is_none());
}
