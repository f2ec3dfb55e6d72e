//! What the stores promise, in one suite for every implementation, and what only SQLite has to prove; and the
//! records, the journal and databases of applications.

mod crash;
mod journal;
mod postgres_tls;
mod records;
mod sql;
mod sqlite;
mod suite;
