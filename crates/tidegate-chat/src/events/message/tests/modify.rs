use serde_json::{Value, json};
use tidegate_store::sql::SqlValue;
use uuid::Uuid;

use super::{NO_ACCESS, group, last_message, object, send, send_with};
use crate::event::time_text;
use crate::model::RoomKind;
use crate::test_database::{TestDatabase, event_type};

const NOT_YOURS: &str = "User is not authorized to modify this message";

fn update(ids: Value, extra: Value) -> Value {
    json!({ "action": "update", "message_id": ids, "extra_fields": extra })
}

fn delete(ids: Value) -> Value {
    json!({ "action": "delete", "message_id": ids })
}

// S2-48, S2-78, S2-98, I-9
#[test]
fn an_edit_changes_the_content_and_nothing_else() {
    let (mut database, room) = group();
    let id = send(&mut database, 8, room, "Low tide at six");
    let before = object(&mut database, &id);
    database.execute("UPDATE chat_room SET locked = 1", &[]);
    let other = Uuid::now_v7().to_string();
    let extra = json!({
        "content": " at <b onclick=x>seven", "id": other, "is_deleted": true, "is_edited": false, "is_forwarded": true,
        "room": other, "sender": 7, "parent_message_id": id, "created_at": "x",
    });
    let at = time_text(database.now);
    let (heard_by, answer) = database.one(8, "message.modify", update(json!(id), extra));
    assert_eq!(heard_by, [7, 8]);
    let mut expected = before;
    expected["content"] = json!("at <b>seven</b>");
    expected["is_edited"] = json!(true);
    expected["updated_at"] = json!(at);
    assert_eq!(answer, json!({ "status": "successful", "action": "update", "message": expected }));
    assert_eq!(object(&mut database, &id), expected);
    assert_eq!(database.count("SELECT count(*) FROM chat_message"), 1);
    // A list with one id is one.
    let dispatches = database.run(8, "message.modify", update(json!([id]), json!({ "content": 8 }))).unwrap();
    assert_eq!(event_type(&dispatches[0]), "messagemodification.dispatch");
    // S2-20: not even a clock that goes back moves it back.
    database.now = 0;
    let (_, answer) = database.one(8, "message.modify", update(json!(id), json!({ "content": "x" })));
    assert!(answer["message"]["updated_at"].as_str().unwrap() > at.as_str());
}

// S2-25, S2-31, S2-33, S2-78
#[test]
fn edits_that_are_refused() {
    let (mut database, room) = group();
    let id = send(&mut database, 8, room, "Hi");
    let fields = json!(["'extra_fields' field should be provided for update action"]);
    let content = json!(["Content should be provided for update action"]);
    let one = json!(["You can only update one message at a time"]);
    let cases = [
        (update(json!([id, id]), json!({ "content": "x" })), one),
        (json!({ "action": "update", "message_id": id }), fields.clone()),
        (update(json!(id), json!({})), fields.clone()),
        (update(json!(id), json!("x")), fields),
        (update(json!(id), json!({ "id": 1 })), content.clone()),
        (update(json!(id), json!({ "content": "<!-- c -->" })), content),
        (update(json!(id), json!({ "content": "" })), json!({ "content": ["This field may not be blank."] })),
        (
            update(json!(id), json!({ "content": null })),
            json!({ "content": ["This field may not be null."] }),
        ),
        (update(json!(id), json!({ "content": [] })), json!({ "content": ["Not a valid string."] })),
        (json!({ "message_id": id }), json!(["Invalid action type"])),
        (json!({ "message_id": id, "action": "" }), json!(["Invalid action type"])),
        (json!({ "message_id": id, "action": "Delete" }), json!(["Invalid action type"])),
        (json!({ "message_id": id, "action": ["delete"] }), json!(["Invalid action type"])),
        (delete(json!([])), json!(["Atleast one message_id is required for modification"])),
    ];
    for (data, detail) in cases {
        assert_eq!(database.refused(8, "message.modify", data.clone()), (4003, detail), "{data}");
    }
    assert_eq!(object(&mut database, &id)["is_edited"], false);
}

// S2-30, S2-36, S2-76, S2-77, I-23
#[test]
fn only_senders_modify_and_the_order_is_fixed() {
    let (mut database, room) = group();
    let of_ben = send(&mut database, 8, room, "one");
    let of_ana = send(&mut database, 7, room, "two");
    let other = database.enter_room(RoomKind::Group, &[8]);
    let elsewhere = send(&mut database, 8, other, "three");
    let not_yours = (4002, json!(NOT_YOURS));
    // Ana is creator and admin of the room, which is no power over what Ben said.
    assert_eq!(database.refused(7, "message.modify", delete(json!(of_ben))), not_yours);
    // A stranger learns no more than a member, and nothing of what else is wrong.
    assert_eq!(database.refused(9, "message.modify", json!({ "message_id": of_ben })), not_yours);
    let nothing = Uuid::now_v7().to_string();
    let unknown = database.refused(8, "message.modify", delete(json!([of_ana, nothing])));
    assert_eq!(unknown, (4004, json!("Resource not found.")));
    // Two rooms and somebody else's: always the second, in any order.
    for ids in
        [json!([elsewhere, of_ben, of_ana]), json!([of_ana, elsewhere]), json!([of_ben, of_ana, elsewhere])]
    {
        assert_eq!(database.refused(8, "message.modify", delete(ids)), not_yours);
    }
    let same_room = json!(["All messages marked for modification must come from the same room"]);
    let two_rooms = json!({ "message_id": [of_ben, elsewhere], "action": "nothing" });
    assert_eq!(database.refused(8, "message.modify", two_rooms.clone()), (4003, same_room.clone()));
    database.remove_member(room, 8);
    assert_eq!(database.refused(8, "message.modify", two_rooms), (4003, same_room));
    // The sender who left, before the action is looked at.
    let left = database.refused(8, "message.modify", json!({ "message_id": of_ben }));
    assert_eq!(left, (4002, json!(NO_ACCESS)));
    assert_eq!(database.count("SELECT count(*) FROM chat_message"), 3);
}

/// A message with all that may hang on it: an attachment, a delivery, a receipt, a reaction.
fn adorned(database: &mut TestDatabase, room: Uuid) -> String {
    let media = json!({ "media": [{ "media_url": "a.png", "media_type": "image" }] });
    let id = send_with(database, 8, room, "", media);
    database.one(7, "message.acknowledged", json!({ "message_id": id }));
    database.one(7, "message.read", json!({ "message_id": id }));
    database.one(7, "message.react", json!({ "message_id": id, "type": "add", "reaction_content": "ok" }));
    id
}

const PARTS: [&str; 4] = ["chat_attachment", "chat_delivery", "chat_receipt", "chat_reaction"];

// S2-48, S2-79, S2-80, S2-82, S2-112, I-16
#[test]
fn hard_deletion() {
    let (mut database, room) = group();
    let first = send(&mut database, 7, room, "first");
    let id = adorned(&mut database, room);
    let also = send(&mut database, 8, room, "also");
    let reply = send_with(&mut database, 7, room, "reply", json!({ "parent_message_id": id }));
    let other = database.enter_room(RoomKind::Group, &[7, 8]);
    let forward = send_with(&mut database, 7, other, "", json!({ "forwarded_from_id": id }));
    for table in PARTS {
        assert_eq!(database.count(&format!("SELECT count(*) FROM {table}")), 1, "{table}");
    }
    let upper = id.replace('-', "").to_uppercase();
    let ids = json!([upper, also, id]);
    let (heard_by, answer) = database.one(8, "message.modify", delete(ids.clone()));
    assert_eq!(heard_by, [7, 8]);
    // As they were written, in their order, with what is there twice.
    assert_eq!(answer, json!({ "status": "successful", "action": "delete", "message_ids": ids }));
    for table in PARTS {
        assert_eq!(database.count(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
    let reply_object = object(&mut database, &reply);
    assert_eq!((&reply_object["parent_message"], &reply_object["content"]), (&Value::Null, &json!("reply")));
    let forward = object(&mut database, &forward);
    assert_eq!((&forward["forwarded_from"], &forward["is_forwarded"]), (&Value::Null, &json!(true)));
    assert_eq!(last_message(&mut database, room).0, Some(reply.clone()));
    // The newest that remains, with its own time; none at all in the end.
    let (_, answer) = database.one(7, "message.modify", delete(json!(reply)));
    assert_eq!(answer["message_ids"], json!([reply]));
    let (last, at) = last_message(&mut database, room);
    assert_eq!(last.as_deref(), Some(first.as_str()));
    assert_eq!(time_text(at.unwrap()), object(&mut database, &first)["created_at"].as_str().unwrap());
    database.one(7, "message.modify", delete(json!(first)));
    assert_eq!(last_message(&mut database, room), (None, None));
    assert_eq!(database.refused(7, "message.modify", delete(json!(first))).0, 4004);
}

// S2-81, S2-82, I-16
#[test]
fn soft_deletion() {
    let (mut database, room) = group();
    database.settings.soft_delete = true;
    let first = send(&mut database, 7, room, "first");
    let id = adorned(&mut database, room);
    let reply = send_with(&mut database, 7, room, "reply", json!({ "parent_message_id": id }));
    let newest = send(&mut database, 8, room, "newest");
    let notify = "INSERT INTO chat_notification (id, room, message, kind, created_at) \
                  SELECT ?1, room, id, 'NEW_MESSAGE', 1 FROM chat_message WHERE id = ?2";
    let key = Uuid::try_parse(&id).unwrap().into_bytes();
    assert_eq!(database.execute(notify, &[SqlValue::from(key), SqlValue::from(key)]), 1);

    let at = time_text(database.now);
    let (_, answer) = database.one(8, "message.modify", delete(json!([id, newest])));
    assert_eq!(answer["message_ids"], json!([id, newest]));
    assert_eq!(database.count("SELECT count(*) FROM chat_notification"), 0);
    assert_eq!(database.count("SELECT count(*) FROM chat_message"), 4);
    let nested = &object(&mut database, &reply)["parent_message"];
    assert_eq!(
        (&nested["id"], &nested["is_deleted"], &nested["content"]),
        (&json!(id), &json!(true), &json!(""))
    );
    assert_eq!((&nested["attachments"], &nested["reactions"]), (&json!([]), &json!([])));
    assert_eq!(nested["updated_at"], at);
    assert_eq!(last_message(&mut database, room).0, Some(reply.clone()));
    let (_, history) = database.one(8, "room.messages", json!({ "room_id": room.to_string() }));
    let shown: Vec<&Value> =
        history["data"]["messages"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    assert_eq!(shown, [&json!(reply), &json!(first)]);
    assert_eq!(database.refused(8, "message.modify", update(json!(id), json!({ "content": "x" }))).0, 4004);
}
