//! `[chat]` of the configuration.

pub mod check;
pub mod extension;
pub mod live;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::snapshot::Throttle;

use crate::model::UserId;
pub use extension::Problem;
use extension::{Claims, ErrorForms, Events, Fields, Hook, Render, TypeNames};

/// What operators may choose. Defaults are those of the package, but for what it gets wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Path of handshakes; begins and ends with a slash.
    pub path: String,
    /// How clients are told that they are not authenticated.
    pub refusal: RefusalForm,
    /// Deleted messages stay in the database.
    pub soft_delete: bool,
    /// Notifications are kept, and sent first.
    pub notifications: bool,
    /// Seconds after which a session counts as idle. Nothing follows from it.
    pub inactivity_seconds: u64,
    /// Code of a second one-to-one chat of the same pair: 4005, or 4003 as in the package.
    pub duplicate_chat_code: u16,
    /// Dispatches have the member `type`.
    pub dispatch_type: bool,
    /// Largest event, in bytes.
    pub max_event_bytes: usize,
    /// Depth of `parent_message` and `forwarded_from`; 4 at least.
    pub max_nesting: usize,
    /// Messages of one dispatch.
    pub max_history: usize,
    /// Notifications of the first frame.
    pub max_pending: usize,
    /// Seconds for which `session.replay` offers what was missed; 0: there is no such event.
    pub replay_seconds: u64,
    /// Connections of one user; 0 = no limit.
    pub max_devices: usize,
    /// Events of one user in a second, of all its devices at this node; 0 = no limit.
    pub event_rate: f64,
    /// Events of one user at once; 0 = as many as in a second.
    pub event_burst: f64,
    /// A JSON file with users that are entered at each start.
    pub users_file: Option<String>,
    /// Seconds between two pings of the server.
    pub ping_seconds: u64,
    /// Seconds that a peer may leave a ping unanswered.
    pub ping_timeout_seconds: u64,
    /// Seconds without any message after which a connection is closed; 0 = never.
    pub idle_close_seconds: u64,
    /// Where markup is taken out.
    pub sanitise: Sanitise,
    /// MIME types that attachments may have; empty: the package's list.
    pub mime_types: Vec<String>,
    /// The room is named to those who see somebody type.
    pub typing_room: bool,
    /// The longest-standing member of a group without creator and admins becomes admin.
    pub promote_on_vacancy: bool,
    /// What user ids are.
    pub user_ids: UserIds,
    /// Who is a user.
    pub directory: Directory,
    /// What becomes of messages of deleted users.
    pub on_user_delete: OnUserDelete,
    /// Which claims say who somebody is.
    pub claims: Claims,
    /// Events that are unknown, and events that others handle.
    pub events: Events,
    /// Calls of others.
    pub hooks: Vec<Hook>,
    /// What objects show.
    pub render: Render,
    /// Forms of errors.
    pub errors: ErrorForms,
    /// Additional fields.
    pub fields: Fields,
    /// Other names of the kinds of rooms.
    pub type_names: TypeNames,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            path: "/messaging/".to_owned(),
            refusal: RefusalForm::Close,
            soft_delete: false,
            notifications: true,
            inactivity_seconds: 60,
            duplicate_chat_code: 4005,
            dispatch_type: true,
            max_event_bytes: 1 << 20,
            max_nesting: 8,
            max_history: 1000,
            max_pending: 1000,
            replay_seconds: 0,
            max_devices: 0,
            event_rate: 0.0,
            event_burst: 0.0,
            users_file: None,
            ping_seconds: 20,
            ping_timeout_seconds: 30,
            idle_close_seconds: 0,
            sanitise: Sanitise::Content,
            mime_types: Vec::new(),
            typing_room: false,
            promote_on_vacancy: false,
            user_ids: UserIds::Integer,
            directory: Directory::Known,
            on_user_delete: OnUserDelete::Delete,
            claims: Claims::default(),
            events: Events::default(),
            hooks: Vec::new(),
            render: Render::default(),
            errors: ErrorForms::default(),
            fields: Fields::default(),
            type_names: TypeNames::default(),
        }
    }
}

/// `refusal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalForm {
    /// 101, then 4001: pages can read it.
    Close,
    /// 403.
    Http,
}

/// `sanitise`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sanitise {
    /// Content of messages.
    Content,
    /// Names, descriptions and captions too.
    All,
}

/// `user_ids`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserIds {
    /// JSON numbers.
    Integer,
    /// JSON texts.
    Text,
}

/// `directory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Directory {
    /// Whoever has connected once, or was entered.
    Known,
    /// Every well-formed id.
    Open,
    /// Whoever was entered.
    Closed,
}

/// `on_user_delete`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUserDelete {
    /// They go.
    Delete,
    /// They stay without a sender.
    Anonymise,
}

impl Settings {
    /// How many events a user may send, where there is a limit.
    pub fn throttle(&self) -> Option<Throttle> {
        let burst = if self.event_burst > 0.0 { self.event_burst } else { self.event_rate };
        (self.event_rate > 0.0).then(|| Throttle { rate: self.event_rate, burst: burst.max(1.0) })
    }

    /// A user's id as JSON.
    pub fn user_json(&self, id: &UserId) -> Value {
        match self.user_ids {
            UserIds::Integer => {
                id.as_str().parse::<i64>().map_or_else(|_| Value::from(id.as_str()), Value::from)
            }
            UserIds::Text => Value::from(id.as_str()),
        }
    }
}
