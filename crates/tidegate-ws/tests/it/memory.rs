//! What a connection holds.

use tidegate_ws::{ClientEncoder, Decoder, DeflateParams, Incoming, Limits, Role};

use crate::wire::{events, feed, frame, server};

#[test]
fn a_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 96, "{}", size_of::<Decoder>());
}

#[test]
fn idle_after_each_message() {
    let params = Some(DeflateParams::default());
    let mut decoder = server(params);
    assert!(decoder.is_idle());
    let wire = [
        ClientEncoder::new(params).text(&"tide ".repeat(500)),
        frame(0x01, b"be"),
        frame(0x89, b"between"),
        frame(0x80, b"gun"),
    ];
    for (idx, piece) in wire.iter().enumerate() {
        for &byte in &piece[..piece.len() - 1] {
            assert_eq!(events(&mut decoder, &[byte], 1), []);
            assert!(!decoder.is_idle());
        }
        feed(&mut decoder, &piece[piece.len() - 1..], 1);
        // After the first fragment, and the ping after it, the message is still held.
        assert_eq!(decoder.is_idle(), idx == 0 || idx == 3);
    }
}

#[test]
fn a_message_has_no_more_capacity_than_the_limit() {
    let limits = Limits { max_frame: 1 << 20, max_message: 100_000 };
    let mut decoder = Decoder::new(Role::Server, limits, None);
    let [Incoming::Text(text)] = &events(&mut decoder, &frame(0x81, &vec![b'a'; 99_999]), 7)[..] else {
        panic!("one text message")
    };
    assert!(text.capacity() <= 100_000);
}
