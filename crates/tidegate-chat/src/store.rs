//! The chat's tables, and the reads that several events share. Statements of one event stand with that event.

pub mod deletion;
pub mod directory;
pub mod lists;
pub mod members;
pub mod messages;
pub mod rooms;
pub mod sessions;
pub mod users;

/// Steps that made the tables what they are, for both databases; never edited, only added to once released.
pub const MIGRATIONS: &[&str] = &[include_str!("store/schema.sql"), include_str!("store/sessions.sql")];
