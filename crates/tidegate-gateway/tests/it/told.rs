//! What an attempt was told, and what operators were told of it.

use serde_json::{Map, Value};
use tidegate_core::journal::Kind;
use tidegate_core::notice::{Notice, Place};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::Reply;
use crate::harness::Plane;
use crate::record::DEADLINE;

/// A refusal from both sides.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) reply: Reply,
    pub(crate) id: &'static str,
    pub(crate) facts: Map<String, Value>,
    pub(crate) place: Place,
    pub(crate) status: u16,
}

/// Everything that an answer consists of, out of its bytes.
pub(crate) fn parse(bytes: &[u8]) -> Reply {
    let answer = String::from_utf8_lossy(bytes).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no whole answer: {answer}"));
    Reply { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() }
}

/// Writes bytes to a connection of its own, and reads all that comes back.
pub(crate) async fn exchange(address: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Whoever is refused by the head alone may be closed before all of it is through.
    let _ = stream.write_all(bytes).await;
    let mut received = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut received));
    let _ = read.await.expect("the end in time");
    received
}

/// A handshake as text, with lines in place of the usual ones. `Connection: close` is not in it.
pub(crate) fn upgrade(target: &str, host: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

impl Plane {
    /// What a request of these bytes is told. It must be refused, with the id that operators find it by.
    pub(crate) async fn told(&self, request: &str) -> Told {
        let mut client = crate::client::Client::dial(self.address, None).await;
        client.write(request.as_bytes()).await;
        let reply = client.reply().await;
        self.told_of(reply)
    }

    /// The refusal that an answer belongs to.
    pub(crate) fn told_of(&self, reply: Reply) -> Told {
        // DX-70
        let request_id = reply.value("tidegate-request-id").to_owned();
        assert_eq!(request_id.len(), 16, "{reply:?}");
        let all = self.notices.record.all();
        let mut fitting = all.into_iter().filter_map(|notice| match notice {
            Notice::HandshakeRefused { place, status, diagnosis, facts, .. } => {
                let is_it = place.request_id.is_some_and(|id| id.to_string() == request_id);
                is_it.then(|| (place, status, diagnosis.as_str(), facts.into_map()))
            }
            _ => None,
        });
        let (place, status, id, facts) = fitting.next().unwrap_or_else(|| panic!("no notice of {reply:?}"));
        assert!(fitting.next().is_none(), "told twice");
        assert_eq!((reply.status, facts["status"].as_u64()), (status, Some(status.into())));
        // A body of the backend is the backend's.
        if id != "backend.refused" {
            let body = reply.json();
            let known = ["message", "connectionId", "requestId", "hint", "check", "tidegate"];
            assert!(body.as_object().unwrap().keys().all(|name| known.contains(&name.as_str())), "{body}");
            let told = body.get("requestId").map_or("", |told| told.as_str().unwrap());
            // Where the real service has one member, there is one.
            let is_bare = status == 403 && place.connection_id.is_none() && body.get("check").is_none();
            assert_eq!(told, if is_bare { "" } else { request_id.as_str() }, "{body}");
        }
        Told { reply, id, facts, place, status }
    }

    /// The only refusal so far, of a client that was told nothing.
    pub(crate) async fn silently_refused(&self) -> (&'static str, u16, Map<String, Value>) {
        let is_refusal = |notice: &Notice| matches!(notice, Notice::HandshakeRefused { .. });
        let mut notices = self.notices.record.until("a refusal", 1, is_refusal).await;
        match notices.remove(0) {
            Notice::HandshakeRefused { diagnosis, status, facts, place, .. } => {
                assert!(place.request_id.is_some());
                (diagnosis.as_str(), status, facts.into_map())
            }
            _ => unreachable!("only refusals were asked for"),
        }
    }

    /// What was decided with this remark, so far.
    pub(crate) fn remarks(&self, id: &str) -> Vec<(Kind, Place, Map<String, Value>)> {
        let all = self.notices.record.all().into_iter();
        all.filter_map(|notice| match notice {
            Notice::Decided { place, kind, remark: Some(remark), facts } if remark.as_str() == id => {
                Some((kind, place, facts.into_map()))
            }
            _ => None,
        })
        .collect()
    }
}
