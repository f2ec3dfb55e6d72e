use super::*;
use crate::context::{AuthorizerAnswer, Caller, PresentedKey};

const CLF: &str = r#"$context.identity.sourceIp $context.identity.caller $context.identity.user [$context.requestTime] "$context.eventType $context.routeKey $context.connectionId" $context.status $context.requestId"#;
const JSON: &str = r#"{"requestId":"$context.requestId","ip":"$context.identity.sourceIp","time":"$context.requestTime","event":"$context.eventType","route":"$context.routeKey","status":"$context.status","connection":"$context.connectionId","error":$context.error.messageString}"#;
const XML: &str = r#"<request id="$context.requestId"><ip>$context.identity.sourceIp</ip><event>$context.eventType</event><route>$context.routeKey</route><status>$context.status</status></request>"#;
const CSV: &str = "$context.identity.sourceIp,$context.requestTime,$context.eventType,$context.routeKey,$context.status,$context.connectionId,$context.requestId";

fn message() -> Record<'static> {
    Record {
        api_id: "k3x9q2m7vd",
        stage: "prod",
        domain_name: Some("ws.example.com"),
        connection_id: ConnectionId::parse("Hh2QmdfDIkwCF6w=").ok(),
        connected_at: Some(1_736_942_400_000),
        event_type: "MESSAGE",
        route_key: Some("join"),
        message_id: Some(RequestId::new(0, 0)),
        request_id: Some(RequestId::new(0, 0)),
        request_time: 1_736_942_405_120,
        status: Some(200),
        source_ip: "203.0.113.7".parse().ok(),
        user_agent: Some("ExampleBrowser/1.0"),
        ..Record::default()
    }
}

fn line(template: &str, record: &Record<'_>) -> String {
    Format::parse(template).unwrap().render(record, true)
}

#[test]
fn the_four_customary_formats() {
    // AG-28
    let record = message();
    assert_eq!(
        line(CLF, &record),
        r#"203.0.113.7 - - [15/Jan/2025:12:00:05 +0000] "MESSAGE join Hh2QmdfDIkwCF6w=" 200 AAAAAAAAAAAAAAA="#
    );
    assert_eq!(
        line(JSON, &record),
        r#"{"requestId":"AAAAAAAAAAAAAAA=","ip":"203.0.113.7","time":"15/Jan/2025:12:00:05 +0000","event":"MESSAGE","route":"join","status":"200","connection":"Hh2QmdfDIkwCF6w=","error":"-"}"#
    );
    assert_eq!(
        line(XML, &record),
        r#"<request id="AAAAAAAAAAAAAAA="><ip>203.0.113.7</ip><event>MESSAGE</event><route>join</route><status>200</status></request>"#
    );
    assert_eq!(
        line(CSV, &record),
        "203.0.113.7,15/Jan/2025:12:00:05 +0000,MESSAGE,join,200,Hh2QmdfDIkwCF6w=,AAAAAAAAAAAAAAA="
    );
}

#[test]
fn templates_are_checked() {
    for (template, error) in [
        ("$context.status", FormatError::NoRequestId),
        ("", FormatError::NoRequestId),
        ("context.requestId", FormatError::NoRequestId),
        ("$context.requestIdentity", FormatError::NoRequestId),
        ("$context.requestId\n$context.status", FormatError::SeveralLines),
        ("$context.requestId\r$context.status", FormatError::SeveralLines),
    ] {
        assert_eq!(Format::parse(template), Err(error), "{template}");
    }
    // A line break at the end is what a file has that somebody read.
    for template in ["$context.requestId\n", "$context.extendedRequestId", "${context.requestId}"] {
        assert!(Format::parse(template).is_ok(), "{template}");
    }
}

#[test]
fn only_context_variables_are_expanded() {
    let record = message();
    for (template, expected) in [
        ("$context.status.", "200."),
        ("$context.status-x", "200-x"),
        ("${context.status}x", "200x"),
        ("$context.statusx", "-"),
        (
            "$stageVariables.x $input.body $ $$ $context $context. ${context.}",
            "$stageVariables.x $input.body $ $$ $context $context. ${context.}",
        ),
        ("${context.status", "${context.status"),
        ("$context.nope.at.all", "-"),
        ("$$context.status", "$200"),
        ("$context.requestTimeEpoch", "1736942405120"),
        ("$context.messageDirection", "IN"),
        ("é$context.statusé", "é200é"),
    ] {
        assert_eq!(
            line(&format!("{template}|$context.requestId"), &record),
            format!("{expected}|AAAAAAAAAAAAAAA=")
        );
    }
}

#[test]
fn every_variable_has_its_value() {
    let authorized = Authorized {
        authorizer: Some(AuthorizerAnswer {
            principal_id: "user-42".to_owned(),
            context: [("plan".to_owned(), "gold".to_owned()), ("my-key".to_owned(), "v".to_owned())].into(),
            latency_ms: 3,
            token: None,
        }),
        caller: Some(Caller {
            account_id: "123456789012".to_owned(),
            caller: "AID".to_owned(),
            user: "U".to_owned(),
            user_arn: "arn:x".to_owned(),
            access_key: "AKID".to_owned(),
        }),
        api_key: Some(PresentedKey { value: "very-secret".to_owned(), id: "key1".to_owned() }),
    };
    let called = Called {
        status: Some(503),
        service_status: Some(200),
        latency_ms: Some(17),
        request_id: Some("runtime-1".to_owned()),
        error: Some("no answer".to_owned()),
    };
    let authorizer = AuthorizerCall {
        phase: Phase { status: Some(403), latency_ms: Some(9), error: Some("denied".to_owned()) },
        called: Called {
            status: Some(200),
            latency_ms: Some(8),
            request_id: Some("a-1".to_owned()),
            ..Called::default()
        },
    };
    let phase = Phase { status: Some(200), latency_ms: Some(1), error: Some("why".to_owned()) };
    let record = Record {
        authorized: Some(&authorized),
        integration: Some(&called),
        authorizer: Some(&authorizer),
        authorize: Some(&phase),
        authenticate: Some(&phase),
        failed: Some(Failed {
            message: "Forbidden",
            response_type: "ACCESS_DENIED",
            validation: Some("[x]"),
        }),
        disconnect: Some((1005, "")),
        ..message()
    };
    for (name, value) in [
        ("apiId", "k3x9q2m7vd"),
        ("stage", "prod"),
        ("domainName", "ws.example.com"),
        ("connectionId", "Hh2QmdfDIkwCF6w="),
        ("connectedAt", "1736942400000"),
        ("messageId", "AAAAAAAAAAAAAAA="),
        ("extendedRequestId", "AAAAAAAAAAAAAAA="),
        ("disconnectStatusCode", "1005"),
        ("disconnectReason", "-"),
        ("authorizer.principalId", "user-42"),
        ("authorizer.plan", "gold"),
        ("authorizer.my-key", "v"),
        ("authorizer.error", "denied"),
        ("authorizer.latency", "9"),
        ("authorizer.integrationLatency", "8"),
        ("authorizer.status", "403"),
        ("authorizer.integrationStatus", "200"),
        ("authorizer.requestId", "a-1"),
        ("authorize.error", "why"),
        ("authorize.latency", "1"),
        ("authorize.status", "200"),
        ("authenticate.error", "why"),
        ("authenticate.latency", "1"),
        ("authenticate.status", "200"),
        ("waf.error", "-"),
        ("waf.latency", "-"),
        ("waf.status", "-"),
        ("error.message", "Forbidden"),
        ("error.messageString", "\"Forbidden\""),
        ("error.validationErrorString", "[x]"),
        ("error.responseType", "ACCESS_DENIED"),
        ("identity.sourceIp", "203.0.113.7"),
        ("identity.userAgent", "ExampleBrowser/1.0"),
        ("identity.accountId", "123456789012"),
        ("identity.caller", "AID"),
        ("identity.user", "U"),
        ("identity.userArn", "arn:x"),
        ("identity.principalOrgId", "-"),
        ("identity.cognitoIdentityId", "-"),
        // The key itself stays out of logs.
        ("identity.apiKey", "key1"),
        ("identity.apiKeyId", "key1"),
        ("integration.error", "no answer"),
        ("integration.integrationStatus", "200"),
        ("integration.latency", "17"),
        ("integration.requestId", "runtime-1"),
        ("integration.status", "503"),
        ("integrationErrorMessage", "no answer"),
        ("integrationStatus", "200"),
        ("integrationLatency", "17"),
        ("awsEndpointRequestId", "runtime-1"),
    ] {
        let template = format!("${{context.{name}}} $context.requestId");
        assert_eq!(line(&template, &record), format!("{value} AAAAAAAAAAAAAAA="), "{name}");
    }
}

#[test]
fn values_cannot_forge_lines() {
    // AG-28
    let hostile = "x\", \"status\":\"200\"}\n{\"requestId\":\"forged\\\r\u{7}\u{2028}";
    let record = Record { user_agent: Some(hostile), ..message() };
    let json = r#"{"agent":"$context.identity.userAgent","id":"$context.requestId"}"#;
    let written = line(json, &record);
    assert_eq!(written.lines().count(), 1);
    let parsed: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(parsed["agent"], hostile);
    assert_eq!(parsed.as_object().unwrap().len(), 2);

    let csv = "$context.identity.userAgent,$context.requestId";
    let written = line(csv, &record);
    assert_eq!(
        written,
        "x\", \"status\":\"200\"}\\n{\"requestId\":\"forged\\\\r\\u0007\\u2028,AAAAAAAAAAAAAAA="
    );
    // As at AWS, but still one line.
    let unescaped = Format::parse(json).unwrap().render(&record, false);
    assert!(
        unescaped.contains("x\", \"status\"") && !unescaped.contains(['\n', '\r', '\u{2028}']),
        "{unescaped}"
    );
}

#[test]
fn messages_of_errors_are_quoted() {
    let failed = Failed { message: "a \"b\"\n", response_type: "X", validation: None };
    let record = Record { failed: Some(failed), ..message() };
    assert_eq!(
        line("$context.error.messageString $context.requestId", &record),
        "\"a \\\"b\\\"\\n\" AAAAAAAAAAAAAAA="
    );
    assert_eq!(Failed::of(ErrorCode::BackendRefused), None);
    assert_eq!(Failed::of(ErrorCode::Throttled).map(|failed| failed.message), Some("Too Many Requests"));
}

#[test]
fn destinations_name_targets() {
    for (arn, name) in [
        ("arn:aws:logs:us-east-1:000000000000:log-group:chat", "chat"),
        ("arn:aws:logs:us-east-1:000000000000:log-group:/aws/api/chat:*", "/aws/api/chat"),
        ("arn:aws:firehose:us-east-1:000000000000:deliverystream/amazon-apigateway-x", "amazon-apigateway-x"),
        ("chat", "chat"),
        ("", ""),
    ] {
        assert_eq!(target_name(arn), name);
    }
}
