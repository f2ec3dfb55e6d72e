//! What events do, one file each.

pub mod message;
pub mod room;
pub mod session;
