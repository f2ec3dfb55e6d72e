//! One message to many: whom it is for, and what became of it.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::channel::ChannelName;
use crate::id::ConnectionId;

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Everyone of the stage.
    Everyone,
    /// One connection.
    Connection(ConnectionId),
    /// The members of a channel.
    Channel(ChannelName),
    /// The members of all channels whose name begins so.
    ChannelPrefix(String),
    /// The connections of a user.
    User(Arc<str>),
    /// The connections of a session.
    Session(Arc<str>),
}

impl Target {
    /// Label of metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Everyone => "broadcast",
            Self::Connection(_) => "connection",
            Self::Channel(_) | Self::ChannelPrefix(_) => "channel",
            Self::User(_) => "user",
            Self::Session(_) => "session",
        }
    }
}

/// A message to many.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Whoever is in any of them gets it, once.
    pub targets: Vec<Target>,
    /// The message.
    pub payload: Bytes,
    /// Who does not.
    pub except: HashSet<ConnectionId>,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushResult {
    /// Connections whose outbox took it.
    pub delivered: usize,
    /// Connections that were ending.
    pub gone: Vec<ConnectionId>,
    /// Connections that read too slowly and did not get it.
    pub slow: Vec<ConnectionId>,
    /// Its place in the channel, where one channel with history was the target.
    pub message_id: Option<String>,
}
