//! What all APIs of a node share: so many handshakes and so many requests a second, and what is larger with Tidegate's own
//! limits than with those of the real service.

use tidegate_core::notice::Notice;
use tidegate_core::settings::Limits;

use crate::harness::Plane;

/// Buckets that hold so much, and refill with one a second: a test takes less time than that for what it proves.
fn requests(burst: u32) -> impl FnOnce(&mut tidegate_core::settings::Settings) {
    move |settings| {
        settings.limits = Limits { requests_per_second: 1, requests_burst: burst, ..Limits::default() };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_of_all_clients() {
    // 6.5, `limits.connects_per_second`
    let limits = Limits { connects_per_second: 2, ..Limits::default() };
    let plane = Plane::start_with(|settings| settings.limits = limits).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(plane.knock("", "").await);
    }
    assert_eq!(statuses[..2], [101, 101]);
    assert!(statuses.contains(&429), "{statuses:?}");
    let seen = plane.seen("handshake", "ratelimit.account").await;
    assert_eq!((seen.text("of"), seen.number("limit"), seen.number("burst")), ("account", 2.0, 2.0));
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_pushes_share_one_bucket() {
    // 6.5, `limits.requests_per_second`
    let plane = Plane::start_with(requests(5)).await;
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    for n in 0..20 {
        client.send(&format!("message {n}")).await;
    }
    let frame = client.text().await;
    assert!(frame.starts_with(r#"{"message": "Too Many Requests", "connectionId":""#), "{frame}");
    let path = format!("@connections/{}", id.replace('=', "%3D"));
    // A token may have come back meanwhile; not ten.
    let mut replies = Vec::new();
    for _ in 0..10 {
        replies.push(plane.manage("GET", &path, "").await);
    }
    let reply = replies.iter().find(|reply| reply.status == 429).expect("a call over the limit");
    assert_eq!(reply.value("x-amzn-errortype"), "LimitExceededException");
    assert_eq!((reply.value("x-tidegate-limit"), reply.body.as_str()), ("rate", ""));
    let is_its = |notice: &Notice| matches!(notice, Notice::PushRefused { diagnosis, .. } if diagnosis.as_str() == "ratelimit.account");
    assert!(plane.notices.record.count(is_its) > 0);
    // Whoever cannot sign takes nothing from those who can.
    let unsigned = plane.manage_with("GET", &path, "", "").await;
    assert_eq!(unsigned.status, 403);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_limited_by_default() {
    let plane = Plane::start().await;
    let mut client = plane.connect().await;
    for n in 0..600 {
        client.send(&format!("message {n}")).await;
    }
    plane.backend.events("MESSAGE", 600).await;
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_values_are_counted_with_the_limits_of_the_real_service() {
    let large = format!("X-Large: {}\r\n", "a".repeat(11_000));
    for (limits, status) in [(Limits::default(), 101), (Limits::AWS, 431)] {
        let plane = Plane::start_with(|settings| settings.limits = limits).await;
        assert_eq!(plane.knock("", "X-Small: a\r\n").await, 101);
        assert_eq!(plane.knock("", &large).await, status);
        plane.end().await;
    }
}
