//! Who is connected to this node: one entry for each connection, gone with it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_core::context::ConnectionFacts;
use tidegate_core::id::ConnectionId;
use tidegate_core::snapshot::Throttle;
use tidegate_core::throttle::Bucket;

use crate::event::Audience;
use crate::model::{User, UserId};

/// Frames that wait for a connection which is not open yet; with one more it is ended when it opens.
const MAX_WAITING_FRAMES: usize = 1024;

/// Bytes of these frames.
const MAX_WAITING_BYTES: usize = 4 << 20;

/// Ended sessions whose rows are still to be removed; with one more all rows of the node are written anew.
const MAX_ENDED: usize = 1 << 16;

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
    /// Those of [`Row::Due`].
    due: HashSet<ConnectionId>,
    /// Those that have ended with [`Row::Written`] or [`Row::Due`].
    ended: Vec<ConnectionId>,
    /// More have ended than [`MAX_ENDED`].
    is_lost: bool,
    /// How often [`Connections::all_rows_are_gone`].
    generation: u64,
}

impl Table {
    /// The row of a session that is not there any more is to be removed.
    fn note_ended(&mut self, connection: ConnectionId) {
        if self.is_lost {
            return;
        }
        match self.ended.len() >= MAX_ENDED {
            true => {
                self.is_lost = true;
                self.ended = Vec::new();
            }
            false => self.ended.push(connection),
        }
    }
}

/// What the database knows of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    /// Nothing, and it is not to: it was not accepted, or an extension has failed at it.
    None,
    /// Nothing yet, or nobody knows.
    Due,
    /// It is there or on its way, with this [`Session::last_seen`].
    Written(u64),
}

/// What the database does not know of the sessions.
#[derive(Debug, Default)]
pub struct Changes {
    /// Accepted, with their users.
    pub new: Vec<(Session, Arc<User>)>,
    /// Ended.
    pub ended: Vec<ConnectionId>,
    /// More has ended than was remembered: every row is in doubt.
    pub is_lost: bool,
}

#[derive(Debug, Default)]
struct Devices {
    /// As it was when the last of its connections came; `None` while the first of them is under way.
    user: Option<Arc<User>>,
    connections: Vec<ConnectionId>,
    /// Full until the first event under a limit.
    bucket: Option<Bucket>,
}

struct Entry {
    session: Session,
    state: State,
    is_reported: bool,
    row: Row,
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
        let entry = Entry { session, state, is_reported: false, row: Row::None };
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
        match entry.row {
            Row::None => {}
            Row::Due => {
                table.due.remove(&connection);
                // There may be one all the same: written after the others had gone, and before that was known.
                table.note_ended(connection);
            }
            Row::Written(_) => table.note_ended(connection),
        }
        let user = &entry.session.user;
        if let Some(devices) = table.users.get_mut(user) {
            devices.connections.retain(|known| *known != connection);
            if devices.connections.is_empty() {
                table.users.remove(user);
            }
        }
        true
    }

    /// How often the database was found without, or emptied of, the rows of this node; 0: it has never had one.
    pub fn generation(&self) -> u64 {
        self.table.lock().generation
    }

    /// The session's row is in the database, with this [`Session::last_seen`]; it was begun in this generation. If the session
    /// has ended meanwhile the row is to be removed, and if all rows have gone meanwhile it is to be written again.
    pub fn registered(&self, connection: ConnectionId, last_seen: u64, generation: u64) {
        let mut table = self.table.lock();
        let table = &mut *table;
        let is_of_now = table.generation == generation;
        match table.sessions.get_mut(&connection) {
            None => table.note_ended(connection),
            Some(entry) if is_of_now => entry.row = Row::Written(last_seen),
            Some(entry) => {
                entry.row = Row::Due;
                table.due.insert(connection);
            }
        }
    }

    /// Nobody knows whether the row of a session that is refused is in the database.
    pub fn maybe_registered(&self, connection: ConnectionId) {
        self.table.lock().note_ended(connection);
    }

    /// Takes at most `most` of what is to be written and as much of what is to be removed. What is taken counts as written.
    pub fn take_changes(&self, most: usize) -> Changes {
        let mut table = self.table.lock();
        let table = &mut *table;
        let taken: Vec<ConnectionId> = table.due.iter().copied().take(most).collect();
        let new = taken.into_iter().filter_map(|connection| {
            table.due.remove(&connection);
            let entry = table.sessions.get_mut(&connection)?;
            let user = Arc::clone(table.users.get(&entry.session.user)?.user.as_ref()?);
            entry.row = Row::Written(entry.session.last_seen);
            Some((entry.session.clone(), user))
        });
        let new = new.collect();
        let ended = table.ended.split_off(table.ended.len().saturating_sub(most));
        Changes { new, ended, is_lost: table.is_lost }
    }

    /// What was taken could not be written.
    pub fn put_back(&self, changes: Changes) {
        for (session, _) in changes.new {
            self.put_back_one(session.connection.connection_id);
        }
        let mut table = self.table.lock();
        match table.ended.len() + changes.ended.len() > MAX_ENDED {
            true => {
                table.is_lost = true;
                table.ended = Vec::new();
            }
            false => table.ended.extend(changes.ended),
        }
    }

    /// As [`Self::put_back`], of one session.
    fn put_back_one(&self, connection: ConnectionId) {
        let mut table = self.table.lock();
        let table = &mut *table;
        // If it has ended meanwhile, the removal of its row does no harm.
        if let Some(entry) = table.sessions.get_mut(&connection) {
            entry.row = Row::Due;
            table.due.insert(connection);
        }
    }

    /// No row of a session is, or will be, in the database.
    pub fn forget_row(&self, connection: ConnectionId) {
        if let Some(entry) = self.table.lock().sessions.get_mut(&connection) {
            entry.row = Row::None;
        }
    }

    /// The database has no row of any session any more: all are to be written.
    pub fn all_rows_are_gone(&self) {
        let mut table = self.table.lock();
        let table = &mut *table;
        // Whoever has ended stays noted: its row may have been written since they went.
        table.is_lost = false;
        table.generation += 1;
        for (connection, entry) in &mut table.sessions {
            if matches!(entry.row, Row::Written(_)) {
                entry.row = Row::Due;
                table.due.insert(*connection);
            }
        }
    }

    /// Written sessions that were heard of since they were, with the new time in milliseconds since 1970. It counts as
    /// written.
    pub fn take_seen(&self) -> Vec<(ConnectionId, u64)> {
        let mut table = self.table.lock();
        let entries = table.sessions.iter_mut();
        let seen = entries.filter_map(|(connection, entry)| {
            let now = entry.session.last_seen;
            match entry.row {
                Row::Written(before) if before < now => {
                    entry.row = Row::Written(now);
                    Some((*connection, now))
                }
                _ => None,
            }
        });
        seen.collect()
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

    /// As [`Self::touch`], and takes one event out of the user's bucket; false where there was none left.
    pub fn take_event(
        &self,
        connection: ConnectionId,
        now: u64,
        throttle: Option<Throttle>,
    ) -> (Option<Arc<User>>, bool) {
        let user = self.touch(connection, now);
        let (Some(user), Some(throttle)) = (user.as_ref(), throttle) else { return (user, true) };
        let mut table = self.table.lock();
        let Some(devices) = table.users.get_mut(&user.id) else { return (Some(Arc::clone(user)), true) };
        let bucket = devices.bucket.get_or_insert_with(|| Bucket::full(throttle, now));
        let is_allowed = bucket.take(throttle, now);
        (Some(Arc::clone(user)), is_allowed)
    }

    /// What is known of a user who is connected is this from now on.
    pub fn set_user(&self, user: Arc<User>) {
        if let Some(devices) = self.table.lock().users.get_mut(&user.id) {
            devices.user = Some(user);
        }
    }

    /// How many connections a user has.
    pub fn devices(&self, user: &UserId) -> usize {
        self.table.lock().users.get(user).map_or(0, |devices| devices.connections.len())
    }

    /// Whether somebody has a connection.
    pub fn is_connected(&self, user: &UserId) -> bool {
        self.table.lock().users.contains_key(user)
    }

    /// The open connections of an audience, each once. For those that are under way the frame is kept.
    pub fn targets(&self, audience: &Audience, frame: &Bytes) -> Vec<ConnectionId> {
        let mut table = self.table.lock();
        let Table { sessions, users, .. } = &mut *table;
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
