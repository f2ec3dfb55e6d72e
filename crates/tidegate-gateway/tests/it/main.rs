//! The data plane through its sockets: a whole gateway in process, a backend that remembers, and a client that can
//! misbehave. One file for each promise.
//!
//! Every test ends with [`harness::Plane::end`], which drains the gateway and checks what must hold always: nobody
//! is left, nothing panicked, and each accepted connection had exactly one `$disconnect`.

#![expect(clippy::unwrap_used, reason = "a failure here is the failure of a test")]

mod backend;
mod client;
mod full_store;
mod harness;
mod record;
mod seen;
mod session_layer;
mod told;

mod account_limits;
mod admission_order;
mod api_keys;
mod apps;
mod asked_by_clients;
mod attempts;
mod authorizers;
mod backend_causes;
mod backend_connections;
mod bans;
mod before_route;
mod byte_by_byte;
mod channels;
mod close_causes;
mod connect_tokens;
mod connections_per_user;
mod cut_off;
mod deletion_race;
mod disconnect_exactly_once;
mod drain;
mod dropped_handshake;
mod durable_disconnect;
mod headers;
mod history;
mod inbound_bound;
mod json_web_tokens;
mod jwt_authorizers;
mod key_sets;
mod listing;
mod logs;
mod message_causes;
mod message_rate;
mod one_deployment_per_event;
mod order;
mod overload;
mod panic;
mod proofs;
mod push_causes;
mod push_to_many;
mod refused_at_the_edge;
mod reject_as_close;
mod remarks;
mod retries;
mod signed_handshakes;
mod slow_reader;
mod thousand_at_once;
mod timers;
mod token_endpoint;
mod told_to_backends;
mod transformed;
