//! The examples of the manual, as they are.

use super::*;

#[allow(dead_code, reason = "its main is for people")]
#[path = "../../../examples/chat_extensions.rs"]
mod example;

// S2-121: the example of the manual does what it says.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_rust() {
    let world = World::new(json!({"notifications": false}), example::extensions(), None).await;
    let room = world.group().await;
    let send = async |content: &str| {
        world.run(7, "message.send", json!({"room_id": room, "content": content})).await
    };
    assert_eq!(send("a swindle").await.unwrap_err(), ChatError::field("content", "Mind your language."));
    let sent = send("darn it").await.unwrap();
    assert_eq!(data_of(&sent[0])["content"], "**** it");
    let pin = json!({"room_id": room, "message_id": data_of(&sent[0])["id"]});
    let pinned = world.run(8, "message.pin", pin.clone()).await.unwrap();
    assert_eq!(data_of(&pinned[0])["by"], "ben");
    assert!(matches!(world.run(9, "message.pin", pin).await.unwrap_err(), ChatError::Permission { .. }));
}

/// Ends the receiver, whatever becomes of the test.
struct Python(std::process::Child);

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// S2-118, S2-119, S2-120: the receiver of the manual checks the signature, and gives all three answers.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python() {
    use std::io::BufRead;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/chat-extensions/receiver.py");
    let started = std::process::Command::new("python3")
        .args([path, "0"])
        .env("CHAT_HOOK_SECRET", "s3cret")
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut python = Python(started.expect("python3 runs the example"));
    let mut said = std::io::BufReader::new(python.0.stdout.take().unwrap()).lines();
    let port = said.next().unwrap().unwrap();
    let target = format!("http://127.0.0.1:{port}/chat");
    let hooks = |secret: &str| {
        json!({"hooks": [
            {"on": "before", "events": ["message.send", "message.pin"], "target": target, "secret": secret,
             "timeout_ms": 10_000},
            {"on": "notify", "target": target, "secret": secret, "timeout_ms": 10_000},
        ]})
    };
    let (world, room) = hooked(hooks("s3cret"), Extensions::default()).await;
    // The receiver wants fresh timestamps.
    let now = jiff::Timestamp::now().as_microsecond();
    world.now.store(now, std::sync::atomic::Ordering::SeqCst);
    let send = async |content: &str| {
        world.run(7, "message.send", json!({"room_id": room, "content": content})).await
    };
    let refused = send("a swindle").await.unwrap_err();
    assert_eq!(refused, ChatError::Custom { code: 4007, detail: "Mind your language.".into() });
    assert_eq!(data_of(&send("darn it").await.unwrap()[0])["content"], "**** it");
    let pin = json!({"room_id": room, "message_id": "m1"});
    let pinned = world.run(7, "message.pin", pin).await.unwrap();
    assert_eq!(data_of(&pinned[0]), &json!({"message_id": "m1", "by": "ana"}));
    // `notify` says who is there: Ben is, so nothing is pushed to him; Cy is not.
    world.run(7, "room.add_members", json!({"room_id": room, "members": [9]})).await.unwrap();
    send("again").await.unwrap();
    let (front, database) = (Arc::clone(&world.front), Arc::clone(&world.database));
    let runner = tokio::spawn(async move { front.run_deliveries(&*database).await });
    let told = tokio::task::spawn_blocking(move || said.next().unwrap().unwrap()).await.unwrap();
    assert_eq!(told, "push NEW_MESSAGE to cy");
    until(async || world.query("SELECT 1 FROM chat_hook_delivery").await.is_empty()).await;
    runner.abort();
    world.settings.replace(Settings::read(&hooks("another"), &|_| None).unwrap()).unwrap();
    assert!(matches!(send("x").await.unwrap_err(), ChatError::Internal(_)), "a wrong signature is refused");
}
