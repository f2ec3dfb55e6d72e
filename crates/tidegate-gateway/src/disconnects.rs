//! `$disconnect` events that outlive their process.
//!
//! Where the policy says so, a connection is noted on disk before its `$connect`, and struck out when the backend has
//! confirmed its `$disconnect`. Whatever is found noted at a start died with the process before; its event is sent then.
//! Delivery is repeated with back-off for 15 minutes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidegate_core::context::{ConnectionFacts, SessionFacts};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::identity::Identity;
use tidegate_core::notice::{Notice, Place};
use tidegate_core::port::{Record, RecordChange, RecordKind, RecordStore, StoreError};
use tokio::sync::Semaphore;

use crate::clock::now_millis;
use crate::connection::handle::Handle;
use crate::gateway::Gateway;
use crate::integration::{self, Ended};

/// Milliseconds for which delivery is tried.
const TRIED: u64 = 15 * 60 * 1000;

/// Milliseconds for which a note is kept while its connection is open: longer than any connection.
const KEPT: u64 = 400 * 24 * 3600 * 1000;

/// First and longest pause between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Events that are delivered at a time after a start.
const AT_A_TIME: usize = 64;

/// What a `$disconnect` needs of a connection that is no more.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note {
    api_id: Arc<str>,
    stage: Arc<str>,
    domain_name: Arc<str>,
    source_ip: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_agent: Option<Box<str>>,
    is_secure: bool,
    client_port: u16,
    connected_at: u64,
    #[serde(default)]
    identity: Identity,
    #[serde(default)]
    channels: Vec<String>,
    /// Set when the connection has ended and its event could not be delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<(u16, String, u64)>,
}

#[derive(Debug)]
pub(crate) struct Disconnects {
    records: Arc<dyn RecordStore>,
    /// Noted by this process, by connection id.
    open: Mutex<HashMap<ConnectionId, ()>>,
}

impl Disconnects {
    pub(crate) fn new(records: Arc<dyn RecordStore>) -> Self {
        Self { records, open: Mutex::default() }
    }

    /// Notes a connection; durable when it answers.
    pub(crate) async fn note(&self, handle: &Handle) -> Result<(), StoreError> {
        let facts = &handle.facts;
        self.records.write(vec![RecordChange::Put(record(facts, &Note::of(handle, None)))]).await?;
        self.open.lock().insert(facts.connection_id, ());
        Ok(())
    }

    /// Strikes a connection out: its event was delivered, or will never have to be.
    pub(crate) fn strike_out(&self, id: ConnectionId) {
        if self.open.lock().remove(&id).is_some() {
            let _ =
                self.records.write_later(vec![RecordChange::Delete(RecordKind::Disconnect, id.to_string())]);
        }
    }

    fn is_noted(&self, id: ConnectionId) -> bool {
        self.open.lock().contains_key(&id)
    }
}

impl Note {
    fn of(handle: &Handle, ended: Option<(u16, String, u64)>) -> Self {
        let facts = &handle.facts;
        let membership = handle.membership_if_any();
        Self {
            api_id: Arc::clone(&facts.api_id),
            stage: Arc::clone(&facts.stage),
            domain_name: Arc::clone(&facts.domain_name),
            source_ip: facts.source_ip,
            user_agent: facts.user_agent.clone(),
            is_secure: facts.is_secure,
            client_port: facts.client_port,
            connected_at: facts.connected_at,
            identity: membership.map(|membership| (*membership.identity()).clone()).unwrap_or_default(),
            channels: membership
                .map(|membership| membership.channels().iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            ended,
        }
    }

    fn facts(&self, connection_id: ConnectionId) -> ConnectionFacts {
        ConnectionFacts {
            connection_id,
            api_id: Arc::clone(&self.api_id),
            stage: Arc::clone(&self.stage),
            domain_name: Arc::clone(&self.domain_name),
            source_ip: self.source_ip,
            user_agent: self.user_agent.clone(),
            is_secure: self.is_secure,
            client_port: self.client_port,
            connected_at: self.connected_at,
        }
    }
}

fn record(facts: &ConnectionFacts, note: &Note) -> Record {
    Record {
        kind: RecordKind::Disconnect,
        key: facts.connection_id.to_string(),
        created_at: facts.connected_at,
        expires_at: facts.connected_at + KEPT,
        body: serde_json::to_string(note).unwrap_or_default(),
    }
}

impl Gateway {
    /// Repeats an event that was not delivered, if its connection was noted. False when it was not.
    pub(crate) fn deliver_later(self: &Arc<Self>, handle: &Arc<Handle>, code: u16, reason: &str) -> bool {
        let id = handle.facts.connection_id;
        if !self.disconnects.is_noted(id) {
            return false;
        }
        let note = Note::of(handle, Some((code, reason.to_owned(), now_millis())));
        // The cause of the end is worth keeping too; without it a start would report 1006.
        let _ = self.records.write_later(vec![RecordChange::Put(record(&handle.facts, &note))]);
        let gateway = Arc::clone(self);
        // Not one of the tasks that a drain waits for: what is on disk can wait for the next start.
        tokio::spawn(async move { gateway.deliver(id, note, FIRST_PAUSE).await });
        true
    }

    /// Sends the events of connections that died with an earlier process.
    pub async fn deliver_left_over(self: &Arc<Self>) -> Result<usize, StoreError> {
        let records = self.records.load(RecordKind::Disconnect).await?;
        let mut n_found = 0;
        let at_a_time = Arc::new(Semaphore::new(AT_A_TIME));
        for record in records {
            let Ok(id) = ConnectionId::parse(&record.key) else { continue };
            if self.disconnects.is_noted(id) {
                continue;
            }
            let Ok(note) = serde_json::from_str::<Note>(&record.body) else { continue };
            self.disconnects.open.lock().insert(id, ());
            n_found += 1;
            let (gateway, at_a_time) = (Arc::clone(self), Arc::clone(&at_a_time));
            tokio::spawn(async move {
                let Ok(_permit) = at_a_time.acquire_owned().await else { return };
                gateway.deliver(id, note, Duration::ZERO).await;
            });
        }
        Ok(n_found)
    }

    async fn deliver(self: Arc<Self>, id: ConnectionId, note: Note, first_pause: Duration) {
        let started = now_millis();
        let facts = Arc::new(note.facts(id));
        let since = note.ended.as_ref().map_or(started, |(.., at)| *at);
        let (code, reason) = match &note.ended {
            Some((code, reason, _)) => (*code, reason.clone()),
            None => (1006, "Connection closed abnormally".to_owned()),
        };
        let mut pause = first_pause;
        let request_id = self.request_id(started);
        loop {
            tokio::time::sleep(pause).await;
            let ended = Ended {
                facts: &facts,
                session: Some(SessionFacts {
                    identity: Arc::new(note.identity.clone()),
                    channels: note.channels.join(","),
                }),
                kept_headers: None,
                stage_of_handshake: None,
                request_id,
                code,
                reason: &reason,
            };
            let Err((diagnosis, detail)) = integration::try_disconnect(&self, &ended).await else {
                self.disconnects.strike_out(id);
                return;
            };
            if now_millis().saturating_sub(since.max(started)) > TRIED {
                let place = Place {
                    api_id: Arc::clone(&facts.api_id),
                    stage: Arc::clone(&facts.stage),
                    connection_id: Some(id),
                    request_id: Some(request_id),
                    route_key: Some("$disconnect".into()),
                };
                self.notice(Notice::DisconnectLost { place, diagnosis, detail });
                self.disconnects.strike_out(id);
                return;
            }
            pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        }
    }

    /// Notes a connection whose `$disconnect` must not get lost, where the policy says so.
    pub(crate) async fn note_for_disconnect(&self, handle: &Handle) -> Result<(), Diagnosis> {
        let is_durable = self.policy(handle).is_some_and(|policy| policy.policy.backend.durable_disconnect);
        if !is_durable {
            return Ok(());
        }
        self.disconnects.note(handle).await.map_err(|_| Diagnosis::STORE_UNAVAILABLE)
    }
}
