//! The chat application: rooms, messages, reactions and receipts over one socket.
//!
//! The way of an event: [`app`] takes the text of a connection, [`envelope`] makes an event of it, [`router`] finds its handler
//! in [`events`], which runs in one transaction ([`event::Ctx`]) and leaves [`event::Dispatch`]es; after the commit these go to
//! the connections of their audience.

pub mod app;
pub mod connections;
pub mod dispatcher;
pub mod envelope;
pub mod error;
pub mod event;
pub mod events;
pub mod extension;
pub mod field;
pub mod front;
pub mod hook;
pub mod model;
pub mod mount;
pub mod notification;
pub mod permission;
pub mod present;
pub mod router;
pub mod sanitize;
pub mod settings;
pub mod store;
#[cfg(test)]
mod test_database;
pub mod value;
