//! Hooks that are only told: written with the event, delivered at least once, in order for one room.
//!
//! A row of `chat_hook_delivery` is one call. Rows of one hook and one room form a lane; only the head of a lane is
//! called, so that a receiver hears of a room's changes in the order of their commits. Before its call a row is claimed
//! by moving its time on, so that of several nodes on one database only one calls it, and a node that dies in between leaves
//! it to be called again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::port::StoreError;
use tidegate_store::sql::{Database, Outcome, SqlRow, SqlValue, Tx};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{HookFailure, Hooks, Subject, body, hooks, host, signed};
use crate::error::ChatError;
use crate::event::Ctx;
use crate::model::Micros;
use crate::settings::extension::{Hook, Moment};
use crate::settings::live::LiveSettings;

/// Most rows. Beyond them events go on, their hooks are not told, and the log says so.
pub const MAX_DELIVERIES: i64 = 100_000;
/// Deliveries under way at a time.
const MAX_IN_FLIGHT: usize = 32;
/// A delivery that nobody took for so long is given up.
const GIVE_UP: Duration = Duration::from_secs(24 * 3600);
/// Longest pause between two calls.
const MAX_PAUSE: Duration = Duration::from_secs(600);
/// How often the queue is looked at although nothing was announced: rows of other nodes, and the count.
const LOOK: Duration = Duration::from_secs(5);

/// Microseconds since 1970.
pub type Clock = Arc<dyn Fn() -> Micros + Send + Sync>;

/// The queue of a node.
pub struct Deliveries {
    hooks: Arc<Hooks>,
    settings: Arc<LiveSettings>,
    clock: Clock,
    /// Rows, as far as this node knows; renewed with each look.
    count: AtomicI64,
    /// Rows that found no place since the last look.
    refused: AtomicI64,
    wake: Notify,
}

impl std::fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deliveries").field("count", &self.count).finish_non_exhaustive()
    }
}

/// A row that is waiting, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// `X-Tidegate-Delivery`.
    pub id: Uuid,
    /// `after` or `notify`.
    pub hook: String,
    /// Of its event.
    pub event_type: String,
    /// Host of the target.
    pub target: String,
    /// Which room it is about.
    pub room: Option<Uuid>,
    /// Calls so far.
    pub attempts: i64,
    /// When the event was.
    pub created_at: Micros,
    /// Next call.
    pub next_at: Micros,
    /// Why the last call failed.
    pub last_error: Option<String>,
}

/// A row that was claimed.
struct Claimed {
    id: Uuid,
    moment: Moment,
    target: String,
    body: Arc<str>,
    attempts: i64,
}

impl Deliveries {
    /// An empty queue until [`Self::run`] has looked.
    pub fn new(hooks: Arc<Hooks>, settings: Arc<LiveSettings>, clock: Clock) -> Self {
        let (count, refused) = (AtomicI64::new(0), AtomicI64::new(0));
        Self { hooks, settings, clock, count, refused, wake: Notify::new() }
    }

    /// Writes a delivery for each hook of `moment` that takes the event, in the event's transaction.
    ///
    /// # Errors
    /// The database.
    pub fn enqueue(
        &self,
        ctx: &mut Ctx<'_>,
        moment: Moment,
        subject: &Subject<'_>,
        data: &Value,
    ) -> Result<(), ChatError> {
        let settings = ctx.settings;
        for hook in hooks(settings, moment, subject.event_type) {
            if self.count.load(Ordering::Relaxed) >= MAX_DELIVERIES {
                self.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let id = ctx.new_id();
            let room = subject.room.map(|(room, _)| room);
            // Without a room there is no order to keep.
            let lane = room.map_or_else(|| id.to_string(), |room| format!("{room} {}", hook.target));
            let sql = "INSERT INTO chat_hook_delivery (id, lane, hook, event_type, target, room, body, created_at, next_at, \
                       attempts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, 0)";
            let text = body(settings, moment, subject, Some(data)).to_string();
            let parameters = [
                SqlValue::from(id.into_bytes()),
                SqlValue::from(lane),
                SqlValue::from(moment.as_str()),
                SqlValue::from(subject.event_type),
                SqlValue::from(hook.target.as_str()),
                SqlValue::from(room.map(Uuid::into_bytes)),
                SqlValue::from(text),
                SqlValue::Int(ctx.now),
            ];
            ctx.tx.execute(sql, &parameters)?;
            // A little too much when the transaction is given up; the next look puts it right.
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Something was committed that may have left deliveries.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Delivers until it is dropped. What is under way then is called again by the next run.
    pub async fn run(&self, database: &dyn Database) {
        let mut calls = JoinSet::new();
        loop {
            let room = MAX_IN_FLIGHT.saturating_sub(calls.len());
            let claimed = match self.claim(database, room).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::warn!(%error, diag = Diagnosis::STORE_UNAVAILABLE.as_str(), "the deliveries of chat hooks could not be read");
                    Vec::new()
                }
            };
            let has_more = claimed.len() == room;
            for row in claimed {
                let hook = self.hook_of(&row);
                let hooks = Arc::clone(&self.hooks);
                let now = (self.clock)();
                calls.spawn(async move {
                    let told = match &hook {
                        Some(hook) => tell(&hooks, hook, &row, now).await,
                        None => Ok(()),
                    };
                    (row, hook, told)
                });
            }
            let pause = self.pause(database).await;
            tokio::select! {
                Some(done) = calls.join_next() => {
                    // A panic of the transport leaves the row claimed; it is called again when the claim ends.
                    let mut done: Vec<_> = done.into_iter().collect();
                    while let Some(next) = calls.try_join_next() {
                        done.extend(next);
                    }
                    if let Err(error) = self.settle(database, done).await {
                        tracing::warn!(%error, diag = Diagnosis::STORE_UNAVAILABLE.as_str(), "the outcome of chat hooks could not be written");
                    }
                }
                () = self.wake.notified(), if !has_more || calls.is_empty() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Until the next row is due, at most [`LOOK`].
    async fn pause(&self, database: &dyn Database) -> Duration {
        let next: Arc<Mutex<Option<Micros>>> = Arc::default();
        let found = Arc::clone(&next);
        let read = database.read(Box::new(move |tx| {
            let sql = "SELECT min(next_at) FROM chat_hook_delivery d \
                       WHERE NOT EXISTS (SELECT 1 FROM chat_hook_delivery e WHERE e.lane = d.lane AND e.id < d.id)";
            let rows = tx.query(sql, &[])?;
            *found.lock() = rows.first().map(|row| row.optional(0, SqlRow::int)).transpose()?.flatten();
            Ok(Outcome::Rollback(Box::new(|| ())))
        }));
        if read.await.is_err() {
            return LOOK;
        }
        let Some(next) = next.lock().take() else { return LOOK };
        let wait = u64::try_from(next.saturating_sub((self.clock)())).unwrap_or(0);
        Duration::from_micros(wait).clamp(Duration::from_millis(1), LOOK)
    }

    /// The hook that a row is for, as settings have it now: its secret may have changed, and it may be gone.
    fn hook_of(&self, row: &Claimed) -> Option<Hook> {
        let settings = self.settings.load();
        settings.hooks.iter().find(|hook| hook.on == row.moment && hook.target == row.target).cloned()
    }

    /// Takes rows that are due, oldest first, one for each lane, and gives up those that are too old.
    async fn claim(&self, database: &dyn Database, most: usize) -> Result<Vec<Claimed>, StoreError> {
        let now = (self.clock)();
        let taken: Arc<Mutex<(Vec<Claimed>, i64, usize)>> = Arc::default();
        let result = Arc::clone(&taken);
        let settings = self.settings.load();
        let work = Box::new(move |tx: &mut dyn Tx| {
            let too_old = now - micros(GIVE_UP);
            let sql = "DELETE FROM chat_hook_delivery WHERE created_at < ?1 AND next_at <= ?2";
            let given_up = tx.execute(sql, &[SqlValue::Int(too_old), SqlValue::Int(now)])?;
            let sql = "SELECT id, hook, target, body, attempts FROM chat_hook_delivery d WHERE next_at <= ?1 \
                       AND NOT EXISTS (SELECT 1 FROM chat_hook_delivery e WHERE e.lane = d.lane AND e.id < d.id) \
                       ORDER BY next_at, id LIMIT ?2";
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let mut claimed = Vec::new();
            for row in tx.query(sql, &[SqlValue::Int(now), SqlValue::Int(most)])? {
                let row = claimed_of(&row)?;
                let timeout = settings
                    .hooks
                    .iter()
                    .find(|hook| hook.on == row.moment && hook.target == row.target)
                    .map_or(Duration::ZERO, Hook::timeout);
                let until = now + micros(timeout + 2 * LOOK);
                // Another node may have been faster.
                let sql = "UPDATE chat_hook_delivery SET next_at = ?1 WHERE id = ?2 AND next_at <= ?3";
                let id = SqlValue::from(row.id.into_bytes());
                if tx.execute(sql, &[SqlValue::Int(until), id, SqlValue::Int(now)])? == 1 {
                    claimed.push(row);
                }
            }
            let sql = "SELECT count(*) FROM chat_hook_delivery";
            let count = tx.query(sql, &[])?.first().map_or(Ok(0), |row| row.int(0))?;
            *result.lock() = (claimed, count, given_up);
            Ok(Outcome::Commit(Box::new(|| ())))
        });
        if most == 0 {
            return Ok(Vec::new());
        }
        database.write(Vec::new(), work).await?;
        let (claimed, count, given_up) = std::mem::take(&mut *taken.lock());
        self.count.store(count, Ordering::Relaxed);
        let refused = self.refused.swap(0, Ordering::Relaxed);
        if given_up > 0 {
            tracing::warn!(
                count = given_up,
                diag = Diagnosis::CHAT_HOOK_LOST.as_str(),
                "deliveries of chat hooks were given up after 24 hours"
            );
        }
        if refused > 0 {
            tracing::warn!(
                count = refused,
                limit = MAX_DELIVERIES,
                diag = Diagnosis::CHAT_HOOK_LOST.as_str(),
                "deliveries of chat hooks found no place and are lost"
            );
        }
        Ok(claimed)
    }

    /// Writes what became of calls.
    async fn settle(
        &self,
        database: &dyn Database,
        done: Vec<(Claimed, Option<Hook>, Result<(), HookFailure>)>,
    ) -> Result<(), StoreError> {
        let now = (self.clock)();
        for (row, hook, told) in &done {
            if let (Some(hook), Err(failure)) = (hook, told) {
                tracing::warn!(
                    hook = row.moment.as_str(),
                    target = %host(&hook.target),
                    attempts = row.attempts + 1,
                    %failure,
                    diag = Diagnosis::CHAT_HOOK_FAILED.as_str(), "a chat hook was not told, and will be"
                );
            }
        }
        let work = Box::new(move |tx: &mut dyn Tx| {
            for (row, _, told) in &done {
                let id = SqlValue::from(row.id.into_bytes());
                match told {
                    Ok(()) => tx.execute("DELETE FROM chat_hook_delivery WHERE id = ?1", &[id])?,
                    Err(failure) => {
                        let sql = "UPDATE chat_hook_delivery SET next_at = ?1, attempts = ?2, last_error = ?3 WHERE id = ?4";
                        let attempts = row.attempts + 1;
                        let next = now + micros(back_off(attempts));
                        let error = SqlValue::from(failure.to_string());
                        tx.execute(sql, &[SqlValue::Int(next), SqlValue::Int(attempts), error, id])?
                    }
                };
            }
            Ok(Outcome::Commit(Box::new(|| ())))
        });
        database.write(Vec::new(), work).await
    }
}

/// What waits, oldest first, behind `after`.
///
/// # Errors
/// The database.
pub fn waiting(tx: &mut dyn Tx, after: Option<Uuid>, most: usize) -> Result<Vec<Waiting>, ChatError> {
    let sql = "SELECT id, hook, event_type, target, room, attempts, created_at, next_at, last_error FROM chat_hook_delivery \
               WHERE id > ?1 ORDER BY id LIMIT ?2";
    let after = SqlValue::from(after.unwrap_or(Uuid::nil()).into_bytes());
    let rows = tx.query(sql, &[after, SqlValue::Int(i64::try_from(most).unwrap_or(i64::MAX))])?;
    rows.iter()
        .map(|row| {
            Ok(Waiting {
                id: Uuid::from_bytes(row.id(0)?),
                hook: row.text(1)?.to_string(),
                event_type: row.text(2)?.to_string(),
                target: host(&row.text(3)?).to_owned(),
                room: row.optional(4, SqlRow::id)?.map(Uuid::from_bytes),
                attempts: row.int(5)?,
                created_at: row.int(6)?,
                next_at: row.int(7)?,
                last_error: row.optional(8, SqlRow::text)?.map(|text| text.to_string()),
            })
        })
        .collect()
}

async fn tell(hooks: &Hooks, hook: &Hook, row: &Claimed, now: Micros) -> Result<(), HookFailure> {
    let millis = u64::try_from(now / 1000).unwrap_or(0);
    let call = signed(hook, row.id, millis, row.body.as_bytes().to_vec().into());
    hooks.call(call).await.map(|_| ())
}

fn claimed_of(row: &SqlRow) -> Result<Claimed, tidegate_store::sql::SqlError> {
    let moment = if &*row.text(1)? == Moment::Notify.as_str() { Moment::Notify } else { Moment::After };
    Ok(Claimed {
        id: Uuid::from_bytes(row.id(0)?),
        moment,
        target: row.text(2)?.to_string(),
        body: row.text(3)?,
        attempts: row.int(4)?,
    })
}

/// 1 s, 2 s, 4 s, ... 10 minutes.
fn back_off(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts.clamp(1, 16) - 1).unwrap_or(0);
    Duration::from_secs(1 << doublings).min(MAX_PAUSE)
}

fn micros(duration: Duration) -> Micros {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
