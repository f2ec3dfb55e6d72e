use serde_json::{Value, json};

use super::extension::{Moment, Problem};
use super::live::LiveSettings;
use super::*;

fn read(document: Value) -> Result<Settings, Vec<Problem>> {
    Settings::read(&document, &|name| (name == "CHAT_HOOK_SECRET").then(|| "s3cret".to_owned()))
}

/// The paths of what is wrong, with their messages.
fn wrong(document: Value) -> Vec<(String, String)> {
    let problems = read(document).unwrap_err();
    problems.into_iter().map(|problem| (problem.path, problem.message.into_owned())).collect()
}

// S2-114: every default as the package has it, and the document of the manual as a whole.
#[test]
fn the_defaults_and_every_key_of_the_manual() {
    let settings = read(json!({})).unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.path, "/messaging/");
    assert!(!settings.soft_delete && settings.notifications);
    assert_eq!(settings.inactivity_seconds, 60);
    assert_eq!(settings.claims.user, ["user_id", "sub"]);
    let settings = read(json!({
        "path": "/talk/", "refusal": "http", "soft_delete": true, "notifications": false,
        "inactivity_seconds": 90, "duplicate_chat_code": 4003, "dispatch_type": false,
        "max_event_bytes": 4096, "max_nesting": 4, "max_history": 10, "max_pending": 10, "max_devices": 2,
        "sanitise": "all", "user_ids": "text", "directory": "closed", "on_user_delete": "anonymise",
        "claims": {"user": ["id"]},
        "events": {"disabled": ["room.join"], "route": {"message.pin": "a1b2c3"}},
        "hooks": [{"on": "notify", "target": "https://push.internal.test/chat",
                   "secret": "env:CHAT_HOOK_SECRET"}],
        "render": {"user": {"fields": ["id", "username", "avatar"], "claims": ["avatar"]},
                   "message": {"drop": ["delivered_to"]}, "room": {"drop": ["property"]}},
        "errors": {"4003": {"detail": "text"}, "wrap_invalid_event": true},
        "fields": {"message": {"priority": {"type": "integer", "default": 0, "updatable": true}}},
        "type_names": {"GroupChat": "Team"}
    }))
    .unwrap();
    assert_eq!(settings.refusal, RefusalForm::Http);
    assert_eq!(settings.hooks[0].on, Moment::Notify);
    assert_eq!(settings.hooks[0].timeout_ms, 1000);
    assert_eq!(settings.hooks[0].secret.as_ref().unwrap().expose(), "s3cret");
    assert_eq!(settings.type_names.of(RoomKind::Group), "Team");
    assert_eq!(settings.type_names.find("Team"), Some(RoomKind::Group));
    assert_eq!(settings.type_names.find("GroupChat"), Some(RoomKind::Group));
}

use crate::model::RoomKind;

// S2-115
#[test]
fn an_unknown_key_is_told_with_the_nearest_one() {
    let told = wrong(json!({
        "soft_delet": true,
        "render": {"user": {"field": []}},
        "hooks": [{"on": "after", "target": "http://a.test/", "timeout": 5}],
        "fields": {"message": {"tag": {"type": "string", "requird": true}}},
        "quite_another": 1
    }));
    let expected = [
        ("chat.quite_another", "unknown key"),
        ("chat.render.user.field", "unknown key; did you mean \"fields\"?"),
        ("chat.soft_delet", "unknown key; did you mean \"soft_delete\"?"),
        ("chat.hooks[0].timeout", "unknown key; did you mean \"timeout_ms\"?"),
        ("chat.fields.message.tag.requird", "unknown key; did you mean \"required\"?"),
    ];
    let mut told: Vec<(&str, &str)> = told.iter().map(|(path, text)| (&**path, &**text)).collect();
    let mut expected = expected.to_vec();
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected);
}

// S2-114: everything that is wrong is told at once, with its path.
#[test]
fn values_out_of_range_are_all_told() {
    let told = wrong(json!({
        "path": "messaging", "max_nesting": 3, "duplicate_chat_code": 4006, "max_history": "many",
        "inactivity_seconds": 0, "refusal": "slam",
        "claims": {"user": []},
        "events": {"disabled": ["room.joi"]},
        "hooks": [{"on": "before", "target": "push.internal.test", "timeout_ms": 0, "secret": "env:NOT_SET",
                   "events": ["message.sendd"]},
                  {"on": "after", "target": "arn:aws:lambda:::layer:x", "secret": "s3cret"}],
        "render": {"user": {"fields": ["usernam"]}, "message": {"drop": ["id"]}, "room": {"drop": ["nam"]}},
        "fields": {"group": {"name": {"type": "string"}, "tag": {"type": "string", "default": 1}}},
        "type_names": {"GroupChat": "Channel"}
    }));
    let paths: Vec<&str> = told.iter().map(|(path, _)| &**path).collect();
    for path in [
        "chat.path",
        "chat.max_nesting",
        "chat.duplicate_chat_code",
        "chat.max_history",
        "chat.inactivity_seconds",
        "chat.refusal",
        "chat.claims.user",
        "chat.events.disabled[0]",
        "chat.hooks[0].target",
        "chat.hooks[0].timeout_ms",
        "chat.hooks[0].secret",
        "chat.hooks[0].events[0]",
        "chat.hooks[1].target",
        "chat.hooks[1].secret",
        "chat.render.user.fields[0]",
        "chat.render.message.drop[0]",
        "chat.render.room.drop[0]",
        "chat.fields.group.name",
        "chat.fields.group.tag.default",
        "chat.type_names.GroupChat",
    ] {
        assert!(paths.contains(&path), "{path} is missing in {told:?}");
    }
    assert_eq!(paths.len(), 20, "{told:?}");
    let nesting = told.iter().find(|(path, _)| path == "chat.max_nesting").unwrap();
    assert_eq!(nesting.1, "is 3 and must be from 4 to 64");
    let event = told.iter().find(|(path, _)| path == "chat.events.disabled[0]").unwrap();
    assert_eq!(event.1, "\"room.joi\" is no event; did you mean \"room.join\"?");
}

// S2-115: reload changes everything but the path, as a whole or not at all.
#[test]
fn settings_change_while_connections_stay() {
    let live = LiveSettings::new(Settings::default());
    let before = live.load();
    live.replace(Settings { soft_delete: true, max_history: 7, ..Settings::default() }).unwrap();
    assert!(!before.soft_delete, "an event keeps what it loaded");
    assert!(live.load().soft_delete);
    assert_eq!(live.load().max_history, 7);
    let moved = Settings { path: "/elsewhere/".to_owned(), max_history: 9, ..Settings::default() };
    let problems = live.replace(moved).unwrap_err();
    assert_eq!(problems[0].path, "chat.path");
    assert_eq!(live.load().max_history, 7, "nothing of it is taken");
    let problems = live.replace(Settings { max_nesting: 1, ..Settings::default() }).unwrap_err();
    assert_eq!(problems[0].path, "chat.max_nesting");
}

#[test]
fn a_secret_is_never_shown() {
    let settings = read(json!({"hooks": [
        {"on": "notify", "target": "https://push.test/", "secret": "env:CHAT_HOOK_SECRET"},
    ]}))
    .unwrap();
    assert!(!format!("{settings:?}").contains("s3cret"));
    assert!(!serde_json::to_string(&settings).unwrap().contains("s3cret"));
}
