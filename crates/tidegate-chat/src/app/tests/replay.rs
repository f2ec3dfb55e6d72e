//! `session.replay`, on both databases and as clients see it.

use super::*;

/// S2-110: it is unknown unless it is wanted, never comes by itself, and goes to the asking connection only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_is_offered_to_those_who_ask() {
    let folder = tempfile::tempdir().unwrap();
    for (name, database) in databases(folder.path()).await {
        let bench = Bench::new(Settings::default(), database);
        let (ana, ben) = (bench.open(7).await, bench.open(8).await);
        let room = bench.group(&ana, &[8]).await;
        let send = |content: &'static str| {
            bench.event(&ana, "message.send", json!({ "room_id": room, "content": content }))
        };
        send("one").await;
        let last = bench.frames(&ben).pop().unwrap()["data"]["id"].clone();
        bench.chat.disconnect(&ben, End { code: 1006, reason: "" }).await;
        send("two").await;
        send("three").await;
        let (first, second) = (bench.open(8).await, bench.open(8).await);
        let ask = json!({ "event_type": "session.replay", "data": { "since": last } }).to_string();
        for text in [r#"{"event_type": "session.replay"}"#, &ask] {
            let (frame, diagnosis, _) = bench.refused(&first, text).await;
            assert_eq!(frame, json!({ "error": "invalid event type" }), "{name}");
            assert_eq!(diagnosis, Diagnosis::CHAT_INVALID_EVENT_TYPE);
        }
        bench.chat.settings().replace(Settings { replay_seconds: 60, ..Settings::default() }).unwrap();
        for connection in [&first, &second] {
            // Nothing but what the package sends.
            let frames = bench.frames(connection);
            assert_eq!((frames.len(), &frames[0]["eventType"]), (1, &json!("chat.notifications")), "{name}");
        }
        bench.event(&first, "session.replay", json!({ "since": last })).await;
        let frames = bench.frames(&first);
        assert_eq!((frames.len(), &frames[0]["type"]), (1, &json!("broadcast_group")), "{name}");
        assert_eq!(frames[0]["eventType"], "sessionreplay.dispatch");
        let data = &frames[0]["data"];
        assert_eq!(data["complete"], true);
        let contents: Vec<&Value> =
            data["messages"].as_array().unwrap().iter().map(|m| &m["content"]).collect();
        assert_eq!(contents, ["two", "three"], "{name}");
        assert!(bench.frames(&second).is_empty(), "{name}");
        // Without `data` it is everything that is offered.
        let reply = bench.say(&second, r#"{"event_type": "session.replay"}"#).await;
        assert!(reply.text.is_none());
        assert_eq!(bench.frames(&second)[0]["data"]["messages"].as_array().unwrap().len(), 3);
    }
}

/// S2-110: where it is off, extensions may have an event of that name.
#[tokio::test]
async fn the_name_is_free_where_it_is_off() {
    let routes = Routes::new().register("session.replay", |ctx, _| {
        ctx.answer(json!({ "mine": true }));
        Ok(())
    });
    let extensions = Extensions { router: Arc::new(routes), ..Extensions::default() };
    let database = Arc::new(SqliteDatabase::open_in_memory(MIGRATIONS).unwrap());
    let bench = Bench::with(Settings::default(), database, extensions, FakeHost::default());
    let ana = bench.open(7).await;
    bench.frames(&ana);
    bench.event(&ana, "session.replay", json!({})).await;
    assert_eq!(bench.frames(&ana), [json!({ "mine": true })]);
}
