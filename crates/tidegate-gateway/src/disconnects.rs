//! `$disconnect` events that outlive their process.
//!
//! Where the policy says so, a connection is noted on disk before its `$connect`, and struck out when the backend has
//! confirmed its `$disconnect`. Whatever is found noted at a start died with the process before; its event is sent then.
//! Delivery is repeated with back-off for 15 minutes.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidegate_core::context::{Authorized, ConnectionFacts, SessionFacts};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::identity::Identity;
use tidegate_core::notice::Place;
use tidegate_core::port::{Record, RecordChange, RecordKind, RecordStore, StoreError};
use tokio::sync::Semaphore;

use crate::clock::now_millis;
use crate::connection::close_reason;
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

/// Events that are delivered again at a time, so that a backend that comes back is not met by all of them at once.
const AT_A_TIME: u32 = 64;

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
    /// Without the value of an API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authorized: Option<Arc<Authorized>>,
    /// Set when the connection has ended and its event could not be delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<(u16, String, u64)>,
}

#[derive(Debug)]
pub(crate) struct Disconnects {
    records: Arc<dyn RecordStore>,
    /// Noted by this process and not struck out.
    open: Mutex<HashSet<ConnectionId>>,
    /// Struck out, but the store had no room to hear of it; tried again. Its bound is that of connections.
    unwritten: Mutex<Vec<ConnectionId>>,
    at_a_time: Semaphore,
    /// What an earlier process left has been looked for.
    has_looked: AtomicBool,
    has_struck_out: AtomicBool,
}

impl Disconnects {
    pub(crate) fn new(records: Arc<dyn RecordStore>) -> Self {
        Self {
            records,
            open: Mutex::default(),
            unwritten: Mutex::default(),
            at_a_time: Semaphore::new(AT_A_TIME as usize),
            has_looked: AtomicBool::new(false),
            has_struck_out: AtomicBool::new(false),
        }
    }

    /// Notes a connection; durable when it answers.
    pub(crate) async fn note(&self, handle: &Handle) -> Result<(), StoreError> {
        let facts = &handle.facts;
        self.records.write(vec![RecordChange::Put(record(facts, &Note::of(handle, None)))]).await?;
        self.open.lock().insert(facts.connection_id);
        Ok(())
    }

    /// Strikes a connection out: its event was delivered, or will never have to be.
    pub(crate) fn strike_out(&self, id: ConnectionId) {
        let was_noted = self.open.lock().remove(&id);
        if !was_noted {
            return;
        }
        self.has_struck_out.store(true, Ordering::Relaxed);
        if !self.records.write_later(vec![deletion(id.to_string())]) {
            self.unwritten.lock().push(id);
        }
    }

    /// Writes down what could not be written when it happened. A note that stayed would be a second event after the
    /// next start.
    pub(crate) async fn catch_up(&self) {
        let unwritten = std::mem::take(&mut *self.unwritten.lock());
        if unwritten.is_empty() {
            return;
        }
        let changes = unwritten.iter().map(|id| deletion(id.to_string())).collect();
        if self.records.write(changes).await.is_err() {
            self.unwritten.lock().extend(unwritten);
        }
    }

    /// Waits for attempts under way, lets no more begin, and writes down what came of them: what an attempt has
    /// delivered must not be sent again after the next start.
    pub(crate) async fn settle(&self) {
        if let Ok(permits) = self.at_a_time.acquire_many(AT_A_TIME).await {
            permits.forget();
        }
        self.at_a_time.close();
        self.catch_up().await;
        if self.has_struck_out.load(Ordering::Relaxed) {
            // Durable in the order in which they were asked for: when this is, all before it are.
            let _ = self.records.write(vec![deletion(String::new())]).await;
        }
    }

    fn is_noted(&self, id: ConnectionId) -> bool {
        self.open.lock().contains(&id)
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
            authorized: handle.authorized(),
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

fn deletion(id: String) -> RecordChange {
    RecordChange::Delete(RecordKind::Disconnect, id)
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

    /// Sends the events of connections that died with an earlier process; answers how many there are. To be called when
    /// the definitions are there: an event of an API that is not known has nobody to go to. Looks once: what is found
    /// later is of this process.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn deliver_left_over(self: &Arc<Self>) -> Result<usize, StoreError> {
        let records = self.records.load(RecordKind::Disconnect).await?;
        if self.disconnects.has_looked.swap(true, Ordering::Relaxed) {
            return Ok(0);
        }
        let mut n_found = 0;
        for record in records {
            let Ok(id) = ConnectionId::parse(&record.key) else { continue };
            let Ok(note) = serde_json::from_str::<Note>(&record.body) else { continue };
            if !self.disconnects.open.lock().insert(id) {
                continue;
            }
            n_found += 1;
            // Not one of the tasks that a drain waits for, as above.
            tokio::spawn(Arc::clone(self).deliver(id, note, Duration::ZERO));
        }
        Ok(n_found)
    }

    async fn deliver(self: Arc<Self>, id: ConnectionId, note: Note, first_pause: Duration) {
        let started = now_millis();
        let facts = Arc::new(note.facts(id));
        let (code, reason) = match &note.ended {
            Some((code, reason, _)) => (*code, reason.clone()),
            None => (1006, close_reason::ABNORMALLY.to_owned()),
        };
        let session = SessionFacts { identity: Arc::new(note.identity), channels: note.channels.join(",") };
        let mut pause = first_pause;
        let mut attempts = 0;
        let request_id = self.request_id(started);
        loop {
            tokio::time::sleep(pause).await;
            let ended = Ended {
                facts: &facts,
                session: Some(session.clone()),
                authorized: note.authorized.clone(),
                kept_headers: None,
                client_ref: None,
                stage_of_handshake: None,
                request_id,
                code,
                reason: &reason,
            };
            // For one attempt only: those that wait for a dead backend must not hold up the others.
            let Ok(permit) = self.disconnects.at_a_time.acquire().await else { return };
            let result = integration::try_disconnect(&self, &ended).await;
            let Err((diagnosis, detail)) = result else {
                self.disconnects.strike_out(id);
                return;
            };
            drop(permit);
            attempts += 1;
            if now_millis().saturating_sub(started) > TRIED {
                let place = Place {
                    api_id: Arc::clone(&facts.api_id),
                    stage: Arc::clone(&facts.stage),
                    connection_id: Some(id),
                    request_id: Some(request_id),
                    route_key: Some("$disconnect".into()),
                    address: Some(facts.source_ip),
                    user: session.identity.user.clone(),
                    ..Place::default()
                };
                self.disconnect_lost(place, diagnosis, detail, attempts);
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
