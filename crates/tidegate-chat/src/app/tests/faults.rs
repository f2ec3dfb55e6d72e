//! What is answered to events that cannot be, and what is counted of all.

use super::*;

/// Numbers for metrics: by type and outcome, and by the code of the answer. What clients invent makes no label.
#[tokio::test]
async fn events_are_counted() {
    let bench = Bench::in_memory(Settings::default());
    assert_eq!(bench.chat.numbers(), Numbers::default());
    let ana = bench.open(1).await;
    bench.group(&ana, &[]).await;
    bench.group(&ana, &[]).await;
    for text in
        ["no JSON", r#"{"event_type":"my.invention","data":{}}"#, r#"{"event_type":"room.create","data":{}}"#]
    {
        bench.refused(&ana, text).await;
    }
    let numbers = bench.chat.numbers();
    assert_eq!(numbers.connections, 1);
    let events = [(("other", "refused"), 2), (("room.create", "ok"), 2), (("room.create", "refused"), 1)];
    assert_eq!(numbers.events, BTreeMap::from(events));
    assert_eq!(numbers.errors, BTreeMap::from([(0, 1), (4003, 2)]));
    bench.chat.disconnect(&ana, End { code: 1000, reason: "" }).await;
    assert_eq!(bench.chat.numbers().connections, 0);
}

/// S2-8, S2-14 to S2-17, S2-19, S2-28, I-1, I-3, `chat.not-json`, `chat.invalid-event-type`: what is no event is answered, and the
/// connection goes on.
#[tokio::test]
async fn what_is_no_event_is_answered() {
    let bench = Bench::in_memory(Settings::default());
    let ana = bench.open(7).await;
    bench.frames(&ana);
    for text in ["", "x", "[]", "\"text\"", "5", "null", "{", "{\"event_type\":\"room.list\"} x"] {
        let (frame, diagnosis, facts) = bench.refused(&ana, text).await;
        assert_eq!(frame["error"]["code"], 4003, "{text}");
        assert!(frame["error"]["detail"].as_str().unwrap().starts_with("Malformed event: "), "{frame}");
        assert_eq!(diagnosis.as_str(), "chat.not-json");
        let is_parsed = serde_json::from_str::<Value>(text).is_ok();
        assert_eq!(facts.get("errorPosition").is_some(), !is_parsed, "{text}");
    }
    let reply = bench.say_as(&ana, "e30=", true).await;
    assert_eq!(reply.problem.unwrap().facts.get("opcode"), Some(json!("binary")));
    assert!(std::str::from_utf8(&reply.text.unwrap()).unwrap().contains("4003"));
    for event_type in
        ["null", "5", "true", "[]", "{}", "\"\"", "\"room.lst\"", "\"Room.List\"", "\"roomlist.dispatch\""]
    {
        let text = format!(r#"{{"data": {{}}, "event_type": {event_type}}}"#);
        let (frame, diagnosis, facts) = bench.refused(&ana, &text).await;
        assert_eq!(frame, json!({ "error": "invalid event type" }), "{event_type}");
        assert_eq!(diagnosis.as_str(), "chat.invalid-event-type");
        if event_type == "\"room.lst\"" {
            assert_eq!(facts.get("nearest"), Some(json!("room.list")));
            assert_eq!(facts.get("eventType"), Some(json!("room.lst")));
        }
    }
    assert_eq!(bench.refused(&ana, "{}").await.0, json!({ "error": "invalid event type" }));
    for data in ["", r#", "data": null"#, r#", "data": []"#, r#", "data": "x""#] {
        let text = format!(r#"{{"event_type": "message.send"{data}}}"#);
        let (frame, diagnosis, _) = bench.refused(&ana, &text).await;
        assert_eq!(frame["error"], json!({ "code": 4003, "detail": ["data must be an object"] }));
        assert_eq!(diagnosis, Diagnosis::CHAT_BAD_PAYLOAD);
        let fine = format!(r#" {{"event_type": "x", "other": 1, "event_type": "session.heartbeat"{data}}} "#);
        assert!(bench.say(&ana, &fine).await.text.is_none());
        assert_eq!(bench.frames(&ana), [json!({ "status": "success" })]);
    }
    let missing = Uuid::now_v7().to_string();
    let text = json!({ "event_type": "room.info", "data": { "room_id": missing } }).to_string();
    let (frame, diagnosis, facts) = bench.refused(&ana, &text).await;
    assert_eq!(frame, json!({ "error": { "code": 4004, "detail": "Resource not found." } }));
    assert_eq!(diagnosis.as_str(), "chat.room-not-found");
    assert_eq!(facts.get("room"), Some(json!(missing)));
    assert_eq!(facts.get("eventType"), Some(json!("room.info")));
}

/// S2-29, S2-122, `chat.internal`: a panic in a handler is 4006 for its event and nothing else.
#[tokio::test]
async fn a_panic_ends_one_event_only() {
    let router = Routes::new().register("test.panic", |ctx, _| {
        ctx.tx.execute("DELETE FROM chat_room", &[])?;
        panic!("on purpose");
    });
    let extensions = Extensions { router: Arc::new(router), ..Extensions::default() };
    let database = Arc::new(SqliteDatabase::open_in_memory(MIGRATIONS).unwrap());
    let bench = Bench::with(Settings::default(), database, extensions, FakeHost::default());
    let ana = bench.open(7).await;
    let room = bench.group(&ana, &[]).await;
    let (frame, diagnosis, _) = bench.refused(&ana, r#"{"event_type": "test.panic"}"#).await;
    assert_eq!(frame, json!({ "error": { "code": 4006, "detail": "Internal server error." } }));
    assert_eq!(diagnosis, Diagnosis::CHAT_INTERNAL);
    bench.event(&ana, "message.send", json!({ "room_id": room, "content": "x" })).await;
    assert_eq!(bench.frames(&ana)[0]["data"]["content"], "x");
}

/// S2-37: a full disk is 4006 for the event that does not fit: nothing has changed, nobody was told, and reading goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_4006() {
    let folder = tempfile::tempdir().unwrap();
    let options = tidegate_store::Options { max_page_count: Some(120), ..tidegate_store::Options::default() };
    let path = folder.path().join("chat.db");
    let database = SqliteDatabase::open_with(&path, MIGRATIONS, &options).unwrap();
    let bench = Bench::new(Settings::default(), Arc::new(database));
    let (ana, ben) = (bench.open(7).await, bench.open(8).await);
    let room = bench.group(&ana, &[8]).await;
    bench.frames(&ben);
    let large = json!({ "room_id": room, "content": "x".repeat(900_000) });
    let text = json!({ "event_type": "message.send", "data": large }).to_string();
    let (frame, diagnosis, _) = bench.refused(&ana, &text).await;
    assert_eq!((&frame["error"]["code"], diagnosis), (&json!(4006), Diagnosis::CHAT_INTERNAL));
    assert!(bench.frames(&ben).is_empty());
    bench.event(&ana, "room.messages", json!({ "room_id": room })).await;
    assert_eq!(bench.frames(&ana)[0]["data"]["data"]["messages"], json!([]));
    bench.event(&ana, "message.send", json!({ "room_id": room, "content": "small" })).await;
    assert_eq!(bench.frames(&ben).len(), 1);
}
