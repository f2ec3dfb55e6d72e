use serde_json::json;
use tidegate_import::{Options, Part};

use crate::{imported, left_out};

fn call(function: &str) -> String {
    format!(
        "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/arn:aws:lambda:us-east-1:000000000000:function:{function}/invocations"
    )
}

// S0-112
#[test]
fn the_published_chat_is_complete() {
    let made = imported("sam-chat.yaml", &Options::default());
    assert_eq!(
        made.document,
        json!({"apis": [{
            "name": "ChatSocket",
            "route_selection_expression": "$request.body.message",
            "integrations": {
                "ConnectInteg": {"type": "AWS_PROXY", "uri": call("OnConnectFunction"), "description": "Connect Integration"},
                "DisconnectInteg": {"type": "AWS_PROXY", "uri": call("OnDisconnectFunction")},
                "SendInteg": {"type": "AWS_PROXY", "uri": call("SendMessageFunction")},
            },
            "routes": {
                "$connect": {"integration": "ConnectInteg", "operation_name": "ConnectRoute"},
                "$disconnect": {"integration": "DisconnectInteg", "operation_name": "DisconnectRoute"},
                "sendmessage": "SendInteg",
            },
            "stages": {"Prod": {"description": "Prod Stage"}},
        }]})
    );
    assert_eq!(left_out(&made, Part::Api), Vec::<&str>::new());
    assert_eq!(left_out(&made, Part::Configuration), ["Resources.SendMessageFunction"]);
    for what in [
        "Resources.ConnectionsTable",
        "Resources.OnConnectPermission",
        "Resources.Bucket",
        "Resources.OnConnectFunction",
    ] {
        assert!(left_out(&made, Part::Beside).contains(&what), "{what}");
    }
}

#[test]
fn functions_are_ready_to_paste() {
    let made = imported("sam-chat.yaml", &Options::default());
    let configuration = made.configuration();
    let expected = "[lambda.functions.OnConnectFunction]\ncommand = [\"npx\", \"aws-lambda-ric\", \"app.handler\"]\ndirectory = \"onconnect/\"\nenvironment = { TABLE_NAME = \"chat-connections\" }\n";
    assert!(configuration.contains(expected), "{configuration}");
    let expected = "command = [\"python3\", \"-m\", \"awslambdaric\", \"app.handler\"]\ndirectory = \"sendmessage/\"\nenvironment = { TABLE_NAME = \"chat-connections\" }\n# environment variable ENDPOINT: made of ChatSocket\n";
    assert!(configuration.contains(expected), "{configuration}");
    let expected = "environment = { TABLE_NAME = \"chat-connections\" }\ntimeout_ms = 30000\n";
    assert!(configuration.contains(expected), "{configuration}");
    // With an id for the API, the address is known.
    let options =
        Options { parameters: [("ChatSocket".to_owned(), "chat".to_owned())].into(), ..Options::default() };
    let made = imported("sam-chat.yaml", &options);
    assert_eq!(made.document["apis"][0]["id"], "chat");
    let endpoint = "ENDPOINT = \"https://chat.execute-api.us-east-1.amazonaws.com/Prod\"";
    assert!(made.configuration().contains(endpoint), "{}", made.configuration());
}

#[test]
fn a_web_socket_api_of_sam_is_written_out() {
    let options = Options { stack_name: Some("live".to_owned()), ..Options::default() };
    let made = imported("sam-websocket-api.yaml", &options);
    assert_eq!(
        made.document,
        json!({
            "apis": [{
                "name": "LiveApi",
                "route_selection_expression": "$request.body.action",
                "authorizers": {"LiveApiConnectAuthorizer": {
                    "uri": call("live-auth"), "identity_source": ["route.request.querystring.token"]}},
                "integrations": {
                    "LiveApiconnectIntegration": {"type": "AWS_PROXY", "uri": call("ConnectFunction")},
                    "LiveApisendMessageIntegration": {"type": "AWS_PROXY", "uri": call("SendFunction:current"), "timeout_ms": 5000},
                },
                "routes": {
                    "$connect": {
                        "integration": "LiveApiconnectIntegration", "authorization": "CUSTOM", "authorizer": "LiveApiConnectAuthorizer",
                        "request_parameters": {"route.request.querystring.room": true}},
                    "sendMessage": "LiveApisendMessageIntegration",
                },
                "stages": {"live": {
                    "auto_deploy": true,
                    "throttle": {"rate": 20.5, "burst": 50},
                    "route_settings": {"$connect": {"throttle": {"rate": 5.0}}},
                    "variables": {"color": "blue"},
                }},
            }],
            "domains": [{
                "name": "ws.example.com",
                "configurations": [{"certificate_arn": "arn:aws:acm:us-east-1:000000000000:certificate/abc"}],
                "mappings": [{"api": "LiveApi", "stage": "live"}, {"key": "rooms", "api": "LiveApi", "stage": "live"}],
            }],
        })
    );
    assert_eq!(left_out(&made, Part::Api), Vec::<&str>::new());
    let beside = left_out(&made, Part::Beside);
    assert!(beside.contains(&"Resources.AuthorizerFunction.Events.Nightly"), "{beside:?}");
    assert!(beside.contains(&"Resources.LiveApi.Domain.Route53"), "{beside:?}");
    let names: Vec<&str> = made.functions.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(names, ["ConnectFunction", "SendFunction", "live-auth"]);
}
