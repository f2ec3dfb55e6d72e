//! The loss of the process: what was open when it was killed is told to the backend by the next one.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Open when the process is killed.
const CONNECTIONS: usize = 1000;

/// Connections that end as they should before that.
const ENDED: usize = 20;

const DEADLINE: Duration = Duration::from_secs(60);

const API_KEY: &str = "key-of-the-test-0123456789-0123456789";

/// `$connect` and `$disconnect` events by connection id.
#[derive(Default)]
struct Events {
    connected: HashSet<String>,
    disconnected: HashMap<String, usize>,
    /// Header lines of the `$disconnect` events, by connection id.
    heads: HashMap<String, String>,
}

/// A backend that says yes to everything and remembers who came and went.
struct Backend {
    address: SocketAddr,
    events: Arc<Mutex<Events>>,
}

impl Backend {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let events = Arc::new(Mutex::new(Events::default()));
        let recorded = Arc::clone(&events);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let events = Arc::clone(&recorded);
                std::thread::spawn(move || serve(stream, &events));
            }
        });
        Self { address, events }
    }

    /// Waits for so many `$disconnect` events.
    fn wait_for(&self, wanted: usize) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let n_events: usize = self.events.lock().expect("the events").disconnected.values().sum();
            if n_events >= wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{n_events} of {wanted} disconnects");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn serve(stream: TcpStream, events: &Mutex<Events>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let value = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let id = value("connectionId").expect("an id");
        let mut events = events.lock().expect("the events");
        if head.starts_with("POST /connect ") {
            events.connected.insert(id);
        } else {
            *events.disconnected.entry(id.clone()).or_default() += 1;
            events.heads.insert(id, head);
        }
        drop(events);
        if reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// A `tidegate serve` on free ports.
struct Gateway {
    child: Child,
    public: SocketAddr,
    admin: SocketAddr,
}

impl Gateway {
    fn start(folder: &Path) -> Self {
        let file = folder.join("addresses.json");
        let _ = std::fs::remove_file(&file);
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--address-file"])
            .arg(&file)
            .arg("--data-dir")
            .arg(folder.join("data"))
            .env_clear()
            .env("TIDEGATE_API_KEY", API_KEY)
            .env("TIDEGATE_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("TIDEGATE_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start tidegate serve");
        let deadline = Instant::now() + DEADLINE;
        let addresses: Value = loop {
            if let Ok(text) = std::fs::read_to_string(&file)
                && let Ok(addresses) = serde_json::from_str(&text)
            {
                break addresses;
            }
            assert_eq!(child.try_wait().expect("its state"), None, "it has ended");
            assert!(Instant::now() < deadline, "tidegate serve is not ready");
            std::thread::sleep(Duration::from_millis(5));
        };
        let address = |name: &str| addresses[name].as_str().expect("an address").parse().expect("an address");
        Self { child, public: address("public"), admin: address("admin") }
    }

    /// As `kill -9`: nothing is said to anybody.
    fn kill(mut self) {
        self.child.kill().expect("kill it");
        self.child.wait().expect("its end");
    }

    fn apply(&self, document: &Value) {
        let body = document.to_string();
        let mut stream = TcpStream::connect(self.admin).expect("the admin listener");
        let length = body.len();
        write!(
            stream,
            "POST /api/apply HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {API_KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .expect("send the document");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn connect(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.public).expect("the public listener");
        write!(
            stream,
            "GET /_aws/execute-api/tide000001/prod HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .expect("send the handshake");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        stream
    }
}

/// S0-57: of the connections that were open at `kill -9`, the backend hears exactly once from the next process, and of
/// those that had ended before it hears nothing more.
#[test]
fn every_connection_of_a_killed_process_has_one_disconnect() {
    let _ = rlimit::increase_nofile_limit(8192);
    let folder = tempfile::tempdir().expect("a folder");
    let backend = Backend::start();
    let url = format!("http://{}", backend.address);
    let integration = |path: &str| {
        json!({
            "type": "HTTP_PROXY", "uri": format!("{url}/{path}"), "method": "POST",
            "request_parameters": { "integration.request.header.connectionId": "context.connectionId" },
        })
    };
    let gateway = Gateway::start(folder.path());
    gateway.apply(&json!({ "apis": [{
        "id": "tide000001",
        "name": "kill",
        "route_selection_expression": "$request.body.action",
        "integrations": { "connect": integration("connect"), "disconnect": integration("disconnect") },
        "routes": { "$connect": "connect", "$disconnect": "disconnect" },
        "stages": { "prod": { "policy": {
            "backend": { "durable_disconnect": true },
            "attempts": { "per_address": 0, "per_user": 0 },
        } } },
    }] }));
    for _ in 0..ENDED {
        drop(gateway.connect());
    }
    backend.wait_for(ENDED);
    // Each of these is noted on the disk, and with it that the others have ended.
    let clients: Vec<TcpStream> = (0..CONNECTIONS).map(|_| gateway.connect()).collect();
    gateway.kill();
    drop(clients);

    let gateway = Gateway::start(folder.path());
    backend.wait_for(CONNECTIONS + ENDED);
    // A third process finds nothing that is still to be told. It is ended and started as an operator does it.
    let pid = gateway.child.id().to_string();
    assert!(Command::new("/bin/kill").args(["-TERM", &pid]).status().expect("kill").success());
    let mut gateway = gateway;
    assert!(gateway.child.wait().expect("its end").success());
    let gateway = Gateway::start(folder.path());
    // It serves, so it has looked at what was left over; and its own connection is told after everything of that.
    drop(gateway.connect());
    backend.wait_for(CONNECTIONS + ENDED + 1);
    gateway.kill();

    let events = backend.events.lock().expect("the events");
    assert_eq!(events.connected.len(), CONNECTIONS + ENDED + 1);
    let told: HashSet<String> = events.disconnected.keys().cloned().collect();
    assert_eq!(told, events.connected);
    let repeated: Vec<_> = events.disconnected.iter().filter(|(_, count)| **count != 1).collect();
    assert!(repeated.is_empty(), "{repeated:?}");
    let n_headers = events.heads.values().filter(|head| head.contains("Tidegate-Auth: none")).count();
    assert_eq!(n_headers, CONNECTIONS + ENDED + 1, "with what the gateway tells of each");
}
