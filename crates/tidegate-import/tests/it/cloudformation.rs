use serde_json::json;
use tidegate_import::{Format, Options, Part, import};

use crate::{imported, left_out};

fn options(parameters: &[(&str, &str)]) -> Options {
    let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Options { parameters: parameters.collect(), ..Options::default() }
}

#[test]
fn everything_of_an_api_is_in_the_document() {
    let made = imported("cloudformation.yaml", &options(&[("LoadBalancer.DNSName", "10.0.0.7")]));
    assert_eq!(
        made.document,
        json!({
            "vpc_links": [{"id": "link", "name": "private", "subnet_ids": ["subnet-1", "subnet-2"], "security_group_ids": ["sg-1"]}],
            "apis": [{
                "name": "orders-test",
                "route_selection_expression": "${request.body.kind}/${request.body.action}",
                "description": "Orders",
                "version": "1.0",
                "disable_execute_api_endpoint": true,
                "tags": {"team": "orders"},
                "models": {"Order": {"schema": "{\"properties\":{\"order\":{\"type\":\"object\"}},\"required\":[\"order\"],\"type\":\"object\"}"}},
                "authorizers": {"token": {
                    "uri": "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/arn:aws:lambda:us-east-1:000000000000:function:token-check/invocations",
                    "identity_source": ["route.request.querystring.token"],
                }},
                "integrations": {
                    "Backend": {
                        "type": "HTTP", "method": "PUT", "uri": "http://10.0.0.7/orders", "connection_type": "VPC_LINK",
                        "connection_id": "link", "timeout_ms": 8000, "passthrough": "NEVER",
                        "template_selection_expression": "$default",
                        "request_parameters": {"integration.request.header.connectionId": "context.connectionId"},
                        "request_templates": {"$default": "{\"order\": $input.json('$.order')}\n"},
                        "tls_server_name": "backend.internal",
                        "responses": {"/4\\d\\d/": {"templates": {"default": "{\"failed\": true}"}}, "$default": {}},
                    },
                    "Heartbeat": {
                        "type": "MOCK",
                        "template_selection_expression": "200",
                        "request_templates": {"200": "{\"statusCode\": 200}"},
                        "responses": {"$default": {
                            "template_selection_expression": "200",
                            "templates": {"200": "{\"pong\": \"$context.requestTimeEpoch\"}"},
                        }},
                    },
                },
                "routes": {
                    "$connect": {
                        "integration": "Heartbeat", "authorization": "CUSTOM", "authorizer": "token", "api_key_required": true,
                        "request_parameters": {"route.request.querystring.tenant": true},
                    },
                    "order/create": {
                        "integration": "Backend", "two_way": true, "operation_name": "create",
                        "model_selection_expression": "$request.body.kind", "request_models": {"order": "Order"},
                        "response": {"model_selection_expression": "$default"},
                    },
                    "ping": {"integration": "Heartbeat", "two_way": true},
                },
                "stages": {
                    "empty": {"deploy": false},
                    "test": {
                        "deployment_description": "first",
                        "variables": {"origins": "a.example,b.example", "first": "a.example"},
                        "data_trace": true, "logging_level": "INFO",
                        "throttle": {"rate": 10.0, "burst": 20},
                        "route_settings": {"order/create": {"logging_level": "ERROR", "throttle": {"rate": 1.0, "burst": 2}}},
                        "access_log": {
                            "destination_arn": "arn:aws:logs:us-east-1:000000000000:log-group:/orders/access",
                            "format": "$context.requestId $context.routeKey",
                        },
                        "tags": {"stage": "test"},
                    },
                },
            }],
            "domains": [{
                "name": "orders.example.com",
                "configurations": [{"certificate_arn": "arn:aws:acm:us-east-1:000000000000:certificate/abc"}],
                "mappings": [{"key": "orders", "api": "orders-test", "stage": "test"}],
            }],
        })
    );
}

#[test]
fn what_is_left_out_is_told_and_values_are_not() {
    let made = imported("cloudformation.yaml", &Options::default());
    let uri = &made.document["apis"][0]["integrations"]["Backend"]["uri"];
    assert_eq!(uri, "http://unknown-LoadBalancer-DNSName/orders");
    assert_eq!(
        left_out(&made, Part::Api),
        [
            "Resources.Backend.IntegrationUri",
            "Resources.TokenAuthorizer.AuthorizerResultTtlInSeconds",
            "Resources.Preview",
            "Resources.RestRoute",
            "Resources.OtherMapping",
        ]
    );
    assert_eq!(left_out(&made, Part::Configuration), ["functions", "Resources.Plan", "Resources.Key"]);
    assert_eq!(left_out(&made, Part::Beside), ["Resources.Logs", "Resources.LoadBalancer", "Resources.Rest"]);
    let uri = made.left_out.iter().find(|entry| entry.what == "Resources.Backend.IntegrationUri").unwrap();
    assert_eq!(uri.line, Some(30));
    assert!(uri.to_do.contains("--parameter 'LoadBalancer.DNSName=VALUE'"), "{uri:?}");
    assert_eq!(
        made.configuration(),
        "# usage plan partners: 5 requests a second, 10 at once, 1000 a day, for stage test of Socket, key Key\n"
    );
    assert!(!serde_json::to_string(&made).unwrap().contains("this-is-a-secret-value"));
}

#[test]
fn parameters_choose_conditions_and_mappings() {
    let made = imported("cloudformation.yaml", &options(&[("Environment", "prod")]));
    let api = &made.document["apis"][0];
    assert_eq!(api["name"], "orders-prod");
    assert_eq!(api["stages"]["preview"], json!({"auto_deploy": true}));
    assert_eq!(api["stages"]["prod"]["throttle"], json!({"rate": 1000.0, "burst": 2000}));
    assert_eq!(api["stages"]["prod"]["detailed_metrics"], true);
    assert!(left_out(&made, Part::Api).contains(&"Resources.Empty"));
}

#[test]
fn json_is_the_same_template() {
    let text = r#"{"Resources": {
        "Api": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {"Name": "n", "ProtocolType": "WEBSOCKET",
            "RouteSelectionExpression": "$request.body.action"}},
        "Route": {"Type": "AWS::ApiGatewayV2::Route", "Properties": {"ApiId": {"Ref": "Api"}, "RouteKey": "$default",
            "Target": {"Fn::Join": ["/", ["integrations", {"Ref": "Echo"}]]}}},
        "Echo": {"Type": "AWS::ApiGatewayV2::Integration", "Properties": {"ApiId": {"Ref": "Api"}, "IntegrationType": "HTTP_PROXY",
            "IntegrationMethod": "POST", "IntegrationUri": "https://backend.example/"}}}}"#;
    let made = import(Format::CloudFormation, text, &Options::default()).unwrap();
    assert_eq!(
        made.document,
        json!({"apis": [{"name": "n", "route_selection_expression": "$request.body.action",
            "integrations": {"Echo": {"uri": "https://backend.example/"}}, "routes": {"$default": "Echo"}}]})
    );
    assert!(made.left_out.is_empty(), "{:?}", made.left_out);
}

#[test]
fn what_is_wrong_with_a_template_has_its_line() {
    let api = "Resources:\n  Api:\n    Type: AWS::ApiGatewayV2::Api\n    Properties:\n      ProtocolType: WEBSOCKET\n";
    for (rest, line, message) in [
        ("      Name: !Select [3, [a]]\n", 6, "Fn::Select: there is no item 3"),
        ("      Name: !FindInMap [A, b, c]\n", 6, "there is no A.b.c in Mappings"),
        ("      Name: !If [Missing, a, b]\n", 6, "there is no condition Missing"),
        ("      Name: !Join [a]\n", 6, "a delimiter and a list expected"),
        ("      Name: [\n", 6, ""),
        ("  Other: {Properties: {}}\n", 6, "the resource Other has no Type"),
    ] {
        let error = import(Format::CloudFormation, &format!("{api}{rest}"), &Options::default()).unwrap_err();
        assert!(error.message.contains(message), "{rest}: {error}");
        assert!(message.is_empty() || error.line == Some(line), "{rest}: {error}");
    }
    let error = import(Format::CloudFormation, "Resources: {}", &Options::default()).unwrap_err();
    assert_eq!(error.message, "the template has no WebSocket API");
    let circle = "Conditions: {A: !Condition B, B: !Condition A}\nResources: {X: {Type: a, Condition: A}}";
    assert!(import(Format::CloudFormation, circle, &Options::default()).is_err());
}
