//! Tickets for the probe endpoint of the public listener.

use serde_json::json;
use tidegate_auth::Role;
use tidegate_core::context::iso_time;

use super::TEXT;
use crate::route::{Access, Reply, Route, Verb};
use crate::shape::{Shape, required};

const TICKET: Shape = Shape::Record(&[
    required("ticket", TEXT, "For the query parameter `ticket` of `/_tidegate/probe`, on every node."),
    required("expires_at", Shape::Time, "When it expires: in ten minutes."),
    required("installation", TEXT, "What the probe endpoint of this installation says of itself."),
]);

pub(super) const ROUTES: &[Route] = &[Route::new(
    Verb::Post,
    "/api/probe-tickets",
    "issueProbeTicket",
    // It shows callers their own requests and changes nothing.
    Access::Look(Role::Read),
    "Issues a ticket with which `/_tidegate/probe` of the public listener says what of a request arrived.",
    TICKET,
    |inner, call| {
        Box::pin(async {
            let ticket = inner.gateway.probe_ticket(call.now);
            Ok(Reply::json(json!({
                "ticket": ticket.ticket,
                "expires_at": iso_time(ticket.expires_at),
                "installation": ticket.installation,
            })))
        })
    },
)];
