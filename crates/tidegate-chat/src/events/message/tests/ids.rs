use serde_json::{Value, json};
use uuid::Uuid;

use super::{group, send};
use crate::test_database::TestDatabase;

/// What a refusal looks like.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    NotFound,
    /// 4003 with this one text.
    Text(&'static str),
    /// 4003 with a list of some text.
    SomeText,
}

fn check(database: &mut TestDatabase, event_type: &str, data: Value, expected: Refusal) {
    let refused = database.refused(7, event_type, data.clone());
    match expected {
        Refusal::NotFound => assert_eq!(refused, (4004, json!("Resource not found.")), "{event_type} {data}"),
        Refusal::Text(text) => assert_eq!(refused, (4003, json!([text])), "{event_type} {data}"),
        Refusal::SomeText => {
            let (code, detail) = refused;
            let texts = detail.as_array().unwrap();
            assert!(
                code == 4003 && texts.len() == 1 && texts[0].is_string(),
                "{event_type} {data}: {detail}"
            );
        }
    }
}

const ROOM_TYPE: Refusal = Refusal::Text("Invalid room_id type");
const MESSAGE_TYPE: Refusal = Refusal::Text("Invalid message_id type");

// S2-21
#[test]
fn room_ids() {
    let (mut database, _) = group();
    let cases = [
        (json!(Uuid::now_v7().to_string()), Refusal::NotFound, Refusal::NotFound),
        (json!("lagoon"), Refusal::SomeText, Refusal::SomeText),
        (json!(3), Refusal::NotFound, Refusal::NotFound),
        (json!(-3), Refusal::SomeText, Refusal::SomeText),
        (json!(1.5), ROOM_TYPE, ROOM_TYPE),
        (json!(["x"]), ROOM_TYPE, ROOM_TYPE),
        (json!({ "x": 1 }), ROOM_TYPE, ROOM_TYPE),
        (json!(true), ROOM_TYPE, ROOM_TYPE),
        // From here on there is no room, and no message either.
        (json!(0), Refusal::NotFound, MESSAGE_TYPE),
        (json!(false), ROOM_TYPE, MESSAGE_TYPE),
        (json!(null), ROOM_TYPE, MESSAGE_TYPE),
        (json!(""), Refusal::SomeText, MESSAGE_TYPE),
    ];
    for (value, history, send) in cases {
        let data = json!({ "room_id": value, "content": "Hi" });
        check(&mut database, "room.messages", data.clone(), history);
        check(&mut database, "message.send", data.clone(), send);
        check(&mut database, "message.typing", data, send);
    }
    check(&mut database, "room.messages", json!({}), ROOM_TYPE);
    check(&mut database, "message.send", json!({ "content": "Hi" }), MESSAGE_TYPE);
}

// S2-22
#[test]
fn rooms_of_messages() {
    let (mut database, room) = group();
    let cases = [
        (json!(Uuid::now_v7().to_string()), Refusal::NotFound),
        (json!("lagoon"), Refusal::SomeText),
        (json!(3), Refusal::NotFound),
        (json!(1.5), MESSAGE_TYPE),
        (json!(["x"]), MESSAGE_TYPE),
        (json!(null), MESSAGE_TYPE),
        (json!(true), MESSAGE_TYPE),
    ];
    for (value, expected) in cases {
        let data = json!({ "room_id": "", "message_id": value, "content": "Hi" });
        check(&mut database, "message.send", data.clone(), expected);
        check(&mut database, "message.typing", data, expected);
    }
    let deleted = send(&mut database, 7, room, "Hi");
    database.execute("UPDATE chat_message SET deleted = 1", &[]);
    check(&mut database, "message.typing", json!({ "message_id": deleted }), Refusal::NotFound);
}

// S2-23, S2-31, I-3
#[test]
fn message_ids() {
    let (mut database, room) = group();
    let good = send(&mut database, 8, room, "Hi");
    let nothing = Uuid::now_v7().to_string();
    let cases = [
        (json!(nothing), Refusal::NotFound),
        (json!([good, nothing]), Refusal::NotFound),
        (json!("lagoon"), Refusal::SomeText),
        (json!(["lagoon"]), Refusal::SomeText),
        (json!([good, null]), Refusal::NotFound),
        (json!([good, 5]), Refusal::NotFound),
        // What is no id goes before what names nothing.
        (json!([nothing, null, "lagoon"]), Refusal::SomeText),
        (json!([good, {}]), MESSAGE_TYPE),
        (json!([good, true]), MESSAGE_TYPE),
        (json!(1.5), MESSAGE_TYPE),
        (json!(true), MESSAGE_TYPE),
        (json!({ "id": good }), MESSAGE_TYPE),
        (json!(null), MESSAGE_TYPE),
    ];
    for event_type in ["message.read", "message.acknowledged", "message.modify"] {
        for (value, expected) in &cases {
            let data = json!({ "message_id": value, "action": "delete" });
            check(&mut database, event_type, data, *expected);
        }
        check(&mut database, event_type, json!({ "action": "delete" }), MESSAGE_TYPE);
    }
    database.execute("UPDATE chat_message SET deleted = 1", &[]);
    for event_type in ["message.read", "message.acknowledged", "message.modify", "message.react"] {
        check(&mut database, event_type, json!({ "message_id": good, "type": "remove" }), Refusal::NotFound);
    }
    // S2-71
    let data = json!({ "message_id": [good], "type": "add" });
    let refused = database.refused(7, "message.react", data);
    assert_eq!(refused, (4003, json!({ "message": ["One message at a time."] })));
}
