use serde_json::{Value, json};

use super::{ANA, BEN, CY, DEE, channel, chat, create, group, ids, members_of, refused, user};
use crate::test_database::{TestDatabase, audience, event_data, event_type};

const STRANGER: &str = "User is not authorized to add new members to this room";

/// S2-96: everybody hears of it, the new ones too, and those who are there are passed over.
#[test]
fn members_are_added() {
    let mut database = TestDatabase::with_users();
    let room = group(&mut database, &[BEN]);
    let data = json!({ "room_id": room, "members": [BEN, "10", 9, 10] });
    let (audience, data) = database.one(ANA, "room.add_members", data);
    assert_eq!(audience, [ANA, BEN, CY, DEE]);
    assert_eq!(data["new_members"], json!(["dee", "cy"]));
    assert_eq!(data["added_by"], "ana");
    assert_eq!(ids(&data["room"]["participants"]), [ANA, BEN, DEE, CY]);
    assert_eq!(ids(&data["room"]["admins"]), [ANA]);
    assert_eq!(data.as_object().unwrap().len(), 3);
    assert_eq!(members_of(&mut database, CY, &room), [ANA, BEN, DEE, CY]);
    for nobody in [json!([]), json!([BEN])] {
        let (audience, data) =
            database.one(ANA, "room.add_members", json!({ "room_id": room, "members": nobody }));
        assert_eq!(audience, [ANA, BEN, CY, DEE]);
        assert_eq!(data["new_members"], json!([]));
    }
}

/// S2-96, I-3, I-12: what is no list of users changes nothing.
#[test]
fn a_wrong_list_of_members_is_refused() {
    let mut database = TestDatabase::with_users();
    let room = group(&mut database, &[BEN]);
    for event_type in ["room.add_members", "room.remove_members"] {
        let data = json!({ "room_id": room });
        let expected = json!({ "members": ["This field is required."] });
        assert_eq!(refused(&mut database, ANA, event_type, data), (4003, expected));
        for members in [json!(null), json!("9"), json!("89"), json!(9), json!({ "9": 9 }), json!(true)] {
            let data = json!({ "room_id": room, "members": members });
            let (code, detail) = refused(&mut database, ANA, event_type, data);
            assert_eq!(code, 4003);
            assert!(detail["members"].is_array(), "{detail}");
        }
        for members in [json!([BEN, CY, 999]), json!([CY, BEN, null]), json!(["999", CY])] {
            let data = json!({ "room_id": room, "members": members });
            let refusal = refused(&mut database, ANA, event_type, data);
            assert_eq!(refusal, (4004, json!("Resource not found.")));
        }
        for element in [json!("x"), json!(true), json!(1.5), json!([CY]), json!({})] {
            let data = json!({ "room_id": room, "members": [BEN, CY, element] });
            assert_eq!(refused(&mut database, ANA, event_type, data).0, 4003);
        }
    }
}

/// S2-96, S2-31: over the cap nobody comes in.
#[test]
fn a_full_room_takes_nobody() {
    let mut database = TestDatabase::with_users();
    let data = json!({ "type": "GroupChat", "name": "n", "participants": [BEN], "max_participants": 3 });
    let room = create(&mut database, ANA, data);
    let add = |members: Value| json!({ "room_id": room, "members": members });
    let expected = json!(["Maximum number of group participants exceeded"]);
    let refusal = refused(&mut database, ANA, "room.add_members", add(json!([CY, DEE])));
    assert_eq!(refusal, (4003, expected));
    database.one(ANA, "room.add_members", add(json!([CY])));
    // Who is there already takes no place.
    database.one(ANA, "room.add_members", add(json!([ANA, BEN, CY])));
    let data = json!({ "type": "Channel", "name": "n", "max_subscribers": 1 });
    let room = create(&mut database, ANA, data);
    let data = json!({ "room_id": room, "members": [BEN] });
    let expected = json!(["Maximum number of channel subscribers exceeded"]);
    assert_eq!(refused(&mut database, ANA, "room.add_members", data), (4003, expected));
}

/// S2-96, S2-36, S2-31: of one-to-one chats strangers hear it too.
#[test]
fn a_one_to_one_chat_keeps_its_two() {
    let mut database = TestDatabase::with_users();
    let room = chat(&mut database);
    let expected = json!(["Invalid room, Can only add or remove members from Groups/Channels"]);
    for asking in [ANA, BEN, CY] {
        for event_type in ["room.add_members", "room.remove_members"] {
            let data = json!({ "room_id": room, "members": [CY] });
            assert_eq!(refused(&mut database, asking, event_type, data), (4003, expected.clone()));
        }
    }
}

/// S2-96, S2-30: creator, admins and holders of the one permission.
#[test]
fn members_are_added_and_removed_by_whom_it_is_permitted() {
    let kinds = [
        ("can_add_new_participants", "can_remove_participants", "add_admin"),
        ("can_add_new_subscribers", "can_remove_subscribers", "add_moderator"),
    ];
    for (may_add, may_remove, promote) in kinds {
        let mut database = TestDatabase::with_users();
        let room = if promote == "add_admin" {
            group(&mut database, &[BEN, CY])
        } else {
            channel(&mut database, &[BEN, CY], false)
        };
        let members = json!({ "room_id": room, "members": [DEE] });
        let modify = |action: &str, data: Value| json!({ "room_id": room, "action": action, "data": data });
        let not_removed = "User is not authorized to remove members from this room";
        let refusal = refused(&mut database, BEN, "room.add_members", members.clone());
        assert_eq!(refusal, (4002, json!(STRANGER)));
        let grant = modify("add_permission", json!({ "users": [BEN], "permission": [may_add] }));
        database.one(ANA, "room.modify", grant);
        database.one(BEN, "room.add_members", members.clone());
        let refusal = refused(&mut database, BEN, "room.remove_members", members.clone());
        assert_eq!(refusal, (4002, json!(not_removed)));
        let grant = modify("add_permission", json!({ "users": [CY], "permission": [may_remove] }));
        database.one(ANA, "room.modify", grant);
        database.run(CY, "room.remove_members", members.clone()).unwrap();
        let refusal = refused(&mut database, CY, "room.add_members", members.clone());
        assert_eq!(refusal, (4002, json!(STRANGER)));
        let take = json!({ "users": [BEN, CY], "permission": [may_add, may_remove] });
        database.one(ANA, "room.modify", modify("remove_permission", take));
        assert_eq!(refused(&mut database, BEN, "room.add_members", members.clone()).0, 4002);
        assert_eq!(refused(&mut database, CY, "room.remove_members", members.clone()).0, 4002);
        database.one(ANA, "room.modify", modify(promote, json!({ "users": [BEN] })));
        database.one(BEN, "room.add_members", members.clone());
        database.run(BEN, "room.remove_members", members).unwrap();
    }
}

/// S2-96: the removed ones and those who stay are told different things.
#[test]
fn members_are_removed() {
    let mut database = TestDatabase::with_users();
    let room = group(&mut database, &[BEN, CY, DEE]);
    let data = json!({ "room_id": room, "members": ["9", ANA, BEN] });
    let dispatches = database.run(ANA, "room.remove_members", data).unwrap();
    let [exit, removed] = &dispatches[..] else { panic!("{dispatches:?}") };
    // Ana is the creator: removing herself is what she may do.
    assert_eq!((event_type(exit), audience(exit)), ("roomexit.dispatch", vec![ANA, BEN, CY]));
    let data = event_data(exit);
    assert_eq!(data["message"], "You have been removed by ana");
    assert_eq!(data.as_object().unwrap().len(), 2);
    assert_eq!((event_type(removed), audience(removed)), ("roomremovemembers.dispatch", vec![DEE]));
    assert_same_room(exit, removed);
    assert_eq!(event_data(removed)["removed_members"], json!(["cy", "ana", "ben"]));
    assert_eq!(event_data(removed)["removed_by"], "ana");
    assert_eq!(event_data(removed).as_object().unwrap().len(), 3);
    assert_eq!(ids(&event_data(removed)["room"]["participants"]), [DEE]);
    assert_eq!(event_data(removed)["room"]["creator"], user(ANA));
    assert_eq!(members_of(&mut database, DEE, &room), [DEE]);
}

fn assert_same_room(one: &crate::event::Dispatch, other: &crate::event::Dispatch) {
    assert_eq!(event_data(one)["room"], event_data(other)["room"]);
}

/// S2-96: strangers and the creator are passed over, and the dispatch goes out all the same.
#[test]
fn the_creator_is_not_removed_by_others() {
    let mut database = TestDatabase::with_users();
    let room = group(&mut database, &[BEN]);
    let data = json!({ "room_id": room, "action": "add_admin", "data": { "users": [BEN] } });
    database.one(ANA, "room.modify", data);
    for creator in [json!(7), json!("7")] {
        let data = json!({ "room_id": room, "members": [creator, CY] });
        let (audience, data) = database.one(BEN, "room.remove_members", data);
        assert_eq!(audience, [ANA, BEN]);
        assert_eq!(data["removed_members"], json!([]));
        assert_eq!(ids(&data["room"]["participants"]), [ANA, BEN]);
    }
}

/// S2-96, S2-94: what somebody was in a room is over with membership.
#[test]
fn roles_and_permissions_end_with_membership() {
    let mut database = TestDatabase::with_users();
    let room = group(&mut database, &[BEN, CY]);
    let modify = |action: &str, data: Value| json!({ "room_id": room, "action": action, "data": data });
    database.one(ANA, "room.modify", modify("add_admin", json!({ "users": [BEN] })));
    let grant = json!({ "users": [CY], "permission": ["can_add_new_participants"] });
    database.one(ANA, "room.modify", modify("add_permission", grant));
    let both = json!({ "room_id": room, "members": [BEN, CY] });
    database.run(ANA, "room.remove_members", both.clone()).unwrap();
    assert_eq!(database.count("SELECT count(*) FROM chat_permission"), 0);
    let (_, data) = database.one(ANA, "room.add_members", both);
    assert_eq!(ids(&data["room"]["admins"]), [ANA]);
    for who in [BEN, CY] {
        let data = json!({ "room_id": room, "members": [DEE] });
        assert_eq!(refused(&mut database, who, "room.add_members", data), (4002, json!(STRANGER)));
    }
}

/// S2-96, I-13: the last one takes the room along, and is told.
#[test]
fn removing_the_last_member_deletes_the_room() {
    let mut database = TestDatabase::with_users();
    let room = group(&mut database, &[BEN]);
    let data = json!({ "room_id": room, "members": [ANA, BEN] });
    let dispatches = database.run(ANA, "room.remove_members", data).unwrap();
    assert_eq!(dispatches.len(), 1);
    assert_eq!(event_type(&dispatches[0]), "roomdelete.dispatch");
    assert_eq!(audience(&dispatches[0]), [ANA, BEN]);
    assert_eq!(event_data(&dispatches[0]), &json!({ "room_id": room }));
    assert_eq!(database.count("SELECT count(*) FROM chat_room"), 0);
    assert_eq!(database.count("SELECT count(*) FROM chat_member"), 0);
}

/// S2-97: public channels only, again and again.
#[test]
fn a_public_channel_is_joined() {
    let mut database = TestDatabase::with_users();
    let room = channel(&mut database, &[BEN], true);
    for _ in 0..2 {
        let (audience, data) = database.one(CY, "room.join", json!({ "room_id": room }));
        assert_eq!(audience, [ANA, BEN, CY]);
        assert_eq!(data["new_members"], json!(["cy"]));
        assert_eq!(data["added_by"], "self");
        assert_eq!(ids(&data["room"]["subscribers"]), [ANA, BEN, CY]);
        assert_eq!(ids(&data["room"]["moderators"]), [ANA]);
    }
    let full = json!({ "type": "Channel", "name": "n", "is_public": true, "max_subscribers": 1 });
    let full = create(&mut database, ANA, full);
    let expected = json!(["Maximum number of channel subscribers exceeded"]);
    assert_eq!(refused(&mut database, BEN, "room.join", json!({ "room_id": full })), (4003, expected));
    database.one(ANA, "room.join", json!({ "room_id": full }));
}

/// S2-97, S2-31.
#[test]
fn other_rooms_are_not_joined() {
    let mut database = TestDatabase::with_users();
    let approved = json!({ "type": "GroupChat", "name": "n", "join_approval_required": true });
    let cases = [
        (chat(&mut database), "You can only join a channel/group chat"),
        (group(&mut database, &[]), "Ask an admin to add you to the group"),
        (create(&mut database, ANA, approved), "Ask an admin to add you to the group"),
        (channel(&mut database, &[], false), "Channel is private, ask a moderator to add you to the channel"),
    ];
    for (room, text) in cases {
        let refusal = refused(&mut database, CY, "room.join", json!({ "room_id": room }));
        assert_eq!(refusal, (4003, json!([text])));
    }
}

/// S2-97.
#[test]
fn a_leaver_and_the_rest_are_told() {
    let mut database = TestDatabase::with_users();
    let room = group(&mut database, &[BEN, CY]);
    let dispatches = database.run(BEN, "room.leave", json!({ "room_id": room })).unwrap();
    let [exit, removed] = &dispatches[..] else { panic!("{dispatches:?}") };
    assert_eq!((event_type(exit), audience(exit)), ("roomexit.dispatch", vec![BEN]));
    assert_eq!(event_data(exit)["message"], "You left Reef");
    assert_eq!(event_data(exit).as_object().unwrap().len(), 2);
    assert_eq!((event_type(removed), audience(removed)), ("roomremovemembers.dispatch", vec![ANA, CY]));
    assert_same_room(exit, removed);
    assert_eq!(event_data(removed)["removed_members"], json!(["ben"]));
    assert_eq!(event_data(removed)["removed_by"], "self");
    assert_eq!(ids(&event_data(removed)["room"]["participants"]), [ANA, CY]);
    let again = refused(&mut database, BEN, "room.leave", json!({ "room_id": room }));
    assert_eq!(again, (4002, json!("User is not authorized access this room")));
    let pair = chat(&mut database);
    let expected = json!(["You can only leave a channel/group chat"]);
    assert_eq!(refused(&mut database, BEN, "room.leave", json!({ "room_id": pair })), (4003, expected));
}

/// S2-97: with the last one the room goes.
#[test]
fn the_last_one_to_leave_deletes_the_room() {
    let mut database = TestDatabase::with_users();
    let room = channel(&mut database, &[BEN], true);
    database.run(ANA, "room.leave", json!({ "room_id": room })).unwrap();
    let dispatches = database.run(BEN, "room.leave", json!({ "room_id": room })).unwrap();
    assert_eq!(dispatches.len(), 1);
    assert_eq!(event_type(&dispatches[0]), "roomdelete.dispatch");
    assert_eq!(audience(&dispatches[0]), [BEN]);
    assert_eq!(event_data(&dispatches[0]), &json!({ "room_id": room }));
    assert_eq!(database.count("SELECT count(*) FROM chat_room"), 0);
}

/// S2-97: a creator who has left stays creator, without rights until back.
#[test]
fn the_creator_comes_back_with_all_rights() {
    let mut database = TestDatabase::with_users();
    let room = channel(&mut database, &[BEN], true);
    database.run(ANA, "room.leave", json!({ "room_id": room })).unwrap();
    let (_, info) = database.one(BEN, "room.info", json!({ "room_id": room }));
    assert_eq!(info["creator"], user(ANA));
    assert_eq!(info["moderators"], json!([]));
    let rename = json!({ "room_id": room, "action": "update", "data": { "name": "New" } });
    let refusal = refused(&mut database, ANA, "room.modify", rename.clone());
    assert_eq!(refusal, (4002, json!("User is not an admin of this room")));
    database.one(ANA, "room.join", json!({ "room_id": room }));
    assert_eq!(members_of(&mut database, ANA, &room), [BEN, ANA]);
    database.one(ANA, "room.modify", rename);
    database.one(ANA, "room.modify", json!({ "room_id": room, "action": "delete" }));
}

/// I-25: nobody manages a group that creator and admins have left, unless the settings say so.
#[test]
fn the_longest_standing_member_may_inherit_a_group() {
    for (promotes, expected) in [(false, vec![]), (true, vec![BEN])] {
        let mut database = TestDatabase::with_users();
        database.settings.promote_on_vacancy = promotes;
        let left = group(&mut database, &[BEN, CY]);
        let removed = group(&mut database, &[BEN, CY]);
        let dispatches = database.run(ANA, "room.leave", json!({ "room_id": left })).unwrap();
        assert_eq!(ids(&event_data(&dispatches[1])["room"]["admins"]), expected);
        let data = json!({ "room_id": removed, "members": [ANA] });
        let dispatches = database.run(ANA, "room.remove_members", data).unwrap();
        assert_eq!(ids(&event_data(&dispatches[1])["room"]["admins"]), expected);
        for room in [left, removed] {
            let data = json!({ "room_id": room, "members": [DEE] });
            assert_eq!(database.run(BEN, "room.add_members", data).is_ok(), promotes);
        }
        // Where somebody is left who manages the group, nobody else comes up; and a channel's subscribers never do.
        let managed = group(&mut database, &[BEN, CY]);
        database.run(CY, "room.leave", json!({ "room_id": managed })).unwrap();
        let (_, info) = database.one(BEN, "room.info", json!({ "room_id": managed }));
        assert_eq!(ids(&info["admins"]), [ANA]);
        let channel = channel(&mut database, &[BEN], false);
        database.run(ANA, "room.leave", json!({ "room_id": channel })).unwrap();
        let (_, info) = database.one(BEN, "room.info", json!({ "room_id": channel }));
        assert_eq!(info["moderators"], json!([]));
    }
}
