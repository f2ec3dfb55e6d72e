//! Who is at the other end of a connection, as far as the gateway's own checks have established it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What established an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthKind {
    /// Nothing: the client is nobody.
    #[default]
    None,
    /// A one-time connect token.
    Token,
    /// A JSON Web Token.
    Jwt,
    /// An API key.
    ApiKey,
}

impl AuthKind {
    /// Value of the header `Tidegate-Auth`, and label of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Token => "token",
            Self::Jwt => "jwt",
            Self::ApiKey => "api_key",
        }
    }
}

/// A user, as one connection presented it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// The user's id; absent for nobody.
    pub user: Option<Arc<str>>,
    /// Id of the login that the connection belongs to.
    pub session: Option<Arc<str>>,
    /// What established it.
    pub auth: AuthKind,
    /// Roles.
    pub roles: Vec<String>,
    /// The token names none, and [`Self::roles`] are what such a one stands for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub has_default_role: bool,
    /// Everything else that was said about the user.
    pub claims: BTreeMap<String, Value>,
    /// Milliseconds since 1970 from which on it holds no more.
    pub expires_at: Option<u64>,
    /// The only channels it may join, where its token says so. Exact names, and `prefix*`.
    pub channels: Option<Vec<String>>,
    /// Id of the JSON Web Token.
    pub token_id: Option<String>,
}

impl Identity {
    /// A claim as text: text itself, numbers and booleans as JSON writes them, nothing else.
    pub fn claim(&self, name: &str) -> Option<String> {
        self.claim_text(name).map(Cow::into_owned)
    }

    /// [`Self::claim`] without a copy where the claim is text.
    pub fn claim_text(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.claims.get(name)? {
            Value::String(text) => Some(Cow::Borrowed(text)),
            value @ (Value::Number(_) | Value::Bool(_)) => Some(Cow::Owned(value.to_string())),
            _ => None,
        }
    }

    /// Whether `name` is in the claim `perms` or `permissions`, a list of texts or one text with blanks.
    pub fn has_permission(&self, name: &str) -> bool {
        ["perms", "permissions"].iter().filter_map(|claim| self.claims.get(*claim)).any(|value| match value {
            Value::Array(items) => items.iter().any(|item| item.as_str() == Some(name)),
            Value::String(text) => text.split_whitespace().any(|word| word == name),
            _ => false,
        })
    }
}
