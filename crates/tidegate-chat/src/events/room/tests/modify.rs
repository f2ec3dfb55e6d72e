use serde_json::{Value, json};
use tidegate_store::sql::SqlValue;

use super::{ANA, BEN, CY, DEE, channel, chat, group, ids, refused};
use crate::settings::Sanitise;
use crate::test_database::{TestDatabase, audience, event_data, event_type};

fn modify(room: &str, action: impl Into<Value>, data: Value) -> Value {
    json!({ "room_id": room, "action": action.into(), "data": data })
}

/// Runs one action that must be refused with a list of one text.
fn rule(database: &mut TestDatabase, data: Value) -> String {
    let (code, detail) = refused(database, ANA, "room.modify", data);
    assert_eq!((code, detail.as_array().map(Vec::len)), (4003, Some(1)), "{detail}");
    detail[0].as_str().unwrap().to_owned()
}

/// S2-89, S2-31: one thing after the other.
#[test]
fn action_and_data_must_be_there() {
    let mut database = TestDatabase::with_users();
    let room = group(&mut database, &[BEN]);
    for action in [json!(null), json!(""), json!(0), json!(false), json!([]), json!({})] {
        assert_eq!(rule(&mut database, modify(&room, action, json!({}))), "Action must be provided");
    }
    assert_eq!(rule(&mut database, json!({ "room_id": room })), "Action must be provided");
    for action in [json!("Update"), json!("rename"), json!(1), json!(["update"]), json!({ "a": 1 })] {
        assert_eq!(rule(&mut database, modify(&room, action, json!({}))), "Invalid action type");
    }
    for data in [json!(null), json!({}), json!([]), json!(""), json!(0), json!(false)] {
        for action in ["update", "add_admin", "add_permission"] {
            assert_eq!(rule(&mut database, modify(&room, action, data.clone())), "data must be provided");
        }
    }
    let data = json!({ "room_id": room, "action": "update" });
    assert_eq!(rule(&mut database, data), "data must be provided");
    for data in [json!("x"), json!([1]), json!(1), json!(true)] {
        assert_eq!(rule(&mut database, modify(&room, "update", data)), "data must be an object");
    }
}

/// S2-90, S2-30: admins change, creators delete, and of a one-to-one chat both do both.
#[test]
fn rooms_are_changed_by_whom_it_is_permitted() {
    let mut database = TestDatabase::with_users();
    let room = group(&mut database, &[BEN, CY]);
    let rename = modify(&room, "update", json!({ "name": "New" }));
    let delete = modify(&room, "delete", json!(null));
    let not_admin = (4002, json!("User is not an admin of this room"));
    let not_creator = (4002, json!("User is not the creator of this room"));
    // Single permissions give no right to change the room.
    let all = json!(["can_add_new_participants", "can_remove_participants"]);
    database.one(
        ANA,
        "room.modify",
        modify(&room, "add_permission", json!({ "users": [CY], "permission": all })),
    );
    for stranger in [CY, DEE] {
        assert_eq!(refused(&mut database, stranger, "room.modify", rename.clone()), not_admin);
        assert_eq!(refused(&mut database, stranger, "room.modify", delete.clone()), not_creator);
    }
    database.one(ANA, "room.modify", modify(&room, "add_admin", json!({ "users": [BEN] })));
    database.one(BEN, "room.modify", rename);
    assert_eq!(refused(&mut database, BEN, "room.modify", delete.clone()), not_creator);
    let (audience, data) = database.one(ANA, "room.modify", delete);
    assert_eq!((audience, data), (vec![ANA, BEN, CY], json!({ "room_id": room })));
    let pair = chat(&mut database);
    let preferences = json!({ "property": { "preferences": { "a": 1 } } });
    database.one(BEN, "room.modify", modify(&pair, "update", preferences.clone()));
    let refusal = refused(&mut database, CY, "room.modify", modify(&pair, "update", preferences));
    assert_eq!(refusal, not_admin);
    database.one(BEN, "room.modify", modify(&pair, "delete", json!(null)));
}

/// S2-95, S2-89, S2-112: everything below goes with the room.
#[test]
fn a_deleted_room_is_gone_with_everything() {
    let mut database = TestDatabase::with_users();
    let room = group(&mut database, &[BEN]);
    let grant = json!({ "users": [BEN], "permission": ["can_add_new_participants"] });
    database.one(ANA, "room.modify", modify(&room, "add_permission", grant));
    let id = uuid::Uuid::try_parse(&room).unwrap().into_bytes();
    let message = SqlValue::from([1; 16]);
    let parameters = [message.clone(), SqlValue::from(id)];
    let sql = "INSERT INTO chat_message (id, room, sender, content, seq, created_at, updated_at) \
               VALUES (?1, ?2, '7', 'Hi', 1, 1, 1)";
    database.execute(sql, &parameters);
    database.execute(
        "INSERT INTO chat_notification (id, room, message, kind, created_at) VALUES (?1, ?2, ?1, 'x', 1)",
        &parameters,
    );
    let sql = "INSERT INTO chat_recipient (user_id, notification) VALUES ('8', ?1)";
    database.execute(sql, std::slice::from_ref(&message));
    let delete = json!({ "room_id": room, "action": "delete", "data": "ignored" });
    let dispatches = database.run(ANA, "room.modify", delete).unwrap();
    assert_eq!(dispatches.len(), 1);
    assert_eq!(event_type(&dispatches[0]), "roomdelete.dispatch");
    assert_eq!(audience(&dispatches[0]), [ANA, BEN]);
    assert_eq!(event_data(&dispatches[0]), &json!({ "room_id": room }));
    for table in ["room", "member", "permission", "message", "notification", "recipient"] {
        assert_eq!(database.count(&format!("SELECT count(*) FROM chat_{table}")), 0, "{table}");
    }
    let refusal = refused(&mut database, ANA, "room.info", json!({ "room_id": room }));
    assert_eq!(refusal, (4004, json!("Resource not found.")));
}

/// S2-91.
#[test]
fn a_group_is_updated() {
    let mut database = TestDatabase::with_users();
    let room = group(&mut database, &[BEN]);
    let data = json!({
        "name": " Reef 2 ", "description": "tides", "avatar": "https://e.test/b.png", "group_locked": true,
        "join_approval_required": true, "property": { "preferences": { "theme": "dark" } },
        "max_participants": 1, "is_public": true, "creator": BEN, "id": "x", "admins": [BEN],
    });
    let (audience, updated) = database.one(ANA, "room.modify", modify(&room, "update", data));
    assert_eq!(audience, [ANA, BEN]);
    assert_eq!(updated["name"], "Reef 2");
    assert_eq!(updated["description"], "tides");
    assert_eq!(updated["avatar"], "https://e.test/b.png");
    assert_eq!(updated["group_locked"], true);
    assert_eq!(updated["join_approval_required"], true);
    assert_eq!(updated["property"], json!({ "preferences": { "theme": "dark" } }));
    assert_eq!(updated["max_participants"], 100);
    assert_eq!(updated["creator"]["id"], ANA);
    assert_eq!(ids(&updated["admins"]), [ANA]);
    assert_eq!(updated["created_at"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(updated["updated_at"], "2026-01-01T00:00:01.000000Z");
    assert_eq!(database.one(BEN, "room.info", json!({ "room_id": room })).1, updated);
    // Nothing of this changes anything, and it is told all the same.
    let nothing = [
        json!({ "name": "", "description": "", "avatar": "" }),
        json!({ "name": null, "description": null, "avatar": null }),
        json!({ "description": "  ", "avatar": " " }),
        json!({ "group_locked": 0, "join_approval_required": "false" }),
        json!({ "group_locked": null }),
        json!({ "unknown": 1, "cap": 5 }),
        json!({ "property": {} }),
        json!({ "property": { "other": 1 } }),
        json!({ "name": "Reef 2" }),
    ];
    for data in nothing {
        let (audience, same) = database.one(ANA, "room.modify", modify(&room, "update", data.clone()));
        assert_eq!((audience, &same), (vec![ANA, BEN], &updated), "{data}");
    }
    // Preferences are replaced as a whole.
    let data = json!({ "property": { "preferences": { "a": 1 } }, "group_locked": false });
    let (_, changed) = database.one(ANA, "room.modify", modify(&room, "update", data));
    assert_eq!(changed["property"], json!({ "preferences": { "a": 1 } }));
    assert_eq!(changed["group_locked"], false);
    let data = json!({ "property": { "preferences": {} } });
    let (_, changed) = database.one(ANA, "room.modify", modify(&room, "update", data));
    assert_eq!(changed["property"], json!({ "preferences": {} }));
}

/// S2-91: each kind has its own fields.
#[test]
fn a_channel_and_a_pair_have_less_to_update() {
    let mut database = TestDatabase::with_users();
    let room = channel(&mut database, &[], false);
    let data = json!({ "name": "N", "is_public": true, "group_locked": true, "max_subscribers": 5 });
    let (_, updated) = database.one(ANA, "room.modify", modify(&room, "update", data));
    assert_eq!(updated["name"], "N");
    assert_eq!(updated["is_public"], true);
    assert_eq!(updated["max_subscribers"], 300);
    let pair = chat(&mut database);
    let data = json!({ "name": [], "avatar": "x", "property": { "preferences": { "a": 1 } } });
    let (audience, updated) = database.one(BEN, "room.modify", modify(&pair, "update", data));
    assert_eq!(audience, [ANA, BEN]);
    assert_eq!(updated["property"], json!({ "preferences": { "a": 1 } }));
    assert!(updated.get("name").is_none());
    assert_eq!(database.count("SELECT count(*) FROM chat_room WHERE name IS NULL"), 1);
}

/// S2-91, S2-33, I-14: values are checked as at creation, all of them together.
#[test]
fn wrong_values_are_not_stored() {
    let mut database = TestDatabase::with_users();
    let room = group(&mut database, &[]);
    let data = json!({
        "name": "n".repeat(65), "description": { "a": 1 }, "avatar": "x", "property": { "preferences": null },
        "group_locked": true,
    });
    let expected = json!({
        "name": ["Ensure this field has no more than 64 characters."],
        "description": ["Not a valid string."],
        "avatar": ["Enter a valid URL."],
        "preferences": ["This field may not be null."],
    });
    let refusal = refused(&mut database, ANA, "room.modify", modify(&room, "update", data));
    assert_eq!(refusal, (4003, expected));
    for (name, text) in [
        (json!({ "a": 1 }), "Not a valid string."),
        (json!(["a"]), "Not a valid string."),
        (json!(true), "Not a valid string."),
        (json!("  "), "This field may not be blank."),
    ] {
        let data = modify(&room, "update", json!({ "name": name }));
        assert_eq!(refused(&mut database, ANA, "room.modify", data), (4003, json!({ "name": [text] })));
    }
    for property in [json!(null), json!("x"), json!([]), json!(1)] {
        let data = modify(&room, "update", json!({ "name": "N", "property": property }));
        let (code, detail) = refused(&mut database, ANA, "room.modify", data);
        assert_eq!(code, 4003);
        assert!(detail["non_field_errors"].is_array(), "{detail}");
    }
    for preferences in [json!("x"), json!([]), json!(1), json!(false)] {
        let data = modify(&room, "update", json!({ "property": { "preferences": preferences } }));
        let expected = "preferences must be a python dictionary/javascript object";
        assert_eq!(rule(&mut database, data), expected);
    }
}

/// S2-92, S2-31.
#[test]
fn roles_need_users_and_the_right_kind_of_room() {
    let mut database = TestDatabase::with_users();
    let group = group(&mut database, &[BEN]);
    let channel = channel(&mut database, &[BEN], true);
    for (room, action) in [(&group, "add_admin"), (&group, "remove_admin"), (&channel, "add_moderator")] {
        for users in [json!(null), json!([]), json!(""), json!(0), json!({})] {
            let data = modify(room, action, json!({ "users": users, "x": 1 }));
            assert_eq!(rule(&mut database, data), "User ids must be provided");
        }
        assert_eq!(rule(&mut database, modify(room, action, json!({ "x": 1 }))), "User ids must be provided");
        for users in [json!("8"), json!(8), json!({ "8": 8 }), json!(true)] {
            let data = modify(room, action, json!({ "users": users }));
            assert_eq!(rule(&mut database, data), "User ids must be a list/array");
        }
        for element in [json!("x"), json!(null), json!([BEN]), json!(1.5), json!(true)] {
            rule(&mut database, modify(room, action, json!({ "users": [BEN, element] })));
        }
    }
    for action in ["add_admin", "remove_admin"] {
        let data = modify(&channel, action, json!({ "users": [BEN] }));
        assert_eq!(rule(&mut database, data), "Room should be a group chat to modify the admins");
    }
    for action in ["add_moderator", "remove_moderator"] {
        let data = modify(&group, action, json!({ "users": [BEN] }));
        assert_eq!(rule(&mut database, data), "Room should be a channel to modify the moderators");
    }
}

/// S2-92, S2-93, S2-24: members come and go as admins, who are not members do not.
#[test]
fn roles_are_given_and_taken() {
    let mut database = TestDatabase::with_users();
    let rooms = [
        (group(&mut database, &[BEN, CY]), "add_admin", "remove_admin", "admins"),
        (channel(&mut database, &[BEN, CY], true), "add_moderator", "remove_moderator", "moderators"),
    ];
    for (room, add, remove, list) in rooms {
        let data = modify(&room, add, json!({ "users": ["9", 8, DEE, 999] }));
        let (audience, updated) = database.one(ANA, "room.modify", data);
        assert_eq!(audience, [ANA, BEN, CY]);
        assert_eq!(ids(&updated[list]), [ANA, BEN, CY]);
        // An admin may demote others, and itself.
        let (_, updated) = database.one(BEN, "room.modify", modify(&room, remove, json!({ "users": [CY] })));
        assert_eq!(ids(&updated[list]), [ANA, BEN]);
        let (_, updated) = database.one(BEN, "room.modify", modify(&room, remove, json!({ "users": ["8"] })));
        assert_eq!(ids(&updated[list]), [ANA]);
        let data = modify(&room, add, json!({ "users": [CY] }));
        assert_eq!(refused(&mut database, BEN, "room.modify", data).0, 4002);
    }
}

/// S2-92, S2-24, I-11: nobody changes the creator's rights, in whichever form the id is written.
#[test]
fn the_creator_is_protected() {
    let mut database = TestDatabase::with_users();
    let room = group(&mut database, &[BEN]);
    database.one(ANA, "room.modify", modify(&room, "add_admin", json!({ "users": [BEN] })));
    for creator in [json!(7), json!("7")] {
        let data = modify(&room, "remove_admin", json!({ "users": [creator] }));
        let (_, updated) = database.one(BEN, "room.modify", data);
        assert_eq!(ids(&updated["admins"]), [ANA, BEN]);
        for action in ["add_permission", "remove_permission"] {
            let data = json!({ "users": [creator], "permission": ["can_add_new_participants"] });
            database.one(BEN, "room.modify", modify(&room, action, data));
            assert_eq!(database.count("SELECT count(*) FROM chat_permission"), 0);
        }
    }
}

/// S2-93: a lost role takes all permissions along, also those that were granted singly.
#[test]
fn a_lost_role_takes_permissions_along() {
    let mut database = TestDatabase::with_users();
    let room = group(&mut database, &[BEN]);
    let grant = json!({ "users": [BEN], "permission": ["can_add_new_participants"] });
    database.one(ANA, "room.modify", modify(&room, "add_permission", grant));
    let cy = json!({ "room_id": room, "members": [CY] });
    database.one(BEN, "room.add_members", cy.clone());
    assert_eq!(refused(&mut database, BEN, "room.remove_members", cy.clone()).0, 4002);
    database.one(ANA, "room.modify", modify(&room, "add_admin", json!({ "users": [BEN] })));
    database.run(BEN, "room.remove_members", cy.clone()).unwrap();
    database.one(BEN, "room.add_members", cy.clone());
    database.one(ANA, "room.modify", modify(&room, "remove_admin", json!({ "users": [BEN] })));
    assert_eq!(refused(&mut database, BEN, "room.add_members", cy.clone()).0, 4002);
    assert_eq!(refused(&mut database, BEN, "room.remove_members", cy).0, 4002);
}

/// S2-94, S2-31, I-29: the key is `permission`, and one wrong name grants nothing.
#[test]
fn permissions_are_those_of_the_kind_of_room() {
    let mut database = TestDatabase::with_users();
    let group = group(&mut database, &[BEN]);
    let channel = channel(&mut database, &[BEN], false);
    for action in ["add_permission", "remove_permission"] {
        for permission in [json!(null), json!([]), json!("")] {
            let data = modify(&group, action, json!({ "users": [BEN], "permission": permission }));
            assert_eq!(rule(&mut database, data), "Permission to add or remove should be passed");
        }
        let data = json!({ "users": [BEN], "permissions": ["can_add_new_participants"] });
        let text = rule(&mut database, modify(&group, action, data));
        assert_eq!(text, "Permission to add or remove should be passed");
        let data = json!({ "users": [BEN], "permission": "can_add_new_participants" });
        assert_eq!(rule(&mut database, modify(&group, action, data)), "Permission must be a list");
        let data = json!({ "users": [BEN], "permission": ["can_add_new_participants", "can_send_messages"] });
        let text = rule(&mut database, modify(&group, action, data));
        assert_eq!(text, "Permission 'can_send_messages' is not a valid group chat permission");
        let data = json!({ "users": [BEN], "permission": ["can_send_messages", "can_remove_participants"] });
        let text = rule(&mut database, modify(&channel, action, data));
        assert_eq!(text, "Permission 'can_remove_participants' is not a valid channel permission");
        let data = json!({ "users": [BEN], "permission": [1] });
        let text = rule(&mut database, modify(&channel, action, data));
        assert_eq!(text, "Permission '1' is not a valid channel permission");
        let data = json!({ "permission": ["can_send_messages"] });
        assert_eq!(rule(&mut database, modify(&channel, action, data)), "User ids must be provided");
    }
    let all = json!(["can_add_new_subscribers", "can_remove_subscribers", "can_send_messages"]);
    let data = json!({ "users": [BEN, "8", CY, ANA], "permission": all });
    let before = database.one(ANA, "room.info", json!({ "room_id": channel })).1;
    let (audience, after) =
        database.one(ANA, "room.modify", modify(&channel, "add_permission", data.clone()));
    assert_eq!(audience, [ANA, BEN]);
    assert_eq!(after, before);
    assert_eq!(database.count("SELECT count(*) FROM chat_permission WHERE user_id = '8'"), 3);
    assert_eq!(database.count("SELECT count(*) FROM chat_permission"), 3);
    database.one(ANA, "room.modify", modify(&channel, "add_permission", data));
    let data = json!({ "users": [BEN], "permission": ["can_send_messages"] });
    database.one(ANA, "room.modify", modify(&channel, "remove_permission", data));
    assert_eq!(database.count("SELECT count(*) FROM chat_permission"), 2);
}

/// S2-92: a one-to-one chat has no roles; the six actions do nothing and are told.
#[test]
fn a_pair_has_no_roles() {
    let mut database = TestDatabase::with_users();
    let room = chat(&mut database);
    let before = super::state(&mut database);
    for action in ["admin", "moderator", "permission"] {
        for change in ["add", "remove"] {
            let data = modify(&room, format!("{change}_{action}"), json!({ "users": "x" }));
            let dispatches = database.run(BEN, "room.modify", data).unwrap();
            assert_eq!(dispatches.len(), 1);
            assert_eq!(event_type(&dispatches[0]), "roomupdate.dispatch");
            assert_eq!(audience(&dispatches[0]), [ANA, BEN]);
        }
    }
    assert_eq!(super::state(&mut database), before);
}

/// S2-101: names and descriptions are plain text, from which markup goes only where the settings say so.
#[test]
fn markup_goes_from_names_where_the_settings_say_so() {
    let name = "<b>Reef</b> & co";
    let room = json!({ "type": "GroupChat", "name": name, "description": "<i>tides</i>" });
    let expected = [(Sanitise::Content, name, "<i>tides</i>"), (Sanitise::All, "Reef & co", "tides")];
    for (sanitise, name, description) in expected {
        let mut database = TestDatabase::with_users();
        database.settings.sanitise = sanitise;
        let (_, created) = database.one(ANA, "room.create", room.clone());
        assert_eq!((&created["name"], &created["description"]), (&json!(name), &json!(description)));
        let id = created["id"].as_str().unwrap();
        database.one(ANA, "room.modify", modify(id, "update", json!({ "name": "x", "description": "y" })));
        let (_, updated) = database.one(ANA, "room.modify", modify(id, "update", room.clone()));
        assert_eq!((&updated["name"], &updated["description"]), (&json!(name), &json!(description)));
    }
    let mut database = TestDatabase::with_users();
    database.settings.sanitise = Sanitise::All;
    let data = json!({ "type": "GroupChat", "name": "<p> </p>" });
    let expected = json!({ "name": ["This field may not be blank."] });
    assert_eq!(refused(&mut database, ANA, "room.create", data), (4003, expected));
}
