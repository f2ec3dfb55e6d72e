//! What the tests of the session layer have in common.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tidegate_core::notice::Notice;
use tidegate_core::port::{RecordKind, RecordStore};
use tidegate_gateway::{AttemptRecord, TokenRequest};
use tidegate_store::SqliteRecords;
use tokio::task::JoinHandle;

use crate::client::{Client, Reply};
use crate::harness::{API_ID, Plane, STAGE};
use crate::record::DEADLINE;

/// A secret that nobody publishes.
pub(crate) const SECRET: &str = "q3V8sLw0Zt6Ky1Rb5Nf7Xc9Jd2Gh4Mp8";

/// Header lines that offer a token as subprotocol.
pub(crate) fn pair(token: &str) -> String {
    format!("Sec-WebSocket-Protocol: tidegate.bearer, {token}\r\n")
}

pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}

/// A policy without limits of attempts, which most tests would run into, and with `more`.
pub(crate) fn unlimited(more: Value) -> Value {
    let mut policy = json!({ "attempts": { "per_address": 0, "per_user": 0 } });
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    policy
}

/// A policy whose JSON Web Tokens are signed with [`SECRET`].
pub(crate) fn jwt_policy(more: Value) -> Value {
    let mut jwt = json!({ "keys": [{ "secret": SECRET, "algorithms": ["HS256"] }] });
    jwt.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    unlimited(json!({ "admission": { "checks": ["jwt"] }, "jwt": jwt }))
}

/// Fetches key sets and removes what is old, until it is dropped.
pub(crate) struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The last refusal of a handshake, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) diagnosis: &'static str,
    pub(crate) detail: String,
}

impl Plane {
    pub(crate) fn run_session_layer(&self) -> Running {
        Running(tokio::spawn(Arc::clone(&self.gateway).run_session_layer()))
    }

    /// A connect token.
    pub(crate) async fn token(&self, request: TokenRequest) -> String {
        self.token_at(request, now()).await
    }

    /// A connect token of another time.
    pub(crate) async fn token_at(&self, request: TokenRequest, at: u64) -> String {
        let stage = self.gateway.find_stage(API_ID, STAGE).unwrap();
        self.gateway.issue_token(&stage, request, at).await.unwrap().token.expose().to_owned()
    }

    /// A connect token for a user.
    pub(crate) async fn token_of(&self, user: &str) -> String {
        self.token(TokenRequest { user: Some(user.to_owned()), ..TokenRequest::default() }).await
    }

    /// A JSON Web Token, signed with the first secret of the stage.
    pub(crate) fn jwt(&self, claims: Value) -> String {
        let stage = self.gateway.find_stage(API_ID, STAGE).unwrap();
        let claims: Map<String, Value> = claims.as_object().unwrap().clone();
        self.gateway.sign_jwt(&stage, &claims).unwrap().expose().to_owned()
    }

    /// The answer to a handshake, with its body.
    pub(crate) async fn ask(&self, query: &str, headers: &str) -> Reply {
        let mut client = Client::dial(self.address, None).await;
        client.write(&client.handshake(query, headers)).await;
        client.reply().await
    }

    /// A handshake that is refused with this diagnosis, and why.
    pub(crate) async fn refused(&self, query: &str, headers: &str, diagnosis: &str) -> Refusal {
        let reply = self.ask(query, headers).await;
        let refusal = self.last_refusal();
        assert_eq!((refusal.status, refusal.diagnosis), (reply.status, diagnosis), "{refusal:?}");
        // S0-42: which check it was, and no more.
        assert!(reply.json()["check"].is_string(), "{}", reply.body);
        assert!(!reply.body.contains(diagnosis) && !reply.head.contains(diagnosis), "{reply:?}");
        refusal
    }

    pub(crate) fn last_refusal(&self) -> Refusal {
        let all = self.notices.record.all();
        let last = all.iter().rev().find_map(|notice| match notice {
            Notice::HandshakeRefused { status, diagnosis, detail, .. } => {
                Some(Refusal { status: *status, diagnosis: diagnosis.as_str(), detail: detail.clone() })
            }
            _ => None,
        });
        last.expect("a refusal")
    }

    /// The last refusal of a connect token, as operators see it.
    pub(crate) fn last_token_refusal(&self) -> Refusal {
        let all = self.notices.record.all();
        let last = all.iter().rev().find_map(|notice| match notice {
            Notice::TokenRequested { refused: Some(diagnosis), facts, .. } => Some(Refusal {
                status: facts.number("status").unwrap() as u16,
                diagnosis: diagnosis.as_str(),
                detail: facts.text("detail").unwrap_or_default(),
            }),
            _ => None,
        });
        last.expect("a refusal")
    }

    /// How many handshakes were refused with this diagnosis.
    pub(crate) fn n_refused(&self, diagnosis: &str) -> usize {
        let is_it = |notice: &Notice| matches!(notice, Notice::HandshakeRefused { diagnosis: known, .. } if known.as_str() == diagnosis);
        self.notices.record.count(is_it)
    }

    /// None of these texts is in any notice.
    pub(crate) fn assert_untold(&self, secrets: &[&str]) {
        let told = format!("{:?}", self.notices.record.all());
        assert!(!told.is_empty());
        for secret in secrets {
            assert!(secret.len() >= 8 && !told.contains(secret), "a notice has {secret}");
        }
    }
}

/// Records in a file, once whoever had it open before has let go of it.
pub(crate) async fn open_records(file: &Path) -> Arc<dyn RecordStore> {
    let look = async {
        loop {
            match SqliteRecords::open(file) {
                Ok(records) => return Arc::new(records) as Arc<dyn RecordStore>,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, look).await.expect("a free file in time")
}

/// The log of attempts, oldest first, once it has so many lines.
pub(crate) async fn attempts(records: &dyn RecordStore, wanted: usize) -> Vec<AttemptRecord> {
    let look = async {
        loop {
            let lines = records.load(RecordKind::Attempt).await.unwrap();
            if lines.len() >= wanted {
                return lines.iter().map(|line| serde_json::from_str(&line.body).unwrap()).collect();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, look).await.expect("the lines in time")
}
