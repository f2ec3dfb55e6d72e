use serde_json::json;

use super::{group, send};
use crate::model::RoomKind;
use crate::test_database::event_type;

// S2-22, S2-30, S2-48, S2-63, I-24
#[test]
fn the_room_sees_who_types_and_nothing_is_kept() {
    let (mut database, room) = group();
    let dispatches = database.run(8, "message.typing", json!({ "room_id": room.to_string() })).unwrap();
    assert_eq!(event_type(&dispatches[0]), "messagetyping.dispatch");
    let by_room = database.one(8, "message.typing", json!({ "room_id": room.to_string() }));
    assert_eq!(by_room, (vec![7, 8], json!({ "username": "ben" })));
    let changes = database.statements.iter().filter(|sql| !sql.starts_with("SELECT")).count();
    assert_eq!(changes, 0, "{:?}", database.statements);

    let id = send(&mut database, 7, room, "Hi");
    assert_eq!(database.one(8, "message.typing", json!({ "message_id": id })), by_room);
    database.settings.typing_room = true;
    let (_, typing) = database.one(8, "message.typing", json!({ "message_id": id }));
    assert_eq!(typing, json!({ "username": "ben", "room_id": room.to_string() }));
}

// S2-30, S2-50, S2-63
#[test]
fn nobody_types_who_may_not_post() {
    let (mut database, room) = group();
    let refusal = (4002, json!("User is not authorized to send message to this room"));
    let data = json!({ "room_id": room.to_string() });
    assert_eq!(database.refused(9, "message.typing", data.clone()), refusal);
    database.execute("UPDATE chat_room SET locked = 1", &[]);
    assert_eq!(database.refused(8, "message.typing", data.clone()), refusal);
    assert_eq!(database.one(7, "message.typing", data).1, json!({ "username": "ana" }));
    let channel = database.enter_room(RoomKind::Channel, &[7, 8]);
    let data = json!({ "room_id": channel.to_string() });
    assert_eq!(database.refused(8, "message.typing", data), refusal);
}
