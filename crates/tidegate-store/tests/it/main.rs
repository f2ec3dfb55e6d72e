//! What the stores promise, in one suite for every implementation, and what only SQLite has to prove; and the
//! records, and the journal.

mod crash;
mod journal;
mod records;
mod sqlite;
mod suite;
