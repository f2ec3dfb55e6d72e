use serde_json::json;
use tidegate_import::{Options, Part};

use crate::{imported, left_out};

fn call(function: &str) -> String {
    format!(
        "arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/arn:aws:lambda:eu-west-1:000000000000:function:{function}/invocations"
    )
}

#[test]
fn a_chat_with_an_authorizer_is_what_the_framework_makes() {
    let made = imported("serverless-chat.yml", &Options::default());
    assert_eq!(
        made.document,
        json!({"apis": [{
            "name": "chat-dev-api",
            "description": "Chat over WebSockets",
            "route_selection_expression": "$request.body.type",
            "models": {"Say": {"schema": "{\"required\":[\"text\"],\"type\":\"object\"}"}},
            "authorizers": {"auth": {"uri": call("chat-dev-auth"), "identity_source": ["route.request.querystring.token"]}},
            "integrations": {
                "ConnectDashhandler": {"type": "AWS_PROXY", "uri": call("chat-dev-connect-handler")},
                "Messages": {"type": "AWS_PROXY", "uri": call("chat-dev-messages")},
            },
            "routes": {
                "$connect": {"integration": "ConnectDashhandler", "authorization": "CUSTOM", "authorizer": "auth"},
                "$disconnect": "ConnectDashhandler",
                "$default": "Messages",
                "say": {"integration": "Messages", "two_way": true},
            },
            "stages": {"dev": {
                "description": "Chat over WebSockets",
                "deployment_description": "Serverless Websockets",
                "logging_level": "INFO",
                "access_log": {
                    "destination_arn": "arn:aws:logs:eu-west-1:000000000000:log-group:/aws/websocket/chat-dev",
                    "format": "$context.requestId $context.routeKey",
                },
            }},
        }]})
    );
    assert_eq!(left_out(&made, Part::Api), Vec::<&str>::new());
    for what in ["plugins", "provider", "functions.messages.events[2]", "Resources.ConnectionsTable"] {
        assert!(left_out(&made, Part::Beside).contains(&what), "{what} in {:?}", made.left_out);
    }
    let messages = made.functions.iter().find(|function| function.name == "chat-dev-messages").unwrap();
    assert_eq!(
        messages.environment,
        [("HISTORY".to_owned(), "50".to_owned()), ("TABLE".to_owned(), "chat-dev-connections".to_owned())]
            .into()
    );
    assert_eq!(messages.timeout_ms, Some(6000));
    assert_eq!(
        messages.unknown_environment,
        [
            ("ENDPOINT".to_owned(), "WebsocketsApi".to_owned()),
            ("SECRET".to_owned(), "ssm:/chat/secret".to_owned())
        ]
        .into()
    );
    assert_eq!(messages.command.as_deref().unwrap(), ["npx", "aws-lambda-ric", "src/messages.handler"]);
}

#[test]
fn the_stage_of_the_command_line_counts() {
    let options = Options {
        stage: Some("prod".to_owned()),
        parameters: [("ssm:/chat/secret".to_owned(), "known".to_owned())].into(),
        ..Options::default()
    };
    let made = imported("serverless-chat.yml", &options);
    let api = &made.document["apis"][0];
    assert_eq!(api["name"], "chat-prod-api");
    assert_eq!(api["stages"]["prod"]["logging_level"], "ERROR");
    assert_eq!(made.functions[0].environment["SECRET"], "known");
}
