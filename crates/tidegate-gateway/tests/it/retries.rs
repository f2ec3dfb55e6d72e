//! `integration.retries`: messages again, with the same request id, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::function::{FunctionRunner, Invocation, InvokeError, Invoked};
use tidegate_core::notice::Notice;
use tidegate_core::port::BoxFuture;

use crate::backend::{After, Answer, Request};
use crate::harness::{Deployed, Plane};

async fn start(retries: u32) -> Plane {
    let plane = Plane::start_with(|settings| settings.integration.retries = retries).await;
    plane.deploy(&Deployed {
        headers: vec![("x-request".to_owned(), "context.requestId".to_owned())],
        ..Deployed::default()
    });
    plane
}

/// Resets the connections of the first `n_broken` messages.
fn break_messages(plane: &Plane, n_broken: usize) {
    let n_seen = Arc::new(AtomicUsize::new(0));
    plane.backend.plan(move |request: &Request| match request.is_event("MESSAGE") {
        true if n_seen.fetch_add(1, Ordering::SeqCst) < n_broken => Answer::Reset,
        true => Answer::Wire("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone".to_owned(), After::Keep),
        false => Answer::Status(200),
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_sent_again_with_its_id() {
    let plane = start(3).await;
    break_messages(&plane, 2);
    let mut client = plane.connect().await;
    client.send("hello").await;
    assert_eq!(client.text().await, "done");
    let sent = plane.backend.events("MESSAGE", 3).await;
    let ids: Vec<&str> = sent.iter().map(|request| request.value("x-request")).collect();
    assert!(!ids[0].is_empty() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert!(sent.iter().all(|request| request.body == "hello"));
    let failed = |notice: &Notice| matches!(notice, Notice::MessageFailed { .. });
    assert_eq!(plane.notices.record.count(failed), 0);
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_so_many_attempts_it_has_failed() {
    let plane = start(2).await;
    break_messages(&plane, 100);
    let mut client = plane.connect().await;
    client.send("hello").await;
    let frame = client.text().await;
    assert!(frame.starts_with(r#"{"message": "Internal server error""#), "{frame}");
    assert_eq!(plane.backend.requests.count(|request| request.is_event("MESSAGE")), 3);
    let facts = plane.notices.record.all().into_iter().find_map(|notice| match notice {
        Notice::MessageFailed { facts, diagnosis: Diagnosis::REPLY_BACKEND_FAILED, .. } => Some(facts),
        _ => None,
    });
    assert_eq!(facts.expect("a failure").get("attempts"), Some(3.into()));
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_again_by_default() {
    let plane = start(0).await;
    break_messages(&plane, 1);
    let mut client = plane.connect().await;
    client.send("first").await;
    let frame = client.text().await;
    assert!(frame.starts_with(r#"{"message": "Internal server error""#), "{frame}");
    client.send("second").await;
    assert_eq!(client.text().await, "done");
    assert_eq!(plane.backend.events("MESSAGE", 2).await.len(), 2);
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_an_answer_and_a_handshake_is_asked_once() {
    let plane = start(5).await;
    plane.backend.plan(|request| match request.is_event("MESSAGE") {
        // Half of an answer has come, and errors are answers.
        true if request.body == "half" => {
            Answer::Wire("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_owned(), After::Close)
        }
        true => Answer::Status(503),
        false => Answer::Status(200),
    });
    let mut client = plane.connect().await;
    client.send("half").await;
    let frame = client.text().await;
    assert!(frame.starts_with(r#"{"message": "Internal server error""#), "{frame}");
    client.send("refused").await;
    client.close(1000, "").await;
    plane.backend.events("DISCONNECT", 1).await;
    assert_eq!(plane.backend.requests.count(|request| request.is_event("MESSAGE")), 2);
    plane.backend.plan(|_| Answer::Reset);
    assert_eq!(plane.knock("", "").await, 504);
    assert_eq!(plane.backend.requests.count(|request| request.is_event("CONNECT")), 2);
    plane.end().await;
}

/// A function that cannot be started at first.
#[derive(Debug)]
struct Function {
    n_broken: usize,
    error: InvokeError,
    payloads: crate::record::Record<bytes::Bytes>,
}

impl FunctionRunner for Function {
    fn has(&self, _: &str) -> bool {
        true
    }

    fn invoke(&self, invocation: Invocation) -> BoxFuture<'_, Result<Invoked, InvokeError>> {
        let is_message = String::from_utf8_lossy(&invocation.payload).contains("\"MESSAGE\"");
        if is_message {
            self.payloads.push(invocation.payload);
        }
        let is_broken = is_message && self.payloads.all().len() <= self.n_broken;
        let payload = bytes::Bytes::from_static(br#"{"statusCode":200,"body":"done"}"#);
        let invoked = Invoked { status: 200, payload, function_error: None, request_id: None };
        Box::pin(async move { if is_broken { Err(self.error.clone()) } else { Ok(invoked) } })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_did_not_run_is_called_again() {
    let name = || "f".to_owned();
    let cannot_start = || InvokeError::CannotStart { name: name(), reason: "no memory".to_owned() };
    for (error, n_broken, n_calls, is_done) in [
        (cannot_start(), 2, 3, true),
        (cannot_start(), 100, 4, false),
        // Those would make the queue longer, or never fare better.
        (InvokeError::TooMany { name: name(), limit: 1 }, 1, 1, false),
        (InvokeError::Unknown { name: name() }, 1, 1, false),
    ] {
        let function = Arc::new(Function { n_broken, error, payloads: Default::default() });
        let functions = Some(Arc::clone(&function) as Arc<dyn FunctionRunner>);
        let mut setup = crate::harness::Setup { functions, ..Default::default() };
        setup.settings.integration.retries = 3;
        let plane = Plane::start_from(setup).await;
        plane.deploy(&Deployed::changed(|definition| {
            for integration in &mut definition.integrations {
                integration.integration_type = "AWS_PROXY".to_owned();
                integration.integration_uri =
                    Some("arn:aws:lambda:us-east-1:123456789012:function:f".to_owned());
                integration.request_parameters = None;
            }
        }));
        let mut client = plane.connect_as("", "").await;
        client.send("hello").await;
        let answer = client.text().await;
        assert_eq!(answer == "done", is_done, "{answer}");
        let payloads = function.payloads.all();
        assert_eq!(payloads.len(), n_calls);
        // The same event, with the same id.
        assert!(payloads.iter().all(|payload| *payload == payloads[0]));
        if n_calls == 4 {
            let attempts = plane.notices.record.all().into_iter().find_map(|notice| match notice {
                Notice::MessageFailed { facts, .. } => facts.get("attempts"),
                _ => None,
            });
            assert_eq!(attempts, Some(serde_json::json!(4)));
        }
        client.close(1000, "").await;
        plane.nobody_is_left().await;
    }
}
