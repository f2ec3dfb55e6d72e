//! Quotas, defaults and bounds, each with unit and source.

use std::time::Duration;

/// Largest message from or to a client, in bytes. Source: API Gateway quotas, not adjustable there.
pub const MAX_MESSAGE_BYTES: usize = 131_072;

/// Largest frame payload from a client, in bytes. Source: API Gateway quotas, not adjustable there.
pub const MAX_FRAME_BYTES: usize = 32_768;

/// Longest request target of a handshake, in characters. Source: API Gateway quotas.
pub const MAX_URL_LENGTH: usize = 4096;

/// Total size of a request head, in bytes. The real service counts 10,240 for header values; browsers with
/// many cookies exceed that behind a custom domain, so this is the decision of this project.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Header values of one handshake, in bytes, with the profile of the real service. Source: API Gateway quotas of REST APIs.
pub const AWS_HEADER_VALUE_BYTES: usize = 10_240;

/// Header lines of one request head.
pub const MAX_HEADERS: usize = 100;

/// How long a client may take for a request head or a TLS handshake. The real service says nothing about it.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an idle keep-alive connection of a management caller is kept. Source: callers keep up to ten open
/// and expect them for at least 60 s.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a written close frame may wait for its answer before the socket is dropped.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one write to a client may make no progress. A reader that accepts nothing for this long is gone.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Messages of one connection that wait for their turn; then its socket is not read.
pub const MAX_INBOUND_QUEUE: usize = 64;

/// Frames of one connection that wait to be written, whatever their size.
pub const MAX_OUTBOX_FRAMES: usize = 4096;

/// Largest answer of a backend that is read at all, in bytes; only [`MAX_MESSAGE_BYTES`] can reach a client.
/// Source: API Gateway payload quota of HTTP integrations.
pub const MAX_BACKEND_BODY_BYTES: usize = 10 * 1024 * 1024;

/// Longest head of a backend's answer, in bytes, interim answers included.
pub const MAX_BACKEND_HEAD_BYTES: usize = 64 * 1024;

/// Headers in a backend's answer.
pub const MAX_BACKEND_HEADERS: usize = 100;

/// Idle connections to one backend (scheme, host and port) that are kept. More may be in use: there is one for
/// each call under way.
pub const MAX_IDLE_PER_BACKEND: usize = 1024;

/// Idle connections to all backends that are kept.
pub const MAX_IDLE_TO_BACKENDS: usize = 4096;

/// Default and longest time for one integration call. Source: API Gateway quotas.
pub const INTEGRATION_TIMEOUT: Duration = Duration::from_secs(29);

/// Share of the integration timeout that establishing the connection to the backend may take.
pub const BACKEND_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a pooled connection to a backend may have been idle to be used again. Common servers drop theirs
/// after 2 to 5 s, and a request that meets the drop cannot be repeated.
pub const BACKEND_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Closed connections that are remembered, so that a 410 can be explained; the oldest are forgotten first.
pub const MAX_GONE_MEMORY: usize = 100_000;

/// Bytes of all channel histories of a node. At the bound the oldest messages of the channel published to go first.
pub const MAX_HISTORY_BYTES: usize = 64 * 1024 * 1024;

/// Longest close reason, in bytes. Source: RFC 6455, section 5.5 less the two bytes of the code.
pub const MAX_CLOSE_REASON: usize = 123;

/// How long a call waits when its backend has as many calls as it may have.
pub const OVERLOAD_WAIT: Duration = Duration::from_secs(1);
