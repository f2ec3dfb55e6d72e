//! One event under way: what its handler has, and what it leaves.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;
use tidegate_core::id::ConnectionId;
use tidegate_store::sql::Tx;
use uuid::Uuid;

use crate::error::ChatError;
use crate::extension::{Extensions, Made, Verdict};
use crate::model::{Micros, User, UserId};
use crate::present::View;
use crate::sanitize::{self, Cleaned};
use crate::settings::Settings;
use crate::store::rooms;

/// What a handler works with. Its transaction is the event's: after an error nothing has happened.
pub struct Ctx<'a> {
    /// The transaction.
    pub tx: &'a mut dyn Tx,
    /// Settings at the begin of the event.
    pub settings: &'a Settings,
    /// Who acts.
    pub actor: &'a User,
    /// Where the event came in; nowhere for calls of servers.
    pub connection: Option<ConnectionId>,
    /// One time for everything that the event stores.
    pub now: Micros,
    /// What goes out after the commit, in this order.
    pub dispatches: Vec<Dispatch>,
    /// What the application was extended with.
    pub extensions: &'a Extensions,
    /// Content that was sanitized before the transaction.
    pub cleaned: Option<&'a Cleaned>,
    /// What a hook has said of permission.
    pub verdict: Verdict,
    /// Permission was asked for; then [`Self::verdict`] has been heard.
    pub is_asked: bool,
    /// Notifications that this event has made, for those who hear of them after the commit.
    pub made: Vec<Made>,
}

/// A frame and whom it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    /// Whom.
    pub audience: Audience,
    /// What.
    pub frame: Frame,
}

/// Who gets a frame: connections that are open when it goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// All connections of these users.
    Users(Vec<UserId>),
    /// One connection.
    Connection(ConnectionId),
}

/// A frame before it is encoded.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// `{"type": "broadcast_group", "eventType": ..., "data": ...}`.
    Event {
        /// `message.dispatch`, ...
        event_type: Cow<'static, str>,
        /// Its data.
        data: Value,
    },
    /// As it is.
    Raw(Value),
}

impl<'a> Ctx<'a> {
    /// What an event begins with, without extensions.
    pub fn new(
        tx: &'a mut dyn Tx,
        settings: &'a Settings,
        actor: &'a User,
        connection: Option<ConnectionId>,
        now: Micros,
    ) -> Self {
        Self {
            tx,
            settings,
            actor,
            connection,
            now,
            dispatches: Vec::new(),
            extensions: Extensions::built_in(),
            cleaned: None,
            verdict: Verdict::BuiltIn,
            is_asked: false,
            made: Vec::new(),
        }
    }

    /// Content without markup that is not permitted.
    pub fn sanitized(&self, text: &str) -> String {
        match self.cleaned.and_then(|cleaned| cleaned.find(text)) {
            Some(clean) => clean.to_owned(),
            None => sanitize::content(text),
        }
    }

    /// Content as it is stored: sanitized text through the filters of extensions.
    ///
    /// # Errors
    /// What the first filter that refuses says of the field `content`.
    pub fn clean(&mut self, text: Arc<str>) -> Result<Arc<str>, ChatError> {
        let extensions = self.extensions;
        if extensions.content.is_empty() {
            return Ok(text);
        }
        extensions.clean(self, text.as_ref().to_owned()).map(Into::into)
    }

    /// How this event shows objects.
    pub fn view(&self) -> View<'a> {
        View::new(self.settings, self.extensions)
    }

    /// Asks for permission: `check`, and the hook that was asked before the transaction.
    ///
    /// # Errors
    /// That of `check`, or what the hook has said.
    pub fn permit(
        &mut self,
        check: impl FnOnce(&mut Self) -> Result<(), ChatError>,
    ) -> Result<(), ChatError> {
        self.is_asked = true;
        match self.verdict.clone() {
            Verdict::BuiltIn => check(self),
            Verdict::Allow => Ok(()),
            Verdict::Deny(error) => check(self).and(Err(error)),
            Verdict::DenyInstead(error) => Err(error),
        }
    }

    /// What a hook has said of an event that asks for no permission by itself.
    ///
    /// # Errors
    /// The hook's.
    pub fn unasked_verdict(&self) -> Result<(), ChatError> {
        match &self.verdict {
            Verdict::Deny(error) | Verdict::DenyInstead(error) if !self.is_asked => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

impl Ctx<'_> {
    /// A new id for a row. They grow with time, so that neighbors in time are neighbors on the disk.
    pub fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }

    /// Everybody in a room, the actor included.
    ///
    /// # Errors
    /// The database.
    pub fn room_audience(&mut self, room: Uuid) -> Result<Audience, ChatError> {
        rooms::member_ids(self.tx, room).map(Audience::Users)
    }

    /// All connections of the actor.
    pub fn own_audience(&self) -> Audience {
        Audience::Users(vec![self.actor.id.clone()])
    }

    /// Leaves a dispatch.
    pub fn dispatch(&mut self, audience: Audience, event_type: &'static str, data: Value) {
        let frame = Frame::Event { event_type: event_type.into(), data };
        self.dispatches.push(Dispatch { audience, frame });
    }

    /// Leaves a dispatch for everybody in a room.
    ///
    /// # Errors
    /// The database.
    pub fn dispatch_to_room(
        &mut self,
        room: Uuid,
        event_type: &'static str,
        data: Value,
    ) -> Result<(), ChatError> {
        let audience = self.room_audience(room)?;
        self.dispatch(audience, event_type, data);
        Ok(())
    }

    /// Leaves a frame for the connection that the event came in on.
    pub fn answer(&mut self, frame: Value) {
        if let Some(connection) = self.connection {
            let audience = Audience::Connection(connection);
            self.dispatches.push(Dispatch { audience, frame: Frame::Raw(frame) });
        }
    }
}

/// The text of a time: UTC, six fractional digits, `Z`.
pub fn time_text(micros: Micros) -> String {
    use std::fmt::Write as _;
    let time = jiff::Timestamp::from_microsecond(micros).unwrap_or_default();
    let mut text = String::with_capacity(27);
    // Writing into a string cannot fail.
    let _ = write!(text, "{time:.6}");
    text
}

/// The encoded form that all connections of an audience share.
pub fn encode(frame: &Frame, settings: &Settings) -> Arc<str> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Event<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        r#type: Option<&'static str>,
        event_type: &'a str,
        data: &'a Value,
    }
    let text = match frame {
        Frame::Raw(value) => value.to_string(),
        Frame::Event { event_type, data } => {
            let r#type = settings.dispatch_type.then_some("broadcast_group");
            // A value without maps of other keys than text always serializes.
            serde_json::to_string(&Event { r#type, event_type, data }).unwrap_or_default()
        }
    };
    text.into()
}
