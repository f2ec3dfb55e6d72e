//! The application against a host that is not there: what it decides, sends and tells.

mod areas;
mod checks;
mod configuration;
mod connecting;
mod fake;
mod publishing;
mod reloading;
mod server;
