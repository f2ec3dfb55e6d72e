//! The traits through which the data plane and the control plane reach the outside world.
//!
//! `gateway` and `control` know these, never an implementation; the binary plugs in store and sinks.

use std::future::Future;
use std::pin::Pin;

/// A boxed future, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One stored object of the control plane: a JSON document under a kind, a parent and an id.
///
/// `parent` is the path of ids above it (`""` for APIs, domains and VPC links, `{apiId}` for routes,
/// `{apiId}/{routeId}` for route responses, ...), so that removing a parent's subtree is one range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// `api`, `route`, `integration`, `deployment`, `deployment-content`, ...
    pub kind: String,
    /// Path of ids above, joined by `/`.
    pub parent: String,
    /// Id below the parent.
    pub id: String,
    /// Creation order within the store; given by the caller, never changed by an update.
    pub sequence: u64,
    /// JSON text.
    pub body: String,
}

/// One step of a write. All steps of one [`DefinitionStore::apply`] take effect together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Inserts or replaces.
    Put(Document),
    /// Removes one document; absent is fine.
    Delete {
        /// As in [`Document::kind`].
        kind: String,
        /// As in [`Document::parent`].
        parent: String,
        /// As in [`Document::id`].
        id: String,
    },
    /// Removes every document whose parent is `parent` or lies below it.
    DeleteTree {
        /// As in [`Document::parent`], not empty.
        parent: String,
    },
}

/// Why the store did not do what was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refuses (full, read-only, removed) or the database cannot be reached: `store.unavailable`.
    #[error("the store cannot {operation}")]
    Unavailable {
        /// `read`, `write` or `open`.
        operation: &'static str,
        /// What the engine said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// More writes are waiting than the queue holds; try again later.
    #[error("the store's write queue is full")]
    Busy,
    /// The file was written by a later version.
    #[error("the store has schema version {found}, this build reads up to {supported}")]
    TooNew {
        /// Version in the file.
        found: u32,
        /// Latest known version.
        supported: u32,
    },
}

/// Durable storage of the control plane's documents.
pub trait DefinitionStore: Send + Sync + std::fmt::Debug {
    /// Every document, ordered by `sequence`.
    fn load(&self) -> BoxFuture<'_, Result<Vec<Document>, StoreError>>;

    /// Writes all changes or none; answers after they are durable.
    fn apply(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// Takes each new state of the definitions; called in order, after the change is durable.
pub trait DefinitionSink: Send + Sync + std::fmt::Debug {
    /// Makes `live` what the next event runs on. Must not block for long: it runs inside the write.
    fn publish(&self, live: crate::definition::Live);
}

/// What a record is about. The text is its name in the store and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// A connect token that may still be presented; the key is its keyed hash.
    Token,
    /// A connect token that was used, for as long as it would have lived: so that a second use is told apart.
    SpentToken,
    /// A user, session or token id that is refused until [`Record::expires_at`].
    Ban,
    /// A connection whose `$disconnect` the backend has not confirmed; the key is the connection id.
    Disconnect,
    /// One handshake: address, user, outcome, reason.
    Attempt,
    /// One change by an administrator.
    Audit,
    /// How much of its quota an API key has used; the key is that of the usage plan and of the API key.
    Usage,
}

impl RecordKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Token, Self::SpentToken, Self::Ban, Self::Disconnect, Self::Attempt, Self::Audit, Self::Usage];

    /// Its name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::SpentToken => "spent-token",
            Self::Ban => "ban",
            Self::Disconnect => "disconnect",
            Self::Attempt => "attempt",
            Self::Audit => "audit",
            Self::Usage => "usage",
        }
    }
}

/// A small fact that outlives a connection or the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub kind: RecordKind,
    /// Unique within its kind.
    pub key: String,
    /// Milliseconds since 1970.
    pub created_at: u64,
    /// Milliseconds since 1970 from which on it may be removed.
    pub expires_at: u64,
    /// JSON text.
    pub body: String,
}

/// One step of a write of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordChange {
    /// Inserts or replaces.
    Put(Record),
    /// Removes; absent is fine.
    Delete(RecordKind, String),
}

/// Where a listing of records goes on: after this creation time and key, towards older ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordCursor {
    /// [`Record::created_at`] of the last record of the page before.
    pub created_at: u64,
    /// Its [`Record::key`].
    pub key: String,
}

/// Durable storage of [`Record`]s. Apart from the definitions, so that neither waits for the other.
pub trait RecordStore: Send + Sync + std::fmt::Debug {
    /// Writes all changes or none; answers after they are durable.
    fn write(&self, changes: Vec<RecordChange>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Takes changes that nobody waits for; they become durable with the next group. False when the queue is full and
    /// they were dropped.
    fn write_later(&self, changes: Vec<RecordChange>) -> bool;

    /// Removes `key` and puts `instead`, if `key` was there. True for exactly one of any number of callers, on any
    /// node; answers after it is durable.
    fn take(
        &self,
        kind: RecordKind,
        key: String,
        instead: Option<Record>,
    ) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Every record of a kind, oldest first.
    fn load(&self, kind: RecordKind) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// At most `limit` records of a kind, newest first, beginning behind `after`.
    fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// The oldest record of a kind.
    fn oldest(&self, kind: RecordKind) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        Box::pin(async move { Ok(self.load(kind).await?.into_iter().next()) })
    }

    /// Removes at most `limit` records of a kind that had expired at `now`; answers how many. With `is_dry_run` it
    /// only counts, without the limit.
    fn expire(
        &self,
        kind: RecordKind,
        now: u64,
        limit: usize,
        is_dry_run: bool,
    ) -> BoxFuture<'_, Result<usize, StoreError>>;

    /// Removes the oldest records of a kind until at most `max_bytes` of bodies are left, at most `limit` of them;
    /// answers how many.
    fn shrink(
        &self,
        kind: RecordKind,
        max_bytes: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>>;
}
