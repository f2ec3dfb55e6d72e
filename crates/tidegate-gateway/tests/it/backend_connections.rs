//! Connections to backends: used again when both sides agree, never in a way that loses or repeats an event.

use std::sync::atomic::Ordering;

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::notice::Notice;

use crate::backend::{After, Answer, Request};
use crate::client::{Client, manage};
use crate::harness::Plane;
use crate::record::eventually;

/// Idle connections do not age while a test is interrupted.
async fn start() -> Plane {
    Plane::start_with(|settings| settings.integration.pool_idle_ms = 600_000).await
}

fn with_length(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Answers messages with these bytes, everything else with 200.
fn answer_messages(plane: &Plane, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) {
    plane.backend.plan(move |request| match request.is_event("MESSAGE") {
        true => answer(request),
        false => Answer::Status(200),
    });
}

async fn ask(client: &mut Client, text: &str) -> String {
    client.send(text).await;
    client.text().await
}

fn connections(requests: &[Request]) -> Vec<usize> {
    requests.iter().map(|request| request.connection).collect()
}

/// What the operator is told of messages that failed: the cause behind the failure, and its words.
fn failures(plane: &Plane) -> Vec<(Diagnosis, String)> {
    let failure = |notice| match notice {
        Notice::MessageFailed { diagnosis, detail, facts, .. } => {
            assert_eq!(diagnosis, Diagnosis::REPLY_BACKEND_FAILED);
            let cause = Diagnosis::find(facts.get("causeId")?.as_str()?)?;
            Some((cause, detail.strip_prefix(&format!("{cause}: "))?.to_owned()))
        }
        _ => None,
    };
    plane.notices.record.all().into_iter().filter_map(failure).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_in_turn_share_one() {
    let plane = start().await;
    answer_messages(&plane, |request| Answer::Wire(with_length(&request.body), After::Keep));
    let mut client = plane.connect().await;
    for number in 0..50 {
        assert_eq!(ask(&mut client, &format!("message {number}")).await, format!("message {number}"));
    }
    client.close(1000, "").await;
    plane.backend.events("DISCONNECT", 1).await;
    assert_eq!(connections(&plane.backend.requests.all()), [1; 52]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_one_has_an_age() {
    let plane = Plane::start_with(|settings| settings.integration.pool_idle_ms = 1).await;
    answer_messages(&plane, |_| Answer::Wire(with_length("x"), After::Keep));
    let mut client = plane.connect().await;
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        ask(&mut client, "hello").await;
    }
    assert_eq!(connections(&plane.backend.requests.all()), [1, 2, 3, 4]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_closes_between_messages_loses_none() {
    let plane = start().await;
    // It does not say that it will close, as servers with a keep-alive timeout do not.
    answer_messages(&plane, |request| Answer::Wire(with_length(&request.body), After::Close));
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    for number in 0..20 {
        assert_eq!(ask(&mut client, &number.to_string()).await, number.to_string());
        eventually("the end", || plane.backend.n_closed.load(Ordering::SeqCst) == number + 1).await;
        // By the time that this is answered the gateway has been told of all that had happened before it.
        assert_eq!(manage(plane.address, "GET", &id).await, 200);
    }
    let messages = plane.backend.events("MESSAGE", 20).await;
    let bodies: Vec<String> = messages.iter().map(|request| request.body.clone()).collect();
    assert_eq!(bodies, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(connections(&messages), (1..=20).collect::<Vec<_>>());
    assert_eq!(failures(&plane), []);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_says_close_is_not_used_again() {
    let plane = start().await;
    answer_messages(&plane, |_| {
        Answer::Wire(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx".to_owned(),
            After::Keep,
        )
    });
    let mut client = plane.connect().await;
    for _ in 0..3 {
        ask(&mut client, "hello").await;
    }
    assert_eq!(connections(&plane.backend.requests.all()), [1, 1, 2, 3]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunked_answer() {
    let plane = start().await;
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = format!("{head}5\r\nhello\r\n8;x=y\r\n, client\r\n0\r\nTrailer: z\r\n\r\n");
    answer_messages(&plane, move |_| Answer::Wire(answer.clone(), After::Keep));
    let mut client = plane.connect().await;
    for _ in 0..2 {
        assert_eq!(ask(&mut client, "hello").await, "hello, client");
    }
    assert_eq!(connections(&plane.backend.requests.all()), [1, 1, 1]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_ends_with_its_connection() {
    let plane = start().await;
    answer_messages(&plane, |_| Answer::Wire("HTTP/1.1 200 OK\r\n\r\nto the end".to_owned(), After::Close));
    let mut client = plane.connect().await;
    for _ in 0..2 {
        assert_eq!(ask(&mut client, "hello").await, "to the end");
    }
    assert_eq!(connections(&plane.backend.requests.all()), [1, 1, 2]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_break_off_are_reported_and_not_asked_for_again() {
    let plane = start().await;
    answer_messages(&plane, |request| match request.body.as_str() {
        "body" => Answer::Wire("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_owned(), After::Close),
        "head" => Answer::Wire("HTTP/1.1 200 OK\r\nContent-Le".to_owned(), After::Close),
        "nothing" => Answer::Wire(String::new(), After::Close),
        "reset" => Answer::Reset,
        _ => Answer::Wire(with_length("fine"), After::Keep),
    });
    let mut client = plane.connect().await;
    for trouble in ["body", "head", "nothing", "reset"] {
        // Over a connection that was used before.
        assert_eq!(ask(&mut client, "hello").await, "fine");
        let frame = ask(&mut client, trouble).await;
        assert!(frame.starts_with(r#"{"message": "Internal server error", "connectionId":""#), "{frame}");
    }
    let details = [
        "the answer broke off",
        "no valid HTTP answer came",
        "no valid HTTP answer came",
        "the connection was reset before an answer",
    ];
    // integration.bad-answer, integration.reset-on-reuse: only without a byte of an answer may it be the old connection.
    let causes = [
        Diagnosis::INTEGRATION_BAD_ANSWER,
        Diagnosis::INTEGRATION_BAD_ANSWER,
        Diagnosis::INTEGRATION_RESET_ON_REUSE,
        Diagnosis::INTEGRATION_RESET_ON_REUSE,
    ];
    let expected: Vec<_> = causes.into_iter().zip(details.map(str::to_owned)).collect();
    assert_eq!(failures(&plane), expected);
    let messages = plane.backend.events("MESSAGE", 8).await;
    let bodies: Vec<&str> = messages.iter().map(|request| request.body.as_str()).collect();
    assert_eq!(bodies, ["hello", "body", "hello", "head", "hello", "nothing", "hello", "reset"]);
    // Each went over the connection of the message before it.
    assert_eq!(connections(&messages), [1, 1, 2, 2, 3, 3, 4, 4]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_has_its_own_diagnosis() {
    let plane = start().await;
    let mut client = plane.connect().await;
    // Nothing listens on a port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    plane.publish_at(address, "/");
    client.send("hello").await;
    client.text().await;
    let expected = (Diagnosis::INTEGRATION_REFUSED, "the connection was refused".to_owned());
    assert_eq!(failures(&plane), [expected]);
    plane.publish("/");
    plane.end().await;
}
