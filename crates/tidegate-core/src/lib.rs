//! What every part of Tidegate agrees on: ids, limits, definitions, selection, mapping, snapshots, events,
//! errors, diagnosis ids and ports. Pure: no clock, no socket, no file, no SQL.
//!
//! Start with [`snapshot`] (what the data plane runs on), [`select`] (which route a message takes) and
//! [`mapping`] (what a backend is told).

pub mod access_log;
pub mod app;
pub mod authorizer;
pub mod channel;
pub mod compile;
pub mod context;
pub mod definition;
pub mod diagnosis;
pub mod error;
pub mod function;
pub mod iam_policy;
pub mod id;
pub mod identity;
pub mod journal;
pub mod json;
pub mod json_path;
pub mod lambda_event;
pub mod limits;
pub mod log;
pub mod mapping;
pub mod model;
pub mod nearest;
pub mod network;
pub mod notice;
pub mod origin;
pub mod pattern;
pub mod policy;
pub mod port;
pub mod push;
pub mod quota;
pub mod select;
pub mod settings;
pub mod signature;
pub mod sliding_window;
pub mod snapshot;
pub mod template;
pub mod throttle;
pub mod transformed;
pub mod wildcard;
