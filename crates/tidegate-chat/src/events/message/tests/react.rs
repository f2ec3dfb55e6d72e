use serde_json::{Value, json};
use tidegate_core::diagnosis::Diagnosis;
use uuid::Uuid;

use super::{NO_ACCESS, group, object, send, user_object};
use crate::error::ChatError;
use crate::event::time_text;
use crate::test_database::event_type;

fn add(id: &str, content: Value) -> Value {
    json!({ "type": "add", "message_id": id, "reaction_content": content })
}

// S2-41, S2-48, S2-71, S2-73, S2-75
#[test]
fn one_reaction_for_each_user() {
    let (mut database, room) = group();
    database.execute("UPDATE chat_room SET locked = 1", &[]);
    let id = send(&mut database, 7, room, "Hi");
    let at = time_text(database.now);
    let (heard_by, answer) = database.one(8, "message.react", add(&id, json!(" <b>+1</b> ")));
    assert_eq!(heard_by, [7, 8]);
    let reaction = &answer["message"]["reactions"][0];
    let first_id = reaction["id"].as_str().unwrap().to_owned();
    let shown = json!({ "id": first_id, "user": user_object(8, "ben"), "reaction_content": "<b>+1</b>", "created_at": at });
    assert_eq!(reaction, &shown);
    let whole = json!({ "status": "successful", "type": "add", "message": object(&mut database, &id) });
    assert_eq!(answer, whole);

    // The same again, from another device of the same user.
    let error = database.run(8, "message.react", add(&id, json!("<b>+1</b>"))).unwrap_err();
    let diagnosis = Diagnosis::CHAT_DUPLICATE_REACTION;
    assert!(
        matches!(error, ChatError::Integrity { diagnosis: found, .. } if found == diagnosis),
        "{error:?}"
    );
    let refused = database.refused(8, "message.react", add(&id, json!("<b>+1</b>")));
    assert_eq!(refused, (4005, json!("Database constraint violated.")));

    // Another one instead, and one of the sender's own.
    let later = time_text(database.now);
    let (_, answer) = database.one(8, "message.react", add(&id, json!("\u{1f30a}")));
    let reactions = answer["message"]["reactions"].as_array().unwrap();
    assert_eq!(reactions.len(), 1);
    assert_ne!(reactions[0]["id"], first_id);
    assert_eq!(
        (&reactions[0]["reaction_content"], &reactions[0]["created_at"]),
        (&json!("\u{1f30a}"), &json!(later))
    );
    let (_, answer) = database.one(7, "message.react", add(&id, json!("ok")));
    let names: Vec<_> = answer["message"]["reactions"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&names[0]["user"]["username"], &names[1]["user"]["username"]),
        (&json!("ben"), &json!("ana"))
    );
}

// S2-73: the database itself refuses the second of two that looked at the same moment.
#[test]
fn the_table_holds_one_for_each_user() {
    let (mut database, room) = group();
    let id = send(&mut database, 7, room, "Hi");
    database.one(8, "message.react", add(&id, json!("ok")));
    let copy = "INSERT INTO chat_reaction (id, message, user_id, content, created_at) \
                SELECT ?1, message, user_id, content, created_at FROM chat_reaction";
    let new = tidegate_store::sql::SqlValue::from(Uuid::now_v7().into_bytes());
    let result = database.with_ctx(8, |ctx| Ok(ctx.tx.execute(copy, &[new])?));
    assert!(matches!(result, Err(ChatError::Integrity { .. })));
}

// S2-74, S2-75
#[test]
fn removing_nothing_is_no_error() {
    let (mut database, room) = group();
    let id = send(&mut database, 7, room, "Hi");
    database.one(8, "message.react", add(&id, json!("ok")));
    let remove = json!({ "type": "remove", "message_id": id, "reaction_content": ["ignored"] });
    let (heard_by, answer) = database.one(8, "message.react", remove.clone());
    assert_eq!(heard_by, [7, 8]);
    let whole = json!({ "status": "successful", "action": "remove", "message": object(&mut database, &id) });
    assert_eq!(answer, whole);
    assert_eq!(answer["message"]["reactions"], json!([]));
    let dispatches = database.run(8, "message.react", remove.clone()).unwrap();
    assert_eq!(event_type(&dispatches[0]), "reaction.dispatch");
    let (heard_by, answer) = database.one(8, "message.react", remove);
    assert_eq!((heard_by, &answer["status"]), (vec![7, 8], &json!("failed")));
}

// S2-30, S2-31, S2-33, S2-36, S2-71, S2-72
#[test]
fn order_of_checks() {
    let (mut database, room) = group();
    let id = send(&mut database, 7, room, "Hi");
    let nothing = Uuid::now_v7().to_string();
    assert_eq!(database.refused(9, "message.react", json!({ "message_id": nothing })).0, 4004);
    assert_eq!(database.refused(9, "message.react", json!({ "message_id": id })), (4002, json!(NO_ACCESS)));
    for r#type in [json!(null), json!("like"), json!(1), json!(["add"])] {
        let refused = database.refused(8, "message.react", json!({ "message_id": id, "type": r#type }));
        assert_eq!(refused, (4003, json!(["invalid reaction type"])));
    }
    let long = "\u{e9}".repeat(129);
    let cases = [
        (json!(null), "This field may not be null."),
        (json!(" "), "This field may not be blank."),
        (json!(false), "Not a valid string."),
        (json!(long), "Ensure this field has no more than 128 characters."),
    ];
    for (content, text) in cases {
        let refused = database.refused(8, "message.react", add(&id, content));
        assert_eq!(refused, (4003, json!({ "reaction_content": [text] })));
    }
    let missing = database.refused(8, "message.react", json!({ "message_id": id, "type": "add" }));
    assert_eq!(missing, (4003, json!({ "reaction_content": ["This field is required."] })));
    for content in [json!("\u{e9}".repeat(128)), json!(1)] {
        assert!(database.run(8, "message.react", add(&id, content)).is_ok());
    }
}
