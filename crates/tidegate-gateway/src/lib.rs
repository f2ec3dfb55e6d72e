//! The data plane: from a TCP connection to a backend and back, and from a push to a socket.
//!
//! No SQL, no file, no environment variable here: definitions come through
//! [`tidegate_core::port::DefinitionSink`], facts leave through [`tidegate_core::notice::NoticeSink`].
//!
//! The way in: `edge/listener.rs`, `edge/address.rs`, `edge/upgrade.rs`, then `connection/task.rs`,
//! `connection/message.rs`, `integration.rs`. The way out: `push.rs`, `registry.rs`, `connection/handle.rs`.

mod clock;
mod connection;
pub mod edge;
mod gateway;
mod integration;
mod push;
mod registry;
mod throttle;
mod timer_wheel;

pub use gateway::{Gateway, GatewayConfig, PushCounts, SettingsOf};
pub use tidegate_core::network::{Network, NetworkError};
