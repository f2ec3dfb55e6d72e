use serde_json::{Value, json};
use uuid::Uuid;

use super::{group, object, send, send_with};
use crate::test_database::{TestDatabase, event_type};

fn history(database: &mut TestDatabase, room: Uuid, paginate: Value) -> Value {
    let data = json!({ "room_id": room.to_string(), "paginate": paginate });
    let (heard_by, answer) = database.one(8, "room.messages", data);
    // S2-47, S2-48
    assert_eq!(heard_by, [8]);
    assert_eq!(answer["data"]["room_id"], room.to_string());
    answer
}

fn contents(answer: &Value) -> Vec<&str> {
    let messages = answer["data"]["messages"].as_array().unwrap();
    messages.iter().map(|message| message["content"].as_str().unwrap()).collect()
}

fn filled(n_messages: usize) -> (TestDatabase, Uuid, Vec<String>) {
    let (mut database, room) = group();
    let sent = (0..n_messages).map(|n| send(&mut database, 7, room, &n.to_string())).collect();
    (database, room, sent)
}

// S2-44, S2-48, S2-83, S2-84
#[test]
fn without_pages_the_newest_come_first() {
    let (mut database, room, sent) = filled(4);
    for paginate in [json!(null), json!({}), json!([]), json!("x"), json!(3), json!(true)] {
        let answer = history(&mut database, room, paginate);
        assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
        assert_eq!(contents(&answer), ["3", "2", "1", "0"]);
        assert_eq!(answer["data"]["messages"][0], object(&mut database, &sent[3]));
    }
    let dispatches = database.run(7, "room.messages", json!({ "room_id": room.to_string() })).unwrap();
    assert_eq!(event_type(&dispatches[0]), "roommessages.dispatch");
    database.settings.max_history = 3;
    assert_eq!(contents(&history(&mut database, room, json!(null))), ["3", "2", "1"]);
    // Messages of the same microsecond: the one that was stored later is newer.
    database.now -= 1_000_000_000;
    send(&mut database, 7, room, "same time");
    assert_eq!(contents(&history(&mut database, room, json!(null)))[0], "same time");
}

// S2-85
#[test]
fn pages() {
    let (mut database, room, _) = filled(5);
    let page = |page: Value, size: Value| json!({ "page": page, "size": size });
    let answer = history(&mut database, room, page(json!(2), json!(2)));
    assert_eq!(contents(&answer), ["2", "1"]);
    let mut frame = answer.clone();
    frame["data"] = json!(null);
    let expected = json!({
        "has_next": true, "has_previous": true, "next_page_number": 3, "prev_page_number": 1, "page": 2, "size": 2,
        "data": null,
    });
    assert_eq!(frame, expected);

    // What is asked for, and which page of 2 that gives.
    let cases = [
        (json!(1), json!(2), 1, 1),
        (json!("2"), json!("2"), 2, 2),
        (json!(2.9), json!(2.9), 2, 2),
        (json!(3), json!(2), 3, 3),
        (json!(4), json!(2), 4, 3),
        (json!(-1), json!(2), -1, 3),
        (json!("-5"), json!(2), -5, 3),
        (json!(0.5), json!(2), 0, 3),
        (json!(1e300), json!(2), i64::MAX, 3),
        (json!("99999999999999999999"), json!(2), i64::MAX, 3),
    ];
    for (asked, size, echoed, given) in cases {
        let answer = history(&mut database, room, page(asked.clone(), size));
        assert_eq!((&answer["page"], &answer["size"]), (&json!(echoed), &json!(2)), "{asked}");
        let newest_first = [["4", "3"].as_slice(), &["2", "1"], &["0"]];
        assert_eq!(contents(&answer), newest_first[given - 1], "{asked}");
        assert_eq!((&answer["has_next"], &answer["has_previous"]), (&json!(given < 3), &json!(given > 1)));
        let next = if given < 3 { json!(given + 1) } else { json!(null) };
        let previous = if given > 1 { json!(given - 1) } else { json!(null) };
        assert_eq!((&answer["next_page_number"], &answer["prev_page_number"]), (&next, &previous));
    }
    // S2-44: no page is larger than a history.
    database.settings.max_history = 2;
    let answer = history(&mut database, room, page(json!(1), json!(1_000_000_000_000_i64)));
    assert_eq!((contents(&answer), &answer["has_next"]), (vec!["4", "3"], &json!(true)));
    assert_eq!(answer["size"], 1_000_000_000_000_i64);
}

// S2-31, S2-85, I-21
#[test]
fn pages_that_are_none() {
    let (mut database, room, _) = filled(1);
    let required = (4003, json!(["page and size required"]));
    let invalid = (4003, json!(["Invalid types"]));
    let cases = [
        (json!({ "page": 1 }), &required),
        (json!({ "size": 1 }), &required),
        (json!({ "page": 0, "size": 1 }), &required),
        (json!({ "page": 1, "size": "" }), &required),
        (json!({ "page": null, "size": "x" }), &required),
        (json!({ "page": 1, "size": -1 }), &invalid),
        (json!({ "page": 1, "size": "-2" }), &invalid),
        (json!({ "page": 1, "size": "0" }), &invalid),
        (json!({ "page": 1, "size": 0.5 }), &invalid),
        (json!({ "page": "x", "size": 1 }), &invalid),
        (json!({ "page": "1.5", "size": 1 }), &invalid),
        (json!({ "page": [1], "size": 1 }), &invalid),
        (json!({ "page": true, "size": 1 }), &invalid),
    ];
    for (paginate, expected) in cases {
        let data = json!({ "room_id": room.to_string(), "paginate": paginate });
        assert_eq!(&database.refused(8, "room.messages", data.clone()), expected, "{data}");
        // S2-30, S2-36: strangers learn nothing of that.
        let refused = database.refused(9, "room.messages", data);
        assert_eq!(refused, (4002, json!("User is not authorized access this room")));
    }
    let (mut database, room) = group();
    let answer = history(&mut database, room, json!({ "page": 7, "size": 3 }));
    let expected = json!({
        "has_next": false, "has_previous": false, "next_page_number": null, "prev_page_number": null, "page": 7, "size": 3,
        "data": { "room_id": room.to_string(), "messages": [] },
    });
    assert_eq!(answer, expected);
}

// S2-44, I-20
#[test]
fn depth_is_limited_and_queries_do_not_grow() {
    let (mut database, room, _) = filled(10);
    let mut parent = send(&mut database, 7, room, "start");
    for n in 0..40 {
        let key = if n % 2 == 0 { "parent_message_id" } else { "forwarded_from_id" };
        parent = send_with(&mut database, 8, room, &format!("answer {n}"), json!({ key: parent }));
        // What goes out at once is as deep as what is read later.
        if n % 10 == 9 {
            let extra = json!({ "parent_message_id": parent });
            let data = json!({ "room_id": room.to_string(), "content": "leaf", "extra_fields": extra });
            let (_, sent) = database.one(8, "message.send", data);
            assert_eq!(sent, object(&mut database, sent["id"].as_str().unwrap()));
        }
        database.one(
            7,
            "message.react",
            json!({ "message_id": parent, "type": "add", "reaction_content": "ok" }),
        );
        database.one(7, "message.acknowledged", json!({ "message_id": parent }));
    }
    for nesting in [8, 4] {
        database.settings.max_nesting = nesting;
        let answer = history(&mut database, room, json!({ "page": 1, "size": 50 }));
        assert!(database.statements.len() <= 6, "{:#?}", database.statements);
        let messages = answer["data"]["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 50);
        let mut newest = messages.iter().find(|message| message["id"] == json!(parent)).unwrap();
        let mut depth = 0;
        loop {
            let inner = if newest["is_forwarded"] == true { "forwarded_from" } else { "parent_message" };
            assert_eq!(newest["reactions"][0]["reaction_content"], "ok");
            assert_eq!(newest["delivered_to"], json!(["ana"]));
            if newest[inner].is_null() {
                break;
            }
            newest = &newest[inner];
            depth += 1;
        }
        assert_eq!(depth, nesting);
        assert_eq!(newest["content"], format!("answer {}", 39 - nesting));
    }
}

// S2-40: in the order of the ids, whatever is no message left out.
#[test]
fn objects_come_in_the_order_of_their_ids() {
    let (mut database, _, sent) = filled(3);
    let ids: Vec<Uuid> = [2, 0, 1].iter().map(|n| Uuid::try_parse(&sent[*n]).unwrap()).collect();
    let asked = [ids[0], Uuid::now_v7(), ids[1], ids[2]];
    let objects = database.with_ctx(7, |ctx| crate::present::message::load(ctx, &asked)).unwrap();
    let found: Vec<&Value> = objects.iter().map(|object| &object["content"]).collect();
    assert_eq!(found, [&json!("2"), &json!("0"), &json!("1")]);
    assert_eq!(database.statements.len(), 2);
    assert_eq!(
        database.with_ctx(7, |ctx| crate::present::message::load(ctx, &[])).unwrap(),
        Vec::<Value>::new()
    );
    // S2-112: a message whose sender is no more.
    database.execute("UPDATE chat_message SET sender = NULL", &[]);
    assert_eq!(object(&mut database, &sent[0])["sender"], Value::Null);
}
