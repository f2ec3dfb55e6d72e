//! The parts of `[chat]` that bend the application: claims, routes of events, hooks, what is shown, further fields.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::RoomKind;

/// `[chat.claims]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Claims {
    /// The first of these that a token has is the user's id.
    pub user: Vec<String>,
}

impl Default for Claims {
    fn default() -> Self {
        Self { user: vec!["user_id".to_owned(), "sub".to_owned()] }
    }
}

/// `[chat.events]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// Events that are answered as unknown ones are.
    pub disabled: Vec<String>,
    /// From an event type to the id of an integration of the API, which handles it.
    pub route: BTreeMap<String, String>,
}

/// When a hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// After authentication; may refuse.
    Connect,
    /// After the end of a connection.
    Disconnect,
    /// After the check of the form, before permission.
    Before,
    /// With the check of permission.
    Authorize,
    /// After the commit; durable.
    After,
    /// A notification got recipients; durable.
    Notify,
    /// Before a frame is encoded, once for each audience.
    Render,
}

impl Moment {
    /// As settings and `X-Tidegate-Hook` have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
            Self::Before => "before",
            Self::Authorize => "authorize",
            Self::After => "after",
            Self::Notify => "notify",
            Self::Render => "render",
        }
    }
}

/// `on_failure`: what a hook that does not answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// 4006; of a connection the refusal; of a frame that it does not go out.
    #[default]
    Deny,
    /// As if it had not been configured.
    Allow,
}

/// `mode` of `authorize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorizeMode {
    /// Both must say yes; the built-in check speaks first.
    #[default]
    After,
    /// The hook alone decides.
    Instead,
}

/// One of `[[chat.hooks]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// When.
    pub on: Moment,
    /// For which event types, exact or ending in `*`; all by default. Connections are not asked for theirs.
    #[serde(default)]
    pub events: Vec<String>,
    /// `http://` or `https://` URL, or ARN of a function.
    pub target: String,
    /// Milliseconds until an answer counts as none.
    #[serde(default = "default_timeout")]
    pub timeout_ms: u64,
    /// What no answer means.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Only for `authorize`.
    #[serde(default)]
    pub mode: AuthorizeMode,
    /// Signs calls: the text itself, or `env:NAME`.
    #[serde(default)]
    pub secret: Option<HookSecret>,
}

fn default_timeout() -> u64 {
    1000
}

impl Hook {
    /// Whether it is called for an event type. `render` may also name the `eventType` of the frame.
    pub fn takes(&self, event_type: &str) -> bool {
        self.events.is_empty()
            || self.events.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => event_type.starts_with(start),
                None => pattern == event_type,
            })
    }

    /// Whether its target is the ARN of a function.
    pub fn is_function(&self) -> bool {
        self.target.starts_with("arn:")
    }

    /// Time for an answer.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// The secret of a hook. Neither `Debug` nor JSON show it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct HookSecret(String);

impl HookSecret {
    /// From its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For signing only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookSecret(..)")
    }
}

impl Serialize for HookSecret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Which variable it comes from is no secret, and what an operator looks for.
        serializer.serialize_str(if self.0.starts_with("env:") { &self.0 } else { "***" })
    }
}

/// Members of the user object that are always known.
pub const USER_MEMBERS: [&str; 5] = ["id", "username", "email", "first_name", "last_name"];

/// `[chat.render]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Render {
    /// Users.
    pub user: RenderUser,
    /// Messages.
    pub message: RenderDrop,
    /// Rooms, in detail and in lists.
    pub room: RenderDrop,
}

/// `[chat.render.user]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RenderUser {
    /// Members in this order; empty: the five, then `claims`. A name that is none of the five is a claim.
    pub fields: Vec<String>,
    /// Claims that are kept and shown.
    pub claims: Vec<String>,
}

impl RenderUser {
    /// Whether a claim of a token is kept with its user.
    pub fn keeps(&self, claim: &str) -> bool {
        let is_named = |names: &[String]| names.iter().any(|name| name == claim);
        is_named(&self.claims) || (is_named(&self.fields) && !USER_MEMBERS.contains(&claim))
    }

    /// Nothing is left out, and nothing added.
    pub fn is_plain(&self) -> bool {
        self.fields.is_empty() && self.claims.is_empty()
    }
}

/// `[chat.render.message]`, `[chat.render.room]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RenderDrop {
    /// Members that are left out; neither `id` nor `type`.
    pub drop: Vec<String>,
}

/// `[chat.errors]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorForms {
    /// An unknown event is told with code 4003.
    pub wrap_invalid_event: bool,
    /// Form of 4003.
    #[serde(rename = "4003")]
    pub validation: ErrorForm,
}

/// `[chat.errors.4003]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorForm {
    /// What `detail` is.
    pub detail: DetailForm,
}

/// `detail` of an error form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DetailForm {
    /// Text, list or object, as the error has it.
    #[default]
    Full,
    /// One text.
    Text,
}

/// `[chat.fields]`: by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fields {
    /// Of messages.
    pub message: BTreeMap<String, FieldRule>,
    /// Of groups.
    pub group: BTreeMap<String, FieldRule>,
    /// Of channels.
    pub channel: BTreeMap<String, FieldRule>,
    /// Of one-to-one chats.
    pub one_to_one: BTreeMap<String, FieldRule>,
}

impl Fields {
    /// Those of a kind of room.
    pub fn of_room(&self, kind: RoomKind) -> &BTreeMap<String, FieldRule> {
        match kind {
            RoomKind::OneToOne => &self.one_to_one,
            RoomKind::Group => &self.group,
            RoomKind::Channel => &self.channel,
        }
    }
}

/// An additional field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldRule {
    /// What its value is.
    pub r#type: FieldType,
    /// It must be there at creation.
    #[serde(default)]
    pub required: bool,
    /// Stored where a client names none; without it such an object shows `null`.
    #[serde(default)]
    pub default: Option<Value>,
    /// Updates may change it.
    #[serde(default)]
    pub updatable: bool,
}

/// JSON types of additional fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// Text.
    String,
    /// Any number.
    Number,
    /// A whole number.
    Integer,
    /// `true`, `false`.
    Boolean,
    /// A list.
    Array,
    /// An object.
    Object,
    /// Whatever.
    Any,
}

impl FieldType {
    /// Whether a value is of it. `null` is of none but [`Self::Any`].
    pub fn takes(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Number => value.is_number(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Boolean => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
            Self::Any => true,
        }
    }
}

/// `[chat.type_names]`: other names of the kinds of rooms. They are shown, and taken beside the usual ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TypeNames {
    /// Of one-to-one chats.
    #[serde(rename = "OneToOneChat")]
    pub one_to_one: Option<String>,
    /// Of groups.
    #[serde(rename = "GroupChat")]
    pub group: Option<String>,
    /// Of channels.
    #[serde(rename = "Channel")]
    pub channel: Option<String>,
}

impl TypeNames {
    /// The name that is shown.
    pub fn of(&self, kind: RoomKind) -> &str {
        let name = match kind {
            RoomKind::OneToOne => &self.one_to_one,
            RoomKind::Group => &self.group,
            RoomKind::Channel => &self.channel,
        };
        name.as_deref().unwrap_or(kind.as_str())
    }

    /// The kind that a client means: by its name here, or by the usual one.
    pub fn find(&self, name: &str) -> Option<RoomKind> {
        let kinds = [RoomKind::OneToOne, RoomKind::Group, RoomKind::Channel];
        kinds.into_iter().find(|kind| self.of(*kind) == name).or_else(|| RoomKind::find(name))
    }
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `chat.max_nesting`, `chat.hooks[0].target`, ...
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: Cow<'static, str>,
}
