//! A `tidegate serve` with a data directory and a log of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::dev::{Ended, ended, wait_for_json, wait_until};

pub(crate) const KEY: &str = "key-of-the-operator-0123456789";

pub(crate) const ACCESS_KEY_ID: &str = "AKIDOFTHETEST";

pub(crate) const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

pub(crate) struct Serve {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Serve {
    /// In this folder: `data`, and a `log` that goes on when it is started again.
    pub(crate) fn start(folder: &Path, environment: &[(&str, &str)]) -> Self {
        let file = folder.join("addresses.json");
        let _ = std::fs::remove_file(&file);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log"));
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--address-file"])
            .arg(&file)
            .arg("--data-dir")
            .arg(data(folder))
            .env_clear()
            .env("TIDEGATE_API_KEY", KEY)
            .env("TIDEGATE_ACCESS_KEY_ID", ACCESS_KEY_ID)
            .env("TIDEGATE_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn()
            .expect("start tidegate serve");
        let addresses = wait_for_json(&file);
        let address = |name: &str| addresses[name].as_str().expect("an address").parse().expect("an address");
        Self { child, public: address("public"), admin: address("admin") }
    }

    /// As `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kill it");
        self.child.wait().expect("its end");
    }

    /// By SIGTERM.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("/bin/kill").args(["-TERM", &pid]).status().expect("kill").success());
        assert!(self.child.wait().expect("its end").success());
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments).env_clear().env("TIDEGATE_ADMIN_URL", format!("http://{}", self.admin));
        ended(command.env("TIDEGATE_KEY", KEY).stdin(Stdio::null()).output().expect("run a command"))
    }

    /// What a command that succeeds prints with `--json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let done = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        serde_json::from_str(&done.stdout).expect("JSON")
    }

    /// Entries of the journal.
    pub(crate) fn journal(&self, arguments: &[&str]) -> Vec<Value> {
        let listed = self.json(&[&["journal", "ls", "--limit", "10000"], arguments].concat());
        listed.as_array().expect("a list").clone()
    }

    /// Applies a document.
    pub(crate) fn apply(&self, folder: &Path, document: &str) {
        let file = folder.join("apis.toml");
        std::fs::write(&file, document).expect("write the document");
        let done = self.run(&["apply", "--yes", file.to_str().expect("a path")]);
        assert_eq!(done.code, 0, "{done:?}");
    }

    /// Sends bytes to the public listener; answers what came until the other side was silent or closed.
    pub(crate) fn send(&self, request: &str) -> String {
        exchange(self.public, request)
    }

    /// A handshake with further header lines; the answer's head, and the socket.
    pub(crate) fn handshake(&self, target: &str, headers: &str) -> (String, TcpStream) {
        let mut stream = TcpStream::connect(self.public).expect("the public listener");
        write!(
            stream,
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        )
        .expect("send the handshake");
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("an answer") == 1 {
            head.push(byte[0]);
        }
        (String::from_utf8_lossy(&head).into_owned(), stream)
    }

    /// A handshake that is accepted.
    pub(crate) fn connect(&self, target: &str, headers: &str) -> TcpStream {
        let (head, stream) = self.handshake(target, headers);
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        stream
    }

    /// Waits until the node knows so many connections.
    pub(crate) fn wait_for_connections(&self, wanted: u64) {
        wait_until("so many connections are open", || {
            self.json(&["connections", "ls", "--count"])["count"] == wanted
        });
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

pub(crate) fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).expect("the log")
}

/// Sends bytes and reads until the end or a second of silence.
pub(crate) fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a listener");
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("send");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A text frame of at most 65535 bytes, masked with zeros.
pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    let mut frame = match u8::try_from(length) {
        Ok(length) if length < 126 => vec![0x81, 0x80 | length],
        _ => [&[0x81, 0x80 | 126][..], &length.to_be_bytes()].concat(),
    };
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// The text of the next frame, which is no longer than 65535 bytes.
pub(crate) fn read_frame(stream: &mut TcpStream) -> String {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a frame");
    let mut length = usize::from(head[1]);
    if length == 126 {
        let mut long = [0; 2];
        stream.read_exact(&mut long).expect("its length");
        length = usize::from(u16::from_be_bytes(long));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).expect("its payload");
    String::from_utf8_lossy(&payload).into_owned()
}
