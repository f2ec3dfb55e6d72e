//! The first five minutes: `tidegate dev` in one terminal, `tidegate connect` in another.

use std::process::{Command, Output, Stdio};

use crate::dev::Dev;

fn connect(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("connect").args(arguments).stdin(Stdio::null()).output().expect("run tidegate connect")
}

#[test]
fn what_is_sent_comes_back() {
    let dev = Dev::start(&[]);
    let output =
        connect(&[dev.url(), "--send", "plain", "--send", r#"{"action":"x"}"#, "--count", "2", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let received: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a JSON line"))
        .filter(|line| line["direction"] == "<-")
        .map(|line| line["text"].as_str().expect("a text").to_owned())
        .collect();
    assert_eq!(received, ["plain", r#"{"action":"x"}"#]);
    let url = dev.url().to_owned();
    let printed = dev.stop();
    for expected in
        [url.as_str(), "AWS_ENDPOINT_URL_APIGATEWAYV2=http://", "post_to_connection", "tidegate connect"]
    {
        assert!(printed.contains(expected), "{expected} in {printed}");
    }
}

#[test]
fn a_backend_that_is_down_is_named_at_once_and_refused_clearly() {
    // A port that was free a moment ago: nothing listens there.
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = reserved.local_addr().expect("its address").port();
    drop(reserved);
    let dev = Dev::start(&["--backend", &format!("http://127.0.0.1:{port}/ws")]);
    let output = connect(&[dev.url(), "--count", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("refused: 504") && said.contains("request id"), "{said}");
    assert!(dev.stop().contains(&format!("BACKEND DOWN: nothing answers at http://127.0.0.1:{port}/ws/")));
}

#[test]
fn a_wrong_scheme_is_explained() {
    let output = connect(&["https://example.com/"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("use ws:// or wss://"));
}
