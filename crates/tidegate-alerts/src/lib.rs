//! The alerts application: programs publish alerts, people who watch get them over one socket each.
//!
//! The way of a connection: the gateway's own checks, then [`app::Alerts`] (role, channels, user check), then
//! [`delivery`], which knows who is in which channel. The way of an alert: [`http`](app) reads the call, [`alert`] makes
//! the one text that everybody gets, [`delivery`] chooses the connections. Nothing here holds a socket.

pub mod alert;
pub mod app;
pub mod area;
pub mod broadcast;
mod call;
pub mod channels;
pub mod delivery;
pub mod history;
pub mod idempotency;
pub mod mount;
mod pages;
pub mod positions;
mod publish;
pub mod rate;
pub mod refusal;
pub mod settings;
pub mod statistics;
pub mod user_check;

pub use app::Alerts;
pub use mount::mount;
pub use settings::Settings;

#[cfg(test)]
mod tests;
