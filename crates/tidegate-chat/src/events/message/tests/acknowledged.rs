use serde_json::{Value, json};
use tidegate_store::sql::SqlValue;
use uuid::Uuid;

use super::{NO_ACCESS, group, object, send};
use crate::model::RoomKind;
use crate::test_database::{TestDatabase, audience, event_data, event_type};

// S2-40, S2-48, S2-64, S2-65, S2-66
#[test]
fn each_sender_hears_of_its_own_messages() {
    let (mut database, room) = group();
    let second_room = database.enter_room(RoomKind::Group, &[8, 7, 9]);
    let of_ana = send(&mut database, 7, room, "one");
    let of_cy = send(&mut database, 9, second_room, "two");
    let also_of_ana = send(&mut database, 7, second_room, "three");
    let data = json!({ "message_id": [of_ana, of_cy, also_of_ana, of_ana] });
    for _ in 0..2 {
        // Also when it is told again.
        let dispatches = database.run(8, "message.acknowledged", data.clone()).unwrap();
        let heard: Vec<_> = dispatches.iter().map(|d| (audience(d), ids(event_data(d)))).collect();
        assert_eq!(
            heard,
            [(vec![7], vec![of_ana.clone(), also_of_ana.clone()]), (vec![9], vec![of_cy.clone()])]
        );
        assert!(dispatches.iter().all(|d| event_type(d) == "messagedelivered.dispatch"));
        assert_eq!(event_data(&dispatches[1])[0], object(&mut database, &of_cy));
    }
    assert_eq!(object(&mut database, &of_ana)["delivered_to"], json!(["ben"]));
    // One id is told as a list too; the own name stands there when the sender says so.
    let (heard_by, data) = database.one(7, "message.acknowledged", json!({ "message_id": of_ana }));
    assert_eq!(heard_by, [7]);
    assert_eq!(data[0]["delivered_to"], json!(["ben", "ana"]));
    assert_eq!(database.run(8, "message.acknowledged", json!({ "message_id": [] })), Ok(vec![]));
}

fn ids(messages: &Value) -> Vec<String> {
    messages.as_array().unwrap().iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect()
}

// S2-30, S2-37, S2-64
#[test]
fn one_foreign_message_refuses_all() {
    let (mut database, room) = group();
    let elsewhere = database.enter_room(RoomKind::Group, &[9]);
    let mine = send(&mut database, 7, room, "one");
    let foreign = send(&mut database, 9, elsewhere, "two");
    let refused = database.refused(8, "message.acknowledged", json!({ "message_id": [mine, foreign] }));
    assert_eq!(refused, (4002, json!(NO_ACCESS)));
    assert_eq!(database.count("SELECT count(*) FROM chat_delivery"), 0);
}

// S2-44
#[test]
fn no_dispatch_is_larger_than_a_history() {
    let (mut database, room) = group();
    database.settings.max_history = 2;
    let sent: Vec<String> = (0..5).map(|n| send(&mut database, 7, room, &format!("{n}"))).collect();
    for event_type in ["message.acknowledged", "message.read"] {
        let dispatches = database.run(8, event_type, json!({ "message_id": sent })).unwrap();
        let sizes: Vec<usize> = dispatches.iter().map(|d| event_data(d).as_array().unwrap().len()).collect();
        assert_eq!(sizes, [2, 2, 1]);
        let told: Vec<String> = dispatches.iter().flat_map(|d| ids(event_data(d))).collect();
        assert_eq!(told, sent);
    }
}

// S2-37, I-20: statements do not grow with the list.
#[test]
fn many_messages_cost_few_statements() {
    let (mut database, room) = group();
    let sent: Vec<String> = (0..60).map(|n| send(&mut database, 7, room, &format!("{n}"))).collect();
    database.one(8, "message.acknowledged", json!({ "message_id": sent }));
    assert!(database.statements.len() <= 4, "{:#?}", database.statements.len());
}

/// S2-103, S2-104: what waits is found, however far the place from where it is looked for has moved; and it moves, so that what
/// others never acknowledge is not looked through again.
#[test]
fn what_waits_is_found_behind_what_others_leave() {
    const HOUR: i64 = 3600 * 1_000_000;
    let mut database = TestDatabase::with_users();
    let room = database.enter_room(RoomKind::Group, &[7, 8, 9]);
    // Ten messages an hour apart, which Ben and Cy are to hear of; Cy never acknowledges.
    database.settings.notifications = true;
    let begin = database.now;
    let mut sent = Vec::new();
    for n in 0..10 {
        let message = send(&mut database, 7, room, &format!("message {n}"));
        let key = Uuid::try_parse(&message).unwrap().into_bytes();
        let mut id = [n; 16];
        id[..6].copy_from_slice(&((begin + i64::from(n) * HOUR) / 1000).to_be_bytes()[2..]);
        database.execute("DELETE FROM chat_notification WHERE message = ?1", &[SqlValue::from(key)]);
        let sql = "INSERT INTO chat_notification (id, room, message, kind, created_at) \
                   SELECT ?1, room, id, 'NEW_MESSAGE', 1 FROM chat_message WHERE id = ?2";
        database.execute(sql, &[SqlValue::from(id), SqlValue::from(key)]);
        for user in ["8", "9"] {
            let sql = "INSERT INTO chat_recipient (notification, user_id) VALUES (?1, ?2)";
            database.execute(sql, &[SqlValue::from(id), SqlValue::from(user)]);
        }
        sent.push(message);
    }
    database.now = begin + 10 * HOUR;
    let waiting = |database: &mut TestDatabase, user| {
        let pending = database.with_ctx(user, crate::notification::pending).unwrap();
        let of_room = pending[room.to_string()].as_array().cloned().unwrap_or_default();
        of_room.iter().map(|shown| shown["message"]["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let skipped = |database: &mut TestDatabase| {
        database.count(
            "SELECT count(*) FROM chat_notification n, chat_member p WHERE p.user_id = '8' AND n.room = p.room AND n.id < p.heard",
        )
    };
    assert_eq!(waiting(&mut database, 8), sent);
    // The newest first: the oldest still waits, so nothing may be skipped.
    database.run(8, "message.acknowledged", json!({ "message_id": sent[9] })).unwrap();
    assert_eq!((waiting(&mut database, 8), skipped(&mut database)), (sent[..9].to_vec(), 0));
    for (n, message) in sent[..4].iter().enumerate() {
        database.run(8, "message.acknowledged", json!({ "message_id": message })).unwrap();
        assert_eq!(waiting(&mut database, 8), sent[n + 1..9]);
    }
    assert_eq!(skipped(&mut database), 4);
    database.run(8, "message.acknowledged", json!({ "message_id": sent[4..9] })).unwrap();
    assert_eq!((waiting(&mut database, 8), skipped(&mut database)), (vec![], 10));
    // Nobody else lost anything.
    assert_eq!(waiting(&mut database, 9), sent);
}
