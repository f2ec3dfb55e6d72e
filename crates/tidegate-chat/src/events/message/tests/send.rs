use serde_json::{Value, json};
use tidegate_store::sql::SqlValue;
use uuid::Uuid;

use super::{NO_ACCESS, group, last_message, object, send, send_with, user_object};
use crate::event::time_text;
use crate::model::RoomKind;
use crate::settings::Sanitise;
use crate::test_database::{START, TestDatabase};

const NOT_AUTHORIZED: &str = "User is not authorized to send message to this room";

fn event(room: Uuid, content: Value, extra: Value) -> Value {
    json!({ "room_id": room.to_string(), "content": content, "extra_fields": extra })
}

fn n_messages(database: &mut TestDatabase) -> i64 {
    database.count("SELECT count(*) FROM chat_message")
}

// S2-40, S2-49, S2-59
#[test]
fn the_whole_message_goes_to_the_room() {
    let (mut database, room) = group();
    let data = json!({ "room_id": room.simple().to_string().to_uppercase(), "content": "  Hi <b>all " });
    let (audience, message) = database.one(8, "message.send", data);
    assert_eq!(audience, [7, 8]);
    let at = time_text(START);
    let expected = json!({
        "id": message["id"],
        "room": { "id": room.to_string() },
        "sender": user_object(8, "ben"),
        "content": "Hi <b>all</b>",
        "is_deleted": false,
        "is_edited": false,
        "is_forwarded": false,
        "parent_message": null,
        "forwarded_from": null,
        "delivered_to": [],
        "read_receipts": [],
        "reactions": [],
        "attachments": [],
        "created_at": at,
        "updated_at": at,
    });
    assert_eq!(message, expected);
    let id = message["id"].as_str().unwrap().to_owned();
    assert_eq!(Uuid::try_parse(&id).unwrap().hyphenated().to_string(), id);
    assert_eq!(at, "2026-01-01T00:00:00.000000Z");
    // What is stored reads the same.
    assert_eq!(object(&mut database, &id), message);
    assert_eq!(last_message(&mut database, room), (Some(id), Some(START)));

    database.now += 5_000_000;
    let id = send(&mut database, 7, room, "later");
    assert_eq!(last_message(&mut database, room).0, Some(id));
    let key = [SqlValue::from(room.into_bytes())];
    let rows = database.query("SELECT updated_at, created_at FROM chat_room WHERE id = ?1", &key);
    assert_eq!(rows[0].int(0).unwrap(), START + 6_000_000);
    assert_eq!(rows[0].int(1).unwrap(), START);
}

// S2-59: six statements, of which one reads and none is repeated for each member.
#[test]
fn a_message_costs_few_statements() {
    let (mut database, room) = group();
    let parent = send(&mut database, 7, room, "Hi");
    assert!(database.statements.len() <= 4, "{:#?}", database.statements);
    let extra = json!({ "parent_message_id": parent });
    send_with(&mut database, 8, room, "Hello", extra);
    assert!(database.statements.len() <= 7, "{:#?}", database.statements);
}

// S2-20, S2-83: also when a clock goes back.
#[test]
fn no_message_is_older_than_the_one_before() {
    let (mut database, room) = group();
    let first = send(&mut database, 7, room, "first");
    database.now = START - 60_000_000;
    let second = send(&mut database, 7, room, "second");
    let (first, second) = (object(&mut database, &first), object(&mut database, &second));
    assert_eq!(first["created_at"], second["created_at"]);
    assert_eq!(second["updated_at"], second["created_at"]);
}

// S2-30, S2-50
#[test]
fn who_may_write() {
    let mut database = TestDatabase::with_users();
    let hi = |room| event(room, json!("Hi"), json!({}));
    let refusal = (4002, json!(NOT_AUTHORIZED));

    let pair = database.enter_room(RoomKind::OneToOne, &[7, 8]);
    assert!(database.run(8, "message.send", hi(pair)).is_ok());
    assert_eq!(database.refused(9, "message.send", hi(pair)), refusal);

    let group = database.enter_room(RoomKind::Group, &[7, 8, 9]);
    assert!(database.run(9, "message.send", hi(group)).is_ok());
    assert_eq!(database.refused(10, "message.send", hi(group)), refusal);
    database.execute("UPDATE chat_room SET locked = 1", &[]);
    assert_eq!(database.refused(9, "message.send", hi(group)), refusal);
    database.execute("UPDATE chat_member SET is_admin = 1 WHERE user_id = '9'", &[]);
    assert!(database.run(9, "message.send", hi(group)).is_ok(), "an admin");
    database.execute("UPDATE chat_member SET is_admin = 0", &[]);
    assert!(database.run(7, "message.send", hi(group)).is_ok(), "the creator, though no admin");
    // A creator who has left has no rights, and has them again when back.
    database.remove_member(group, 7);
    assert_eq!(database.refused(7, "message.send", hi(group)), refusal);
    database.enter_member(group, 7, false, 9);
    assert!(database.run(7, "message.send", hi(group)).is_ok());

    let channel = database.enter_room(RoomKind::Channel, &[7, 8, 9]);
    assert!(database.run(7, "message.send", hi(channel)).is_ok());
    assert_eq!(database.refused(8, "message.send", hi(channel)), refusal);
    let permit = "INSERT INTO chat_permission (room, user_id, name) VALUES (?1, '8', ?2)";
    let key = |name: &str| [SqlValue::from(channel.into_bytes()), SqlValue::from(name)];
    database.execute(permit, &key("can_add_new_subscribers"));
    assert_eq!(database.refused(8, "message.send", hi(channel)), refusal);
    database.execute(permit, &key("can_send_messages"));
    assert!(database.run(8, "message.send", hi(channel)).is_ok());
    assert_eq!(database.refused(10, "message.send", hi(channel)), refusal);
}

// S2-25, S2-33, S2-51, I-3
#[test]
fn content_is_checked() {
    let (mut database, room) = group();
    let required = (4003, json!({ "content": ["This field is required."] }));
    assert_eq!(database.refused(7, "message.send", json!({ "room_id": room.to_string() })), required);
    let cases = [
        (json!(null), "This field may not be null."),
        (json!(""), "This field may not be blank."),
        (json!(" \n\u{2003}"), "This field may not be blank."),
        (json!(true), "Not a valid string."),
        (json!(["x"]), "Not a valid string."),
        (json!({ "x": 1 }), "Not a valid string."),
        (json!("a\0b"), "Null characters are not allowed."),
    ];
    for (content, text) in cases {
        let data = event(room, content.clone(), json!({}));
        assert_eq!(
            database.refused(7, "message.send", data),
            (4003, json!({ "content": [text] })),
            "{content}"
        );
    }
    for extra in [json!(null), json!("x"), json!([]), json!(1)] {
        let (code, detail) = database.refused(7, "message.send", event(room, json!("Hi"), extra));
        assert!(code == 4003 && detail["extra_fields"].is_array(), "{detail}");
    }
    assert_eq!(n_messages(&mut database), 0);
    let stored =
        [(json!(4.5), "4.5"), (json!(12), "12"), (json!("<img src=x>"), ""), (json!("<!-- c -->"), "")];
    for (content, text) in stored {
        let (_, message) = database.one(7, "message.send", event(room, content, json!({})));
        assert_eq!(message["content"], text);
    }
    let long = "\u{e9}".repeat(100_000);
    let (_, message) = database.one(7, "message.send", event(room, json!(long), json!({})));
    assert_eq!(message["content"], long);
}

// S2-22
#[test]
fn the_room_may_be_that_of_a_message() {
    let (mut database, room) = group();
    let id = send(&mut database, 7, room, "Hi");
    for falsy in [json!(null), json!(""), json!(0), json!(false), json!([]), json!({})] {
        let data = json!({ "room_id": falsy, "message_id": id, "content": "there" });
        let (_, message) = database.one(8, "message.send", data);
        assert_eq!(message["room"]["id"], room.to_string());
        assert_eq!(message["parent_message"], Value::Null);
    }
    let (code, detail) = database.refused(9, "message.send", json!({ "message_id": id, "content": "there" }));
    assert_eq!((code, detail), (4002, json!(NOT_AUTHORIZED)));
}

// S2-40, S2-44, S2-52, I-8
#[test]
fn replies_show_what_they_answer_to() {
    let (mut database, room) = group();
    let parent = send(&mut database, 7, room, "Low tide?");
    let parent_object = object(&mut database, &parent);
    let extra = json!({ "parent_message_id": parent });
    let (_, reply) = database.one(8, "message.send", event(room, json!("At six"), extra.clone()));
    assert_eq!(reply["parent_message"], parent_object);
    assert_eq!(reply["forwarded_from"], Value::Null);
    assert_eq!(reply["is_forwarded"], false);
    assert_eq!(object(&mut database, reply["id"].as_str().unwrap()), reply);

    // A private answer to a message of a group, by somebody who is in both.
    let private = database.enter_room(RoomKind::OneToOne, &[7, 8]);
    let (_, answer) = database.one(8, "message.send", event(private, json!("To you"), extra.clone()));
    assert_eq!(answer["parent_message"]["room"]["id"], room.to_string());
    // Cy may write to Ben, but has never been in that group.
    let other = database.enter_room(RoomKind::OneToOne, &[8, 9]);
    let before = n_messages(&mut database);
    let refused = database.refused(9, "message.send", event(other, json!("Aha"), extra));
    assert_eq!(refused, (4002, json!(NO_ACCESS)));
    assert_eq!(n_messages(&mut database), before);
}

// S2-53, I-8, I-10, I-15
#[test]
fn forwards_carry_the_content_of_their_source() {
    let (mut database, room) = group();
    let source = send(&mut database, 7, room, "<b>Low</b> tide");
    let source_object = object(&mut database, &source);
    let target = database.enter_room(RoomKind::Group, &[8, 9]);
    let extra = json!({ "forwarded_from_id": source });
    for content in [json!(""), json!("  ")] {
        let (audience, message) = database.one(8, "message.send", event(target, content, extra.clone()));
        assert_eq!(audience, [8, 9]);
        assert_eq!(message["content"], "<b>Low</b> tide");
        assert_eq!(message["is_forwarded"], true);
        assert_eq!(message["forwarded_from"], source_object);
        assert_eq!(message["parent_message"], Value::Null);
        assert_eq!(object(&mut database, message["id"].as_str().unwrap()), message);
    }
    let missing = json!({ "room_id": target.to_string(), "extra_fields": extra });
    assert_eq!(database.one(8, "message.send", missing).1["content"], "<b>Low</b> tide");
    let (_, message) = database.one(8, "message.send", event(target, json!("Look"), extra.clone()));
    assert_eq!(message["content"], "Look");
    let (code, _) = database.refused(8, "message.send", event(target, json!(true), extra.clone()));
    assert_eq!(code, 4003);
    // Cy may write there, and is no member of the room of the source.
    let refused = database.refused(9, "message.send", event(target, json!(""), extra));
    assert_eq!(refused, (4002, json!(NO_ACCESS)));
}

// S2-33, S2-54
#[test]
fn references_that_name_nothing() {
    let (mut database, room) = group();
    let nothing = Uuid::now_v7().to_string();
    let unknown = format!("Invalid pk \"{nothing}\" - object does not exist.");
    let hidden = send(&mut database, 7, room, "hidden");
    database.execute("UPDATE chat_message SET deleted = 1", &[]);
    let hidden_text = format!("Invalid pk \"{hidden}\" - object does not exist.");
    let cases = [
        (json!(nothing), unknown.as_str()),
        (json!(hidden), hidden_text.as_str()),
        (json!("x"), "\u{201c}x\u{201d} is not a valid UUID."),
        (json!(5), "Invalid pk \"5\" - object does not exist."),
        (json!(null), "This field may not be null."),
        (json!([nothing]), "Incorrect type. Expected pk value."),
    ];
    for field in ["parent_message_id", "forwarded_from_id"] {
        for (value, text) in &cases {
            let refused =
                database.refused(7, "message.send", event(room, json!("Hi"), json!({ field: value })));
            assert_eq!(refused, (4003, json!({ field: [text] })));
        }
    }
    // All that is wrong at once.
    let extra = json!({ "parent_message_id": "x", "forwarded_from_id": null });
    let (_, detail) = database.refused(7, "message.send", event(room, json!(true), extra));
    assert_eq!(detail.as_object().unwrap().len(), 3, "{detail}");
    assert_eq!(n_messages(&mut database), 1);
}

// S2-35, S2-55
#[test]
fn no_message_is_both_reply_and_forward() {
    let (mut database, room) = group();
    let id = send(&mut database, 7, room, "Hi");
    let extra = json!({ "parent_message_id": id, "forwarded_from_id": id });
    let refused = database.refused(7, "message.send", event(room, json!("Hi"), extra));
    assert_eq!(refused, (4005, json!("Database constraint violated.")));
    assert_eq!(n_messages(&mut database), 1);
}

// S2-58, I-9, I-10
#[test]
fn clients_set_nothing_else() {
    let (mut database, room) = group();
    let mine = Uuid::now_v7().to_string();
    let extra = json!({
        "id": mine, "sender": 9, "sender_id": 9, "room": "x", "room_id": mine, "content": "other",
        "created_at": "2000-01-01T00:00:00Z", "updated_at": "x", "delivered_to": ["cy"], "is_deleted": true,
        "is_edited": true, "is_forwarded": true, "read_receipts": [1], "reactions": [1],
    });
    let mut data = event(room, json!("Hi"), extra);
    data["id"] = json!(mine);
    data["is_edited"] = json!(true);
    let (_, message) = database.one(7, "message.send", data);
    assert_ne!(message["id"], json!(mine));
    let id = send(&mut database, 7, room, "Hi");
    let mut plain = object(&mut database, &id);
    for member in ["id", "created_at", "updated_at"] {
        plain[member] = message[member].clone();
    }
    assert_eq!(message, plain);
    assert_eq!(message["created_at"], time_text(START));
}

// S2-36: a stranger never learns from a 4003 whether the rest was right.
#[test]
fn order_of_checks() {
    let (mut database, room) = group();
    let bad = json!({ "media": [{}], "parent_message_id": "x" });
    let refused = database.refused(9, "message.send", event(room, json!(null), bad.clone()));
    assert_eq!(refused, (4002, json!(NOT_AUTHORIZED)));
    let nowhere = event(Uuid::now_v7(), json!(null), bad);
    assert_eq!(database.refused(9, "message.send", nowhere), (4004, json!("Resource not found.")));
    // Access to what is answered goes before content, content before storage.
    let elsewhere = database.enter_room(RoomKind::Group, &[9]);
    let secret = send(&mut database, 9, elsewhere, "secret");
    let data = event(room, json!(null), json!({ "parent_message_id": secret, "media": "x" }));
    assert_eq!(database.refused(7, "message.send", data), (4002, json!(NO_ACCESS)));
    let own = send(&mut database, 7, room, "Hi");
    let both = json!({ "parent_message_id": own, "forwarded_from_id": own });
    assert_eq!(database.refused(7, "message.send", event(room, json!(true), both)).0, 4003);
}

fn picture() -> Value {
    json!({ "media_url": "https://cdn.example.test/a.png", "media_type": "image" })
}

// S2-41, S2-56, S2-57, S2-60, S2-61
#[test]
fn attachments_replace_the_content() {
    let (mut database, room) = group();
    let full = json!({
        "media_url": " /files/a.mp4 ", "media_type": "video", "mime_type": "video/mp4", "file_size": "2048",
        "caption": " <b>Reef</b> ", "metadata": [1, { "width": 640 }], "id": "x",
    });
    let media = json!({ "media": [full, picture()] });
    let data = json!({ "room_id": room.to_string(), "extra_fields": media });
    let (_, message) = database.one(7, "message.send", data);
    assert_eq!(message["content"], "Media Files");
    let attachments = &message["attachments"];
    let expected = json!([
        {
            "id": attachments[0]["id"], "media_url": "/files/a.mp4", "media_type": "video", "file_size": 2048,
            "mime_type": "video/mp4", "caption": "<b>Reef</b>", "metadata": [1, { "width": 640 }],
        },
        {
            "id": attachments[1]["id"], "media_url": "https://cdn.example.test/a.png", "media_type": "image",
            "file_size": 0, "mime_type": "image/jpeg", "caption": null, "metadata": {},
        },
    ]);
    assert_eq!(attachments, &expected);
    assert_eq!(object(&mut database, message["id"].as_str().unwrap()), message);
    for content in [json!("ignored"), json!(""), json!(null), json!([])] {
        let (_, message) =
            database.one(7, "message.send", event(room, content, json!({ "media": [picture()] })));
        assert_eq!(message["content"], "Media Files");
    }
    for none in [json!(null), json!([])] {
        let (_, message) =
            database.one(7, "message.send", event(room, json!("Hi"), json!({ "media": none })));
        assert_eq!((&message["content"], &message["attachments"]), (&json!("Hi"), &json!([])));
    }
}

// S2-101
#[test]
fn captions_keep_their_markup_unless_asked() {
    let (mut database, room) = group();
    database.settings.sanitise = Sanitise::All;
    let mut item = picture();
    item["caption"] = json!("<b>Tom</b> & Jerry");
    let (_, message) = database.one(7, "message.send", event(room, json!(""), json!({ "media": [item] })));
    assert_eq!(message["attachments"][0]["caption"], "Tom & Jerry");
}

// S2-31, S2-34, S2-56, S2-60, S2-61
#[test]
fn wrong_attachments_stand_under_their_index() {
    let (mut database, room) = group();
    for media in [json!("x"), json!(5), json!({ "media_url": "x" }), json!(true)] {
        let refused =
            database.refused(7, "message.send", event(room, json!("Hi"), json!({ "media": media })));
        assert_eq!(refused, (4003, json!(["Media must be a list of media files"])));
    }
    let scripts = ["javascript:x", "JAVASCRIPT:x", " java\nscript:x", "\u{1}vbscript:x", "data:text/html,x"];
    let mut cases = vec![
        (json!({ "media_type": "zz" }), json!({ "media_type": ["\"zz\" is not a valid choice."] })),
        (json!({ "media_type": null }), json!({ "media_type": ["This field may not be null."] })),
        (json!({ "media_type": 5 }), json!({ "media_type": ["\"5\" is not a valid choice."] })),
        (json!({ "media_url": " " }), json!({ "media_url": ["This field may not be blank."] })),
        (json!({ "media_url": ["x"] }), json!({ "media_url": ["Not a valid string."] })),
        (
            json!({ "file_size": -1 }),
            json!({ "file_size": ["Ensure this value is greater than or equal to 0."] }),
        ),
        (json!({ "file_size": "x" }), json!({ "file_size": ["A valid integer is required."] })),
        (json!({ "mime_type": null }), json!({ "mime_type": ["This field may not be null."] })),
        (json!({ "mime_type": {} }), json!({ "mime_type": ["Not a valid string."] })),
        (json!({ "caption": false }), json!({ "caption": ["Not a valid string."] })),
        (json!({ "metadata": null }), json!({ "metadata": ["This field may not be null."] })),
    ];
    cases.extend(
        scripts.map(|link| (json!({ "media_url": link }), json!({ "media_url": ["Enter a valid URL."] }))),
    );
    for (change, fields) in cases {
        let mut item = picture();
        item.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let media = json!({ "media": [picture(), item] });
        let refused = database.refused(7, "message.send", event(room, json!("Hi"), media));
        assert_eq!(refused, (4003, json!({ "1": fields })), "{change}");
    }
    let media = json!({ "media": [{}, picture(), "x"] });
    let (code, detail) = database.refused(7, "message.send", event(room, json!("Hi"), media));
    assert_eq!(code, 4003);
    let required = json!(["This field is required."]);
    assert_eq!(detail["0"], json!({ "media_url": required, "media_type": required }));
    assert!(detail.get("1").is_none() && detail["2"]["non_field_errors"].is_array(), "{detail}");
    assert_eq!(n_messages(&mut database), 0);
    for link in ["a.png", "//cdn.example.test/a", "ftp://x/y", "database:1", "x?javascript:y"] {
        let mut item = picture();
        item["media_url"] = json!(link);
        let (_, message) =
            database.one(7, "message.send", event(room, json!(""), json!({ "media": [item] })));
        assert_eq!(message["attachments"][0]["media_url"], link);
    }
}

// S2-35, S2-62, I-7
#[test]
fn mime_types_outside_the_list_leave_nothing() {
    let (mut database, room) = group();
    let with = |mime_type: &str| {
        let mut item = picture();
        item["mime_type"] = json!(mime_type);
        event(room, json!("Hi"), json!({ "media": [picture(), item] }))
    };
    let refusal = (4005, json!("Database constraint violated."));
    for unknown in ["image/svg+xml", "IMAGE/PNG", " image/png", "text/html"] {
        assert_eq!(database.refused(7, "message.send", with(unknown)), refusal, "{unknown}");
    }
    assert_eq!(n_messages(&mut database), 0);
    assert_eq!(last_message(&mut database, room), (None, None));
    let listed = "image/jpeg image/png image/gif image/webp image/bmp image/heic audio/mpeg audio/mp4 audio/aac audio/ogg \
        audio/wav audio/opus video/mp4 video/quicktime video/webm video/ogg video/x-msvideo video/x-matroska \
        application/pdf application/msword application/vnd.openxmlformats-officedocument.wordprocessingml.document \
        application/vnd.ms-excel application/vnd.openxmlformats-officedocument.spreadsheetml.sheet \
        application/vnd.ms-powerpoint application/vnd.openxmlformats-officedocument.presentationml.presentation \
        text/plain text/csv";
    for known in listed.split_whitespace() {
        assert!(database.run(7, "message.send", with(known)).is_ok(), "{known}");
    }
    database.settings.mime_types = vec!["image/jpeg".to_owned(), "image/svg+xml".to_owned()];
    assert!(database.run(7, "message.send", with("image/svg+xml")).is_ok());
    assert_eq!(database.refused(7, "message.send", with("image/png")), refusal);
}
