//! Rows as clients see them.

pub mod message;
pub mod room;

use std::ops::Deref;

use serde_json::{Value, json};

use crate::extension::{self, Extensions, Presenter};
use crate::model::User;
use crate::settings::Settings;

/// How objects are shown: by settings, and by a presenter if there is one.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Settings of the event.
    pub settings: &'a Settings,
    /// Has the last word on each object.
    pub presenter: Option<&'a dyn Presenter>,
}

impl<'a> View<'a> {
    /// As these have it.
    pub fn new(settings: &'a Settings, extensions: &'a Extensions) -> Self {
        Self { settings, presenter: extensions.presenter.as_deref() }
    }

    /// What the presenter makes of an object.
    pub fn present(&self, shown: Value, present: impl FnOnce(&dyn Presenter, Value) -> Value) -> Value {
        match self.presenter {
            Some(presenter) => present(presenter, shown),
            None => shown,
        }
    }
}

impl Deref for View<'_> {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        self.settings
    }
}

/// A user: the five members, or what the settings choose.
pub fn user(user: &User, view: View<'_>) -> Value {
    let settings = view.settings;
    let shown = json!({
        "id": settings.user_json(&user.id),
        "username": &*user.username,
        "email": &*user.email,
        "first_name": &*user.first_name,
        "last_name": &*user.last_name,
    });
    let shown = match shown {
        Value::Object(shown) if !settings.render.user.is_plain() => {
            Value::Object(extension::user(user, shown, settings))
        }
        shown => shown,
    };
    view.present(shown, |presenter, shown| presenter.user(user, shown))
}
