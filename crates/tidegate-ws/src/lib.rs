//! RFC 6455 (WebSocket) and RFC 7692 (permessage-deflate) codec of the gateway.
//!
//! Bytes in, values out, and back: nothing here reads a socket, a clock or a file. Who owns the socket feeds
//! [`Decoder::decode`] with what it read and writes what [`OutboundMessage::frames`], [`ping`], [`pong`] and [`close`]
//! give; [`handshake`] and [`extension`] hold the parts of the HTTP upgrade that belong to the protocol.
//!
//! An idle connection costs the size of a [`Decoder`]: no buffer, no compression context. Those belong to the thread
//! and are borrowed for a message.
//!
//! ```
//! use tidegate_ws::{ClientEncoder, Decoder, Incoming, Limits, Role};
//!
//! let limits = Limits { max_frame: 32 * 1024, max_message: 128 * 1024 };
//! let mut decoder = Decoder::new(Role::Server, limits, None);
//! let mut wire = ClientEncoder::new(None).text("hello");
//! let decoded = decoder.decode(&mut wire)?;
//! assert_eq!(decoded.consumed, wire.len());
//! assert_eq!(decoded.event, Some(Incoming::Text("hello".to_owned())));
//! assert!(decoder.is_idle());
//! # Ok::<(), tidegate_ws::DecodeError>(())
//! ```
//!
//! Where to go next: `decode.rs` for what is accepted and refused, `outbound.rs` for what is sent.

mod client;
mod close;
mod decode;
mod deflate;
pub mod extension;
mod frame;
pub mod handshake;
mod mask;
mod outbound;
mod text;

pub use client::ClientEncoder;
pub use close::{CloseCode, CloseFrame, MAX_CLOSE_REASON};
pub use decode::{DecodeError, Decoded, Decoder, Incoming, Limits, Role};
pub use deflate::MIN_DEFLATE;
pub use extension::DeflateParams;
pub use frame::{MAX_CONTROL_PAYLOAD, Opcode, close, ping, pong};
pub use outbound::{FRAGMENT, OutboundMessage};
