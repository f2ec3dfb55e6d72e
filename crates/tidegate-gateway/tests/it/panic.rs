//! A fault inside one connection ends that connection alone, and its backend still hears of the end.

use std::sync::atomic::Ordering;

use tidegate_core::notice::Notice;

use crate::harness::Plane;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_hears_of_it_and_others_live_on() {
    let plane = Plane::start().await;
    let mut unlucky = plane.connect().await;
    let mut other = plane.connect().await;
    let id = plane.id_of(&unlucky).await;
    plane.notices.panics_at_size.store("fatal message".len(), Ordering::Relaxed);
    unlucky.send("fatal message").await;
    assert_eq!(unlucky.closed().await.expect("a close frame").code.as_u16(), 1011);
    assert_eq!(plane.disconnect_of(&id).await, (1011, "Internal server error".to_owned()));
    other.send("fine").await;
    let is_handled = |notice: &Notice| matches!(notice, Notice::MessageHandled { .. });
    plane.notices.record.until("MessageHandled", 1, is_handled).await;
    other.close(1000, "").await;
    plane.end_with(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_hears_of_a_handshake_that_fails_after_its_yes() {
    let plane = Plane::start().await;
    plane.notices.panics_after_connect.store(true, Ordering::Relaxed);
    // auth.internal
    assert_eq!(plane.knock("", "Sec-WebSocket-Protocol: chat\r\n").await, 500);
    let is_refused = |notice: &Notice| matches!(notice, Notice::HandshakeRefused { .. });
    let told = plane.notices.record.until("HandshakeRefused", 1, is_refused).await;
    let Notice::HandshakeRefused { place, status, diagnosis, detail, .. } = &told[0] else { unreachable!() };
    assert_eq!((*status, diagnosis.as_str()), (500, "auth.internal"));
    assert_eq!(detail, "the handshake task failed");
    assert!(place.request_id.is_some(), "what the log line has");
    plane.backend.events("DISCONNECT", 1).await;
    plane.nobody_is_left().await;
    plane.end().await;
}
