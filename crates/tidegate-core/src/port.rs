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
