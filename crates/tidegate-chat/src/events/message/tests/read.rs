use serde_json::json;

use super::{NO_ACCESS, group, object, send, user_object};
use crate::error::ChatError;
use crate::event::time_text;
use crate::model::RoomKind;
use crate::test_database::{audience, event_data, event_type};
use tidegate_core::diagnosis::Diagnosis;

// S2-41, S2-48, S2-67, S2-68
#[test]
fn one_id_is_an_object_and_a_list_a_list_for_each_room() {
    let (mut database, room) = group();
    let other = database.enter_room(RoomKind::Group, &[8, 9]);
    let first = send(&mut database, 7, room, "one");
    let second = send(&mut database, 7, room, "two");
    let third = send(&mut database, 9, other, "three");
    let own = send(&mut database, 8, other, "own");

    let at = time_text(database.now);
    let (heard_by, message) = database.one(8, "message.read", json!({ "message_id": first }));
    assert_eq!(heard_by, [7, 8]);
    assert_eq!(message["read_receipts"], json!([{ "reader": user_object(8, "ben"), "read_at": at }]));
    assert_eq!(message, object(&mut database, &first));

    let list = json!({ "message_id": [third, own, second, third] });
    let dispatches = database.run(8, "message.read", list).unwrap();
    assert!(dispatches.iter().all(|d| event_type(d) == "readreceipt.dispatch"));
    let heard: Vec<_> = dispatches.iter().map(audience).collect();
    assert_eq!(heard, [vec![8, 9], vec![7, 8]]);
    assert_eq!(event_data(&dispatches[0]), &json!([object(&mut database, &third)]));
    assert_eq!(event_data(&dispatches[1]), &json!([object(&mut database, &second)]));
    assert_eq!(object(&mut database, &own)["read_receipts"], json!([]));
    // S2-70
    assert_eq!(message["delivered_to"], json!([]));
}

// S2-67
#[test]
fn what_leaves_nothing_to_do_sends_nothing() {
    let (mut database, room) = group();
    let own = send(&mut database, 8, room, "own");
    for ids in [json!(own), json!([own]), json!([])] {
        assert_eq!(database.run(8, "message.read", json!({ "message_id": ids })), Ok(vec![]));
    }
    let refused = database.refused(9, "message.read", json!({ "message_id": own }));
    assert_eq!(refused, (4002, json!(NO_ACCESS)));
    // A sender who has left reads nothing either.
    database.remove_member(room, 8);
    assert_eq!(database.refused(8, "message.read", json!({ "message_id": own })).0, 4002);
}

// S2-35, S2-37, S2-69
#[test]
fn a_second_receipt_refuses_all() {
    let (mut database, room) = group();
    let first = send(&mut database, 7, room, "one");
    let second = send(&mut database, 7, room, "two");
    database.one(8, "message.read", json!({ "message_id": second }));
    let refused = database.refused(8, "message.read", json!({ "message_id": [first, second] }));
    assert_eq!(refused, (4005, json!("Database constraint violated.")));
    assert_eq!(database.count("SELECT count(*) FROM chat_receipt"), 1);
    // chat.duplicate-receipt
    let error = database.run(8, "message.read", json!({ "message_id": second })).unwrap_err();
    let diagnosis = Diagnosis::CHAT_DUPLICATE_RECEIPT;
    assert!(matches!(error, ChatError::Integrity { diagnosis: found, .. } if found == diagnosis));
}
