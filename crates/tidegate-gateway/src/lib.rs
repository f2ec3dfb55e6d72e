//! The data plane: from a TCP connection to a backend and back, and from a push to a socket.
//!
//! No SQL, no file, no environment variable here: definitions come through
//! [`tidegate_core::port::DefinitionSink`], facts leave through [`tidegate_core::notice::NoticeSink`].
//!
//! The way in: `edge/listener.rs`, `edge/address.rs`, `edge/upgrade.rs`, `admission.rs`, then `connection/task.rs`,
//! `connection/message.rs`, `integration.rs`. The way out: `push.rs`, `publish.rs`, `groups.rs`, `registry.rs`,
//! `connection/handle.rs`.

mod administration;
mod admission;
mod api_keys;
mod apps;
mod authorizer;
mod bans;
mod capture;
mod channels;
mod clean_up;
mod clock;
mod connection;
mod disconnects;
pub mod edge;
mod functions;
mod gateway;
mod gone;
mod groups;
mod in_force;
mod integration;
mod lateness;
mod logs;
mod outward;
mod publish;
mod push;
mod registry;
mod sessions;
mod signed_handshake;
mod throttle;
mod timer_wheel;
mod tokens;

pub use administration::{ChannelError, Ended};
pub use admission::AttemptRecord;
pub use api_keys::{UsageKey, UsagePlan, UsagePlans};
pub use bans::{Ban, BanError, BanKind};
pub use capture::{CaptureError, CaptureOrder, CaptureState, Captured, MAX_BYTES, MAX_SECONDS, Way};
pub use clean_up::{CleanUp, CleanedUp};
pub use connection::recent::RecentMessage;
pub use edge::probe::ProbeTicket;
pub use gateway::{Gateway, GatewayConfig, ReadFile};
pub use in_force::{Changes, MountChange, NodeSettings, SettingsOf};
pub use integration::aws::{AwsConfig, AwsCredentials};
pub use integration::http::key_set::{FetchedKeySet, fetch_key_set};
pub use integration::http::probe::{BackendAnswer, BackendFailure, BackendProbe, reserved_connection_id};
pub use outward::{Fetch, FetchError};
pub use publish::{OnceError, Publish, PushResult, Target};
pub use sessions::{ConnectionFilter, ConnectionInfo, Cursor, Ending, GroupInfo, Subject};
pub use signed_handshake::SignatureClock;
pub use tidegate_core::network::{Network, NetworkError};
pub use tokens::{IssuedToken, TokenRefusal, TokenRequest};
