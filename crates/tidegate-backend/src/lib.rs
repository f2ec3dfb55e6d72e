//! For [axum] services behind Tidegate, or behind Amazon API Gateway WebSocket APIs.
//!
//! The gateway holds the sockets. It turns each connect, message and disconnect into one HTTP request to your service
//! (an `HTTP_PROXY` integration), and sends to clients what your service pushes over HTTP. This crate has both sides:
//!
//! - [`GatewayRouter`]: routes for the three events; your handlers are ordinary async functions with axum extractors.
//! - [`Connect`], [`Message`], [`RawMessage`], [`Disconnect`], [`Event`]: the events as extractors. They also work on
//!   plain axum routes; [`Checks`] as an `Extension` then says what is checked.
//! - [`Accept`], [`Refuse`], [`Reply`]: what a handler answers.
//! - [`PushClient`]: sends to a connection, and with Tidegate to a channel, a user or everybody.
//! - [`AdminClient`]: one-time connect tokens and the end of sessions, with Tidegate.
//!
//! ```
//! use axum::Router;
//! use serde::Deserialize;
//! use tidegate_backend::{Accept, Connect, GatewayRouter, Message, Refuse, Reply};
//!
//! #[derive(Deserialize)]
//! struct Say {
//!     text: String,
//! }
//!
//! async fn connect(connect: Connect) -> Result<Accept, Refuse> {
//!     match connect.query("room") {
//!         Some(_) => Ok(Accept::new()),
//!         None => Err(Refuse::bad_request("which room?")),
//!     }
//! }
//!
//! async fn say(message: Message<Say>) -> Reply {
//!     Reply::text(message.body.text)
//! }
//!
//! let gateway = GatewayRouter::new().on_connect(connect).on("say", say);
//! let app: Router = Router::new().nest("/ws", gateway.into_router());
//! ```
//!
//! It knows the wire and nothing of the gateway's inside: no other crate of Tidegate is used.

mod admin;
mod answer;
mod checks;
mod event;
mod gateway_router;
mod push;
mod sigv4;
mod transport;

pub use admin::{AdminClient, ConnectToken, TokenRequest};
pub use answer::{Accept, Refuse, Reply};
pub use checks::{Checks, DEFAULT_SECRET_HEADER, MAX_BODY, Rejection, SIGNATURE_HEADER, SIGNATURE_TOLERANCE};
pub use event::{AuthKind, Connect, Disconnect, Event, EventHead, Identity, Message, RawMessage};
pub use gateway_router::GatewayRouter;
pub use push::{
    ClientIdentity, Connection, ConnectionFilter, ConnectionInfo, ConnectionPage, PushClient, PushCounts,
    PushOptions,
};
pub use sigv4::SigV4;
pub use transport::{ClientError, MAX_ANSWER, MAX_MESSAGE, PushError, REQUEST_TIMEOUT};
