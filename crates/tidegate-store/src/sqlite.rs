//! The definitions: documents in one SQLite file.

mod schema;

use std::path::Path;

use rusqlite::Connection;
use tidegate_core::port::{BoxFuture, Change, DefinitionStore, Document, StoreError};

use crate::engine::{Engine, Options, Write};

/// Documents in one SQLite file.
///
/// Dropping it waits until the writes that were taken are done.
#[derive(Debug)]
pub struct SqliteStore {
    engine: Engine<Vec<Change>>,
}

impl SqliteStore {
    /// Opens the file at `path`, and creates it and its folder where they are missing.
    ///
    /// Blocks: for a start, not for a request.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] with [`crate::InUse`] as its cause's cause when another process has it open, with
    /// what the system says otherwise; [`StoreError::TooNew`] when a later version has written it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, &Options::default())
    }

    /// [`Self::open`] with settings of a test.
    #[doc(hidden)]
    pub fn open_with(path: &Path, options: &Options) -> Result<Self, StoreError> {
        Ok(Self { engine: Engine::open(path, options)? })
    }

    /// A store that forgets everything when it is dropped.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_in_memory() -> Result<Self, StoreError> {
        Ok(Self { engine: Engine::open_in_memory()? })
    }
}

impl DefinitionStore for SqliteStore {
    fn load(&self) -> BoxFuture<'_, Result<Vec<Document>, StoreError>> {
        Box::pin(self.engine.read(schema::read_all))
    }

    /// The write happens also when the future is dropped after its first poll.
    fn apply(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if changes.is_empty() {
                return Ok(());
            }
            self.engine.write(changes).await
        })
    }
}

impl Write for Vec<Change> {
    type Answer = ();

    const THREAD: &'static str = "store-writer";

    const MIGRATIONS: &'static [&'static str] = &schema::MIGRATIONS;

    fn make(&self, connection: &Connection) -> Result<(), StoreError> {
        self.iter().try_for_each(|change| schema::make(connection, change))
    }
}
