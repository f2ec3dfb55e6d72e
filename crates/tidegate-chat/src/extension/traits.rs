//! The traits. All are object safe.

use serde_json::{Map, Value};
use tidegate_core::id::ConnectionId;
use tidegate_core::port::BoxFuture;
use tidegate_store::sql::Tx;
use uuid::Uuid;

use super::after::Notified;
use super::{Routed, render};
use crate::error::ChatError;
use crate::event::Ctx;
use crate::events::{message, room, session};
use crate::model::{Message, Room, User, UserId};
use crate::notification::{self, Kind};
use crate::permission;
use crate::router;
use crate::settings::Settings;
use crate::store::directory;
use crate::store::messages::Target;
use crate::store::sessions::{self, SessionRow};
use crate::store::users::{self, Claimed, Entry};

/// What is built in. It stands at the end of every chain of extensions.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuiltIn;

/// An event before it is routed.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Who sent it.
    pub user: &'a User,
    /// Where it came in; nowhere for calls of servers.
    pub connection: Option<ConnectionId>,
    /// Its `event_type`.
    pub event_type: &'a str,
    /// Its `data`.
    pub data: &'a Value,
    /// Milliseconds since 1970.
    pub now: u64,
}

/// Around connections and events. Runs outside of transactions and may wait.
pub trait ChatApp: Send + Sync {
    /// Whoever comes next in the chain.
    fn next(&self) -> &dyn ChatApp {
        &BuiltIn
    }

    /// A user has connected. An error of code 4001 to 4999 refuses the connection.
    fn connected<'a>(
        &'a self,
        user: &'a User,
        connection: ConnectionId,
    ) -> BoxFuture<'a, Result<(), ChatError>> {
        let _ = (user, connection);
        Box::pin(async { Ok(()) })
    }

    /// Somebody was refused for being nobody.
    fn refused<'a>(&'a self, why: &'a str) -> BoxFuture<'a, Result<(), ChatError>> {
        let _ = why;
        Box::pin(async { Ok(()) })
    }

    /// Every event, before it is routed: limits, logs. An error is its answer.
    fn event<'a>(&'a self, event: Incoming<'a>) -> BoxFuture<'a, Result<(), ChatError>> {
        let _ = event;
        Box::pin(async { Ok(()) })
    }

    /// A connection has ended.
    fn disconnected<'a>(
        &'a self,
        user: &'a UserId,
        connection: ConnectionId,
    ) -> BoxFuture<'a, Result<(), ChatError>> {
        let _ = (user, connection);
        Box::pin(async { Ok(()) })
    }
}

impl ChatApp for BuiltIn {}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident => $handler:path;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// [`ChatError`]: it is the answer, and nothing has changed.
            fn $name(&self, ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
                $handler(ctx, data)
            }
        )*
    };
}

/// What events do. Runs inside of the event's transaction; dispatches that it leaves go out after the commit.
pub trait ChatHandler: Send + Sync {
    /// Whoever comes next in the chain.
    fn next(&self) -> &dyn ChatHandler {
        &BuiltIn
    }

    events! {
        /// `message.send`.
        create_message => message::send::handle;
        /// `message.typing`.
        typing => message::typing::handle;
        /// `message.react`.
        react => message::react::handle;
        /// `message.acknowledged`.
        acknowledge => message::acknowledged::handle;
        /// `message.modify`.
        modify_message => message::modify::handle;
        /// `message.read`.
        read => message::read::handle;
        /// `room.messages`.
        list_messages => message::history::handle;
        /// `room.create`.
        create_room => room::create::handle;
        /// `room.list`.
        list_rooms => room::list::handle;
        /// `room.info`.
        room_info => room::info::handle;
        /// `room.add_members`.
        add_members => room::members::add;
        /// `room.remove_members`.
        remove_members => room::members::remove;
        /// `room.leave`.
        leave_room => room::leave::handle;
        /// `room.join`.
        join_room => room::join::handle;
        /// `room.modify`.
        modify_room => room::modify::handle;
        /// `session.heartbeat`.
        touch_session => session::heartbeat;
        /// `session.replay`, where `replay_seconds` is set.
        replay => session::replay::handle;
    }

    /// A connection is about to be accepted, and nobody else has anything against it: its session is to be written. Runs
    /// before the handshake is answered; the actor is its user. On a server that other nodes share it runs again, in a
    /// transaction with other sessions, when they have taken this node out for dead.
    ///
    /// # Errors
    /// Refuses the connection: [`ChatError::Custom`] of 4001 to 4999 with that code and text, any other with 4006, and the
    /// log says why. When it runs again, a custom error closes the connection so, and any other leaves it without a row.
    fn register_session(&self, ctx: &mut Ctx<'_>, session: &SessionRow) -> Result<(), ChatError> {
        sessions::insert(ctx.tx, session)
    }

    /// A message or a reaction is to be notified to everybody in the room but the actor.
    ///
    /// # Errors
    /// [`ChatError`]: it is the event's answer.
    fn create_notification(
        &self,
        ctx: &mut Ctx<'_>,
        room: Uuid,
        message: Uuid,
        kind: Kind,
        reaction: Option<Uuid>,
    ) -> Result<(), ChatError> {
        notification::create_built_in(ctx, room, message, kind, reaction)
    }

    /// What the actor has not acknowledged, by room: the data of the first frame. May only read.
    ///
    /// # Errors
    /// [`ChatError`]: then nobody can connect.
    fn pending_notifications(&self, ctx: &mut Ctx<'_>) -> Result<Value, ChatError> {
        notification::pending(ctx)
    }

    /// Somebody has acknowledged messages: their notifications are to end for this user.
    ///
    /// # Errors
    /// [`ChatError`]: it is the event's answer.
    fn update_notification(
        &self,
        ctx: &mut Ctx<'_>,
        user: &UserId,
        messages: &[Uuid],
    ) -> Result<(), ChatError> {
        notification::acknowledge(ctx.tx, user, messages, ctx.now)
    }
}

impl ChatHandler for BuiltIn {}

/// What somebody wants to change about a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Administration {
    /// `delete`.
    Delete,
    /// Everything else.
    Change,
}

/// Who may do what. Runs inside of the event's transaction. `Ok` permits.
pub trait PermissionPolicy: Send + Sync {
    /// Whoever comes next in the chain.
    fn next(&self) -> &dyn PermissionPolicy {
        &BuiltIn
    }

    /// See a room, and leave it: members.
    ///
    /// # Errors
    /// 4002; the database.
    fn can_access_room(&self, ctx: &mut Ctx<'_>, room: &Room) -> Result<(), ChatError> {
        permission::room::may_access(ctx, room)
    }

    /// Read what was said in a room: members.
    ///
    /// # Errors
    /// 4002, 4004 for a room that does not exist; the database.
    fn can_read_room(&self, ctx: &mut Ctx<'_>, room: Uuid) -> Result<(), ChatError> {
        permission::message::may_read_room(ctx, room)
    }

    /// See messages, react to them, acknowledge them: members of the room of every one.
    ///
    /// # Errors
    /// 4002; the database.
    fn can_access_message(&self, ctx: &mut Ctx<'_>, messages: &[Target]) -> Result<(), ChatError> {
        let _ = ctx;
        permission::message::may_access(messages)
    }

    /// Edit and delete messages: their sender.
    ///
    /// # Errors
    /// 4002; the database.
    fn can_modify_message(&self, ctx: &mut Ctx<'_>, messages: &[Target]) -> Result<(), ChatError> {
        permission::message::may_modify(ctx, messages)
    }

    /// Write into a room.
    ///
    /// # Errors
    /// 4002, 4004 for a room that does not exist; the database.
    fn can_send(&self, ctx: &mut Ctx<'_>, room: Uuid) -> Result<(), ChatError> {
        permission::message::may_send(ctx, room)
    }

    /// Add members to a room.
    ///
    /// # Errors
    /// 4002; the database.
    fn can_add_members(&self, ctx: &mut Ctx<'_>, room: &Room) -> Result<(), ChatError> {
        permission::room::may_add_members(ctx, room)
    }

    /// Remove members from a room.
    ///
    /// # Errors
    /// 4002; the database.
    fn can_remove_members(&self, ctx: &mut Ctx<'_>, room: &Room) -> Result<(), ChatError> {
        permission::room::may_remove_members(ctx, room)
    }

    /// Change or delete a room.
    ///
    /// # Errors
    /// 4002; the database.
    fn can_administer(
        &self,
        ctx: &mut Ctx<'_>,
        room: &Room,
        action: Administration,
    ) -> Result<(), ChatError> {
        match action {
            Administration::Delete => permission::room::may_delete(ctx, room),
            Administration::Change => permission::room::may_modify(ctx, room),
        }
    }
}

impl PermissionPolicy for BuiltIn {}

/// What errors look like to clients.
pub trait ErrorMapper: Send + Sync {
    /// Whoever comes next in the chain.
    fn next(&self) -> &dyn ErrorMapper {
        &BuiltIn
    }

    /// The whole frame.
    fn map(&self, error: &ChatError, settings: &Settings) -> Value {
        render::error_frame(error, settings)
    }
}

impl ErrorMapper for BuiltIn {}

/// What objects look like to clients. Each method gets the object as it would be shown and gives what is shown instead. Runs inside of
/// the event's transaction.
pub trait Presenter: Send + Sync {
    /// A user.
    fn user(&self, user: &User, shown: Value) -> Value {
        let _ = user;
        shown
    }

    /// A message with all its parts.
    fn message(&self, message: &Message, shown: Value) -> Value {
        let _ = message;
        shown
    }

    /// A room with its members.
    fn room_detail(&self, room: &Room, shown: Value) -> Value {
        let _ = room;
        shown
    }

    /// A room in a list.
    fn room_entry(&self, room: &Room, shown: Value) -> Value {
        let _ = room;
        shown
    }

    /// A read receipt of a message.
    fn receipt(&self, shown: Value) -> Value {
        shown
    }

    /// A reaction to a message.
    fn reaction(&self, shown: Value) -> Value {
        shown
    }

    /// An attachment of a message.
    fn attachment(&self, shown: Value) -> Value {
        shown
    }

    /// A notification of the first frame.
    fn notification(&self, shown: Value) -> Value {
        shown
    }
}

impl Presenter for BuiltIn {}

/// Which events there are.
pub trait EventRouter: Send + Sync {
    /// Whoever comes next in the chain.
    fn next(&self) -> &dyn EventRouter {
        &BuiltIn
    }

    /// What handles an event; nothing for one that is unknown. [`super::Routes`] adds handlers to the built-in ones.
    fn route(&self, event_type: &str) -> Option<Routed> {
        router::find(event_type).map(Routed::BuiltIn)
    }
}

impl EventRouter for BuiltIn {}

/// Who hears of notifications. Runs after the commit and may wait; what it does is not repeated after a crash: a hook for `notify` is.
pub trait NotificationSink: Send + Sync {
    /// A notification got recipients.
    fn notified<'a>(&'a self, notification: &'a Notified) -> BoxFuture<'a, Result<(), ChatError>>;
}

/// Where users come from. Runs inside of the transaction.
pub trait UserDirectory: Send + Sync {
    /// Whoever comes next in the chain.
    fn next(&self) -> &dyn UserDirectory {
        &BuiltIn
    }

    /// It knows exactly who is in the chat's own table. Where it does not say so, whoever it knows beside is written there
    /// when an event names them.
    fn is_table(&self) -> bool {
        false
    }

    /// One user.
    ///
    /// # Errors
    /// The database.
    fn get(&self, tx: &mut dyn Tx, id: &UserId) -> Result<Option<User>, ChatError> {
        users::find(tx, id)
    }

    /// Several; those of nobody are left out.
    ///
    /// # Errors
    /// The database.
    fn get_many(&self, tx: &mut dyn Tx, ids: &[UserId]) -> Result<Vec<User>, ChatError> {
        ids.iter().filter_map(|id| self.get(tx, id).transpose()).collect()
    }

    /// The user that a token speaks of, at each connect: as stored, or as it is to be stored.
    ///
    /// # Errors
    /// The database.
    fn upsert_from_claims(
        &self,
        tx: &mut dyn Tx,
        id: &UserId,
        claimed: &Claimed,
    ) -> Result<Entry, ChatError> {
        users::from_claims(tx, id, claimed)
    }
}

impl UserDirectory for BuiltIn {
    fn is_table(&self) -> bool {
        true
    }

    fn get_many(&self, tx: &mut dyn Tx, ids: &[UserId]) -> Result<Vec<User>, ChatError> {
        directory::find_many(tx, ids).map(|found| found.into_values().collect())
    }
}

/// A filter of message content.
pub trait ContentFilter: Send + Sync {
    /// Sanitized text as it came, or as the filter before this one left it; gives what is stored.
    ///
    /// # Errors
    /// What is said of the field `content`, for the client.
    fn clean(&self, ctx: &mut Ctx<'_>, text: String) -> Result<String, String>;
}
