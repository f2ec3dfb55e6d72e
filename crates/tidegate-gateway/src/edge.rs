//! The public listener: from a TCP connection to a handshake or a management call.

pub(crate) mod address;
pub(crate) mod attempt;
pub mod client_address;
pub(crate) mod client_reference;
pub(crate) mod hint;
pub mod listener;
pub(crate) mod probe;
pub mod proxy;
pub(crate) mod refusal;
pub(crate) mod remark;
mod reply;
pub(crate) mod service;
mod token_endpoint;
pub(crate) mod upgrade;
mod watched;

pub(crate) use reply::{Reply, aws_error, empty, json};
