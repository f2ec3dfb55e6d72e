//! What is remembered of broadcasts: in memory for answers, in a database for the next start.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::port::StoreError;
use tidegate_store::sql::{Database, Outcome, SqlError, SqlRow, SqlValue, Tx};

use crate::area::Point;

/// Steps that made the tables what they are, for both databases; never edited, only added to once released.
pub const MIGRATIONS: &[&str] = &[include_str!("history/schema.sql")];

/// Broadcasts that are remembered; the oldest goes for a new one.
pub const MAX_BROADCASTS: usize = 1000;

/// Receivers of all of them together; the oldest broadcasts go when there are more, but never the last.
pub const MAX_RECEIVERS: usize = 500_000;

const INSERT: &str =
    "INSERT INTO alerts_broadcast (id, position, sender, about, receivers) VALUES (?1, ?2, ?3, ?4, ?5)";
const FORGET: [&str; 2] =
    ["DELETE FROM alerts_broadcast WHERE id = ?1", "DELETE FROM alerts_acknowledgement WHERE broadcast = ?1"];
const ACKNOWLEDGE: &str = "INSERT INTO alerts_acknowledgement (broadcast, user_id, said) VALUES (?1, ?2, ?3) \
     ON CONFLICT (broadcast, user_id) DO UPDATE SET said = excluded.said";
const BROADCASTS: &str =
    "SELECT id, position, sender, about, receivers FROM alerts_broadcast ORDER BY position, id";
const ACKNOWLEDGEMENTS: &str = "SELECT broadcast, user_id, said FROM alerts_acknowledgement";

/// What a receiver said. No `Debug`: it has a position and notes.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Acknowledgement {
    pub(crate) user_id: Arc<str>,
    pub(crate) status: Cow<'static, str>,
    pub(crate) notes: Option<String>,
    pub(crate) location: Option<Point>,
    pub(crate) acknowledged_at: String,
}

/// A broadcast that was sent.
#[derive(Clone)]
pub(crate) struct Remembered {
    /// Who sent it: `user ...` or `key ...`.
    pub(crate) sender: String,
    pub(crate) about: Value,
    pub(crate) receivers: Arc<BTreeSet<Arc<str>>>,
    pub(crate) acknowledgements: BTreeMap<Arc<str>, Acknowledgement>,
}

#[derive(Default)]
struct Log {
    by_id: HashMap<Arc<str>, Remembered>,
    /// Oldest first.
    order: VecDeque<Arc<str>>,
    receivers: usize,
    /// Position of the newest.
    position: i64,
}

/// Whether an acknowledgement was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// `asks_for_help`: the user did not ask for help before.
    Yes {
        asks_for_help: bool,
    },
    NotAReceiver,
    NoBroadcast,
}

/// Broadcasts, at most [`MAX_BROADCASTS`] and [`MAX_RECEIVERS`]. Without a database they are forgotten at the end of the
/// process.
#[derive(Default)]
pub struct History {
    log: Mutex<Log>,
    database: Option<Arc<dyn Database>>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("broadcasts", &self.log.lock().order.len()).finish_non_exhaustive()
    }
}

impl Log {
    /// Gives the ids of those that went for it.
    fn remember(&mut self, id: Arc<str>, broadcast: Remembered) -> Vec<Arc<str>> {
        self.receivers += broadcast.receivers.len();
        self.by_id.insert(Arc::clone(&id), broadcast);
        self.order.push_back(id);
        let mut gone = Vec::new();
        while self.order.len() > 1 && (self.order.len() > MAX_BROADCASTS || self.receivers > MAX_RECEIVERS) {
            let Some(oldest) = self.order.pop_front() else { break };
            self.receivers -= self.by_id.remove(&oldest).map_or(0, |gone| gone.receivers.len());
            gone.push(oldest);
        }
        gone
    }
}

impl Remembered {
    pub(crate) fn summary(&self) -> Value {
        let mut summary = self.about.clone();
        summary["acknowledgment_count"] = self.acknowledgements.len().into();
        summary["acknowledgment_rate"] = self.rate().into();
        summary
    }

    /// Share of the receivers that have answered, in percent with one decimal.
    fn rate(&self) -> f64 {
        if self.receivers.is_empty() {
            return 0.0;
        }
        let share = self.acknowledgements.len() as f64 / self.receivers.len() as f64;
        (share * 1000.0).round() / 10.0
    }
}

/// A broadcast that is known and not yet written down.
pub(crate) struct Unwritten {
    id: Arc<str>,
    position: i64,
    gone: Vec<Arc<str>>,
}

impl History {
    /// Remembers in `database`, whose tables are [`MIGRATIONS`].
    pub fn new(database: Option<Arc<dyn Database>>) -> Self {
        Self { log: Mutex::default(), database }
    }

    /// Reads what an earlier process has written; rows beyond the bounds are removed.
    ///
    /// # Errors
    /// The database refuses, or has something else in these tables.
    pub async fn restore(&self) -> Result<(), StoreError> {
        let Some(database) = &self.database else { return Ok(()) };
        let read: Arc<Mutex<Log>> = Arc::default();
        let surplus: Arc<Mutex<HashSet<Arc<str>>>> = Arc::default();
        let (log, gone) = (Arc::clone(&read), Arc::clone(&surplus));
        let work = move |tx: &mut dyn Tx| {
            let mut found = Log::default();
            let mut surplus = HashSet::new();
            for row in tx.query(BROADCASTS, &[])? {
                found.position = row.int(1)?;
                surplus.extend(found.remember(row.text(0)?, broadcast_of(&row)?));
            }
            for row in tx.query(ACKNOWLEDGEMENTS, &[])? {
                let id = row.text(0)?;
                match found.by_id.get_mut(&id) {
                    Some(broadcast) => {
                        broadcast.acknowledgements.insert(row.text(1)?, parsed(&row.text(2)?)?);
                    }
                    None => {
                        surplus.insert(id);
                    }
                }
            }
            (*log.lock(), *gone.lock()) = (found, surplus);
            Ok(nothing_follows(false))
        };
        database.read(Box::new(work)).await?;
        *self.log.lock() = std::mem::take(&mut *read.lock());
        let surplus: Vec<Arc<str>> = surplus.lock().drain().collect();
        if surplus.is_empty() {
            return Ok(());
        }
        let work = move |tx: &mut dyn Tx| {
            forget(tx, &surplus)?;
            Ok(nothing_follows(true))
        };
        database.write(Vec::new(), Box::new(work)).await
    }

    pub(crate) fn knows(&self, id: &str) -> bool {
        self.log.lock().by_id.contains_key(id)
    }

    /// Takes a broadcast in before it is sent, so that no receiver answers one that is not known.
    pub(crate) fn begin(&self, id: Arc<str>, broadcast: Remembered) -> Unwritten {
        let mut log = self.log.lock();
        log.position += 1;
        let position = log.position;
        let gone = log.remember(Arc::clone(&id), broadcast);
        Unwritten { id, position, gone }
    }

    /// Says what became of it, and writes it down. A failure is told to operators: the broadcast has gone out.
    pub(crate) async fn finish(&self, unwritten: Unwritten, told: impl FnOnce(&mut Value)) {
        let Unwritten { id, position, gone } = unwritten;
        let broadcast = {
            let mut log = self.log.lock();
            let Some(broadcast) = log.by_id.get_mut(&id) else { return };
            told(&mut broadcast.about);
            broadcast.clone()
        };
        let Some(database) = &self.database else { return };
        let row = serde_json::to_string(&*broadcast.receivers).map(|receivers| {
            [
                SqlValue::from(id),
                SqlValue::from(position),
                SqlValue::from(broadcast.sender),
                SqlValue::from(broadcast.about.to_string()),
                SqlValue::from(receivers),
            ]
        });
        let Ok(row) = row else { return };
        let work = move |tx: &mut dyn Tx| {
            tx.execute(INSERT, &row)?;
            forget(tx, &gone)?;
            Ok(nothing_follows(true))
        };
        if let Err(error) = database.write(Vec::new(), Box::new(work)).await {
            tracing::error!(%error, diag = "store.unavailable", "a broadcast was sent and is not in the history");
        }
    }

    /// A page of a sender's broadcasts, newest first, and how many there are.
    pub(crate) fn page(&self, sender: &str, offset: usize, limit: usize) -> (Vec<Value>, usize) {
        let log = self.log.lock();
        let newest_first = log.order.iter().rev().filter_map(|id| log.by_id.get(id));
        let all: Vec<&Remembered> = newest_first.filter(|broadcast| broadcast.sender == sender).collect();
        let page = all.iter().skip(offset).take(limit).map(|one| one.summary()).collect();
        (page, all.len())
    }

    pub(crate) fn find(&self, id: &str) -> Option<Remembered> {
        self.log.lock().by_id.get(id).cloned()
    }

    /// Takes an answer in; the one before it is forgotten.
    pub(crate) fn acknowledge(&self, id: &str, said: &Acknowledgement) -> Taken {
        let mut log = self.log.lock();
        let Some(broadcast) = log.by_id.get_mut(id) else { return Taken::NoBroadcast };
        if !broadcast.receivers.contains(&said.user_id) {
            return Taken::NotAReceiver;
        }
        let asks = |said: &Acknowledgement| said.status == "need_help";
        let before = broadcast.acknowledgements.insert(Arc::clone(&said.user_id), said.clone());
        Taken::Yes { asks_for_help: asks(said) && !before.as_ref().is_some_and(asks) }
    }

    /// Writes down what [`Self::acknowledge`] took.
    pub(crate) async fn write_acknowledgement(
        &self,
        id: &str,
        said: &Acknowledgement,
    ) -> Result<(), StoreError> {
        let Some(database) = &self.database else { return Ok(()) };
        let text = serde_json::to_string(said);
        let text =
            text.map_err(|error| StoreError::Unavailable { operation: "write", source: error.into() })?;
        let row = [SqlValue::from(id), SqlValue::from(Arc::clone(&said.user_id)), SqlValue::from(text)];
        let work = move |tx: &mut dyn Tx| {
            tx.execute(ACKNOWLEDGE, &row)?;
            Ok(nothing_follows(true))
        };
        database.write(Vec::new(), Box::new(work)).await
    }
}

fn nothing_follows(is_kept: bool) -> Outcome {
    let after = Box::new(|| ());
    if is_kept { Outcome::Commit(after) } else { Outcome::Rollback(after) }
}

fn forget(tx: &mut dyn Tx, ids: &[Arc<str>]) -> Result<(), SqlError> {
    for id in ids {
        for sql in FORGET {
            tx.execute(sql, &[SqlValue::from(Arc::clone(id))])?;
        }
    }
    Ok(())
}

fn broadcast_of(row: &SqlRow) -> Result<Remembered, SqlError> {
    Ok(Remembered {
        sender: row.text(2)?.to_string(),
        about: parsed(&row.text(3)?)?,
        receivers: Arc::new(parsed(&row.text(4)?)?),
        acknowledgements: BTreeMap::new(),
    })
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, SqlError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Unavailable { operation: "read", source: error.into() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        // S3-56
        let mut log = Log::default();
        let broadcast = |receivers: usize| Remembered {
            sender: String::new(),
            about: Value::Null,
            receivers: Arc::new((0..receivers).map(|n| n.to_string().into()).collect()),
            acknowledgements: BTreeMap::new(),
        };
        for number in 0..=MAX_BROADCASTS {
            log.remember(number.to_string().into(), broadcast(1));
        }
        assert_eq!(
            (log.order.len(), log.by_id.len(), log.receivers),
            (MAX_BROADCASTS, MAX_BROADCASTS, MAX_BROADCASTS)
        );
        assert!(!log.by_id.contains_key("0"));
        let gone = log.remember("big".into(), broadcast(MAX_RECEIVERS));
        assert_eq!((log.order.len(), log.receivers, gone.len()), (1, MAX_RECEIVERS, MAX_BROADCASTS));
    }
}
