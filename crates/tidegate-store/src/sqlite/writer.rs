//! The thread that writes: takes all writes that wait, makes them in one transaction, answers after the commit.
//!
//! Each write is a savepoint, so that one that fails takes no other with it. A full disk may end the whole
//! transaction; then each write is tried once more on its own, so that small ones and removals still succeed.

use std::sync::mpsc::Receiver;

use rusqlite::Connection;
use tidegate_core::port::{Change, Document, StoreError};
use tokio::sync::oneshot;

use super::{schema, unavailable};

/// Writes of one transaction at most.
const GROUP: usize = 256;

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    Read { answer: Answer<Vec<Document>> },
    Write { changes: Vec<Change>, answer: Answer<()> },
}

/// Works until every sender is gone and the queue is empty. An answer that nobody waits for is dropped.
pub(super) fn run(connection: Connection, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut group = Vec::new();
        let mut next = Some(first);
        let mut read = None;
        while let Some(job) = next.take() {
            match job {
                Job::Write { changes, answer } => group.push((changes, answer)),
                // Reads see every write that was asked for before them.
                Job::Read { answer } => {
                    read = Some(answer);
                    break;
                }
            }
            if group.len() < GROUP {
                next = jobs.try_recv().ok();
            }
        }
        write(&connection, group);
        if let Some(answer) = read {
            let _ = answer.send(schema::read_all(&connection));
        }
    }
}

fn write(connection: &Connection, group: Vec<(Vec<Change>, Answer<()>)>) {
    if group.is_empty() {
        return;
    }
    let writes: Vec<&[Change]> = group.iter().map(|(changes, _)| changes.as_slice()).collect();
    let results = match together(connection, &writes) {
        Ok(results) => results,
        Err(error) if writes.len() == 1 => vec![Err(error)],
        Err(_) => writes.iter().map(|changes| alone(connection, changes)).collect(),
    };
    for ((_, answer), result) in group.into_iter().zip(results) {
        let _ = answer.send(result);
    }
}

fn alone(connection: &Connection, changes: &[Change]) -> Result<(), StoreError> {
    together(connection, &[changes])?.into_iter().collect()
}

/// One transaction for all. An error means that none of them happened.
fn together(
    connection: &Connection,
    writes: &[&[Change]],
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let transaction = Transaction::begin(connection)?;
    let mut results = Vec::with_capacity(writes.len());
    for changes in writes {
        let result = savepoint(connection, changes);
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

fn savepoint(connection: &Connection, changes: &[Change]) -> Result<(), StoreError> {
    execute(connection, "SAVEPOINT one")?;
    let result = changes.iter().try_for_each(|change| schema::make(connection, change));
    if result.is_err() && !connection.is_autocommit() {
        execute(connection, "ROLLBACK TO one")?;
    }
    if !connection.is_autocommit() {
        execute(connection, "RELEASE one")?;
    }
    result
}

fn execute(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    connection.execute_batch(sql).map_err(|error| unavailable("write", error))
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
            tracing::error!(%error, "a failed write could not be rolled back");
        }
    }
}
