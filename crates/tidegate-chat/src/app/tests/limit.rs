//! The application's own limit of events.

use super::*;

/// S2-38: beyond the limit of a user, on whichever device, events are answered with 4029 and have no effect.
#[tokio::test]
async fn a_user_may_send_so_many_events() {
    let bench = Bench::in_memory(Settings { event_rate: 2.0, event_burst: 4.0, ..Settings::default() });
    let (ana, other, ben) = (bench.open(7).await, bench.open(7).await, bench.open(8).await);
    let room = bench.group(&ana, &[8]).await;
    let text =
        json!({ "event_type": "message.send", "data": { "room_id": room, "content": "x" } }).to_string();
    for connection in [&ana, &other, &ana] {
        assert!(bench.say(connection, &text).await.text.is_none());
    }
    bench.frames(&ben);
    for connection in [&ana, &other] {
        for text in [text.as_str(), "no JSON", r#"{"event_type": "session.heartbeat"}"#] {
            let (frame, diagnosis, facts) = bench.refused(connection, text).await;
            assert_eq!(frame, json!({ "error": { "code": 4029, "detail": "Too many events." } }));
            assert_eq!(diagnosis, Diagnosis::RATELIMIT_MESSAGES);
            assert_eq!((facts.get("rate"), facts.get("limit")), (Some(json!(2.0)), Some(json!(4.0))));
        }
    }
    assert!(bench.frames(&ben).is_empty(), "what was refused has happened");
    assert!(bench.host.closed.lock().is_empty());
    assert_eq!(bench.chat.numbers().errors.get(&4029), Some(&6));
    // Others are not limited by it, and time gives events back.
    assert!(bench.say(&ben, r#"{"event_type": "session.heartbeat"}"#).await.text.is_none());
    bench.host.now.fetch_add(500, Ordering::Relaxed);
    assert!(bench.say(&ana, &text).await.text.is_none());
    assert_eq!(bench.refused(&ana, &text).await.0["error"]["code"], 4029);
    // Without a limit nobody counts.
    bench.chat.settings().replace(Settings::default()).unwrap();
    for _ in 0..20 {
        assert!(bench.say(&ana, &text).await.text.is_none());
    }
}
