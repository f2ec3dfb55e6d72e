//! Functions and services behind templates: `AWS` integrations that are no proxies.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tidegate_core::definition::{ApiDefinition, Integration, IntegrationResponse};
use tidegate_core::function::{FunctionRunner, Invocation, InvokeError, Invoked};
use tidegate_core::port::BoxFuture;

use crate::backend::{After, Answer};
use crate::harness::{Deployed, Plane, Setup};

/// Does what its payload says: `{"raise": text}`, `{"say": anything}`.
#[derive(Debug, Default)]
struct Obedient {
    invocations: Mutex<Vec<Invocation>>,
}

impl FunctionRunner for Obedient {
    fn has(&self, name: &str) -> bool {
        name == "obedient"
    }

    fn invoke(&self, invocation: Invocation) -> BoxFuture<'_, Result<Invoked, InvokeError>> {
        let asked: Value = serde_json::from_slice(&invocation.payload).expect("functions get JSON");
        let is_async = invocation.is_async;
        self.invocations.lock().unwrap().push(invocation);
        Box::pin(async move {
            let raised = asked["raise"].as_str();
            let payload = match raised {
                Some(message) => json!({"errorMessage": message, "errorType": "Error"}),
                None => asked["say"].clone(),
            };
            Ok(Invoked {
                status: if is_async { 202 } else { 200 },
                payload: if is_async { "".into() } else { payload.to_string().into() },
                function_error: raised.map(|_| "Unhandled".to_owned()),
                request_id: None,
            })
        })
    }
}

fn response(key: &str, template: &str) -> IntegrationResponse {
    IntegrationResponse {
        integration_response_key: key.to_owned(),
        response_templates: Some([("$default".to_owned(), template.to_owned())].into()),
        ..IntegrationResponse::default()
    }
}

/// Sends the messages of `$default` through an integration of type `AWS`, and its answers back.
fn through(definition: &mut ApiDefinition, uri: &str, parameters: &[(&str, &str)]) {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    definition.integrations.push(Integration {
        integration_id: "aws".to_owned(),
        integration_type: "AWS".to_owned(),
        integration_uri: Some(uri.to_owned()),
        integration_method: Some("POST".to_owned()),
        request_parameters: Some(parameters.iter().map(own).collect()),
        request_templates: Some([("$default".to_owned(), "$input.json('$.do')".to_owned())].into()),
        ..Integration::default()
    });
    definition.integration_responses.insert(
        "aws".to_owned(),
        vec![
            response("/not found.*/", "404: $input.path('$.errorMessage')"),
            response("$default", "said $input.json('$')"),
            response("/5\\d\\d/", "service: $input.body"),
        ],
    );
    let route = definition.routes.iter_mut().find(|route| route.route_key == "$default").unwrap();
    route.target = Some("integrations/aws".to_owned());
    route.route_response_selection_expression = Some("$default".to_owned());
    let id = route.route_id.clone();
    let key = "$default".to_owned();
    let answers = tidegate_core::definition::RouteResponse { route_response_key: key, ..Default::default() };
    definition.route_responses.insert(id, vec![answers]);
}

const FUNCTION: &str = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/\
    arn:aws:lambda:us-east-1:000000000000:function:obedient/invocations";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_behind_templates() {
    // AG-20
    let function = Arc::new(Obedient::default());
    let plane = Plane::start_from(Setup { functions: Some(function.clone()), ..Setup::default() }).await;
    plane.deploy(&Deployed::changed(|definition| through(definition, FUNCTION, &[])));
    let mut client = plane.connect().await;
    for (message, answer) in [
        (json!({"do": {"say": {"b": 1, "a": [2]}}}), r#"said {"a":[2],"b":1}"#),
        // Only the error of a function that has failed chooses another answer than the default.
        (json!({"do": {"say": {"errorMessage": "not found"}}}), r#"said {"errorMessage":"not found"}"#),
        (json!({"do": {"raise": "not found: x"}}), "404: not found: x"),
        (
            json!({"do": {"raise": "it is not found"}}),
            r#"said {"errorMessage":"it is not found","errorType":"Error"}"#,
        ),
    ] {
        client.send(&message.to_string()).await;
        assert_eq!(client.text().await, answer, "{message}");
    }
    let invocations = function.invocations.lock().unwrap().clone();
    assert!(invocations.iter().all(|invocation| !invocation.is_async));
    assert_eq!(invocations[2].payload, r#"{"raise":"not found: x"}"#);
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_an_event() {
    // AG-20
    let function = Arc::new(Obedient::default());
    let plane = Plane::start_from(Setup { functions: Some(function.clone()), ..Setup::default() }).await;
    let parameters = [("integration.request.header.X-Amz-Invocation-Type", "'Event'")];
    plane.deploy(&Deployed::changed(move |definition| through(definition, FUNCTION, &parameters)));
    let mut client = plane.connect().await;
    client.send(r#"{"do":{"raise":"not found"}}"#).await;
    assert_eq!(client.text().await, "said {}");
    assert!(function.invocations.lock().unwrap()[0].is_async);
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_of_another_service() {
    // AG-20
    let mut setup = Setup::default();
    let backend = crate::backend::Backend::start().await;
    setup.aws.endpoints.insert("sqs".to_owned(), format!("http://{}", backend.address).parse().unwrap());
    backend.plan(|request| {
        let status = if request.body.contains("fail") { 503 } else { 200 };
        let body = format!(r#"{{"to":"{}","type":"{}"}}"#, request.target, request.value("content-type"));
        let length = body.len();
        Answer::Wire(format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}"), After::Keep)
    });
    let plane = Plane::start_from(setup).await;
    let parameters = [
        ("integration.request.header.Content-Type", "'application/x-www-form-urlencoded'"),
        ("integration.request.querystring.Room", "route.request.body.room"),
    ];
    let uri = "arn:aws:apigateway:eu-west-1:sqs:action/SendMessage";
    plane.deploy(&Deployed::changed(move |definition| through(definition, uri, &parameters)));
    let mut client = plane.connect().await;
    client.send(r#"{"do":"x","room":"a b"}"#).await;
    assert_eq!(
        client.text().await,
        r#"said {"to":"/?Action=SendMessage&Room=a%20b","type":"application/x-www-form-urlencoded"}"#
    );
    client.send(r#"{"do":"fail"}"#).await;
    assert_eq!(
        client.text().await,
        r#"service: {"to":"/?Action=SendMessage","type":"application/x-www-form-urlencoded"}"#
    );
    client.close(1000, "").await;
    plane.end().await;
}
