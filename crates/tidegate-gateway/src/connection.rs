//! One WebSocket: its task, its handle, its socket.
//!
//! Read `task.rs` from top to bottom for the life of a connection. `handle.rs` is what everybody else holds
//! of it; `socket.rs` moves bytes between the decoder, the outbox and the operating system.

pub(crate) mod close_reason;
pub(crate) mod control;
pub(crate) mod handle;
pub(crate) mod intake;
pub(crate) mod membership;
pub(crate) mod message;
pub(crate) mod recent;
mod remark;
pub(crate) mod socket;
pub(crate) mod task;
pub(crate) mod unlisted_handlers;
