//! The thread that writes: takes all writes that wait, makes them in one transaction, answers after the commit.
//!
//! One that fails or is undone takes no other with it: mostly it has changed nothing, and nothing has to be done. When it has, the
//! transaction is given up and begun again with a savepoint for each write: a savepoint copies every page that its write changes,
//! which is too much for each of them. A full disk may end the whole transaction; then each write is tried once more on its own, so
//! that small ones and removals still succeed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tidegate_core::port::StoreError;
use tokio::sync::oneshot;

use super::{Write, unavailable};

/// Writes of one transaction at most.
const GROUP: usize = 256;

/// Losses of writes that nobody waits for are logged at most this often.
const LOSS_LOG_INTERVAL: Duration = Duration::from_secs(10);

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What has become of each write of a transaction that was kept.
type Results<T> = Vec<Result<T, StoreError>>;

/// What the thread is asked to do.
pub(super) enum Job<W: Write> {
    /// Answers for itself.
    Read(Box<dyn FnOnce(&Connection) + Send>),
    /// Without `answer` nobody waits for it.
    Write { write: W, answer: Option<Answer<W::Answer>> },
}

/// Works until every sender is gone and the queue is empty. An answer that nobody waits for is dropped. `n_waiting` goes
/// down by one for each job that is taken out of the queue.
pub(super) fn run<W: Write>(connection: Connection, jobs: &Receiver<Job<W>>, n_waiting: &AtomicUsize) {
    let mut losses = Losses::default();
    while let Ok(first) = jobs.recv() {
        let mut group = Vec::new();
        let mut next = Some(first);
        let mut read = None;
        while let Some(job) = next.take() {
            n_waiting.fetch_sub(1, Ordering::Relaxed);
            match job {
                Job::Write { write, answer } => group.push((write, answer)),
                // Reads see every write that was asked for before them.
                Job::Read(job) => {
                    read = Some(job);
                    break;
                }
            }
            if group.len() < GROUP {
                next = jobs.try_recv().ok();
            }
        }
        write(&connection, group, &mut losses);
        if let Some(read) = read {
            read(&connection);
        }
    }
}

fn write<W: Write>(connection: &Connection, group: Vec<(W, Option<Answer<W::Answer>>)>, losses: &mut Losses) {
    if group.is_empty() {
        return;
    }
    let writes: Vec<&W> = group.iter().map(|(write, _)| write).collect();
    let without_savepoints = match writes.len() {
        1 => Ok(None),
        _ => unguarded(connection, &writes),
    };
    let results = match without_savepoints {
        Ok(None) => together(connection, &writes),
        Ok(Some(results)) => Ok(results),
        Err(error) => Err(error),
    };
    let mut results = match results {
        Ok(results) => results,
        Err(error) if writes.len() == 1 => vec![Err(error)],
        Err(_) => writes.iter().map(|write| alone(connection, *write)).collect(),
    };
    for answer in results.iter_mut().flatten() {
        W::finish(answer);
    }
    for ((_, answer), result) in group.into_iter().zip(results) {
        match (answer, result) {
            (Some(answer), result) => drop(answer.send(result)),
            (None, Ok(_)) => {}
            (None, Err(error)) => losses.report(&error),
        }
    }
}

fn alone<W: Write>(connection: &Connection, write: &W) -> Result<W::Answer, StoreError> {
    let ended = || unavailable("write", "the transaction had no result");
    together(connection, &[write])?.pop().ok_or_else(ended)?
}

/// One transaction for all, without savepoints. None when one has to be undone, or failed, after it had changed something: then none
/// of them happened, and neither did any when there is an error.
fn unguarded<W: Write>(
    connection: &Connection,
    writes: &[&W],
) -> Result<Option<Results<W::Answer>>, StoreError> {
    let transaction = Transaction::begin(connection)?;
    let mut results = Vec::with_capacity(writes.len());
    for write in writes {
        let n_changes = connection.total_changes();
        let result = write.make(connection);
        if connection.is_autocommit() {
            return Ok(None);
        }
        let is_undone = result.as_ref().map_or(true, W::is_undone);
        if is_undone && connection.total_changes() != n_changes {
            return Ok(None);
        }
        results.push(result);
    }
    transaction.commit()?;
    Ok(Some(results))
}

/// One transaction for all, a savepoint for each of several. An error means that none of them happened.
fn together<W: Write>(connection: &Connection, writes: &[&W]) -> Result<Results<W::Answer>, StoreError> {
    let transaction = Transaction::begin(connection)?;
    if let [only] = writes {
        // It may take the transaction with it: no copy of each page that it changes is needed to take it back alone.
        let answer = only.make(connection)?;
        if !W::is_undone(&answer) {
            transaction.commit()?;
        }
        return Ok(vec![Ok(answer)]);
    }
    let mut results = Vec::with_capacity(writes.len());
    for write in writes {
        let result = savepoint(connection, *write);
        if connection.is_autocommit() {
            // The engine has given up the whole transaction, with the writes before this one.
            let ended = || unavailable("write", "the transaction was ended by the engine");
            return Err(result.err().unwrap_or_else(ended));
        }
        results.push(result);
    }
    transaction.commit()?;
    Ok(results)
}

fn savepoint<W: Write>(connection: &Connection, write: &W) -> Result<W::Answer, StoreError> {
    execute(connection, "SAVEPOINT one")?;
    let result = write.make(connection);
    let is_undone = result.as_ref().map_or(true, W::is_undone);
    if is_undone && !connection.is_autocommit() {
        execute(connection, "ROLLBACK TO one")?;
    }
    if !connection.is_autocommit() {
        execute(connection, "RELEASE one")?;
    }
    result
}

fn execute(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute([]))
        .map(drop)
        .map_err(|error| unavailable("write", error))
}

/// Rolls back unless it was committed.
struct Transaction<'c> {
    connection: &'c Connection,
}

impl<'c> Transaction<'c> {
    fn begin(connection: &'c Connection) -> Result<Self, StoreError> {
        execute(connection, "BEGIN IMMEDIATE")?;
        Ok(Self { connection })
    }

    fn commit(self) -> Result<(), StoreError> {
        execute(self.connection, "COMMIT")
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, diag = "store.unavailable", "a failed write could not be rolled back");
        }
    }
}

/// Failed writes that nobody waited for, since they were last logged. A full disk fails thousands in a second.
#[derive(Default)]
struct Losses {
    n_lost: u64,
    logged: Option<Instant>,
}

impl Losses {
    fn report(&mut self, error: &StoreError) {
        self.n_lost += 1;
        if self.logged.is_some_and(|logged| logged.elapsed() < LOSS_LOG_INTERVAL) {
            return;
        }
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(writes = self.n_lost, %error, cause, diag = "store.unavailable", "records were lost");
        *self = Self { n_lost: 0, logged: Some(Instant::now()) };
    }
}
