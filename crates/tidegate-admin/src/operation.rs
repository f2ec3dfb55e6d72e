//! What the routes do: one file for each resource, each with its part of the table.

mod ban;
mod capture;
mod channel;
mod connection;
mod definition;
pub(crate) mod doctor;
mod explain;
mod journal;
mod node;
mod probe_ticket;
mod publish;
mod records;
mod reload;
mod report;
mod session;
mod token;
mod user;

use crate::route::Route;
use crate::shape::{Member, Shape, optional, required, text};

/// All routes, in the order of the document.
pub(crate) const ROUTES: &[&[Route]] = &[
    node::ROUTES,
    reload::ROUTES,
    probe_ticket::ROUTES,
    token::ROUTES,
    connection::ROUTES,
    session::ROUTES,
    user::ROUTES,
    ban::ROUTES,
    channel::ROUTES,
    publish::ROUTES,
    definition::ROUTES,
    records::ROUTES,
    doctor::ROUTES,
    journal::ROUTES,
    explain::ROUTES,
    capture::ROUTES,
    report::ROUTES,
];

/// Ids of APIs, users, sessions and tokens.
const ID: Shape = text(255);

/// Only this API.
const API: Member = optional("api", ID, "Id of an API: only there.");

/// Only this stage.
const STAGE: Member = optional("stage", ID, "Name of a stage: only there.");

/// The API that it is about.
const THE_API: Member = required("api", ID, "Id of the API.");

/// The stage that it is about.
const THE_STAGE: Member = required("stage", ID, "Name of the stage.");

/// Roles of a user.
const ROLES: Shape = Shape::List { of: &ID, max: 256 };

/// A count.
const COUNT: Shape = Shape::Integer { min: 0, max: u64::MAX };

/// Text of any length.
const TEXT: Shape = Shape::Text { min: 0, max: usize::MAX };

/// What ended.
const ENDED: Shape = Shape::Record(&[
    required("connections", COUNT, "Connections that are being closed."),
    required("tokens", COUNT, "Unspent connect tokens that are worth nothing any more."),
]);

/// `{"connections": ..., "tokens": ...}`.
fn ended(ended: tidegate_gateway::Ended) -> serde_json::Value {
    serde_json::json!({ "connections": ended.connections, "tokens": ended.tokens })
}
