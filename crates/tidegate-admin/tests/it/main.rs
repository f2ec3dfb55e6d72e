//! The admin API over a whole node in process: control plane, data plane with its sockets, stores in memory.
//!
//! Every answer in every test is compared with the OpenAPI document (`harness.rs`): its status must be documented for
//! the operation, and its body must have the documented form.

#![expect(clippy::unwrap_used, reason = "a failure here is the failure of a test")]

mod client;
mod harness;
mod records;
mod schema;

mod attempts;
mod bans;
mod captures;
mod channels;
mod connections;
mod definitions;
mod doctor;
mod explain;
mod journal;
mod probe_tickets;
mod publish;
mod refusals;
mod reload;
mod roles;
mod sessions;
mod tokens;
