//! Many at once: one order for all, one encoding, and how fast.

use super::*;

/// S2-10, S2-11, I-19: many senders at once; everybody sees a room's messages in one order, that of the history, and the
/// answer to an event after what it caused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_sees_the_same_order() {
    let folder = tempfile::tempdir().unwrap();
    for (name, database) in databases(folder.path()).await {
        let bench = Arc::new(Bench::new(Settings::default(), database));
        let mut connections = Vec::new();
        for user in 1..=6 {
            connections.push(bench.open(user).await);
        }
        let mut rooms = Vec::new();
        for _ in 0..2 {
            rooms.push(bench.group(&connections[0], &[2, 3, 4, 5, 6]).await);
        }
        connections.iter().for_each(|connection| drop(bench.frames(connection)));
        let tasks: Vec<_> = connections
            .iter()
            .cloned()
            .enumerate()
            .map(|(at, connection)| {
                let (bench, rooms) = (Arc::clone(&bench), rooms.clone());
                tokio::spawn(async move {
                    for n in 0..20 {
                        let room = &rooms[(at + n) % 2];
                        let content = format!("{at}-{n}");
                        let data = json!({ "room_id": room, "content": content });
                        bench.event(&connection, "message.send", data).await;
                        assert!(bench.has(&connection, &content), "it is there when its event has ended");
                        if n % 5 == 0 {
                            bench.event(&connection, "message.typing", json!({ "room_id": room })).await;
                            let bad = json!({ "event_type": "message.send", "data": { "room_id": room } });
                            assert!(bench.say(&connection, &bad.to_string()).await.problem.is_some());
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let seen: Vec<Vec<Value>> = connections.iter().map(|connection| bench.frames(connection)).collect();
        for room in &rooms {
            let of_room = |frames: &[Value]| -> Vec<Value> {
                let is_here = |frame: &&Value| frame["data"]["room"]["id"] == **room;
                frames.iter().filter(is_here).map(|frame| frame["data"]["content"].clone()).collect()
            };
            let first = of_room(&seen[0]);
            assert_eq!(first.len(), 60, "{name}");
            for other in &seen[1..] {
                assert_eq!(of_room(other), first, "{name}");
            }
            bench.event(&connections[0], "room.messages", json!({ "room_id": room })).await;
            let history = bench.frames(&connections[0]).remove(0);
            let stored = history["data"]["data"]["messages"].as_array().unwrap();
            let mut stored: Vec<Value> = stored.iter().map(|message| message["content"].clone()).collect();
            stored.reverse();
            assert_eq!(stored, first, "{name}: the order of the commits");
        }
        let kinds = |frames: &[Value]| frames.iter().map(|f| f["eventType"].clone()).collect::<Vec<_>>();
        for other in &seen[1..] {
            assert_eq!(kinds(other), kinds(&seen[0]), "{name}: typing too");
        }
    }
}

/// S2-130: one encoding for a room of 300, and one call.
#[tokio::test]
async fn a_room_of_many_gets_one_encoding() {
    let bench = Bench::in_memory(Settings { notifications: false, ..Settings::default() });
    let mut connections = Vec::new();
    for user in 1..=300 {
        connections.push(bench.open(user).await);
    }
    let others: Vec<i64> = (2..=300).collect();
    let room = bench.group(&connections[0], &others).await;
    connections.iter().for_each(|connection| drop(bench.frames(connection)));
    bench.host.n_texts.store(0, Ordering::Relaxed);
    bench.event(&connections[9], "message.send", json!({ "room_id": room, "content": "x" })).await;
    assert_eq!(bench.host.n_texts.load(Ordering::Relaxed), 1);
    let outboxes = bench.host.outboxes.lock();
    let bytes: Vec<*const u8> =
        connections.iter().map(|connection| outboxes[&connection.connection_id][0].as_ptr()).collect();
    assert_eq!(bytes.len(), 300);
    assert!(bytes.iter().all(|at| *at == bytes[0]), "the same bytes");
}

/// Not a test of right and wrong: how many durable messages a second, `TIDEGATE_RATE_SENDERS` at a time, in rooms of ten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release -p tidegate-chat rate_of_messages -- --ignored --nocapture"]
async fn rate_of_messages() {
    let senders =
        std::env::var("TIDEGATE_RATE_SENDERS").ok().and_then(|n| n.parse().ok()).unwrap_or(200_usize);
    let folder = tempfile::tempdir_in(".").unwrap();
    for (name, database) in databases(folder.path()).await {
        let host = FakeHost { is_counting: true, ..FakeHost::default() };
        let bench = Arc::new(Bench::with(Settings::default(), database, Extensions::default(), host));
        let mut connections = Vec::new();
        for user in 1..=1000 {
            let connection = bench.facts();
            bench.connect(&connection, Some(&user.to_string()), &[], false).await.unwrap();
            bench.chat.opened(&connection);
            connections.push(connection);
        }
        let mut rooms = Vec::new();
        for first in (1..=1000_i64).step_by(10) {
            let creator = Arc::new(User {
                id: UserId(first.to_string().into()),
                username: format!("user-{first}").into(),
                email: "".into(),
                first_name: "".into(),
                last_name: "".into(),
                is_disabled: false,
                claims: Value::Null,
            });
            let made = Arc::new(Mutex::new(String::new()));
            let id = Arc::clone(&made);
            let settings = bench.chat.settings().load();
            let work = move |tx: &mut dyn Tx| {
                let data = json!({ "type": "GroupChat", "name": "x",
                    "participants": (first..first + 10).collect::<Vec<_>>() });
                let mut ctx = Ctx::new(tx, &settings, &creator, None, 1);
                let route = crate::router::find("room.create").unwrap();
                (route.handler)(&mut ctx, data.as_object().unwrap()).unwrap();
                let Frame::Event { data, .. } = &ctx.dispatches[0].frame else { panic!("an event") };
                *id.lock() = data["id"].as_str().unwrap().to_owned();
                Ok(Outcome::Commit(Box::new(|| ())))
            };
            bench.chat.database().write(Vec::new(), Box::new(work)).await.unwrap();
            rooms.push(made.lock().clone());
        }
        let (mut times, begun) = (Vec::new(), Instant::now());
        let until = begun + Duration::from_secs(10);
        let tasks: Vec<_> = (0..senders)
            .map(|at| {
                let user = at * 7 % 1000;
                let (bench, connection, room) =
                    (Arc::clone(&bench), Arc::clone(&connections[user]), rooms[user / 10].clone());
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while Instant::now() < until {
                        let data =
                            json!({ "room_id": room, "content": "Low tide at six, high tide at noon" });
                        let begun = Instant::now();
                        bench.event(&connection, "message.send", data).await;
                        times.push(begun.elapsed());
                    }
                    times
                })
            })
            .collect();
        for task in tasks {
            times.extend(task.await.unwrap());
        }
        let seconds = begun.elapsed().as_secs_f64();
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!(
            "{name}: {senders} senders, {:.0} messages/s, p50 {:?}, p95 {:?}, p99 {:?}",
            times.len() as f64 / seconds,
            at(0.5),
            at(0.95),
            at(0.99)
        );
    }
}
