use serde_json::{Value, json};

use super::{ANA, BEN, CY, DEE, create, ids, refused, user};
use crate::model::UserId;
use crate::settings::{Directory, UserIds};
use crate::test_database::TestDatabase;

const TIME: &str = "2026-01-01T00:00:00.000000Z";

/// S2-42, S2-86, S2-87, S2-20.
#[test]
fn a_one_to_one_chat_is_for_two() {
    let mut database = TestDatabase::with_users();
    let (audience, mut room) = database.one(
        ANA,
        "room.create",
        json!({ "type": "OneToOneChat", "participants": [BEN], "name": "x" }),
    );
    assert_eq!(audience, [ANA, BEN]);
    let id = room["id"].take();
    assert_eq!(id.as_str().unwrap().len(), 36);
    let expected = json!({
        "id": null, "type": "OneToOneChat", "participants": [user(ANA), user(BEN)],
        "property": { "preferences": {} }, "created_at": TIME, "updated_at": TIME,
    });
    assert_eq!(room, expected);
}

/// S2-42, S2-86.
#[test]
fn a_group_has_all_its_fields() {
    let mut database = TestDatabase::with_users();
    let data = json!({
        "type": "GroupChat", "name": "  Reef ", "description": "outside", "participants": [CY, BEN],
        "extra_fields": {
            "description": " low <b>tide</b>", "avatar": "https://e.test/a.png", "max_participants": "3",
            "group_locked": "yes", "join_approval_required": 1,
            "property": { "preferences": { "theme": "dark" }, "other": 1 },
        },
        "id": "9f1e0000-0000-0000-0000-000000000000", "creator": BEN, "admins": [BEN], "created_at": "x",
        "last_message": "x",
    });
    let (audience, mut room) = database.one(ANA, "room.create", data);
    assert_eq!(audience, [ANA, BEN, CY]);
    assert_ne!(room["id"].take(), "9f1e0000-0000-0000-0000-000000000000");
    let expected = json!({
        "id": null, "type": "GroupChat", "name": "Reef", "description": "low <b>tide</b>",
        "avatar": "https://e.test/a.png", "creator": user(ANA), "participants": [user(ANA), user(CY), user(BEN)],
        "admins": [user(ANA)], "max_participants": 3, "join_approval_required": true, "group_locked": true,
        "property": { "preferences": { "theme": "dark" } }, "created_at": TIME, "updated_at": TIME,
    });
    assert_eq!(room, expected);
}

/// S2-42, S2-86, S2-33: what is not said has its default.
#[test]
fn a_channel_has_its_defaults() {
    let mut database = TestDatabase::with_users();
    let data = json!({ "type": "Channel", "name": 42, "subscribers": [BEN], "participants": [CY] });
    let (audience, mut room) = database.one(ANA, "room.create", data);
    assert_eq!(audience, [ANA, BEN]);
    room["id"].take();
    let expected = json!({
        "id": null, "type": "Channel", "name": "42", "description": null, "avatar": null, "creator": user(ANA),
        "subscribers": [user(ANA), user(BEN)], "moderators": [user(ANA)], "max_subscribers": 300,
        "is_public": false, "property": { "preferences": {} }, "created_at": TIME, "updated_at": TIME,
    });
    assert_eq!(room, expected);
    let (_, group) = database.one(ANA, "room.create", json!({ "type": "GroupChat", "name": "n" }));
    assert_eq!(group["max_participants"], 100);
    assert_eq!(group["join_approval_required"], false);
    assert_eq!(group["group_locked"], false);
    assert_eq!(ids(&group["participants"]), [ANA]);
}

/// S2-31, S2-86, I-3: no type but three, and `extra_fields` by its name.
#[test]
fn the_type_is_one_of_three() {
    let mut database = TestDatabase::with_users();
    for kind in [json!("groupchat"), json!(""), json!(null), json!(1), json!(["GroupChat"]), json!({})] {
        let refusal = refused(&mut database, ANA, "room.create", json!({ "type": kind, "name": "n" }));
        assert_eq!(refusal, (4003, json!(["Invalid resource type"])));
    }
    let refusal = refused(&mut database, ANA, "room.create", json!({}));
    assert_eq!(refusal, (4003, json!(["Invalid resource type"])));
    for extra in [json!(null), json!("x"), json!([])] {
        let data = json!({ "type": "GroupChat", "name": "n", "extra_fields": extra });
        let (code, detail) = refused(&mut database, ANA, "room.create", data);
        assert_eq!(code, 4003);
        assert!(detail["extra_fields"].is_array(), "{detail}");
    }
}

/// S2-33: all failing fields together, outside and inside of `extra_fields`.
#[test]
fn all_wrong_fields_are_named_together() {
    let mut database = TestDatabase::with_users();
    let data = json!({
        "type": "GroupChat", "description": ["x"],
        "extra_fields": {
            "avatar": "x", "max_participants": -1, "group_locked": null, "join_approval_required": "perhaps",
            "property": null,
        },
    });
    let expected = json!({
        "name": ["This field is required."],
        "description": ["Not a valid string."],
        "avatar": ["Enter a valid URL."],
        "max_participants": ["Ensure this value is greater than or equal to 0."],
        "group_locked": ["This field may not be null."],
        "join_approval_required": ["Must be a valid boolean."],
        "non_field_errors": ["No data provided"],
    });
    assert_eq!(refused(&mut database, ANA, "room.create", data), (4003, expected));
    let data = json!({
        "type": "Channel", "name": " ", "max_subscribers": "many", "is_public": [],
        "property": { "preferences": null },
    });
    let expected = json!({
        "name": ["This field may not be blank."],
        "max_subscribers": ["A valid integer is required."],
        "is_public": ["Must be a valid boolean."],
        "preferences": ["This field may not be null."],
    });
    assert_eq!(refused(&mut database, ANA, "room.create", data), (4003, expected));
    let names = [
        (json!(null), "This field may not be null."),
        (json!("n".repeat(65)), "Ensure this field has no more than 64 characters."),
        (json!("a\0b"), "Null characters are not allowed."),
        (json!(true), "Not a valid string."),
        (json!({}), "Not a valid string."),
    ];
    for (name, text) in names {
        let refusal =
            refused(&mut database, ANA, "room.create", json!({ "type": "GroupChat", "name": name }));
        assert_eq!(refusal, (4003, json!({ "name": [text] })));
    }
    let (_, room) =
        database.one(ANA, "room.create", json!({ "type": "GroupChat", "name": "\u{1f30a}".repeat(64) }));
    assert_eq!(room["name"], "\u{1f30a}".repeat(64));
}

/// S2-26, S2-27: what truth values and integers look like at creation.
#[test]
fn flags_and_caps_may_be_texts() {
    let mut database = TestDatabase::with_users();
    for (flag, expected) in [
        (json!("t"), true),
        (json!("Yes"), true),
        (json!("on"), true),
        (json!("1"), true),
        (json!(1), true),
        (json!(true), true),
        (json!("F"), false),
        (json!("no"), false),
        (json!("OFF"), false),
        (json!(0), false),
    ] {
        let data = json!({ "type": "Channel", "name": "n", "is_public": flag, "max_subscribers": "7" });
        let (_, room) = database.one(ANA, "room.create", data);
        assert_eq!(room["is_public"], expected, "{flag}");
        assert_eq!(room["max_subscribers"], 7);
    }
    for cap in [json!(1.5), json!("1.5"), json!(true), json!([]), json!("")] {
        let data = json!({ "type": "Channel", "name": "n", "max_subscribers": cap });
        let expected = json!({ "max_subscribers": ["A valid integer is required."] });
        assert_eq!(refused(&mut database, ANA, "room.create", data), (4003, expected));
    }
}

/// S2-31, S2-86, I-7: a property that is refused leaves no room behind.
#[test]
fn a_refused_property_leaves_nothing() {
    let mut database = TestDatabase::with_users();
    for kind in ["OneToOneChat", "GroupChat", "Channel"] {
        let data = |property: Value| json!({ "type": kind, "name": "n", "participants": [BEN], "property": property });
        for property in [json!("x"), json!([1]), json!(true), json!(1)] {
            let expected = json!(["Room property must be a python dictionary/javascript object"]);
            assert_eq!(refused(&mut database, ANA, "room.create", data(property)), (4003, expected));
        }
        for preferences in [json!("x"), json!([1]), json!(true), json!(1)] {
            let property = json!({ "preferences": preferences });
            let expected = json!(["preferences must be a python dictionary/javascript object"]);
            assert_eq!(refused(&mut database, ANA, "room.create", data(property)), (4003, expected));
        }
    }
    assert_eq!(database.count("SELECT count(*) FROM chat_room"), 0);
    for property in [json!({}), json!(""), json!(0), json!([]), json!({ "preferences": "" })] {
        let data = json!({ "type": "GroupChat", "name": "n", "property": property });
        let (_, room) = database.one(ANA, "room.create", data);
        assert_eq!(room["property"], json!({ "preferences": {} }));
    }
}

/// S2-87, S2-24, I-12: who comes into a room, and in which forms users may be named.
#[test]
fn members_are_the_creator_and_whoever_exists() {
    let mut database = TestDatabase::with_users();
    let lists = [
        (json!([CY, "8", 9, 8, null, 999, "7", ANA]), vec![ANA, CY, BEN]),
        (json!("42"), vec![ANA]),
        (json!("89"), vec![ANA]),
        (json!(8), vec![ANA]),
        (json!({ "8": 8 }), vec![ANA]),
        (json!(null), vec![ANA]),
    ];
    for (list, expected) in lists {
        let data = json!({ "type": "GroupChat", "name": "n", "participants": list });
        let (audience, room) = database.one(ANA, "room.create", data);
        assert_eq!(ids(&room["participants"]), expected);
        assert_eq!(ids(&room["admins"]), [ANA]);
        assert_eq!(audience.len(), expected.len());
    }
    for bad in [json!("x"), json!(true), json!(1.5), json!([8]), json!({}), json!("08")] {
        let data = json!({ "type": "GroupChat", "name": "n", "participants": [BEN, bad] });
        let (code, detail) = refused(&mut database, ANA, "room.create", data);
        assert_eq!((code, detail.as_array().map(Vec::len)), (4003, Some(1)), "{detail}");
    }
}

/// S2-87, I-29: "the other" and "both" mean the same, anything else is refused.
#[test]
fn a_one_to_one_chat_has_exactly_two() {
    let lists = [json!([BEN]), json!([ANA, BEN]), json!(["7", "8"]), json!([BEN, 8, null, 999])];
    for list in lists {
        let mut database = TestDatabase::with_users();
        let (_, room) =
            database.one(ANA, "room.create", json!({ "type": "OneToOneChat", "participants": list }));
        assert_eq!(ids(&room["participants"]), [ANA, BEN]);
    }
    let mut database = TestDatabase::with_users();
    for list in [json!([]), json!([ANA]), json!([BEN, CY]), json!([ANA, BEN, CY]), json!([999]), json!(null)]
    {
        let data = json!({ "type": "OneToOneChat", "participants": list });
        let expected = json!(["A one to one chat can only have 2 participants"]);
        assert_eq!(refused(&mut database, ANA, "room.create", data), (4003, expected));
    }
}

/// S2-35, S2-32, I-22: one chat for each pair, whoever asks.
#[test]
fn a_pair_has_one_chat() {
    let mut database = TestDatabase::with_users();
    let room = create(&mut database, ANA, json!({ "type": "OneToOneChat", "participants": [BEN] }));
    for (asking, other) in [(ANA, BEN), (BEN, ANA)] {
        let data = json!({ "type": "OneToOneChat", "participants": [other] });
        let refusal = refused(&mut database, asking, "room.create", data.clone());
        assert_eq!(refusal, (4005, json!("Chat already exists")));
        database.settings.duplicate_chat_code = 4003;
        let refusal = refused(&mut database, asking, "room.create", data);
        assert_eq!(refusal, (4003, json!(["Chat already exists"])));
        database.settings.duplicate_chat_code = 4005;
    }
    create(&mut database, ANA, json!({ "type": "OneToOneChat", "participants": [CY] }));
    // S2-95: the pair of a deleted chat may start anew.
    database.one(BEN, "room.modify", json!({ "room_id": room, "action": "delete" }));
    create(&mut database, BEN, json!({ "type": "OneToOneChat", "participants": [ANA] }));
}

/// S2-35: ids of text may contain what stands between them.
#[test]
fn pairs_of_texts_do_not_run_together() {
    let mut database = TestDatabase::new();
    database.settings.user_ids = UserIds::Text;
    let mut actors = Vec::new();
    for id in ["a", "a b", "b c", "c", "\"", "\",\""] {
        let sql = "INSERT INTO chat_user (id, username) VALUES (?1, ?1)";
        database.execute(sql, &[id.into()]);
        actors.push(UserId(id.into()));
    }
    database.enter_user(ANA, "ana");
    let mut chat = |one: &str, other: &str| {
        let one = UserId(one.into());
        let settings = database.settings.clone();
        database.with_ctx(ANA, |ctx| {
            let actor = crate::store::users::find(ctx.tx, &one)?.unwrap();
            let mut ctx = crate::event::Ctx::new(&mut *ctx.tx, &settings, &actor, None, ctx.now);
            let data = json!({ "type": "OneToOneChat", "participants": [other] });
            crate::events::room::create::handle(&mut ctx, data.as_object().unwrap())
        })
    };
    assert_eq!(chat("a", "b c"), Ok(()));
    assert_eq!(chat("a b", "c"), Ok(()));
    assert_eq!(chat("\"", "\",\""), Ok(()));
    assert_eq!(chat("c", "a b").unwrap_err().frame()["error"]["code"], 4005);
}

/// S2-87, S2-31, I-7: caps count the creator; one of 0 leaves no room.
#[test]
fn a_cap_counts_the_creator() {
    let mut database = TestDatabase::with_users();
    let mut make = |kind: &str, list: &str, cap: &str, n: i64, others: &[i64]| {
        let data = json!({ "type": kind, "name": "n", (list): others, (cap): n });
        match database.run(ANA, "room.create", data) {
            Ok(dispatches) => Ok(dispatches.len()),
            Err(error) => Err(error.frame()["error"].clone()),
        }
    };
    let group = Err(json!({ "code": 4003, "detail": ["Maximum number of group participants exceeded"] }));
    let channel = Err(json!({ "code": 4003, "detail": ["Maximum number of channel subscribers exceeded"] }));
    assert_eq!(make("GroupChat", "participants", "max_participants", 3, &[BEN, CY]), Ok(1));
    assert_eq!(make("GroupChat", "participants", "max_participants", 3, &[BEN, CY, DEE]), group);
    assert_eq!(make("GroupChat", "participants", "max_participants", 0, &[]), group);
    assert_eq!(make("Channel", "subscribers", "max_subscribers", 1, &[ANA, 999]), Ok(1));
    assert_eq!(make("Channel", "subscribers", "max_subscribers", 1, &[BEN]), channel);
    assert_eq!(make("Channel", "subscribers", "max_subscribers", 0, &[]), channel);
    assert_eq!(database.count("SELECT count(*) FROM chat_room"), 2);
    assert_eq!(database.count("SELECT count(*) FROM chat_member"), 4);
}

/// S2-42, S2-87: many at once, in their order.
#[test]
fn many_members_keep_their_order() {
    let mut database = TestDatabase::with_users();
    let others: Vec<i64> = (100..199).rev().collect();
    for id in &others {
        database.enter_user(*id, &format!("user{id}"));
    }
    let data = json!({ "type": "GroupChat", "name": "n", "participants": others });
    let (_, room) = database.one(ANA, "room.create", data);
    let expected: Vec<i64> = std::iter::once(ANA).chain(others).collect();
    assert_eq!(ids(&room["participants"]), expected);
    let id = room["id"].as_str().unwrap();
    assert_eq!(super::members_of(&mut database, ANA, id), expected);
}

/// S2-113: in an open directory every well-formed id is somebody.
#[test]
fn an_open_directory_knows_everybody() {
    let mut database = TestDatabase::with_users();
    database.settings.directory = Directory::Open;
    database.enter_user(50, "user-51");
    let data = json!({ "type": "GroupChat", "name": "n", "participants": [51, BEN, 52] });
    let (_, room) = database.one(ANA, "room.create", data);
    assert_eq!(ids(&room["participants"]), [ANA, 51, BEN, 52]);
    assert_eq!(room["participants"][1]["username"], "user-51-51");
    assert_eq!(room["participants"][3]["username"], "user-52");
    for directory in [Directory::Known, Directory::Closed] {
        database.settings.directory = directory;
        let data = json!({ "type": "GroupChat", "name": "n", "participants": [60] });
        let (_, room) = database.one(ANA, "room.create", data);
        assert_eq!(ids(&room["participants"]), [ANA]);
    }
}
