//! Durable storage of what the control plane defines and of what outlives a connection: the only crate with SQL.
//!
//! [`SqliteStore`] implements [`tidegate_core::port::DefinitionStore`] on one file, [`SqliteRecords`] implements
//! [`tidegate_core::port::RecordStore`] on another, [`SqliteJournal`] [`tidegate_core::journal::JournalStore`] on a third.
//! Databases of applications are in [`sql`], on SQLite or PostgreSQL.
//! Start with `engine.rs` (opening a file, and who does what), then
//! `engine/writer.rs` (how a write becomes durable); `sqlite.rs`, `records.rs` and `journal.rs` say what is written.

mod engine;
mod journal;
mod lock;
mod records;
pub mod sql;
mod sqlite;

#[doc(hidden)]
pub use engine::Options;
pub use journal::{JournalOptions, SqliteJournal};
pub use lock::InUse;
pub use records::SqliteRecords;
pub use sqlite::SqliteStore;
