//! The thread that takes what is in the log of writes over into the file, while the writer goes on.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tidegate_core::port::StoreError;

use crate::engine::{LOCK_WAIT, unavailable};

/// Works after which it begins.
const WORKS: usize = 256;

/// Dropping it waits until it has ended.
#[derive(Debug)]
pub(super) struct Checkpointer {
    n_written: AtomicUsize,
    /// `None` only while it is dropped.
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// For the file at `path`, which is in WAL mode.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]
    pub(super) fn start(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(path).map_err(|error| unavailable("open", error))?;
        connection.busy_timeout(LOCK_WAIT).map_err(|error| unavailable("open", error))?;
        // One that waits is enough: it takes over everything that is there when it begins.
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("sql-checkpoint".to_owned())
            .spawn(move || run(&connection, &woken))
            .map_err(|error| unavailable("open", error))?;
        Ok(Self { n_written: AtomicUsize::new(0), wake: Some(wake), thread: Some(thread) })
    }

    /// A work has ended.
    pub(super) fn written(&self) {
        let n_before = self.n_written.fetch_add(1, Ordering::Relaxed);
        if n_before % WORKS == WORKS - 1
            && let Some(wake) = &self.wake
        {
            // Full: it will begin anyway.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(diag = "store.unavailable", "the thread of checkpoints has panicked");
        }
    }
}

fn run(connection: &Connection, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        // `PASSIVE` waits for nobody, and nobody for it. What it leaves, the writer does.
        if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::debug!(%error, "a checkpoint was left to the writer");
        }
    }
}
