//! What the stores promise, in one suite for every implementation, and what only SQLite has to prove.

mod crash;
mod sqlite;
mod suite;
