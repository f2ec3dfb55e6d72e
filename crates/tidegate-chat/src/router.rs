//! From an event type to what handles it.

use serde_json::{Map, Value};

use crate::error::ChatError;
use crate::event::Ctx;
use crate::events::{message, room, session};

/// What handles an event: checks its data in the order of S2-36, changes rows, leaves dispatches.
pub type Handler = fn(&mut Ctx<'_>, &Map<String, Value>) -> Result<(), ChatError>;

/// An event that clients may send.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Its `event_type`.
    pub event_type: &'static str,
    /// Its handler.
    pub handler: Handler,
    /// `data` must be an object.
    pub needs_data: bool,
    /// It changes nothing, so that it may run beside others.
    pub is_read: bool,
}

const fn route(event_type: &'static str, handler: Handler) -> Route {
    Route { event_type, handler, needs_data: true, is_read: false }
}

/// All events.
pub const ROUTES: &[Route] = &[
    route("message.send", message::send::handle),
    Route { is_read: true, ..route("message.typing", message::typing::handle) },
    route("message.acknowledged", message::acknowledged::handle),
    route("message.read", message::read::handle),
    route("message.react", message::react::handle),
    route("message.modify", message::modify::handle),
    route("room.create", room::create::handle),
    Route { needs_data: false, is_read: true, ..route("room.list", room::list::handle) },
    Route { is_read: true, ..route("room.info", room::info::handle) },
    Route { is_read: true, ..route("room.messages", message::history::handle) },
    route("room.join", room::join::handle),
    route("room.leave", room::leave::handle),
    route("room.add_members", room::members::add),
    route("room.remove_members", room::members::remove),
    route("room.modify", room::modify::handle),
    Route { needs_data: false, is_read: true, ..route("session.heartbeat", session::heartbeat) },
];

/// The route of an event type.
pub fn find(event_type: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.event_type == event_type)
}
