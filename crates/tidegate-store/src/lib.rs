//! Durable storage of what the control plane defines: the only crate with SQL.
//!
//! [`SqliteStore`] implements [`tidegate_core::port::DefinitionStore`] on one file. Start with `sqlite.rs` (opening,
//! and who does what), then `sqlite/writer.rs` (how a write becomes durable).

mod lock;
mod sqlite;

pub use lock::InUse;
#[doc(hidden)]
pub use sqlite::Options;
pub use sqlite::SqliteStore;
