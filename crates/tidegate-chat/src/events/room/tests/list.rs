use serde_json::{Value, json};
use tidegate_store::sql::SqlValue;

use super::{ANA, BEN, CY, channel, chat, create, group, user};
use crate::test_database::TestDatabase;

fn blank() -> Value {
    json!({
        "id": null, "room_id": null, "sender_id": null, "parent_message_id": null, "forwarded_from_id": null,
        "content": "", "is_deleted": false, "is_forwarded": false, "is_edited": false,
    })
}

/// S2-43, S2-47.
#[test]
fn a_list_shows_rooms_without_members() {
    let mut database = TestDatabase::with_users();
    let chat = chat(&mut database);
    let group = group(&mut database, &[BEN]);
    let channel = channel(&mut database, &[BEN], true);
    let time = |second: u8| format!("2026-01-01T00:00:0{second}.000000Z");
    let (audience, rooms) = database.one(BEN, "room.list", json!({ "anything": 1 }));
    assert_eq!(audience, [BEN]);
    let expected = json!([
        {
            "id": channel, "type": "Channel", "creator": user(ANA), "name": "News", "description": null,
            "avatar": null, "max_subscribers": 300, "is_public": true, "last_message": blank(),
            "created_at": time(2), "updated_at": time(2),
        },
        {
            "id": group, "type": "GroupChat", "creator": user(ANA), "name": "Reef", "description": null,
            "avatar": null, "max_participants": 100, "join_approval_required": false, "group_locked": false,
            "last_message": blank(), "created_at": time(1), "updated_at": time(1),
        },
        {
            "id": chat, "type": "OneToOneChat", "peer": user(ANA), "last_message": blank(),
            "created_at": time(0), "updated_at": time(0),
        },
    ]);
    assert_eq!(rooms, expected);
    let (_, rooms) = database.one(ANA, "room.list", Value::Null);
    assert_eq!(rooms[2]["peer"], user(BEN));
    assert_eq!(database.one(CY, "room.list", Value::Null).1, json!([]));
}

/// The ids of the rooms in a list.
fn listed(database: &mut TestDatabase, user: i64) -> Vec<String> {
    let (audience, rooms) = database.one(user, "room.list", Value::Null);
    assert_eq!(audience, [user]);
    rooms.as_array().unwrap().iter().map(|room| room["id"].as_str().unwrap().to_owned()).collect()
}

/// A message out of nothing, at a time; gives its id.
fn say(database: &mut TestDatabase, room: &str, seq: i64, at: i64) -> String {
    let room = uuid::Uuid::try_parse(room).unwrap().into_bytes();
    let id = uuid::Uuid::from_u128(u128::try_from(at).unwrap());
    let sql = "INSERT INTO chat_message (id, room, sender, content, seq, created_at, updated_at) \
               VALUES (?1, ?2, '7', 'Hi', ?3, ?4, ?4)";
    let parameters =
        [SqlValue::from(id.into_bytes()), SqlValue::from(room), SqlValue::from(seq), SqlValue::from(at)];
    database.execute(sql, &parameters);
    let sql = "UPDATE chat_room SET last_message = ?1, last_at = ?4, seq = ?3 WHERE id = ?2";
    database.execute(sql, &parameters);
    id.to_string()
}

/// S2-88, S2-43, I-27, in a fixed number of queries, with the newest message of each room.
#[test]
fn rooms_with_the_newest_messages_come_first() {
    let mut database = TestDatabase::with_users();
    let rooms: Vec<String> = (0..4)
        .map(|n| create(&mut database, ANA, json!({ "type": "GroupChat", "name": format!("{n}") })))
        .collect();
    let at = database.now;
    say(&mut database, &rooms[1], 1, at + 5);
    let older = say(&mut database, &rooms[0], 1, at + 6);
    let newer = say(&mut database, &rooms[1], 2, at + 7);
    let (_, list) = database.one(ANA, "room.list", Value::Null);
    let shown: Vec<(&str, &str)> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|room| (room["name"].as_str().unwrap(), room["last_message"]["id"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(shown, [("1", newer.as_str()), ("0", older.as_str()), ("3", ""), ("2", "")]);
    assert_eq!(list[0]["last_message"]["content"], "Hi");
    let n_statements = database.statements.len();
    for n in 0..60 {
        let room = create(&mut database, ANA, json!({ "type": "GroupChat", "name": "more" }));
        if n % 2 == 0 {
            say(&mut database, &room, 1, at + 100 + n);
        }
    }
    assert_eq!(listed(&mut database, ANA).len(), 64);
    assert_eq!(database.statements.len(), n_statements, "{:?}", database.statements);
}

/// S2-44: no dispatch has more messages than it may.
#[test]
fn a_list_has_no_more_messages_than_a_dispatch_may() {
    let mut database = TestDatabase::with_users();
    database.settings.max_history = 2;
    let at = database.now;
    for n in 0..4 {
        let room = group(&mut database, &[]);
        say(&mut database, &room, 1, at + n);
    }
    let (_, list) = database.one(ANA, "room.list", Value::Null);
    let contents: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|room| room["last_message"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(contents, ["Hi", "Hi", "", ""]);
}

/// S2-88, S2-47: a room in detail for its members, on their own connections.
#[test]
fn info_is_the_room_in_detail() {
    let mut database = TestDatabase::with_users();
    let data = json!({ "type": "GroupChat", "name": "Reef", "participants": [BEN] });
    let (_, created) = database.one(ANA, "room.create", data);
    let (audience, info) = database.one(BEN, "room.info", json!({ "room_id": created["id"] }));
    assert_eq!(audience, [BEN]);
    assert_eq!(info, created);
    assert!(info.get("last_message").is_none());
}
