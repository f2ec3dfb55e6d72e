//! The `apigatewayv2` control plane: every operation on WebSocket APIs, their deployments, stages, domain names,
//! VPC links and tags.
//!
//! [`ControlPlane`] holds the definitions in memory, makes each change durable through
//! [`tidegate_core::port::DefinitionStore`] before it answers, and hands what is live to
//! [`tidegate_core::port::DefinitionSink`]. [`RestApi`] is the HTTP surface: bytes in, bytes out, no socket.
//!
//! This crate never opens a listener, never reads a clock of its own and knows no SQL. Start with [`plane`] (how a
//! change happens), then `rest.rs` (which operation is where; one file per resource below `rest/`).

mod changes;
pub mod declarative;
mod deploy;
mod error;
mod expression;
mod id;
pub mod limits;
mod members;
mod page;
pub mod plane;
mod policy;
mod rest;
mod state;
mod table;

pub use error::{ApiError, AuthFailure, Because};
pub use plane::{Clock, ControlPlane, ControlSettings, LoadError};
pub use policy::{PolicyChange, PolicyError, weak_secrets};
pub use rest::{Authenticate, RestApi};
