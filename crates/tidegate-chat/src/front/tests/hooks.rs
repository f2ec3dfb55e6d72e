//! Hooks over HTTP: what they get, what their answers do, and what is delivered later.

use super::*;

// S2-118, S2-119: what `before` is asked, and its signature, which a receiver can compute from the headers.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_called_with_the_event_and_signed() {
    let (url, calls) = serve(|_, _| (204, String::new()));
    let hook = json!({"on": "before", "target": url, "secret": "s3cret", "events": ["message.*"]});
    let (world, room) = hooked(json!({"hooks": [hook]}), Extensions::default()).await;
    let data = json!({"room_id": room, "content": "buy now"});
    world.run(7, "message.send", data.clone()).await.unwrap();
    let call = got(&calls);
    assert_eq!(
        call.json(),
        json!({
            "hook": "before", "event_type": "message.send", "user": {"id": 7, "username": "ana"},
            "connection_id": crate::test_database::TestDatabase::connection(7).to_string(),
            "room": {"id": room, "type": "GroupChat"}, "data": data,
        })
    );
    assert_eq!(call.header("x-tidegate-hook"), "before");
    Uuid::try_parse(call.header("x-tidegate-delivery")).unwrap();
    let timestamp = call.header("x-tidegate-timestamp");
    assert_eq!(timestamp, (START / 1_000_000).to_string());
    let expected = signature(&HookSecret::new("s3cret"), timestamp, call.body.as_bytes());
    assert_eq!(call.header("x-tidegate-signature"), expected);
    // Computed elsewhere: HMAC-SHA256("key", "1" + "{}").
    assert_eq!(signature(&HookSecret::new("key"), "1", b"{}"), hex::encode(hmac_of(b"key", b"1{}")));
    world.run(7, "room.list", json!({})).await.unwrap();
    assert!(calls.try_recv().is_err(), "the pattern names messages only");
}

fn hmac_of(key: &[u8], text: &[u8]) -> Vec<u8> {
    // RFC 2104 over the plain hash.
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let digest = |parts: [&[u8]; 2]| {
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &parts.concat()).as_ref().to_vec()
    };
    digest([&pad(0x5c), &digest([&pad(0x36), text])])
}

// S2-120: every answer of `before`.
#[tokio::test(flavor = "multi_thread")]
async fn what_before_answers() {
    let (url, _calls) = serve(|_, body| {
        let room = &body["data"]["room_id"];
        let answer = match body["data"]["content"].as_str().unwrap_or("") {
            "ad" => json!({"allow": false, "error": {"code": 4007, "detail": "No advertising"}}),
            "no" => json!({"allow": false}),
            "replace" => json!({"allow": true, "data": {"room_id": room, "content": "replaced"}}),
            "spoil" => json!({"allow": true, "data": {"room_id": room, "content": ""}}),
            "code" => json!({"allow": false, "error": {"code": 200, "detail": "x"}}),
            "pin" => json!({"handled": true, "dispatch": [
                {"to": {"room": room}, "eventType": "message.pinned", "data": {"n": 1}},
                {"to": {"user": 9}, "eventType": "message.pinned", "data": {"n": 2}},
                {"to": {"connection": body["connection_id"]}, "eventType": "message.pinned", "data": {"n": 3}},
            ]}),
            _ => return (500, String::new()),
        };
        (200, answer.to_string())
    });
    let hook = json!({"on": "before", "target": url, "events": ["message.send", "message.pin"]});
    let (world, room) = hooked(json!({"hooks": [hook]}), Extensions::default()).await;
    let send = async |content: &str| {
        world.run(7, "message.send", json!({"room_id": room, "content": content})).await
    };
    let custom = |code, detail: &str| ChatError::Custom { code, detail: detail.into() };
    // S2-38: a code of the extension's own.
    assert_eq!(send("ad").await.unwrap_err(), custom(4007, "No advertising"));
    assert_eq!(send("no").await.unwrap_err(), custom(4003, "Refused."));
    assert_eq!(data_of(&send("replace").await.unwrap()[0])["content"], "replaced");
    // Replaced data is checked like a client's.
    assert!(matches!(send("spoil").await.unwrap_err(), ChatError::Fields(_)));
    assert!(matches!(send("code").await.unwrap_err(), ChatError::Internal(_)));
    assert!(matches!(send("fail").await.unwrap_err(), ChatError::Internal(_)));
    // A hook that names an event makes it known, and handles it.
    let pin = json!({"room_id": room, "content": "pin"});
    let left = world.run(7, "message.pin", pin).await.unwrap();
    let ids = |users: &[&str]| Audience::Users(users.iter().map(|id| UserId((*id).into())).collect());
    assert_eq!(left[0].audience, ids(&["7", "8"]));
    assert_eq!(left[1].audience, ids(&["9"]));
    let connection = crate::test_database::TestDatabase::connection(7);
    assert_eq!(left[2].audience, Audience::Connection(connection));
    let Frame::Event { event_type, data } = &left[0].frame else { panic!("{left:?}") };
    assert_eq!((event_type.as_ref(), data), ("message.pinned", &json!({"n": 1})));
    // Without an answer that handles it, it is as unknown as ever.
    let unknown = json!({"room_id": room, "content": "replace"});
    assert_eq!(world.run(7, "message.pin", unknown).await.unwrap_err(), ChatError::InvalidEventType);
    assert_eq!(world.query("SELECT 1 FROM chat_message").await.len(), 1);
}

// S2-118: what no answer means, and how long it is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_does_not_answer() {
    // The listener takes connections and never reads.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/chat", silent.local_addr().unwrap());
    for (on_failure, is_sent) in [("deny", false), ("allow", true)] {
        let hook = json!({"on": "before", "target": url, "timeout_ms": 50, "on_failure": on_failure});
        let (world, room) = hooked(json!({"hooks": [hook]}), Extensions::default()).await;
        let sent = world.run(7, "message.send", json!({"room_id": room, "content": "x"})).await;
        assert_eq!(sent.is_ok(), is_sent);
        if let Err(error) = sent {
            assert_eq!(error.frame()["error"]["code"], 4006);
        }
    }
}

// S2-118: `authorize` after the built-in check, and instead of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_decides_about_permission() {
    let (url, _calls) = serve(|_, body| match body["user"]["username"].as_str() {
        Some("ana") => (200, json!({"allow": false, "error": {"detail": "Quiet hours"}}).to_string()),
        _ => allow(),
    });
    let hook = |mode: &str| json!({"hooks": [{"on": "authorize", "target": url, "mode": mode}]});
    let (world, room) = hooked(hook("after"), Extensions::default()).await;
    let send = async |user: i64, room: &str| {
        world.run(user, "message.send", json!({"room_id": room, "content": "x"})).await
    };
    let quiet = ChatError::Custom { code: 4002, detail: "Quiet hours".into() };
    assert_eq!(send(7, &room).await.unwrap_err(), quiet);
    assert!(send(8, &room).await.is_ok());
    // The built-in check speaks first, and the room before it.
    assert!(matches!(send(9, &room).await.unwrap_err(), ChatError::Permission { .. }));
    let nothing = Uuid::nil().to_string();
    assert!(matches!(send(7, &nothing).await.unwrap_err(), ChatError::NotFound { .. }));
    // An event that asks for no permission hears the hook too, and changes nothing.
    let create = json!({"type": "GroupChat", "name": "Other"});
    assert_eq!(world.run(7, "room.create", create).await.unwrap_err(), quiet);
    assert_eq!(world.query("SELECT 1 FROM chat_room").await.len(), 1);
    world.settings.replace(Settings::read(&hook("instead"), &|_| None).unwrap()).unwrap();
    assert_eq!(send(7, &room).await.unwrap_err(), quiet);
    assert!(send(9, &room).await.is_ok(), "the hook alone decides");
}

// S2-118: `connect` refuses with a code of its own; `disconnect` is told.
#[tokio::test(flavor = "multi_thread")]
async fn hooks_around_a_connection() {
    let (url, calls) = serve(|_, body| match body["user"]["id"].as_i64() {
        Some(9) => {
            (200, json!({"allow": false, "error": {"code": 4100, "detail": "No devices left"}}).to_string())
        }
        _ => allow(),
    });
    let chat = json!({"hooks": [{"on": "connect", "target": url}, {"on": "disconnect", "target": url}]});
    let world = World::new(chat, Extensions::default(), None).await;
    let settings = world.settings.load();
    let connection = crate::test_database::TestDatabase::connection(7);
    world.front.connected(&settings, &World::user(7), connection, 0).await.unwrap();
    assert_eq!(got(&calls).json()["hook"], "connect");
    let refused = world.front.connected(&settings, &World::user(9), connection, 0).await.unwrap_err();
    assert_eq!(refused, ConnectRefusal { code: 4100, reason: "No devices left".to_owned() });
    got(&calls);
    world.front.disconnected(&settings, &World::user(7), connection, 0).await;
    let told = got(&calls).json();
    assert_eq!((&told["hook"], &told["user"]["id"]), (&json!("disconnect"), &json!(7)));
}

// S2-120: `after` and `notify` are durable, at least once, in order for one room, and say what was wrong.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_repeated_in_order() {
    let failures = Arc::new(AtomicUsize::new(2));
    let left = Arc::clone(&failures);
    let (url, calls) = serve(move |_, _| {
        let fails = left.fetch_update(
            std::sync::atomic::Ordering::SeqCst,
            std::sync::atomic::Ordering::SeqCst,
            |left| left.checked_sub(1),
        );
        if fails.is_ok() { (503, String::new()) } else { (204, String::new()) }
    });
    let chat = json!({"hooks": [{"on": "after", "target": url, "events": ["message.send"]}]});
    let (world, room) = hooked(chat, Extensions::default()).await;
    for content in ["one", "two", "three"] {
        world.run(7, "message.send", json!({"room_id": room, "content": content})).await.unwrap();
    }
    // An event that fails leaves nothing.
    world.run(9, "message.send", json!({"room_id": room, "content": "no"})).await.unwrap_err();
    assert_eq!(world.query("SELECT 1 FROM chat_hook_delivery").await.len(), 3, "written, not yet told");

    let (front, database) = (Arc::clone(&world.front), Arc::clone(&world.database));
    let runner = tokio::spawn(async move { front.run_deliveries(&*database).await });
    let first = got(&calls);
    // The failure is listed with its error; nothing of the room goes out before it is repeated.
    until(async || {
        let rows = world.query("SELECT last_error FROM chat_hook_delivery WHERE attempts = 1").await;
        rows.iter().any(|row| row.text(0).is_ok_and(|error| &*error == "status 503"))
    })
    .await;
    assert!(calls.try_recv().is_err());
    world.now.fetch_add(1_000_000, std::sync::atomic::Ordering::SeqCst);
    world.front.deliveries.wake();
    let second = got(&calls);
    assert_eq!(first.header("x-tidegate-delivery"), second.header("x-tidegate-delivery"));
    until(async || !world.query("SELECT 1 FROM chat_hook_delivery WHERE attempts = 2").await.is_empty())
        .await;
    world.now.fetch_add(2_000_000, std::sync::atomic::Ordering::SeqCst);
    world.front.deliveries.wake();
    let told: Vec<Value> = (0..3).map(|_| got(&calls).json()["data"]["event"]["content"].clone()).collect();
    assert_eq!(told, ["one", "two", "three"]);
    until(async || world.query("SELECT 1 FROM chat_hook_delivery").await.is_empty()).await;
    runner.abort();
}

// S2-120: after 24 hours a delivery is given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_given_up_in_the_end() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let chat = json!({"hooks": [{"on": "after", "target": format!("http://{closed}/chat")}]});
    let (world, room) = hooked(chat, Extensions::default()).await;
    world.run(7, "message.send", json!({"room_id": room, "content": "x"})).await.unwrap();
    let (front, database) = (Arc::clone(&world.front), Arc::clone(&world.database));
    let runner = tokio::spawn(async move { front.run_deliveries(&*database).await });
    until(async || !world.query("SELECT 1 FROM chat_hook_delivery WHERE attempts = 1").await.is_empty())
        .await;
    world.now.fetch_add(24 * 3600 * 1_000_000 + 1, std::sync::atomic::Ordering::SeqCst);
    world.front.deliveries.wake();
    until(async || world.query("SELECT 1 FROM chat_hook_delivery").await.is_empty()).await;
    runner.abort();
}

// S2-118: `render` replaces the data of frames, which stay in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_renders_frames() {
    let (url, _calls) = serve(|at, body| {
        let mut data = body["data"].clone();
        if at == 0 {
            std::thread::sleep(Duration::from_millis(30));
        }
        data["seen"] = json!(true);
        (200, json!({"allow": true, "data": data}).to_string())
    });
    let chat = json!({"hooks": [{"on": "render", "target": url}]});
    let world = World::new(chat, Extensions::default(), None).await;
    let (queue, outlet) = render::queue();
    let frames = (0..5).map(|n| Dispatch {
        audience: Audience::Users(vec![UserId("7".into())]),
        frame: Frame::Event { event_type: "message.dispatch".into(), data: json!({ "n": n }) },
    });
    queue.push(&world.settings.load(), "message.send", 0, frames.collect());
    drop(queue);
    let sent = Mutex::new(Vec::new());
    outlet.run(world.front.hooks(), |_, dispatch| sent.lock().push(data_of(&dispatch).clone())).await;
    let expected: Vec<Value> = (0..5).map(|n| json!({"n": n, "seen": true})).collect();
    assert_eq!(*sent.lock(), expected);
}
