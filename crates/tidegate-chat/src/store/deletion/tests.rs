use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::test_database::{TestDatabase, audience, event_data, event_type, user_id};

const ANA: i64 = 7;
const BEN: i64 = 8;
const CY: i64 = 9;
const DEE: i64 = 10;

fn delete(database: &mut TestDatabase, user: i64) -> Option<Vec<Dispatch>> {
    let settings = database.settings.clone();
    database.with_ctx(DEE, |ctx| delete_user(ctx.tx, &settings, &user_id(user))).unwrap()
}

/// A room of Ana's; gives its id.
fn room(database: &mut TestDatabase, kind: &str, others: &[i64]) -> Uuid {
    let data = json!({ "type": kind, "name": "n", "participants": others, "subscribers": others });
    let (_, room) = database.one(ANA, "room.create", data);
    Uuid::try_parse(room["id"].as_str().unwrap()).unwrap()
}

fn set_admin(database: &mut TestDatabase, room: Uuid, user: i64) {
    database.with_ctx(ANA, |ctx| members::set_admin(ctx.tx, room, &user_id(user), true)).unwrap();
}

/// A message that is the room's last; its id is made of `n`, which is also its number and time.
fn say(database: &mut TestDatabase, room: Uuid, sender: i64, n: u8) -> SqlValue {
    let id = SqlValue::from([n; 16]);
    let parameters = [
        id.clone(),
        SqlValue::from(room.into_bytes()),
        SqlValue::from(sender.to_string()),
        SqlValue::from(i64::from(n)),
    ];
    let sql = "INSERT INTO chat_message (id, room, sender, content, seq, created_at, updated_at) \
               VALUES (?1, ?2, ?3, 'Hi', ?4, ?4, ?4)";
    database.execute(sql, &parameters);
    let sql = "UPDATE chat_room SET last_message = ?1, last_at = ?4, seq = ?4 WHERE id = ?2 AND ?3 <> ''";
    database.execute(sql, &parameters);
    id
}

/// Creator and admins of a room.
fn managers(database: &mut TestDatabase, room: Uuid) -> (Option<String>, Vec<String>) {
    let id = [SqlValue::from(room.into_bytes())];
    let rows = database.query("SELECT creator FROM chat_room WHERE id = ?1", &id);
    let creator = rows[0].optional(0, SqlRow::text).unwrap();
    let sql = "SELECT user_id FROM chat_member WHERE room = ?1 AND is_admin = 1 ORDER BY position";
    let admins = database.query(sql, &id);
    (
        creator.map(|creator| creator.to_string()),
        admins.iter().map(|row| row.text(0).unwrap().to_string()).collect(),
    )
}

/// S2-112: one-to-one chats go, and the other one is told.
#[test]
fn one_to_one_chats_go_with_the_user() {
    let mut database = TestDatabase::with_users();
    let chat = room(&mut database, "OneToOneChat", &[BEN]);
    database.one(BEN, "room.create", json!({ "type": "OneToOneChat", "participants": [CY] }));
    let dispatches = delete(&mut database, ANA).unwrap();
    assert_eq!(dispatches.len(), 1);
    assert_eq!(event_type(&dispatches[0]), "roomdelete.dispatch");
    assert_eq!(audience(&dispatches[0]), [BEN]);
    assert_eq!(event_data(&dispatches[0]), &json!({ "room_id": chat.to_string() }));
    assert_eq!(database.count("SELECT count(*) FROM chat_room"), 1);
    assert_eq!(database.count("SELECT count(*) FROM chat_user WHERE id = '7'"), 0);
    assert_eq!(delete(&mut database, ANA), None);
}

/// S2-112: to the longest-standing admin or moderator, else to the longest-standing member.
#[test]
fn rooms_are_handed_over() {
    let mut database = TestDatabase::with_users();
    let with_admin = room(&mut database, "GroupChat", &[BEN, CY, DEE]);
    set_admin(&mut database, with_admin, DEE);
    set_admin(&mut database, with_admin, CY);
    let without = room(&mut database, "GroupChat", &[CY, BEN]);
    let channel = room(&mut database, "Channel", &[BEN, CY]);
    set_admin(&mut database, channel, CY);
    let left = room(&mut database, "GroupChat", &[BEN]);
    database.run(ANA, "room.leave", json!({ "room_id": left.to_string() })).unwrap();
    room(&mut database, "GroupChat", &[]);
    assert_eq!(delete(&mut database, ANA), Some(vec![]));
    let texts = |ids: &[i64]| ids.iter().map(i64::to_string).collect::<Vec<_>>();
    assert_eq!(managers(&mut database, with_admin), (Some("9".to_owned()), texts(&[CY, DEE])));
    assert_eq!(managers(&mut database, without), (Some("9".to_owned()), texts(&[CY])));
    assert_eq!(managers(&mut database, channel), (Some("9".to_owned()), texts(&[CY])));
    assert_eq!(managers(&mut database, left), (Some("8".to_owned()), texts(&[BEN])));
    // Nobody was left in the fifth.
    assert_eq!(database.count("SELECT count(*) FROM chat_room"), 4);
    let (_, info) = database.one(CY, "room.info", json!({ "room_id": without.to_string() }));
    assert_eq!(info["creator"]["username"], "cy");
    let delete = json!({ "room_id": without.to_string(), "action": "delete" });
    database.one(CY, "room.modify", delete);
}

/// S2-112, I-25: a group whose last admin goes, and whose creator had gone before.
#[test]
fn a_vacancy_is_filled_where_the_settings_say_so() {
    for (promotes, expected) in [(true, vec!["9".to_owned()]), (false, vec![])] {
        let mut database = TestDatabase::with_users();
        database.settings.promote_on_vacancy = promotes;
        let group = room(&mut database, "GroupChat", &[BEN, CY]);
        set_admin(&mut database, group, BEN);
        database.run(ANA, "room.leave", json!({ "room_id": group.to_string() })).unwrap();
        assert_eq!(managers(&mut database, group).1, ["8"]);
        delete(&mut database, BEN).unwrap();
        assert_eq!(managers(&mut database, group), (Some("7".to_owned()), expected));
    }
}

/// S2-112: receipts, reactions, deliveries, notifications, roles and permissions go; messages by `on_user_delete`.
#[test]
fn what_the_user_left_behind_goes() {
    for on_user_delete in [OnUserDelete::Delete, OnUserDelete::Anonymise] {
        let mut database = TestDatabase::with_users();
        database.settings.on_user_delete = on_user_delete;
        let group = room(&mut database, "GroupChat", &[BEN, CY]);
        let grant = json!({
            "room_id": group.to_string(), "action": "add_permission",
            "data": { "users": [BEN], "permission": ["can_add_new_participants"] },
        });
        database.one(ANA, "room.modify", grant);
        let first = say(&mut database, group, ANA, 1);
        let second = say(&mut database, group, BEN, 2);
        let third = say(&mut database, group, ANA, 3);
        let fourth = say(&mut database, group, BEN, 4);
        let reply = "UPDATE chat_message SET parent = ?1 WHERE id = ?2";
        database.execute(reply, &[second.clone(), third.clone()]);
        for user in ["8", "9"] {
            let user = SqlValue::from(user);
            let id = SqlValue::from(Uuid::now_v7().into_bytes());
            let of_first = [first.clone(), user.clone(), id];
            for sql in [
                "INSERT INTO chat_receipt (id, message, reader, read_at) VALUES (?3, ?1, ?2, 1)",
                "INSERT INTO chat_reaction (id, message, user_id, content, created_at) VALUES (?3, ?1, ?2, '+1', 1)",
            ] {
                database.execute(sql, &of_first);
            }
            let sql = "INSERT INTO chat_delivery (message, user_id, delivered_at) VALUES (?1, ?2, 1)";
            database.execute(sql, &of_first[..2]);
        }
        // Both are to hear of the first message, only Ben of the third, and Cy of Ben's second.
        let heard: [(&SqlValue, &[&str]); 3] = [(&first, &["8", "9"]), (&third, &["8"]), (&second, &["9"])];
        for (message, recipients) in heard {
            let id = SqlValue::from(group.into_bytes());
            let sql = "INSERT INTO chat_notification (id, room, message, kind, created_at) \
                       VALUES (?1, ?2, ?1, 'NEW_MESSAGE', 1)";
            database.execute(sql, &[message.clone(), id]);
            for recipient in recipients {
                let sql = "INSERT INTO chat_recipient (user_id, notification) VALUES (?1, ?2)";
                database.execute(sql, &[SqlValue::from(*recipient), message.clone()]);
            }
        }
        assert_eq!(delete(&mut database, BEN), Some(vec![]));
        for (table, column) in [
            ("member", "user_id"),
            ("permission", "user_id"),
            ("receipt", "reader"),
            ("reaction", "user_id"),
            ("delivery", "user_id"),
            ("recipient", "user_id"),
        ] {
            let of_ben = format!("SELECT count(*) FROM chat_{table} WHERE {column} = '8'");
            assert_eq!(database.count(&of_ben), 0, "{table}");
        }
        for table in ["receipt", "reaction", "delivery"] {
            assert_eq!(database.count(&format!("SELECT count(*) FROM chat_{table}")), 1, "{table}");
        }
        let notified = database.query("SELECT message FROM chat_notification ORDER BY message", &[]);
        let notified: Vec<SqlValue> = notified.into_iter().map(|row| row.0[0].clone()).collect();
        let messages = database.query("SELECT id, sender, parent FROM chat_message ORDER BY seq", &[]);
        let messages: Vec<[SqlValue; 3]> =
            messages.into_iter().map(|row| <[SqlValue; 3]>::try_from(row.0).unwrap()).collect();
        let last = database.query("SELECT last_message, last_at FROM chat_room", &[]);
        let ana = SqlValue::from("7");
        match on_user_delete {
            OnUserDelete::Delete => {
                assert_eq!(notified, std::slice::from_ref(&first));
                let expected = [[first, ana.clone(), SqlValue::Null], [third.clone(), ana, SqlValue::Null]];
                assert_eq!(messages, expected);
                assert_eq!(last[0].0, [third, SqlValue::from(3)]);
            }
            OnUserDelete::Anonymise => {
                assert_eq!(notified, [first.clone(), second.clone()]);
                let expected = [
                    [first, ana.clone(), SqlValue::Null],
                    [second.clone(), SqlValue::Null, SqlValue::Null],
                    [third, ana, second],
                    [fourth.clone(), SqlValue::Null, SqlValue::Null],
                ];
                assert_eq!(messages, expected);
                assert_eq!(last[0].0, [fourth, SqlValue::from(4)]);
            }
        }
    }
}

/// S2-112: a room of which nothing is left to show has no last message.
#[test]
fn the_last_message_may_be_nothing() {
    let mut database = TestDatabase::with_users();
    let group = room(&mut database, "GroupChat", &[BEN]);
    let hidden = say(&mut database, group, ANA, 1);
    database.execute("UPDATE chat_message SET deleted = 1 WHERE id = ?1", &[hidden]);
    say(&mut database, group, BEN, 2);
    delete(&mut database, BEN).unwrap();
    let last = database.query("SELECT last_message, last_at FROM chat_room", &[]);
    assert_eq!(last[0].0, [SqlValue::Null, SqlValue::Null]);
    let (_, rooms) = database.one(ANA, "room.list", json!(null));
    assert_eq!(rooms[0]["last_message"]["content"], "");
}
