//! The sessions in the database, for operators, other nodes and extensions. What is in memory decides; the table follows.
//!
//! A session is written before its connection is answered, because the handler that writes it may refuse. Nothing is written
//! where messages pass: once a second what has ended is removed together, and now and then it is written who was heard of.
//! A database that only one process can have open is emptied of sessions at the start. On a shared one each node moves a
//! beat on, and takes out nodes whose beat has stood still for [`Timing::dead`] on its own clock, so that clocks need not
//! agree. A node that was taken out by mistake finds itself missing, and writes all its sessions again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_core::app::Refusal;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::port::StoreError;
use tidegate_store::sql::{Outcome, SqlError, Tx};
use tokio::time::Instant;
use uuid::Uuid;

use super::Chat;
use super::admission::no_database;
use crate::connections::{Changes, Session};
use crate::error::ChatError;
use crate::event::Ctx;
use crate::extension::guarded;
use crate::front::{Front, refusal_of};
use crate::hook::ConnectRefusal;
use crate::model::{Micros, User};
use crate::settings::Settings;
use crate::store::sessions::{self, SessionRow};

/// Sessions of one transaction: others wait no longer for it than for a few messages.
const AT_ONCE: usize = 100;

/// How often a node is entered for one session: others may take it out for dead, but hardly again and again.
const ENTRIES: u32 = 3;

/// How often, and how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// Between two looks at what has begun and ended.
    pub(super) flush: Duration,
    /// Between two writes of who was heard of.
    pub(super) seen: Duration,
    /// Between two beats.
    pub(super) beat: Duration,
    /// Without a beat a node is dead.
    pub(super) dead: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            flush: Duration::from_secs(1),
            seen: Duration::from_secs(30),
            beat: Duration::from_secs(5),
            dead: Duration::from_secs(20),
        }
    }
}

/// This process in the table of sessions.
#[derive(Debug)]
pub(super) struct SessionTable {
    /// Made anew by each process.
    pub(super) node: Uuid,
    pub(super) timing: Timing,
    /// The node is entered by one at a time.
    entering: tokio::sync::Mutex<()>,
    /// The last connections have ended: nothing is written any more.
    is_over: AtomicBool,
}

impl Default for SessionTable {
    fn default() -> Self {
        Self {
            node: Uuid::now_v7(),
            timing: Timing::default(),
            entering: tokio::sync::Mutex::default(),
            is_over: AtomicBool::new(false),
        }
    }
}

/// A node that others watch.
#[derive(Debug, Clone, Copy)]
struct Watched {
    beat: i64,
    since: Instant,
}

/// Nodes whose beat has stood still for `dead`. `seen` is all there are; nobody else is remembered.
fn lapsed(
    watched: &mut HashMap<Uuid, Watched>,
    seen: &[(Uuid, i64)],
    now: Instant,
    dead: Duration,
) -> Vec<(Uuid, i64)> {
    watched.retain(|node, _| seen.iter().any(|(known, _)| known == node));
    let mut silent = Vec::new();
    for &(node, beat) in seen {
        let known = watched.entry(node).or_insert(Watched { beat, since: now });
        if known.beat != beat {
            *known = Watched { beat, since: now };
        } else if now.saturating_duration_since(known.since) >= dead {
            silent.push((node, beat));
        }
    }
    silent
}

/// What became of a batch.
#[derive(Debug, Default)]
enum Wrote {
    #[default]
    All,
    /// The node is not entered, or not any more.
    NoNode,
    /// One session could not be registered; nothing was written.
    Failed { index: usize, error: ChatError },
}

impl Chat {
    /// Keeps the table up to date until it is dropped.
    pub(super) async fn keep_sessions(&self) {
        let Timing { flush, seen, beat, .. } = self.sessions.timing;
        let mut interval = tokio::time::interval(flush);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut has_failed = false;
        let (mut seen_at, mut beat_at) = (Instant::now(), Instant::now());
        let mut watched = HashMap::new();
        loop {
            interval.tick().await;
            if self.sessions.is_over.load(Ordering::Relaxed) {
                continue;
            }
            let now = Instant::now();
            let kept = async {
                let mut generation = self.dispatcher.connections.generation();
                if generation == 0 {
                    generation = self.enter_node_after(generation).await?;
                }
                if !self.write_changes().await? {
                    self.enter_node_after(generation).await?;
                }
                if now.duration_since(seen_at) >= seen {
                    seen_at = now;
                    self.write_seen().await?;
                }
                if self.database.is_shared() && now.duration_since(beat_at) >= beat {
                    beat_at = now;
                    self.beat(&mut watched, now).await?;
                }
                Ok::<(), StoreError>(())
            };
            match kept.await {
                Ok(()) => has_failed = false,
                Err(error) if !has_failed => {
                    has_failed = true;
                    let diag = Diagnosis::STORE_UNAVAILABLE.as_str();
                    tracing::warn!(%error, diag, "the sessions of the chat could not be written, and will be");
                }
                Err(_) => {}
            }
        }
    }

    /// The last connections have ended: nothing of this node stays in the table.
    pub(super) async fn end_sessions(&self) {
        self.sessions.is_over.store(true, Ordering::Relaxed);
        let node = self.sessions.node;
        if let Err(error) = self.in_table(move |tx| sessions::remove_node(tx, node)).await {
            let diag = Diagnosis::STORE_UNAVAILABLE.as_str();
            tracing::warn!(%error, diag, "the sessions of the chat stay in the database until they lapse");
        }
    }

    /// Sessions of other nodes, by connection.
    ///
    /// # Errors
    /// The database.
    pub(crate) async fn sessions_elsewhere(
        &self,
        after: &str,
        most: usize,
    ) -> Result<Vec<SessionRow>, ChatError> {
        if !self.database.is_shared() {
            return Ok(Vec::new());
        }
        let found: Arc<Mutex<Result<Vec<SessionRow>, ChatError>>> = Arc::new(Mutex::new(Ok(Vec::new())));
        let (result, node, after) = (Arc::clone(&found), self.sessions.node, after.to_owned());
        let work = move |tx: &mut dyn Tx| {
            *result.lock() = sessions::of_other_nodes(tx, node, &after, most);
            Ok(Outcome::Rollback(Box::new(|| ())))
        };
        self.database.read(Box::new(work)).await.map_err(|error| super::internal(&error))?;
        std::mem::replace(&mut *found.lock(), Ok(Vec::new()))
    }

    /// The process's id in the table.
    pub(crate) fn session_node(&self) -> Uuid {
        self.sessions.node
    }

    async fn in_table(
        &self,
        work: impl Fn(&mut dyn Tx) -> Result<(), SqlError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let work = move |tx: &mut dyn Tx| {
            work(tx)?;
            Ok(Outcome::Commit(Box::new(|| ())))
        };
        self.database.write(Vec::new(), Box::new(work)).await
    }

    /// Writes the session of a connection that is about to be accepted.
    ///
    /// # Errors
    /// How the connection is refused: by the handler, or because the database does not take it.
    pub(super) async fn register(
        &self,
        settings: &Arc<Settings>,
        session: Session,
        user: &Arc<User>,
    ) -> Result<(), Box<Refusal>> {
        let connection = session.connection.connection_id;
        match self.try_register(settings, session, user).await {
            Ok(None) => Ok(()),
            Ok(Some(error)) => {
                let diagnosis = match error {
                    ChatError::Custom { .. } => Diagnosis::CHAT_AUTH_FAILED,
                    _ => Diagnosis::CHAT_EXTENSION_FAILED,
                };
                if diagnosis == Diagnosis::CHAT_EXTENSION_FAILED {
                    let diag = diagnosis.as_str();
                    tracing::warn!(%connection, %error, diag, "a session of the chat could not be registered");
                }
                let ConnectRefusal { code, reason } = refusal_of(&error);
                let facts = Facts::none().with("check", "session").with("closeCode", code);
                let refusal = Refusal::new(403, reason, diagnosis);
                Err(Box::new(Refusal { close_code: Some(code), facts, ..refusal }))
            }
            Err(error) => {
                self.dispatcher.connections.maybe_registered(connection);
                Err(no_database(&error))
            }
        }
    }

    /// Gives what the handler has against it.
    async fn try_register(
        &self,
        settings: &Arc<Settings>,
        session: Session,
        user: &Arc<User>,
    ) -> Result<Option<ChatError>, StoreError> {
        let node = self.sessions.node;
        for _ in 0..ENTRIES {
            let wrote: Arc<Mutex<Wrote>> = Arc::default();
            let generation = self.dispatcher.connections.generation();
            let (row, last_seen) = (row_of(node, &session), session.last_seen);
            let (result, settings, user) = (Arc::clone(&wrote), Arc::clone(settings), Arc::clone(user));
            let (front, dispatcher) = (Arc::clone(&self.front), Arc::clone(&self.dispatcher));
            let now = self.clock.now();
            let work = move |tx: &mut dyn Tx| {
                let (wrote, outcome) = match sessions::is_entered(tx, node)? {
                    false => (Wrote::NoNode, Outcome::Rollback(Box::new(|| ()))),
                    true => match write_row(tx, &settings, &front, &user, &row, now) {
                        Err(error) => (Wrote::Failed { index: 0, error }, Outcome::Rollback(Box::new(|| ()))),
                        Ok(()) => {
                            // Whether or not somebody still waits for it: a row without a session must not stay.
                            let (dispatcher, connection) = (Arc::clone(&dispatcher), row.connection);
                            let after = move || {
                                dispatcher.connections.registered(connection, last_seen, generation);
                            };
                            (Wrote::All, Outcome::Commit(Box::new(after)))
                        }
                    },
                };
                *result.lock() = wrote;
                Ok(outcome)
            };
            self.database.write(Vec::new(), Box::new(work)).await?;
            match std::mem::take(&mut *wrote.lock()) {
                Wrote::All => return Ok(None),
                Wrote::Failed { error, .. } => return Ok(Some(error)),
                Wrote::NoNode => {}
            }
            if self.sessions.is_over.load(Ordering::Relaxed) {
                break;
            }
            self.enter_node_after(generation).await?;
        }
        Err(StoreError::Unavailable { operation: "write", source: "the node is not entered".into() })
    }

    /// Enters the node, unless somebody has done so since `generation`. Gives the generation of now.
    async fn enter_node_after(&self, generation: u64) -> Result<u64, StoreError> {
        let _one = self.sessions.entering.lock().await;
        if self.dispatcher.connections.generation() == generation {
            self.enter_node().await?;
        }
        Ok(self.dispatcher.connections.generation())
    }

    async fn enter_node(&self) -> Result<(), StoreError> {
        let (node, now) = (self.sessions.node, self.clock.now());
        let is_shared = self.database.is_shared();
        let enter = move |tx: &mut dyn Tx| {
            if !is_shared {
                sessions::remove_all(tx)?;
            }
            sessions::enter_node(tx, node, now)
        };
        self.in_table(enter).await?;
        self.dispatcher.connections.all_rows_are_gone();
        Ok(())
    }

    /// Writes all that has begun and ended. False: the node is to be entered again.
    async fn write_changes(&self) -> Result<bool, StoreError> {
        let connections = &self.dispatcher.connections;
        loop {
            let changes = connections.take_changes(AT_ONCE);
            if changes.is_lost {
                return Ok(false);
            }
            if changes.new.is_empty() && changes.ended.is_empty() {
                return Ok(true);
            }
            let Changes { new, ended, .. } = changes;
            if !self.write_batch(new, ended).await? {
                return Ok(false);
            }
        }
    }

    /// One batch, and where a session of it fails each one for itself.
    async fn write_batch(
        &self,
        new: Vec<(Session, Arc<User>)>,
        ended: Vec<tidegate_core::id::ConnectionId>,
    ) -> Result<bool, StoreError> {
        let connections = &self.dispatcher.connections;
        let (new, ended) = (Arc::new(new), Arc::new(ended));
        let back = || Changes { new: new.to_vec(), ended: ended.to_vec(), is_lost: false };
        match self.try_batch(&new, &ended).await {
            Ok(Wrote::All) => Ok(true),
            Ok(Wrote::NoNode) => {
                connections.put_back(back());
                Ok(false)
            }
            Ok(Wrote::Failed { index, error }) if new.len() > 1 => {
                tracing::debug!(index, %error, "a session was refused: each is written for itself");
                let mut left = ended.to_vec();
                for one in new.iter() {
                    let written =
                        Box::pin(self.write_batch(vec![one.clone()], std::mem::take(&mut left))).await;
                    match written {
                        Ok(true) => {}
                        failed => {
                            // Those that are written twice stay as they are.
                            connections.put_back(Changes { new: new.to_vec(), ..Changes::default() });
                            return failed;
                        }
                    }
                }
                Ok(true)
            }
            Ok(Wrote::Failed { error, .. }) => {
                connections.put_back(Changes { ended: ended.to_vec(), ..Changes::default() });
                if let Some((session, _)) = new.first() {
                    self.not_registered(session, &error);
                }
                Ok(true)
            }
            Err(error) => {
                connections.put_back(back());
                Err(error)
            }
        }
    }

    async fn try_batch(
        &self,
        new: &Arc<Vec<(Session, Arc<User>)>>,
        ended: &Arc<Vec<tidegate_core::id::ConnectionId>>,
    ) -> Result<Wrote, StoreError> {
        let wrote: Arc<Mutex<Wrote>> = Arc::default();
        let (result, new, ended) = (Arc::clone(&wrote), Arc::clone(new), Arc::clone(ended));
        let (node, now) = (self.sessions.node, self.clock.now());
        let (settings, front) = (self.settings.load(), Arc::clone(&self.front));
        let work = move |tx: &mut dyn Tx| {
            if !sessions::is_entered(tx, node)? {
                *result.lock() = Wrote::NoNode;
                return Ok(Outcome::Rollback(Box::new(|| ())));
            }
            for connection in ended.iter() {
                sessions::remove(tx, node, *connection)?;
            }
            for (index, (session, user)) in new.iter().enumerate() {
                let row = row_of(node, session);
                if let Err(error) = write_row(tx, &settings, &front, user, &row, now) {
                    *result.lock() = Wrote::Failed { index, error };
                    return Ok(Outcome::Rollback(Box::new(|| ())));
                }
            }
            *result.lock() = Wrote::All;
            Ok(Outcome::Commit(Box::new(|| ())))
        };
        self.database.write(Vec::new(), Box::new(work)).await?;
        Ok(std::mem::take(&mut *wrote.lock()))
    }

    /// An extension wants a session not to be any more, or has failed, when it was to be written again.
    fn not_registered(&self, session: &Session, error: &ChatError) {
        let connection = session.connection.connection_id;
        self.dispatcher.connections.forget_row(connection);
        match (error, self.dispatcher.host()) {
            (ChatError::Custom { .. }, Some(host)) => {
                let refusal = refusal_of(error);
                host.close(connection, refusal.code, &refusal.reason, Diagnosis::CHAT_AUTH_FAILED);
            }
            _ => {
                let diag = Diagnosis::CHAT_EXTENSION_FAILED.as_str();
                tracing::warn!(%connection, %error, diag, "a session of the chat was not written");
            }
        }
    }

    async fn write_seen(&self) -> Result<(), StoreError> {
        let node = self.sessions.node;
        for batch in self.dispatcher.connections.take_seen().chunks(AT_ONCE) {
            let batch = batch.to_vec();
            let touch = move |tx: &mut dyn Tx| {
                for (connection, seen) in &batch {
                    sessions::touch(tx, node, *connection, micros(*seen))?;
                }
                Ok(())
            };
            self.in_table(touch).await?;
        }
        Ok(())
    }

    async fn beat(&self, watched: &mut HashMap<Uuid, Watched>, now: Instant) -> Result<(), StoreError> {
        let node = self.sessions.node;
        let found: Arc<Mutex<Vec<(Uuid, i64)>>> = Arc::default();
        let result = Arc::clone(&found);
        let look = move |tx: &mut dyn Tx| {
            sessions::beat(tx, node)?;
            *result.lock() = sessions::other_nodes(tx, node)?;
            Ok(())
        };
        self.in_table(look).await?;
        let seen = std::mem::take(&mut *found.lock());
        for (other, beat) in lapsed(watched, &seen, now, self.sessions.timing.dead) {
            self.in_table(move |tx| sessions::remove_silent(tx, other, beat).map(drop)).await?;
            tracing::info!(node = %other, "a node of the chat is silent: its sessions are taken out");
        }
        Ok(())
    }
}

/// Asks the handler to write a session.
fn write_row(
    tx: &mut dyn Tx,
    settings: &Settings,
    front: &Front,
    user: &User,
    row: &SessionRow,
    now: Micros,
) -> Result<(), ChatError> {
    let mut ctx = Ctx::new(tx, settings, user, Some(row.connection), now);
    ctx.extensions = &front.extensions;
    let handler = &front.extensions.handler;
    guarded(|| handler.register_session(&mut ctx, row))
}

fn row_of(node: Uuid, session: &Session) -> SessionRow {
    SessionRow {
        node,
        connection: session.connection.connection_id,
        user: session.user.clone(),
        connected_at: micros(session.connection.connected_at),
        last_seen: micros(session.last_seen),
    }
}

/// Of milliseconds.
fn micros(millis: u64) -> Micros {
    i64::try_from(millis).unwrap_or(i64::MAX / 1000).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node is dead when its beat has stood still for long enough on the clock of whoever looks; a beat makes it alive.
    #[test]
    fn nodes_lapse_when_their_beat_stands_still() {
        let (mut watched, dead) = (HashMap::new(), Duration::from_secs(20));
        let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
        let begin = Instant::now();
        let mut look = |seconds: u64, seen: &[(Uuid, i64)]| {
            lapsed(&mut watched, seen, begin + Duration::from_secs(seconds), dead)
        };
        assert!(look(0, &[(one, 5), (two, 1)]).is_empty());
        assert!(look(19, &[(one, 6), (two, 1)]).is_empty());
        assert_eq!(look(20, &[(one, 6), (two, 1)]), [(two, 1)]);
        assert!(look(38, &[(one, 6)]).is_empty());
        // It has come back meanwhile, and is watched from the start.
        assert_eq!(look(39, &[(one, 6), (two, 1)]), [(one, 6)]);
        assert!(look(58, &[(two, 1)]).is_empty());
        assert_eq!(watched.len(), 1);
    }
}
