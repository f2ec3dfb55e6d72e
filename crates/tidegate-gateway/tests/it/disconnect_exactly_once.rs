//! Whatever ends a connection, the backend hears of it once, with the code and reason of the cause (AG-7, S0-55).

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::notice::{ClosedBy, Notice};
use tidegate_ws::{ClientEncoder, Opcode};

use crate::client::{Client, manage};
use crate::harness::Plane;

/// What one cause must lead to.
struct Expected {
    code: u16,
    reason: &'static str,
    by: ClosedBy,
    diagnosis: Diagnosis,
}

fn expected(code: u16, reason: &'static str, by: ClosedBy, diagnosis: Diagnosis) -> Expected {
    Expected { code, reason, by, diagnosis }
}

/// Checks `$disconnect` and the notice of a connection that has ended, and that nothing comes after them.
async fn check(plane: Plane, id: &str, expected: Expected) {
    let Expected { code, reason, by, diagnosis } = expected;
    assert_eq!(plane.disconnect_of(id).await, (code, reason.to_owned()));
    let closed = plane
        .notices
        .record
        .until("ConnectionClosed", 1, |notice| matches!(notice, Notice::ConnectionClosed { .. }))
        .await;
    assert_eq!(closed.len(), 1);
    let Notice::ConnectionClosed { place, by: by_whom, close_code, diagnosis: cause, .. } = &closed[0] else {
        unreachable!()
    };
    assert_eq!(place.connection_id.unwrap().to_string(), id);
    assert_eq!((*by_whom, *close_code, *cause), (by, code, diagnosis));
    // The count of one is checked by the end of every test.
    plane.end().await;
}

/// The client sends `wire`; the gateway answers with the close code of the cause.
async fn check_refused(wire: Vec<u8>, cause: Expected) {
    let plane = Plane::start().await;
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    client.write(&wire).await;
    let frame = client.closed().await.expect("a close frame");
    assert_eq!((frame.code.as_u16(), frame.reason.as_str()), (cause.code, cause.reason));
    check(plane, &id, cause).await;
}

async fn open() -> (Plane, Client, String) {
    let plane = Plane::start().await;
    let client = plane.connect().await;
    let id = plane.id_of(&client).await;
    (plane, client, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_close_with_code_and_reason() {
    let (plane, mut client, id) = open().await;
    client.close(4001, "bye").await;
    check(plane, &id, expected(4001, "bye", ClosedBy::Client, Diagnosis::GONE_CLIENT_CLOSED)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_close_without_code() {
    let (plane, mut client, id) = open().await;
    client.write(&ClientEncoder::new(None).close(None)).await;
    assert_eq!(client.closed().await, None);
    let reason = "Client-side close frame status not set";
    check(plane, &id, expected(1005, reason, ClosedBy::Client, Diagnosis::GONE_CLIENT_CLOSED)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_reset() {
    let (plane, client, id) = open().await;
    client.reset();
    let reason = "Connection closed abnormally";
    check(plane, &id, expected(1006, reason, ClosedBy::Network, Diagnosis::CONN_RESET)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_end_without_close_frame() {
    let (plane, client, id) = open().await;
    drop(client);
    let reason = "Connection closed abnormally";
    check(plane, &id, expected(1006, reason, ClosedBy::Network, Diagnosis::CONN_RESET)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_error() {
    let cause = expected(1002, "Protocol error", ClosedBy::Gateway, Diagnosis::PROTOCOL_VIOLATION);
    check_refused(ClientEncoder::frame(0xF1, b"reserved bits"), cause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn binary_message() {
    let reason = "Binary messages are not supported";
    let cause = expected(1003, reason, ClosedBy::Gateway, Diagnosis::MESSAGE_BINARY);
    check_refused(ClientEncoder::new(None).binary(b"\x00"), cause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frame_too_big() {
    let cause = expected(1009, "Frame too large", ClosedBy::Gateway, Diagnosis::MESSAGE_FRAME_TOO_LARGE);
    check_refused(ClientEncoder::new(None).text(&"x".repeat(32 * 1024 + 1)), cause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_too_big() {
    let cause = expected(1009, "Message too long", ClosedBy::Gateway, Diagnosis::MESSAGE_TOO_LARGE);
    let payload = vec![b'x'; 128 * 1024 + 1];
    let wire = ClientEncoder::new(None).fragments(Opcode::Text, &payload, 32 * 1024).concat();
    check_refused(wire, cause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_that_is_no_utf8() {
    let cause = expected(1007, "Invalid UTF-8", ClosedBy::Gateway, Diagnosis::MESSAGE_NOT_UTF8);
    check_refused(ClientEncoder::frame(0x81, b"\xC3\x28"), cause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_by_the_backend() {
    let (plane, mut client, id) = open().await;
    assert_eq!(manage(plane.address, "DELETE", &id).await, 204);
    let frame = client.closed().await.expect("a close frame");
    assert_eq!((frame.code.as_u16(), frame.reason.as_str()), (1000, "Connection Closed Normally"));
    let cause =
        expected(1000, "Connection Closed Normally", ClosedBy::Backend, Diagnosis::CLOSE_BACKEND_REQUESTED);
    check(plane, &id, cause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stage_deletion() {
    let (plane, mut client, id) = open().await;
    plane.delete_stage();
    let frame = client.closed().await.expect("a close frame");
    assert_eq!(frame.code.as_u16(), 1001);
    check(plane, &id, expected(1001, "Going away", ClosedBy::Gateway, Diagnosis::API_BEING_DELETED)).await;
}

/// S3-63, `node.restart`: where it is known that the node comes back, the code says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart() {
    let (plane, mut client, id) = open().await;
    let reading = tokio::spawn(async move { client.closed().await });
    plane.gateway.note_restart();
    assert_eq!(plane.gateway.drain(crate::record::DEADLINE).await, 0);
    assert_eq!(reading.await.unwrap().expect("a close frame").code.as_u16(), 1012);
    check(plane, &id, expected(1012, "Service Restart", ClosedBy::Gateway, Diagnosis::NODE_RESTART)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain() {
    let (plane, mut client, id) = open().await;
    let reading = tokio::spawn(async move { client.closed().await });
    assert_eq!(plane.gateway.drain(crate::record::DEADLINE).await, 0);
    assert_eq!(reading.await.unwrap().expect("a close frame").code.as_u16(), 1001);
    check(plane, &id, expected(1001, "Service restart", ClosedBy::Gateway, Diagnosis::NODE_DRAINING)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_causes_at_once_are_one_end() {
    let (plane, client, id) = open().await;
    // The close by the backend and the loss of the network race; whichever wins is the only one.
    let (status, ()) = tokio::join!(manage(plane.address, "DELETE", &id), async { client.reset() });
    assert!(matches!(status, 204 | 410), "{status}");
    let (code, _) = plane.disconnect_of(&id).await;
    assert!(matches!(code, 1000 | 1006), "{code}");
    plane.end().await;
}
