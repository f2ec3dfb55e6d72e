//! The first five minutes: `tidegate dev` in one terminal, `tidegate connect` in another.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A `tidegate dev` on free ports, ended by its process id.
struct Dev {
    child: Child,
    addresses: serde_json::Value,
    _folder: tempfile::TempDir,
}

impl Dev {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("addresses.json");
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--address-file"])
            .arg(&file)
            .args(arguments)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start tidegate dev");
        let addresses = wait_for_json(&file);
        Self { child, addresses, _folder: folder }
    }

    fn url(&self) -> &str {
        self.addresses["url"].as_str().expect("a URL")
    }

    /// Ends it with SIGTERM; returns what it printed.
    fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("/bin/kill").args(["-TERM", &pid]).status().expect("kill").success());
        let mut printed = String::new();
        let mut stdout = self.child.stdout.take().expect("its output");
        std::io::Read::read_to_string(&mut stdout, &mut printed).expect("read its output");
        assert!(self.child.wait().expect("its end").success());
        printed
    }
}

fn wait_for_json(path: &Path) -> serde_json::Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(text) = std::fs::read_to_string(path) {
            return serde_json::from_str(&text).expect("JSON");
        }
        assert!(Instant::now() < deadline, "tidegate dev is not ready after 20 s");
        std::thread::yield_now();
    }
}

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
