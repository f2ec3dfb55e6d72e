//! The public listener: from a TCP connection to a handshake or a management call.

pub(crate) mod address;
pub mod client_address;
pub mod listener;
pub mod proxy;
mod reply;
pub(crate) mod service;
mod token_endpoint;
pub(crate) mod upgrade;

pub(crate) use reply::{Reply, aws_error, empty};
