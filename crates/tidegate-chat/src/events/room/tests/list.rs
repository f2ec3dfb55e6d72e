use serde_json::{Value, json};

use super::{ANA, BEN, CY, channel, chat, group, user};
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
