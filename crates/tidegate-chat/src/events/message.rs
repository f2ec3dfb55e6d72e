//! Events about messages.

pub mod acknowledged;
pub mod history;
pub mod modify;
pub mod react;
pub mod read;
pub mod send;
pub mod typing;
