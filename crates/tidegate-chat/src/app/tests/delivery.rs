//! Who hears what: rooms, notifications, devices that wait, are silent or gone.

use super::*;

/// S2-6, S2-18, S2-45, S2-46, S2-47, S2-104, S2-109: notifications are first, nothing between subscription and opening is
/// lost, and whoever is a member at the commit is told, on all devices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_in_a_room_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for (name, database) in databases(folder.path()).await {
        let bench = Bench::new(Settings::default(), Arc::clone(&database));
        let (ana, ana_two, ben) = (bench.open(7).await, bench.open(7).await, bench.open(8).await);
        let empty = json!({ "eventType": "chat.notifications", "data": {} });
        for connection in [&ana, &ana_two, &ben] {
            assert_eq!(bench.frames(connection), std::slice::from_ref(&empty), "{name}");
        }
        let room = bench.group(&ana, &[8]).await;
        for connection in [&ana_two, &ben] {
            assert_eq!(bench.frames(connection).len(), 1, "{name}");
        }
        bench.event(&ana, "message.send", json!({ "room_id": room, "content": "one" })).await;
        for connection in [&ana, &ana_two, &ben] {
            let frames = bench.frames(connection);
            assert_eq!(frames.len(), 1, "{name}");
            assert_eq!(frames[0]["type"], "broadcast_group");
            assert_eq!(frames[0]["eventType"], "message.dispatch");
            assert_eq!(frames[0]["data"]["content"], "one");
        }
        bench.event(&ana, "room.list", Value::Null).await;
        assert_eq!((bench.frames(&ana).len(), bench.frames(&ana_two).len()), (1, 1));
        assert!(bench.frames(&ben).is_empty());

        // A third device, under way while messages come.
        let late = bench.facts();
        let connected = bench.connect(&late, Some("8"), &[], false).await.unwrap();
        for content in ["two", "three"] {
            bench.event(&ana, "message.send", json!({ "room_id": room, "content": content })).await;
        }
        assert!(bench.frames(&late).is_empty(), "{name}: not before it is open");
        let first: Value = serde_json::from_slice(&connected.first[0]).unwrap();
        assert_eq!((connected.first.len(), &first["eventType"]), (1, &json!("chat.notifications")));
        let pending = first["data"][&room].as_array().unwrap();
        assert_eq!(pending.len(), 1);
        assert_eq!(pending[0]["notification_type"], "NEW_MESSAGE");
        assert_eq!(pending[0]["message"]["content"], "one");
        bench.chat.opened(&late);
        let contents: Vec<Value> = bench.frames(&late).iter().map(|f| f["data"]["content"].clone()).collect();
        assert_eq!(contents, ["two", "three"], "{name}");

        // Another process of the same database knows the rooms.
        let later = Bench::new(Settings::default(), database);
        let (ana, ben) = (later.open(7).await, later.open(8).await);
        assert_eq!(later.frames(&ben)[0]["data"][&room].as_array().unwrap().len(), 3);
        later.frames(&ana);
        later.event(&ana, "message.send", json!({ "room_id": room, "content": "four" })).await;
        assert_eq!(later.frames(&ben)[0]["data"]["content"], "four");
    }
}

/// S2-6: what waits for a connection that does not open is bounded; it is ended rather than let it miss something.
#[tokio::test]
async fn what_waits_for_a_connection_is_bounded() {
    let bench = Bench::in_memory(Settings::default());
    let late = bench.facts();
    bench.connect(&late, Some("7"), &[], false).await.unwrap();
    let dispatch = Dispatch {
        audience: Audience::Users(vec![UserId("7".into())]),
        frame: Frame::Raw(json!({ "n": 1 })),
    };
    for _ in 0..1025 {
        bench.chat.dispatcher().send(std::slice::from_ref(&dispatch), &Settings::default());
    }
    bench.chat.opened(&late);
    assert!(bench.frames(&late).is_empty());
    assert_eq!(*bench.host.closed.lock(), [(late.connection_id, 1008, Diagnosis::CONN_SLOW_CONSUMER)]);
}

/// S2-13, I-6: whoever is gone gets nothing, counts for nothing, and leaves nothing.
#[tokio::test]
async fn whoever_is_gone_is_forgotten() {
    let bench = Bench::in_memory(Settings::default());
    let (ana, ben) = (bench.open(7).await, bench.open(8).await);
    let room = bench.group(&ana, &[8]).await;
    bench.frames(&ben);
    bench.chat.disconnect(&ben, End { code: 1006, reason: "" }).await;
    bench.event(&ana, "message.send", json!({ "room_id": room, "content": "x" })).await;
    assert!(bench.frames(&ben).is_empty());
    let connections = &bench.chat.dispatcher().connections;
    assert_eq!((connections.len(), connections.is_connected(&UserId("8".into()))), (1, false));
    // A handshake that nobody waits for any more.
    let half = bench.facts();
    bench.connect(&half, Some("9"), &[], false).await.unwrap();
    bench.chat.disconnect(&half, End { code: 1006, reason: "" }).await;
    assert_eq!(connections.len(), 1);
}

/// S2-102, S2-103, S2-105, I-17, I-18
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_wait_until_they_are_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    for (name, database) in databases(folder.path()).await {
        let bench = Bench::new(Settings { max_pending: 3, ..Settings::default() }, Arc::clone(&database));
        let (ana, ben) = (bench.open(7).await, bench.open(8).await);
        let alone = bench.group(&ana, &[]).await;
        bench.event(&ana, "message.send", json!({ "room_id": alone, "content": "to nobody" })).await;
        let room = bench.group(&ana, &[8]).await;
        let mut ids = Vec::new();
        for n in 0..5 {
            bench.frames(&ana);
            bench.event(&ana, "message.send", json!({ "room_id": room, "content": n })).await;
            ids.push(bench.frames(&ana)[0]["data"]["id"].as_str().unwrap().to_owned());
        }
        let count = |sql: &'static str| {
            let database = Arc::clone(&database);
            async move {
                let found = Arc::new(AtomicI64::new(-1));
                let answer = Arc::clone(&found);
                let work = move |tx: &mut dyn Tx| {
                    answer.store(tx.query(sql, &[])?[0].int(0)?, Ordering::Relaxed);
                    Ok(Outcome::Rollback(Box::new(|| ())))
                };
                database.read(Box::new(work)).await.unwrap();
                found.load(Ordering::Relaxed)
            }
        };
        let all = "SELECT count(*) FROM chat_notification";
        assert_eq!(count(all).await, 5, "{name}: none for a room of one");
        let pending = |frames: Vec<Value>| -> Vec<(Value, Value)> {
            let of_room = frames[0]["data"].get(&room).and_then(Value::as_array).cloned();
            let shown = |n: &Value| (n["notification_type"].clone(), n["message"]["content"].clone());
            of_room.unwrap_or_default().iter().map(shown).collect()
        };
        let new = |text: &str| (json!("NEW_MESSAGE"), json!(text));
        let again = bench.open(8).await;
        assert_eq!(
            pending(bench.frames(&again)),
            [new("2"), new("3"), new("4")],
            "{name}: the newest, oldest first"
        );
        bench.event(&ben, "message.acknowledged", json!({ "message_id": [ids[2], ids[4]] })).await;
        let again = bench.open(8).await;
        assert_eq!(pending(bench.frames(&again)), [new("0"), new("1"), new("3")], "{name}");
        assert_eq!(count(all).await, 3, "{name}");

        // Reactions: one for each, replaced with it, gone with it.
        let react =
            |content: &str| json!({ "type": "add", "message_id": ids[0], "reaction_content": content });
        bench.event(&ben, "message.react", react("+1")).await;
        bench.event(&ben, "message.react", react("-1")).await;
        let ana_two = bench.open(7).await;
        assert_eq!(pending(bench.frames(&ana_two)), [(json!("REACTION"), json!("0"))], "{name}");
        bench.event(&ben, "message.react", json!({ "type": "remove", "message_id": ids[0] })).await;
        assert_eq!(
            count("SELECT count(*) FROM chat_notification WHERE kind = 'REACTION'").await,
            0,
            "{name}"
        );
        bench.event(&ben, "message.react", react("+1")).await;
        bench.event(&ana, "message.acknowledged", json!({ "message_id": ids[0] })).await;
        assert_eq!(
            count("SELECT count(*) FROM chat_notification WHERE kind = 'REACTION'").await,
            0,
            "{name}"
        );

        bench.event(&ben, "room.leave", json!({ "room_id": room })).await;
        assert_eq!(count(all).await, 0, "{name}: nothing is left of a room that one is not in");
        assert_eq!(count("SELECT count(*) FROM chat_recipient").await, 0, "{name}");

        let quiet =
            Bench::new(Settings { notifications: false, ..Settings::default() }, Arc::clone(&database));
        let (ana, ben) = (quiet.open(7).await, quiet.open(8).await);
        assert!(quiet.frames(&ben).is_empty(), "{name}: no first frame");
        let room = quiet.group(&ana, &[8]).await;
        quiet.event(&ana, "message.send", json!({ "room_id": room, "content": "x" })).await;
        let id = quiet.frames(&ana)[0]["data"]["id"].clone();
        assert_eq!(count(all).await, 0, "{name}");
        quiet.event(&ben, "message.acknowledged", json!({ "message_id": id })).await;
        assert_eq!(quiet.frames(&ana)[0]["data"][0]["delivered_to"], json!(["u8"]), "{name}");
    }
}

/// S2-107, S2-108, I-5, `chat.heartbeat-missed`: a silent device is reported once, and goes on hearing everything; with pings no
/// open device can be silent.
#[tokio::test]
async fn silent_devices_are_reported_and_nothing_else() {
    let silent = Settings { ping_seconds: 0, inactivity_seconds: 60, ..Settings::default() };
    let bench = Bench::in_memory(silent.clone());
    let (ana, ben) = (bench.open(7).await, bench.open(8).await);
    let room = bench.group(&ana, &[8]).await;
    let pass = |seconds: u64| bench.host.now.fetch_add(seconds * 1000, Ordering::Relaxed);
    pass(59);
    bench.chat.report_idle(&silent);
    assert!(bench.host.notices.lock().is_empty());
    bench.event(&ben, "session.heartbeat", Value::Null).await;
    pass(2);
    for _ in 0..3 {
        bench.chat.report_idle(&silent);
    }
    let notices = std::mem::take(&mut *bench.host.notices.lock());
    let [Notice::Decided { place, remark, facts, .. }] = notices.as_slice() else { panic!("{notices:?}") };
    assert_eq!(place.connection_id, Some(ana.connection_id));
    assert_eq!(remark.unwrap().as_str(), "chat.heartbeat-missed");
    assert_eq!(facts.get("windowSeconds"), Some(json!(60)));
    assert_eq!(facts.get("lastHeartbeat"), Some(json!(1_767_225_600_000_u64)));
    bench.frames(&ana);
    bench.event(&ben, "message.send", json!({ "room_id": room, "content": "still there" })).await;
    assert_eq!(bench.frames(&ana).len(), 1);
    pass(600);
    bench.event(&ana, "room.list", Value::Null).await;
    bench.chat.report_idle(&Settings::default());
    assert!(bench.host.notices.lock().is_empty(), "a pong has come in time, or the connection had ended");
    bench.chat.report_idle(&silent);
    assert_eq!(bench.host.notices.lock().len(), 1);
}
