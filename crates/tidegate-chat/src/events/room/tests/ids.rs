use serde_json::json;

use super::{ANA, CY, channel, refused};
use crate::test_database::TestDatabase;

/// S2-21: the columns of the events about rooms, row by row.
#[test]
fn a_room_id_is_judged_as_its_event_judges_it() {
    let mut database = TestDatabase::with_users();
    channel(&mut database, &[], false);
    let strict = ["room.info", "room.leave", "room.add_members", "room.remove_members"];
    let lenient = ["room.join", "room.modify"];
    let wrong_type = (4003, json!(["Invalid room_id type"]));
    let not_found = (4004, json!("Resource not found."));
    let nothing = json!("9f1e0000-0000-4000-8000-000000000000");
    for event_type in strict.into_iter().chain(lenient) {
        let is_strict = strict.contains(&event_type);
        let mut refused = |id| refused(&mut database, ANA, event_type, json!({ "room_id": id }));
        assert_eq!(refused(nothing.clone()), not_found, "{event_type}");
        assert_eq!(refused(json!(0)), not_found, "{event_type}");
        assert_eq!(refused(json!(5)), not_found, "{event_type}");
        for id in [json!("x"), json!("")] {
            let (code, detail) = refused(id);
            assert_eq!((code, detail.as_array().map(Vec::len)), (4003, Some(1)), "{event_type}");
        }
        assert_eq!(refused(json!(-1)).0, 4003, "{event_type}");
        for id in [json!(1.5), json!([]), json!({})] {
            let refusal = refused(id);
            if is_strict {
                assert_eq!(refusal, wrong_type, "{event_type}");
            } else {
                assert_eq!(refusal.1.as_array().map(Vec::len), Some(1), "{event_type}");
                assert_eq!(refusal.0, 4003, "{event_type}");
            }
        }
        for id in [json!(true), json!(false), json!(null)] {
            assert_eq!(refused(id), if is_strict { &wrong_type } else { &not_found }.clone(), "{event_type}");
        }
        let refusal = super::refused(&mut database, ANA, event_type, json!({}));
        assert_eq!(refusal, if is_strict { wrong_type.clone() } else { not_found.clone() }, "{event_type}");
    }
}

/// S2-21: any case, with and without dashes.
#[test]
fn a_room_id_may_be_written_in_any_form() {
    let mut database = TestDatabase::with_users();
    let room = channel(&mut database, &[], false);
    for id in [room.to_uppercase(), room.replace('-', ""), room.clone()] {
        let (audience, info) = database.one(ANA, "room.info", json!({ "room_id": id }));
        assert_eq!(info["id"], room);
        assert_eq!(audience, [ANA]);
    }
}

/// S2-30, S2-36: a stranger learns nothing from what is said of the rest of the event.
#[test]
fn a_stranger_is_refused_before_anything_else_is_looked_at() {
    let mut database = TestDatabase::with_users();
    let room = channel(&mut database, &[], true);
    let cases = [
        ("room.info", json!({}), "User is not authorized access this room"),
        ("room.leave", json!({}), "User is not authorized access this room"),
        (
            "room.add_members",
            json!({ "members": "x" }),
            "User is not authorized to add new members to this room",
        ),
        (
            "room.remove_members",
            json!({ "members": [999] }),
            "User is not authorized to remove members from this room",
        ),
        ("room.modify", json!({}), "User is not an admin of this room"),
        ("room.modify", json!({ "action": 5 }), "User is not an admin of this room"),
        ("room.modify", json!({ "action": "update", "data": 1 }), "User is not an admin of this room"),
        ("room.modify", json!({ "action": "delete" }), "User is not the creator of this room"),
    ];
    for (event_type, mut data, text) in cases {
        data["room_id"] = json!(room);
        assert_eq!(refused(&mut database, CY, event_type, data), (4002, json!(text)), "{event_type}");
    }
}
