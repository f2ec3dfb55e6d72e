//! From an event type to what handles it.

use serde_json::{Map, Value};

use crate::error::ChatError;
use crate::event::Ctx;
use crate::events::session;

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
    route("message.send", |ctx, data| ctx.extensions.handler.create_message(ctx, data)),
    Route { is_read: true, ..route("message.typing", |ctx, data| ctx.extensions.handler.typing(ctx, data)) },
    route("message.acknowledged", |ctx, data| ctx.extensions.handler.acknowledge(ctx, data)),
    route("message.read", |ctx, data| ctx.extensions.handler.read(ctx, data)),
    route("message.react", |ctx, data| ctx.extensions.handler.react(ctx, data)),
    route("message.modify", |ctx, data| ctx.extensions.handler.modify_message(ctx, data)),
    route("room.create", |ctx, data| ctx.extensions.handler.create_room(ctx, data)),
    Route {
        needs_data: false,
        is_read: true,
        ..route("room.list", |ctx, data| ctx.extensions.handler.list_rooms(ctx, data))
    },
    Route { is_read: true, ..route("room.info", |ctx, data| ctx.extensions.handler.room_info(ctx, data)) },
    Route {
        is_read: true,
        ..route("room.messages", |ctx, data| ctx.extensions.handler.list_messages(ctx, data))
    },
    route("room.join", |ctx, data| ctx.extensions.handler.join_room(ctx, data)),
    route("room.leave", |ctx, data| ctx.extensions.handler.leave_room(ctx, data)),
    route("room.add_members", |ctx, data| ctx.extensions.handler.add_members(ctx, data)),
    route("room.remove_members", |ctx, data| ctx.extensions.handler.remove_members(ctx, data)),
    route("room.modify", |ctx, data| ctx.extensions.handler.modify_room(ctx, data)),
    Route {
        needs_data: false,
        is_read: true,
        ..route("session.heartbeat", |ctx, data| ctx.extensions.handler.touch_session(ctx, data))
    },
    Route {
        needs_data: false,
        is_read: true,
        ..route(session::replay::EVENT, |ctx, data| ctx.extensions.handler.replay(ctx, data))
    },
];

/// The route of an event type.
pub fn find(event_type: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.event_type == event_type)
}
