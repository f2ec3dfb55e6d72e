//! What is kept of what happened, to say later why.
//!
//! An [`Entry`] is one event of the connection journal. It is made from a [`Notice`](crate::notice::Notice), holds
//! names, numbers and ids, and never a token, a cookie's value, a query value or a payload.

mod facts;
mod packed;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::diagnosis::Diagnosis;
use crate::notice::Place;
use crate::port::{BoxFuture, StoreError};

pub use facts::{FactValue, Facts};
pub use packed::Part;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A connection attempt, accepted or not.
    Handshake,
    /// A decision of an authorizer.
    Authorizer,
    /// A connect token that was issued or refused.
    Token,
    /// A decision about a JSON Web Token, or its keys.
    Jwt,
    /// A look-up of a user.
    UserCheck,
    /// A limit that was reached.
    RateLimit,
    /// A decision about a page's origin.
    Origin,
    /// A call of a backend.
    Integration,
    /// A failed message, or a minute's count of handled ones.
    Message,
    /// A call of the management API: to one connection, a channel, a user, everyone.
    Post,
    /// Joining, leaving and moving between channels.
    Membership,
    /// The end of a connection.
    Close,
    /// Changes of definitions, starts, stops, clean-up, configuration.
    Control,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Handshake,
        Self::Authorizer,
        Self::Token,
        Self::Jwt,
        Self::UserCheck,
        Self::RateLimit,
        Self::Origin,
        Self::Integration,
        Self::Message,
        Self::Post,
        Self::Membership,
        Self::Close,
        Self::Control,
    ];

    /// Its name in the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Authorizer => "authorizer",
            Self::Token => "token",
            Self::Jwt => "jwt",
            Self::UserCheck => "usercheck",
            Self::RateLimit => "ratelimit",
            Self::Origin => "origin",
            Self::Integration => "integration",
            Self::Message => "message",
            Self::Post => "post",
            Self::Membership => "membership",
            Self::Close => "close",
            Self::Control => "control",
        }
    }

    /// The kind of a name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// One event of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When it happened, or when it ended if it took time; microseconds since 1970.
    pub ts: u64,
    /// What it is about.
    pub kind: Kind,
    /// `ok`, or why not: a diagnosis id.
    pub outcome: String,
    /// Of the event or the HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Once it exists; as presented, where a caller names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<String>,
    /// The reference that the client made for its attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ref: Option<String>,
    /// The node that wrote it.
    pub node: u32,
    /// Empty before an API was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_id: Option<String>,
    /// Empty before a stage was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Once it is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_key: Option<String>,
    /// Whose connection it is, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The client's address, as the journal's privacy setting leaves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// How long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
    /// What the catalogue names as proof.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub facts: Map<String, Value>,
}

/// [`Entry::outcome`] of what went well.
pub const OK: &str = "ok";

impl Entry {
    /// An entry about nothing yet.
    pub fn new(ts: u64, kind: Kind, outcome: Option<Diagnosis>) -> Self {
        Self {
            ts,
            kind,
            outcome: outcome.map_or(OK, Diagnosis::as_str).to_owned(),
            request_id: None,
            connection_id: None,
            client_ref: None,
            node: 0,
            api_id: None,
            stage: None,
            route_key: None,
            user: None,
            address: None,
            duration_ms: None,
            facts: Map::new(),
        }
    }

    /// Why it failed; none for what went well.
    pub fn diagnosis(&self) -> Option<Diagnosis> {
        Diagnosis::find(&self.outcome)
    }

    /// A fact.
    pub fn fact(&self, name: &str) -> Option<&Value> {
        self.facts.get(name)
    }

    /// A fact that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fact(name).and_then(Value::as_str)
    }

    /// A fact that is a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.fact(name).and_then(Value::as_f64)
    }
}

/// An entry that is to be written: what [`Entry`] says, without copies of what its notice had.
#[derive(Debug, Clone)]
pub struct Draft {
    /// As [`Entry::ts`].
    pub ts: u64,
    /// As [`Entry::kind`].
    pub kind: Kind,
    /// Why it failed; none for what went well.
    pub outcome: Option<Diagnosis>,
    /// Where; without the address, of which [`Self::address`] has as much as is kept.
    pub place: Place,
    /// As [`Entry::node`].
    pub node: u32,
    /// As [`Entry::address`].
    pub address: Option<String>,
    /// As [`Entry::duration_ms`].
    pub duration_ms: Option<f64>,
    /// As [`Entry::facts`].
    pub facts: Facts,
}

impl Draft {
    /// The entry.
    pub fn into_entry(self) -> Entry {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let Place { api_id, stage, connection_id, request_id, route_key, client_ref, user, .. } = self.place;
        Entry {
            request_id: request_id.map(|id| id.to_string()),
            connection_id: connection_id.map(|id| id.to_string()),
            client_ref: client_ref.as_deref().and_then(some),
            node: self.node,
            api_id: some(&api_id),
            stage: some(&stage),
            route_key: route_key.as_deref().and_then(some),
            user: user.as_deref().and_then(some),
            address: self.address,
            duration_ms: self.duration_ms,
            facts: self.facts.into_map(),
            ..Entry::new(self.ts, self.kind, self.outcome)
        }
    }
}

/// Which entries. Everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EntryQuery {
    /// At this time or later; microseconds since 1970.
    pub since: Option<u64>,
    /// Before this time; microseconds since 1970.
    pub until: Option<u64>,
    /// One of these; empty is all.
    pub kinds: Vec<Kind>,
    /// One of these outcomes; empty is all.
    pub outcomes: Vec<String>,
    /// Only what did not go well.
    pub failures_only: bool,
    /// Of this event or request.
    pub request_id: Option<String>,
    /// Of this connection.
    pub connection_id: Option<String>,
    /// Of this attempt.
    pub client_ref: Option<String>,
    /// Of this user.
    pub user: Option<String>,
    /// Of this address, spelled as the journal keeps it.
    pub address: Option<String>,
    /// Of this API.
    pub api_id: Option<String>,
    /// Of this stage.
    pub stage: Option<String>,
    /// At most this many, the newest; in the order of time.
    pub limit: usize,
}

/// How the journal is doing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalState {
    /// Entries that are kept.
    pub entries: u64,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Time of the oldest entry; microseconds since 1970.
    pub oldest: Option<u64>,
    /// Time of the newest entry; microseconds since 1970.
    pub newest: Option<u64>,
    /// Entries that were lost since the start because the queue was full or the store failed.
    pub dropped: u64,
    /// Successes that were counted and not written since the start, because there were too many.
    pub sampled: u64,
}

/// What is removed, and from when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Entries before this time go; microseconds since 1970.
    pub before: u64,
    /// At most this many bytes on the disk.
    pub max_bytes: u64,
    /// At most this many entries.
    pub max_entries: u64,
    /// Ends of connections before this time go; microseconds since 1970.
    pub ends_before: u64,
}

/// Whose entries are erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Erase {
    /// A user's.
    User(String),
    /// An address's, spelled as the journal keeps it.
    Address(String),
}

/// Durable storage of [`Entry`]s; apart from everything else, so that nothing waits for it.
pub trait JournalStore: Send + Sync + std::fmt::Debug {
    /// Adds entries; answers after they can be read.
    fn append(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Adds entries that are not made yet; answers after they can be read.
    fn write(&self, drafts: Arc<Vec<Draft>>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.append(drafts.iter().cloned().map(Draft::into_entry).collect())
    }

    /// Reads entries, in the order of time.
    fn query(&self, query: EntryQuery) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>>;

    /// How many entries there are for each outcome, without those that went well.
    fn count_outcomes(&self, query: EntryQuery) -> BoxFuture<'_, Result<Vec<(String, u64)>, StoreError>>;

    /// Removes what is too old or too much, successes before failures; answers how many entries went.
    fn retain(&self, retention: Retention) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Removes a person's entries; answers how many went.
    fn erase(&self, whose: Erase) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// How it is doing; `dropped` and `sampled` are the writer's to say and 0 here.
    fn state(&self) -> BoxFuture<'_, Result<JournalState, StoreError>>;
}
