//! Message events on the test database, one file for each.

mod acknowledged;
mod history;
mod ids;
mod modify;
mod react;
mod read;
mod send;
mod typing;

use serde_json::{Value, json};
use tidegate_store::sql::SqlValue;
use uuid::Uuid;

use crate::model::RoomKind;
use crate::test_database::TestDatabase;

/// What somebody is told who is not in the room of a message.
const NO_ACCESS: &str = "User is not authorized to access this message";

/// Sends a message that must be accepted; gives its id.
fn send(database: &mut TestDatabase, user: i64, room: Uuid, content: &str) -> String {
    send_with(database, user, room, content, json!({}))
}

fn send_with(database: &mut TestDatabase, user: i64, room: Uuid, content: &str, extra: Value) -> String {
    let data = json!({ "room_id": room.to_string(), "content": content, "extra_fields": extra });
    let (_, message) = database.one(user, "message.send", data);
    message["id"].as_str().unwrap().to_owned()
}

/// The object of a message, read from the database.
fn object(database: &mut TestDatabase, id: &str) -> Value {
    let id = Uuid::try_parse(id).unwrap();
    let mut objects = database.with_ctx(7, |ctx| crate::present::message::load(ctx, &[id])).unwrap();
    objects.pop().unwrap_or(Value::Null)
}

/// The object of one of the four users of the test database.
fn user_object(id: i64, name: &str) -> Value {
    json!({
        "id": id,
        "username": name,
        "email": format!("{name}@example.test"),
        "first_name": name.to_uppercase(),
        "last_name": "",
    })
}

/// Last message of a room, and its time.
fn last_message(database: &mut TestDatabase, room: Uuid) -> (Option<String>, Option<i64>) {
    let sql = "SELECT last_message, last_at FROM chat_room WHERE id = ?1";
    let rows = database.query(sql, &[SqlValue::from(room.into_bytes())]);
    let id = rows[0].optional(0, |row, column| row.id(column)).unwrap();
    let at = rows[0].optional(1, |row, column| row.int(column)).unwrap();
    (id.map(|id| Uuid::from_bytes(id).to_string()), at)
}

/// Ana and Ben in a group, which Ana made; Cy and Dee are strangers.
fn group() -> (TestDatabase, Uuid) {
    let mut database = TestDatabase::with_users();
    let room = database.enter_room(RoomKind::Group, &[7, 8]);
    (database, room)
}
