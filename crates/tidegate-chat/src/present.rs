//! Rows as clients see them.

pub mod message;
pub mod room;

use serde_json::{Value, json};

use crate::model::User;
use crate::settings::Settings;

/// A user, the five members.
pub fn user(user: &User, settings: &Settings) -> Value {
    json!({
        "id": settings.user_json(&user.id),
        "username": &*user.username,
        "email": &*user.email,
        "first_name": &*user.first_name,
        "last_name": &*user.last_name,
    })
}
