//! What is wrong with `[chat]`, all of it at once.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tidegate_core::nearest::nearest;
use tidegate_core::snapshot::FunctionName;

use super::Settings;
use super::extension::{FieldRule, Hook, Problem, USER_MEMBERS};
use crate::model::RoomKind;
use crate::router;

/// Most hooks.
const MAX_HOOKS: usize = 64;
/// Members of a message object.
const MESSAGE_MEMBERS: [&str; 15] = [
    "id",
    "room",
    "sender",
    "content",
    "is_deleted",
    "is_edited",
    "is_forwarded",
    "parent_message",
    "forwarded_from",
    "delivered_to",
    "read_receipts",
    "reactions",
    "attachments",
    "created_at",
    "updated_at",
];
/// Members of room objects, in detail and in lists, and what clients send about rooms.
const ROOM_MEMBERS: [&str; 20] = [
    "id",
    "type",
    "participants",
    "subscribers",
    "creator",
    "admins",
    "moderators",
    "name",
    "description",
    "avatar",
    "max_participants",
    "max_subscribers",
    "join_approval_required",
    "group_locked",
    "is_public",
    "property",
    "last_message",
    "peer",
    "created_at",
    "updated_at",
];
/// What clients send about messages.
const MESSAGE_INPUTS: [&str; 7] =
    ["room_id", "message_id", "content", "media", "parent_message_id", "forwarded_from_id", "sender_id"];

/// Keys of [`Hook`].
const HOOK_KEYS: [&str; 7] = ["on", "events", "target", "timeout_ms", "on_failure", "mode", "secret"];
/// Keys of [`FieldRule`].
const FIELD_KEYS: [&str; 4] = ["type", "required", "default", "updatable"];

/// Problems under one path.
struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn add(&mut self, path: impl Into<String>, message: impl Into<Cow<'static, str>>) {
        self.problems.push(Problem { path: path.into(), message: message.into() });
    }

    fn range<T: PartialOrd + std::fmt::Display>(&mut self, key: &str, value: T, min: T, max: T) {
        if value < min || value > max {
            self.add(format!("chat.{key}"), format!("is {value} and must be from {min} to {max}"));
        }
    }
}

impl Settings {
    /// `[chat]` out of a document, with everything that is wrong in it: keys that nobody knows with the nearest one,
    /// values of the wrong type, values out of range. `secret` looks up `env:NAME`.
    ///
    /// # Errors
    /// At least one problem.
    pub fn read(document: &Value, secret: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<Problem>> {
        let mut checker = Checker { problems: Vec::new() };
        let Value::Object(document) = document else {
            checker.add("chat", "must be a table");
            return Err(checker.problems);
        };
        let mut known = document.clone();
        if let Ok(Value::Object(model)) = serde_json::to_value(Self::default()) {
            unknown_keys(&mut checker, "chat", &mut known, &model);
        }
        if let Some(Value::Array(hooks)) = known.get_mut("hooks") {
            for (at, hook) in hooks.iter_mut().enumerate() {
                unknown_item_keys(&mut checker, &format!("chat.hooks[{at}]"), hook, &HOOK_KEYS);
            }
        }
        if let Some(Value::Object(objects)) = known.get_mut("fields") {
            for (object, fields) in objects {
                for (name, rule) in fields.as_object_mut().into_iter().flatten() {
                    let path = format!("chat.fields.{object}.{name}");
                    unknown_item_keys(&mut checker, &path, rule, &FIELD_KEYS);
                }
            }
        }
        // One key after the other, so that each wrong type is named and not only the first.
        known.retain(|key, value| {
            let alone = Value::Object(Map::from_iter([(key.clone(), value.clone())]));
            match serde_json::from_value::<Self>(alone) {
                Ok(_) => true,
                Err(error) => {
                    checker.add(format!("chat.{key}"), error.to_string());
                    false
                }
            }
        });
        let mut settings = match serde_json::from_value::<Self>(Value::Object(known)) {
            Ok(settings) => settings,
            Err(error) => {
                checker.add("chat", error.to_string());
                return Err(checker.problems);
            }
        };
        for (at, hook) in settings.hooks.iter_mut().enumerate() {
            let Some(name) = hook.secret.as_ref().and_then(|text| text.expose().strip_prefix("env:")) else {
                continue;
            };
            match secret(name) {
                Some(text) if !text.is_empty() => hook.secret = Some(super::extension::HookSecret::new(text)),
                _ => checker.add(
                    format!("chat.hooks[{at}].secret"),
                    format!("names the environment variable {name}, which is not set"),
                ),
            }
        }
        checker.problems.extend(settings.problems());
        if checker.problems.is_empty() { Ok(settings) } else { Err(checker.problems) }
    }

    /// Values out of range, and values that contradict each other. Empty for settings that can be used.
    pub fn problems(&self) -> Vec<Problem> {
        let mut checker = Checker { problems: Vec::new() };
        if !(self.path.starts_with('/') && self.path.ends_with('/') && !self.path.contains(['?', '#', ' '])) {
            checker.add("chat.path", format!("is \"{}\" and must begin and end with \"/\"", self.path));
        }
        if ![4003, 4005].contains(&self.duplicate_chat_code) {
            let message = format!("is {} and must be 4003 or 4005", self.duplicate_chat_code);
            checker.add("chat.duplicate_chat_code", message);
        }
        checker.range("inactivity_seconds", self.inactivity_seconds, 1, 86_400);
        checker.range("max_event_bytes", self.max_event_bytes, 1024, 64 << 20);
        checker.range("max_nesting", self.max_nesting, 4, 64);
        checker.range("max_history", self.max_history, 1, 10_000);
        checker.range("max_pending", self.max_pending, 0, 10_000);
        checker.range("replay_seconds", self.replay_seconds, 0, 604_800);
        checker.range("max_devices", self.max_devices, 0, 100_000);
        checker.range("event_rate", self.event_rate, 0.0, 1_000_000.0);
        checker.range("event_burst", self.event_burst, 0.0, 1_000_000.0);
        checker.range("ping_seconds", self.ping_seconds, 1, 3600);
        checker.range("ping_timeout_seconds", self.ping_timeout_seconds, 1, 3600);
        checker.range("idle_close_seconds", self.idle_close_seconds, 0, 604_800);
        if self.claims.user.is_empty() {
            checker.add("chat.claims.user", "is empty and must name at least one claim");
        }
        for (at, event_type) in self.events.disabled.iter().enumerate() {
            if router::find(event_type).is_none() {
                checker.add(format!("chat.events.disabled[{at}]"), unknown_event(event_type));
            }
        }
        for (event_type, integration) in &self.events.route {
            if event_type.is_empty() || integration.is_empty() {
                checker.add(
                    format!("chat.events.route.\"{event_type}\""),
                    "must be an event type with the id of an integration",
                );
            }
        }
        if self.hooks.len() > MAX_HOOKS {
            checker.add("chat.hooks", format!("has {} hooks and may have {MAX_HOOKS}", self.hooks.len()));
        }
        for (at, hook) in self.hooks.iter().enumerate() {
            self.check_hook(&mut checker, at, hook);
        }
        self.check_render(&mut checker);
        self.check_fields(&mut checker);
        self.check_type_names(&mut checker);
        checker.problems
    }

    fn check_hook(&self, checker: &mut Checker, at: usize, hook: &Hook) {
        checker.range(&format!("hooks[{at}].timeout_ms"), hook.timeout_ms, 1, 30_000);
        let is_target = ["http://", "https://", "arn:"]
            .iter()
            .any(|start| hook.target.strip_prefix(start).is_some_and(|rest| !rest.is_empty()));
        if !is_target || hook.target.contains(char::is_whitespace) {
            checker.add(
                format!("chat.hooks[{at}].target"),
                "must be an http:// or https:// URL, or the ARN of a function",
            );
        }
        if hook.is_function() {
            if let Err(error) = FunctionName::parse(&hook.target) {
                checker.add(format!("chat.hooks[{at}].target"), error.to_string());
            }
            if hook.secret.is_some() {
                checker.add(
                    format!("chat.hooks[{at}].secret"),
                    "signs headers, which a function does not get: leave it out",
                );
            }
        }
        if hook.secret.as_ref().is_some_and(|secret| secret.expose().is_empty()) {
            checker.add(format!("chat.hooks[{at}].secret"), "is empty");
        }
        for (idx, pattern) in hook.events.iter().enumerate() {
            let is_custom = self.events.route.contains_key(pattern) || pattern.ends_with(".dispatch");
            // A name without a near one may be that of an event that an extension has registered.
            if pattern.contains('*') || is_custom || router::find(pattern).is_some() {
                continue;
            }
            if nearest(pattern, event_types()).is_some_and(|near| is_slip(pattern, near)) {
                checker.add(format!("chat.hooks[{at}].events[{idx}]"), unknown_event(pattern));
            }
        }
    }

    fn check_render(&self, checker: &mut Checker) {
        for (at, name) in self.render.user.fields.iter().enumerate() {
            if USER_MEMBERS.contains(&name.as_str()) || self.render.user.claims.contains(name) {
                continue;
            }
            if let Some(near) = nearest(name, USER_MEMBERS.into_iter()) {
                checker.add(
                    format!("chat.render.user.fields[{at}]"),
                    format!("\"{name}\" is no member of users; did you mean \"{near}\"? A claim of that name must stand in render.user.claims too"),
                );
            }
        }
        for (at, name) in self.render.user.claims.iter().enumerate() {
            if USER_MEMBERS.contains(&name.as_str()) {
                let message = format!("\"{name}\" is a member of users already");
                checker.add(format!("chat.render.user.claims[{at}]"), message);
            }
        }
        let drops: [(&str, &[String], &[&str]); 2] = [
            ("message", &self.render.message.drop, &MESSAGE_MEMBERS),
            ("room", &self.render.room.drop, &ROOM_MEMBERS),
        ];
        for (object, drop, members) in drops {
            for (at, name) in drop.iter().enumerate() {
                let path = format!("chat.render.{object}.drop[{at}]");
                if ["id", "type"].contains(&name.as_str()) {
                    checker.add(path, format!("\"{name}\" cannot be left out"));
                } else if !members.contains(&name.as_str()) {
                    let hint = nearest(name, members.iter().copied());
                    checker.add(path, format!("\"{name}\" is no member{}", did_you_mean(hint)));
                }
            }
        }
    }

    fn check_fields(&self, checker: &mut Checker) {
        let objects: [(&str, &BTreeMap<String, FieldRule>, &[&str]); 4] = [
            ("message", &self.fields.message, &MESSAGE_MEMBERS),
            ("group", &self.fields.group, &ROOM_MEMBERS),
            ("channel", &self.fields.channel, &ROOM_MEMBERS),
            ("one_to_one", &self.fields.one_to_one, &ROOM_MEMBERS),
        ];
        for (object, fields, members) in objects {
            for (name, rule) in fields {
                let path = format!("chat.fields.{object}.{name}");
                let is_taken = members.contains(&name.as_str())
                    || (object == "message" && MESSAGE_INPUTS.contains(&name.as_str()))
                    || ["room_id", "extra_fields", "preferences"].contains(&name.as_str());
                if name.is_empty() || is_taken {
                    checker.add(path.clone(), "is the name of a built-in field");
                }
                match &rule.default {
                    Some(default) if !rule.r#type.takes(default) => {
                        checker.add(format!("{path}.default"), "is not of the field's type");
                    }
                    Some(_) if rule.required => {
                        checker.add(format!("{path}.default"), "is never used: the field is required");
                    }
                    _ => {}
                }
            }
        }
    }

    fn check_type_names(&self, checker: &mut Checker) {
        let kinds = [RoomKind::OneToOne, RoomKind::Group, RoomKind::Channel];
        for kind in kinds {
            let name = self.type_names.of(kind);
            let path = format!("chat.type_names.{}", kind.as_str());
            if name.is_empty() {
                checker.add(path, "is empty");
            } else if name != kind.as_str()
                && kinds.iter().any(|other| {
                    *other != kind && (self.type_names.of(*other) == name || other.as_str() == name)
                })
            {
                checker.add(path, format!("\"{name}\" is the name of another kind"));
            }
        }
    }
}

/// Whether one name is the other but for a letter: more may be a name of somebody's own.
fn is_slip(name: &str, near: &str) -> bool {
    let start = name.bytes().zip(near.bytes()).take_while(|(one, other)| one == other).count();
    let end = name.bytes().rev().zip(near.bytes().rev()).take_while(|(one, other)| one == other).count();
    start + end + 1 >= name.len().max(near.len())
}

fn event_types() -> impl Iterator<Item = &'static str> {
    router::ROUTES.iter().map(|route| route.event_type)
}

fn unknown_event(event_type: &str) -> String {
    format!("\"{event_type}\" is no event{}", did_you_mean(nearest(event_type, event_types())))
}

fn did_you_mean(hint: Option<&str>) -> String {
    hint.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default()
}

/// Removes keys that `model` has not and reports each. Tables that are empty in `model` have keys of the operator's own.
fn unknown_keys(
    checker: &mut Checker,
    path: &str,
    given: &mut Map<String, Value>,
    model: &Map<String, Value>,
) {
    given.retain(|key, value| {
        let Some(expected) = model.get(key) else {
            let hint = nearest(key, model.keys().map(String::as_str));
            checker.add(format!("{path}.{key}"), format!("unknown key{}", did_you_mean(hint)));
            return false;
        };
        if let (Value::Object(inner), Value::Object(expected)) = (value, expected)
            && !expected.is_empty()
        {
            unknown_keys(checker, &format!("{path}.{key}"), inner, expected);
        }
        true
    });
}

/// As [`unknown_keys`], for the tables that operators make as many of as they like.
fn unknown_item_keys(checker: &mut Checker, path: &str, item: &mut Value, keys: &[&str]) {
    if let Value::Object(item) = item {
        let model = keys.iter().map(|key| ((*key).to_owned(), Value::Null)).collect();
        unknown_keys(checker, path, item, &model);
    }
}
