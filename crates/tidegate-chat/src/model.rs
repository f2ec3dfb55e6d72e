//! Rows of the chat's tables, as handlers hold them.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

/// Microseconds since 1970.
pub type Micros = i64;

/// A user's id in its one text form: of an integer its decimal digits. [`crate::settings::Settings::user_json`] writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub Arc<str>);

impl UserId {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Unique.
    pub username: Arc<str>,
    /// May be empty, as the names are.
    pub email: Arc<str>,
    /// See [`Self::email`].
    pub first_name: Arc<str>,
    /// See [`Self::email`].
    pub last_name: Arc<str>,
    /// May not connect.
    pub is_disabled: bool,
    /// Further claims that are shown, a JSON object; `Null` without any.
    pub claims: Value,
}

/// The three kinds of rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoomKind {
    /// Exactly two.
    OneToOne,
    /// Participants and admins.
    Group,
    /// Subscribers and moderators.
    Channel,
}

impl RoomKind {
    /// `type` in events and objects, and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneToOne => "OneToOneChat",
            Self::Group => "GroupChat",
            Self::Channel => "Channel",
        }
    }

    /// By [`Self::as_str`].
    pub fn find(name: &str) -> Option<Self> {
        [Self::OneToOne, Self::Group, Self::Channel].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A room without its members.
#[derive(Debug, Clone, PartialEq)]
pub struct Room {
    /// Its id.
    pub id: Uuid,
    /// Its kind.
    pub kind: RoomKind,
    /// Who made it; nobody made a one-to-one chat.
    pub creator: Option<UserId>,
    /// Absent for one-to-one chats.
    pub name: Option<Arc<str>>,
    /// Free text.
    pub description: Option<Arc<str>>,
    /// URL.
    pub avatar: Option<Arc<str>>,
    /// Members at most; one-to-one chats: 2.
    pub cap: i64,
    /// Groups: only creator and admins may write.
    pub is_locked: bool,
    /// Groups: for extensions.
    pub needs_approval: bool,
    /// Channels: everybody may join.
    pub is_public: bool,
    /// A JSON object.
    pub preferences: Value,
    /// Additional fields, a JSON object; `Null` without any.
    pub fields: Value,
    /// Newest visible message.
    pub last_message: Option<Uuid>,
    /// When it was made.
    pub created_at: Micros,
    /// Never before [`Self::created_at`].
    pub updated_at: Micros,
}

/// Somebody's place in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// Admin of a group, moderator of a channel.
    pub is_admin: bool,
    /// When.
    pub joined_at: Micros,
}

/// A message without its parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its id.
    pub id: Uuid,
    /// Where.
    pub room: Uuid,
    /// Who; nobody for messages of the system and of deleted users.
    pub sender: Option<UserId>,
    /// Sanitized.
    pub content: Arc<str>,
    /// Softly.
    pub is_deleted: bool,
    /// By its sender.
    pub is_edited: bool,
    /// It has, or had, a source.
    pub is_forwarded: bool,
    /// What it replies to.
    pub parent: Option<Uuid>,
    /// What it forwards.
    pub source: Option<Uuid>,
    /// Additional fields, a JSON object; `Null` without any.
    pub fields: Value,
    /// Place in the room; grows.
    pub seq: i64,
    /// When it was sent.
    pub created_at: Micros,
    /// Never before [`Self::created_at`].
    pub updated_at: Micros,
}
