//! Who is connected to this node: one entry for each connection, gone with it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_core::context::ConnectionFacts;
use tidegate_core::id::ConnectionId;

use crate::event::Audience;
use crate::model::{User, UserId};

/// Frames that wait for a connection which is not open yet; with one more it is ended when it opens.
const MAX_WAITING_FRAMES: usize = 1024;

/// Bytes of these frames.
const MAX_WAITING_BYTES: usize = 4 << 20;

/// A user has as many devices as permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// How many it has.
    pub count: usize,
}

/// One device.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its connection.
    pub connection: Arc<ConnectionFacts>,
    /// Whose it is.
    pub user: UserId,
    /// Milliseconds since 1970 of its last event.
    pub last_seen: u64,
}

/// All sessions of a node.
#[derive(Debug, Default)]
pub struct Connections {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    sessions: HashMap<ConnectionId, Entry>,
    users: HashMap<UserId, Devices>,
}

#[derive(Debug, Default)]
struct Devices {
    /// As it was when the last of its connections came; `None` while the first of them is under way.
    user: Option<Arc<User>>,
    connections: Vec<ConnectionId>,
}

struct Entry {
    session: Session,
    state: State,
    is_reported: bool,
}

impl std::fmt::Debug for Entry {
    /// What waits is payload.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("session", &self.session).finish_non_exhaustive()
    }
}

enum State {
    /// Its first frame is not in its outbox yet.
    Pending {
        waiting: Vec<Bytes>,
        n_bytes: usize,
        is_over: bool,
    },
    Open,
}

/// What a connection gets when it opens.
#[derive(Debug, PartialEq, Eq)]
pub enum Waiting {
    /// In this order.
    Frames(Vec<Bytes>),
    /// More than is kept: the connection must end, or it would miss some.
    TooMuch,
}

impl Connections {
    /// From now on the connection is one of its user's; what is for it waits until [`Self::open`]. 0 permits any number of
    /// devices.
    ///
    /// # Errors
    /// [`TooMany`]
    pub fn begin(
        &self,
        user: &UserId,
        connection: &Arc<ConnectionFacts>,
        now: u64,
        max_devices: usize,
    ) -> Result<(), TooMany> {
        let mut table = self.table.lock();
        let table = &mut *table;
        let count = table.users.get(user).map_or(0, |devices| devices.connections.len());
        if max_devices > 0 && count >= max_devices {
            return Err(TooMany { count });
        }
        let session = Session { connection: Arc::clone(connection), user: user.clone(), last_seen: now };
        let state = State::Pending { waiting: Vec::new(), n_bytes: 0, is_over: false };
        let entry = Entry { session, state, is_reported: false };
        if table.sessions.insert(connection.connection_id, entry).is_none() {
            table.users.entry(user.clone()).or_default().connections.push(connection.connection_id);
        }
        Ok(())
    }

    /// The connection can be pushed to. The caller sends what has waited before anything else is sent.
    pub fn open(&self, connection: ConnectionId) -> Waiting {
        let mut table = self.table.lock();
        let none = Waiting::Frames(Vec::new());
        let Some(entry) = table.sessions.get_mut(&connection) else { return none };
        match std::mem::replace(&mut entry.state, State::Open) {
            State::Pending { is_over: true, .. } => Waiting::TooMuch,
            State::Pending { waiting, .. } => Waiting::Frames(waiting),
            State::Open => none,
        }
    }

    /// Forgets a connection; false when it was not known.
    pub fn remove(&self, connection: ConnectionId) -> bool {
        let mut table = self.table.lock();
        let table = &mut *table;
        let Some(entry) = table.sessions.remove(&connection) else { return false };
        let user = &entry.session.user;
        if let Some(devices) = table.users.get_mut(user) {
            devices.connections.retain(|known| *known != connection);
            if devices.connections.is_empty() {
                table.users.remove(user);
            }
        }
        true
    }

    /// Notes an event of a connection; gives its user.
    pub fn touch(&self, connection: ConnectionId, now: u64) -> Option<Arc<User>> {
        let mut table = self.table.lock();
        let table = &mut *table;
        let entry = table.sessions.get_mut(&connection)?;
        entry.session.last_seen = entry.session.last_seen.max(now);
        entry.is_reported = false;
        table.users.get(&entry.session.user)?.user.clone()
    }

    /// What is known of a user who is connected is this from now on.
    pub fn set_user(&self, user: Arc<User>) {
        if let Some(devices) = self.table.lock().users.get_mut(&user.id) {
            devices.user = Some(user);
        }
    }

    /// Whether somebody has a connection.
    pub fn is_connected(&self, user: &UserId) -> bool {
        self.table.lock().users.contains_key(user)
    }

    /// The open connections of an audience, each once. For those that are under way the frame is kept.
    pub fn targets(&self, audience: &Audience, frame: &Bytes) -> Vec<ConnectionId> {
        let mut table = self.table.lock();
        let Table { sessions, users } = &mut *table;
        let mut open = Vec::new();
        let mut take =
            |connection: ConnectionId| match sessions.get_mut(&connection).map(|entry| &mut entry.state) {
                Some(State::Open) => open.push(connection),
                Some(State::Pending { waiting, n_bytes, is_over }) => {
                    *n_bytes += frame.len();
                    *is_over |= waiting.len() >= MAX_WAITING_FRAMES || *n_bytes > MAX_WAITING_BYTES;
                    match is_over {
                        true => *waiting = Vec::new(),
                        false => waiting.push(frame.clone()),
                    }
                }
                None => {}
            };
        match audience {
            Audience::Connection(connection) => take(*connection),
            Audience::Users(named) => {
                for user in named {
                    let connections = users.get(user).map_or(&[][..], |devices| &devices.connections);
                    connections.iter().copied().for_each(&mut take);
                }
            }
        }
        open
    }

    /// All sessions, in no order.
    pub fn sessions(&self) -> Vec<Session> {
        self.table.lock().sessions.values().map(|entry| entry.session.clone()).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.lock().sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Open sessions that were not heard of since `before`, in milliseconds since 1970; each once until it is heard of again.
    /// `last_heard` knows of signs of life beside events.
    pub fn newly_idle(&self, before: u64, last_heard: impl Fn(ConnectionId) -> Option<u64>) -> Vec<Session> {
        let mut table = self.table.lock();
        let mut idle = Vec::new();
        for entry in table.sessions.values_mut() {
            if entry.is_reported
                || entry.session.last_seen >= before
                || matches!(entry.state, State::Pending { .. })
            {
                continue;
            }
            if let Some(heard) = last_heard(entry.session.connection.connection_id) {
                entry.session.last_seen = entry.session.last_seen.max(heard);
            }
            if entry.session.last_seen < before {
                entry.is_reported = true;
                idle.push(entry.session.clone());
            }
        }
        idle
    }
}
