//! S2-110.

use serde_json::{Value, json};
use tidegate_store::sql::SqlValue;
use uuid::Uuid;

use crate::event::{Audience, time_text};
use crate::model::RoomKind;
use crate::test_database::{START, TestDatabase, event_data, event_type};

/// What a user is told, as contents.
fn replay(database: &mut TestDatabase, user: i64, since: Value) -> (Vec<String>, bool) {
    let data = if since.is_null() { json!({}) } else { json!({ "since": since }) };
    let dispatches = database.run(user, "session.replay", data).unwrap();
    assert_eq!(dispatches.len(), 1);
    assert_eq!(dispatches[0].audience, Audience::Connection(TestDatabase::connection(user)));
    assert_eq!(event_type(&dispatches[0]), "sessionreplay.dispatch");
    let answer = event_data(&dispatches[0]);
    assert_eq!(answer.as_object().unwrap().len(), 3);
    let messages = answer["messages"].as_array().unwrap();
    let contents = messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect();
    (contents, answer["complete"].as_bool().unwrap())
}

fn send(database: &mut TestDatabase, room: Uuid, content: &str) -> String {
    let data = json!({ "room_id": room.to_string(), "content": content });
    database.one(7, "message.send", data).1["id"].as_str().unwrap().to_owned()
}

/// Ana is in two rooms with Ben, and in one with Cy.
fn world() -> (TestDatabase, [Uuid; 3]) {
    let mut database = TestDatabase::with_users();
    database.settings.replay_seconds = 60;
    let rooms = [&[7, 8][..], &[7, 8], &[7, 9]].map(|members| database.enter_room(RoomKind::Group, members));
    (database, rooms)
}

/// S2-110: what was said since a message or a time in all rooms of the user, oldest first, and nothing of other rooms.
#[test]
fn it_gives_what_was_missed() {
    let (mut database, [one, two, other]) = world();
    send(&mut database, one, "a");
    let last = send(&mut database, two, "b");
    let since = database.now;
    for (room, content) in [(one, "c"), (other, "x"), (two, "d"), (one, "e")] {
        send(&mut database, room, content);
    }
    let (contents, complete) = replay(&mut database, 8, json!(last));
    assert_eq!((contents.join(""), complete), ("cde".to_owned(), true));
    assert_eq!(replay(&mut database, 8, json!(time_text(since))).0.join(""), "cde");
    assert_eq!(replay(&mut database, 8, Value::Null).0.join(""), "abcde");
    assert_eq!(replay(&mut database, 9, Value::Null).0.join(""), "x");
    assert_eq!(replay(&mut database, 10, Value::Null).0.join(""), "");
    // Whoever is no longer in a room is not told of it.
    database.remove_member(one, 8);
    assert_eq!(replay(&mut database, 8, Value::Null).0.join(""), "bd");
    let text = time_text(database.now);
    assert_eq!(replay(&mut database, 8, json!(text)), (Vec::new(), true));
}

/// S2-110: no further back than is offered, no more than one frame holds, and both are said.
#[test]
fn it_is_bounded() {
    let (mut database, [one, two, _]) = world();
    let first = send(&mut database, one, "old");
    database.now += 61_000_000;
    for number in 0..200 {
        send(&mut database, if number % 3 == 0 { one } else { two }, &number.to_string());
        database.now -= 990_000;
    }
    let (contents, complete) = replay(&mut database, 8, json!(first));
    assert_eq!((contents.len(), contents[0].as_str(), complete), (200, "0", false), "it began too early");
    assert!(!replay(&mut database, 8, json!(time_text(START))).1);
    assert!(replay(&mut database, 8, Value::Null).1);
    database.settings.max_history = 5;
    let (contents, complete) = replay(&mut database, 8, Value::Null);
    assert_eq!((contents.join(" "), complete), ("195 196 197 198 199".to_owned(), false));
    // A room without anything new is not read, and one that has some only as far as that goes.
    database.settings.max_history = 1000;
    database.now += 61_000_000;
    send(&mut database, two, "new");
    assert_eq!(replay(&mut database, 8, Value::Null).0, ["new"]);
    let reads = database.statements.iter().filter(|sql| sql.contains("ORDER BY seq DESC")).count();
    assert_eq!(reads, 1, "{:?}", database.statements);
}

/// S2-110, S2-81: deleted messages are not replayed; a `since` that is none is refused, and so is one of others.
#[test]
fn what_it_refuses() {
    let (mut database, [one, _, other]) = world();
    let (gone, stays) = (send(&mut database, one, "gone"), send(&mut database, one, "stays"));
    let foreign = send(&mut database, other, "x");
    let id = SqlValue::from(Uuid::parse_str(&gone).unwrap().into_bytes());
    assert_eq!(database.execute("UPDATE chat_message SET deleted = 1 WHERE id = ?1", &[id]), 1);
    assert_eq!(replay(&mut database, 8, Value::Null).0, ["stays"]);
    assert_eq!(replay(&mut database, 8, json!(stays)).0, Vec::<String>::new());
    let wrong = json!({ "since": ["Must be a time or the id of a message."] });
    for since in [json!(5), json!(true), json!("yesterday"), json!([]), json!("")] {
        assert_eq!(database.refused(8, "session.replay", json!({ "since": since })), (4003, wrong.clone()));
    }
    for since in [gone, Uuid::now_v7().to_string()] {
        assert_eq!(database.refused(8, "session.replay", json!({ "since": since })).0, 4004);
    }
    let denied = json!("User is not authorized to access this message");
    assert_eq!(database.refused(8, "session.replay", json!({ "since": foreign })), (4002, denied));
}
