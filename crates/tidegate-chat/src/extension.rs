//! Where the application can be bent by those who build their own binary.
//!
//! Each trait has the built-in behavior as the default of every method, so that an implementation writes only what it changes; what it
//! replaces it reaches with `self.next()`. Traits whose methods get [`Ctx`] run inside the event's transaction, on a thread that
//! serves all events: they must not wait for anything but the database. [`ChatApp`] and [`NotificationSink`] run before
//! and after it and may wait. A panic or an error in any of them is 4006 for this event and nothing else.

mod after;
pub mod fields;
mod guard;
mod render;
mod traits;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

use crate::error::ChatError;
use crate::event::Ctx;
use crate::router;

pub(crate) use after::resolve as resolve_notified;
pub use after::{Made, Notified, Recipient, notified};
pub use guard::{guarded, guarded_async};
pub use render::{error_frame, message, room, user};
pub use traits::{
    Administration, BuiltIn, ChatApp, ChatHandler, ContentFilter, ErrorMapper, EventRouter, Incoming,
    NotificationSink, PermissionPolicy, Presenter, UserDirectory,
};

/// What a running application was extended with. [`Extensions::built_in`] extends nothing.
#[derive(Clone)]
pub struct Extensions {
    /// Around events and connections.
    pub app: Arc<dyn ChatApp>,
    /// What events do.
    pub handler: Arc<dyn ChatHandler>,
    /// Who may.
    pub permission: Arc<dyn PermissionPolicy>,
    /// What errors look like.
    pub errors: Arc<dyn ErrorMapper>,
    /// What objects look like; nothing stands for the built-in forms, which then cost nothing.
    pub presenter: Option<Arc<dyn Presenter>>,
    /// Which events there are.
    pub router: Arc<dyn EventRouter>,
    /// Who hears of notifications, one after the other.
    pub notifications: Vec<Arc<dyn NotificationSink>>,
    /// Where users come from.
    pub users: Arc<dyn UserDirectory>,
    /// Filters of content, after the built-in sanitizing, one after the other.
    pub content: Vec<Arc<dyn ContentFilter>>,
}

impl Extensions {
    /// Nothing but what is built in.
    pub fn built_in() -> &'static Self {
        static BUILT_IN: LazyLock<Extensions> = LazyLock::new(Extensions::default);
        &BUILT_IN
    }

    /// Content as it is stored: sanitized text through all filters.
    ///
    /// # Errors
    /// What the first filter that refuses says of the field `content`.
    pub fn clean(&self, ctx: &mut Ctx<'_>, text: String) -> Result<String, ChatError> {
        self.content.iter().try_fold(text, |text, filter| {
            filter.clean(ctx, text).map_err(|said| ChatError::field("content", said))
        })
    }
}

impl Default for Extensions {
    fn default() -> Self {
        Self {
            app: Arc::new(BuiltIn),
            handler: Arc::new(BuiltIn),
            permission: Arc::new(BuiltIn),
            errors: Arc::new(BuiltIn),
            presenter: None,
            router: Arc::new(BuiltIn),
            notifications: Vec::new(),
            users: Arc::new(BuiltIn),
            content: Vec::new(),
        }
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions").finish_non_exhaustive()
    }
}

/// A handler that is not built in.
pub type CustomHandler =
    Arc<dyn Fn(&mut Ctx<'_>, &Map<String, Value>) -> Result<(), ChatError> + Send + Sync>;

/// What handles an event.
#[derive(Clone)]
pub enum Routed {
    /// A row of the application's own table.
    BuiltIn(&'static router::Route),
    /// A handler that was registered. It may write.
    Custom(CustomHandler),
}

impl Routed {
    /// `data` must be an object.
    pub fn needs_data(&self) -> bool {
        match self {
            Self::BuiltIn(route) => route.needs_data,
            Self::Custom(_) => false,
        }
    }

    /// It changes nothing.
    pub fn is_read(&self) -> bool {
        match self {
            Self::BuiltIn(route) => route.is_read,
            Self::Custom(_) => false,
        }
    }

    /// Handles the event: inside its transaction, a panic being an error, and with what a hook has said of permission.
    ///
    /// # Errors
    /// [`ChatError`]
    pub fn run(&self, ctx: &mut Ctx<'_>, data: &Map<String, Value>) -> Result<(), ChatError> {
        guarded(|| match self {
            Self::BuiltIn(route) => (route.handler)(ctx, data),
            Self::Custom(handler) => handler(ctx, data),
        })?;
        ctx.unasked_verdict()
    }
}

impl fmt::Debug for Routed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(route) => f.debug_tuple("BuiltIn").field(&route.event_type).finish(),
            Self::Custom(_) => f.write_str("Custom(..)"),
        }
    }
}

/// An [`EventRouter`] with handlers of one's own beside, or instead of, the built-in ones.
#[derive(Debug, Default)]
pub struct Routes {
    custom: HashMap<String, Routed>,
}

impl Routes {
    /// The built-in ones.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has `event_type` handled by `handler`, also where a built-in handler exists.
    #[must_use]
    pub fn register(
        mut self,
        event_type: impl Into<String>,
        handler: impl Fn(&mut Ctx<'_>, &Map<String, Value>) -> Result<(), ChatError> + Send + Sync + 'static,
    ) -> Self {
        self.custom.insert(event_type.into(), Routed::Custom(Arc::new(handler)));
        self
    }
}

impl EventRouter for Routes {
    fn route(&self, event_type: &str) -> Option<Routed> {
        self.custom.get(event_type).cloned().or_else(|| EventRouter::next(self).route(event_type))
    }
}

/// What a hook has said of permission, before the transaction.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Verdict {
    /// No hook was asked, or it agreed: the built-in check decides.
    #[default]
    BuiltIn,
    /// The built-in check is not asked.
    Allow,
    /// The built-in check speaks first; then this is the error.
    Deny(ChatError),
    /// The built-in check is not asked; this is the error.
    DenyInstead(ChatError),
}
