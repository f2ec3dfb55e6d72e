//! Events about rooms, on a database.

mod create;
mod ids;
mod list;
mod members;
mod modify;

use serde_json::{Value, json};
use tidegate_store::sql::SqlRow;

use crate::test_database::TestDatabase;

const ANA: i64 = 7;
const BEN: i64 = 8;
const CY: i64 = 9;
const DEE: i64 = 10;

/// A user as clients see it.
fn user(id: i64) -> Value {
    let name = ["ana", "ben", "cy", "dee"][usize::try_from(id - ANA).unwrap()];
    let address = format!("{name}@example.test");
    json!({ "id": id, "username": name, "email": address, "first_name": name.to_uppercase(), "last_name": "" })
}

/// Makes a room; gives its id.
fn create(database: &mut TestDatabase, creator: i64, data: Value) -> String {
    let (_, room) = database.one(creator, "room.create", data);
    room["id"].as_str().unwrap().to_owned()
}

/// Ana's group with these others.
fn group(database: &mut TestDatabase, others: &[i64]) -> String {
    create(database, ANA, json!({ "type": "GroupChat", "name": "Reef", "participants": others }))
}

/// Ana's channel with these others.
fn channel(database: &mut TestDatabase, others: &[i64], is_public: bool) -> String {
    let data = json!({ "type": "Channel", "name": "News", "subscribers": others, "is_public": is_public });
    create(database, ANA, data)
}

/// Ana's chat with Ben.
fn chat(database: &mut TestDatabase) -> String {
    create(database, ANA, json!({ "type": "OneToOneChat", "participants": [BEN] }))
}

/// Everything about rooms.
fn state(database: &mut TestDatabase) -> Vec<Vec<SqlRow>> {
    let tables = ["chat_room", "chat_member", "chat_permission", "chat_user"];
    tables.map(|table| database.query(&format!("SELECT * FROM {table} ORDER BY 1, 2"), &[])).into()
}

/// Runs an event that must be refused and change nothing; gives code and detail.
fn refused(database: &mut TestDatabase, user: i64, event_type: &str, data: Value) -> (u64, Value) {
    let before = state(database);
    let refusal = database.refused(user, event_type, data);
    assert_eq!(state(database), before, "{event_type} has changed something and said {refusal:?}");
    refusal
}

/// The ids in a list of users.
fn ids(users: &Value) -> Vec<i64> {
    users.as_array().unwrap().iter().map(|user| user["id"].as_i64().unwrap()).collect()
}

/// The members that a room has for one of them.
fn members_of(database: &mut TestDatabase, asking: i64, room: &str) -> Vec<i64> {
    let (_, room) = database.one(asking, "room.info", json!({ "room_id": room }));
    ids(room.get("participants").unwrap_or(&room["subscribers"]))
}
