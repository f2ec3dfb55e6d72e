//! Limits hold for the sum, before memory is spent on it.

use tidegate_ws::{ClientEncoder, DecodeError, Decoder, DeflateParams, Incoming, Limits, Opcode, Role};

use crate::wire::{events, feed, frame, server};

const MIB: usize = 1 << 20;

#[test]
fn fragments_count_together() {
    let limits = Limits { max_frame: MIB, max_message: MIB };
    let mut decoder = Decoder::new(Role::Server, limits, None);
    let fragment = vec![b'x'; 512 * 1024];
    let mut n_taken = 0;
    let error = (0..20).find_map(|idx| {
        let error = feed(&mut decoder, &frame(if idx == 0 { 0x01 } else { 0x00 }, &fragment), 64 * 1024).1;
        n_taken += usize::from(error.is_none());
        error
    });
    assert_eq!(error, Some(DecodeError::MessageTooLarge { size: 3 * 512 * 1024, limit: MIB }));
    assert_eq!(n_taken, 2);
}

#[test]
fn a_size_is_refused_at_the_header() {
    let mut decoder = server(None);
    let mut head = frame(0x82, &vec![0; 32 * 1024 + 1]);
    assert_eq!(
        decoder.decode(&mut head[..8]),
        Err(DecodeError::FrameTooLarge { size: 32 * 1024 + 1, limit: 32 * 1024 })
    );
    let mut decoder = Decoder::new(Role::Server, Limits { max_frame: usize::MAX, max_message: MIB }, None);
    let mut head = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
    assert!(matches!(decoder.decode(&mut head), Err(DecodeError::MessageTooLarge { limit: MIB, .. })));
}

#[test]
fn limits_are_inclusive() {
    let limits = Limits { max_frame: 10, max_message: 20 };
    let decoder = || Decoder::new(Role::Server, limits, None);
    let fragments = [frame(0x01, &[b'a'; 10]), frame(0x80, &[b'b'; 10])].concat();
    assert_eq!(events(&mut decoder(), &fragments, 1), [Incoming::Text("aaaaaaaaaabbbbbbbbbb".to_owned())]);
    let fragments = [frame(0x01, &[b'a'; 10]), frame(0x00, &[b'b'; 10]), frame(0x80, b"c")].concat();
    assert_eq!(
        feed(&mut decoder(), &fragments, 1).1,
        Some(DecodeError::MessageTooLarge { size: 21, limit: 20 })
    );
    // Control frames have their own limit.
    assert_eq!(events(&mut decoder(), &frame(0x89, &[1; 125]), 200).len(), 1);
}

#[test]
fn a_bomb_stops_at_the_limit() {
    // 64 MiB of zeros in about 64 KiB.
    let params = DeflateParams::default();
    let bomb = ClientEncoder::new(Some(params)).fragments(Opcode::Text, &vec![b'0'; 64 * MIB], 16 * 1024);
    assert!(bomb.concat().len() < MIB);
    let limits = Limits { max_frame: 32 * 1024, max_message: 128 * 1024 };
    let mut decoder = Decoder::new(Role::Server, limits, Some(params));
    let mut error = None;
    let mut n_bytes = 0;
    for byte in bomb.concat() {
        n_bytes += 1;
        error = decoder.decode(&mut [byte]).err();
        if error.is_some() {
            break;
        }
    }
    assert_eq!(error, Some(DecodeError::InflateLimit { limit: 128 * 1024 }));
    assert!(n_bytes < 2048, "{n_bytes} bytes were taken");
    assert!(decoder.is_idle());
}

#[test]
fn the_limit_is_that_of_the_inflated_message() {
    let params = Some(DeflateParams::default());
    let text = "tide ".repeat(26_214) + "ab";
    assert_eq!(text.len(), 128 * 1024);
    let wire = ClientEncoder::new(params).text(&text);
    assert_eq!(events(&mut server(params), &wire, 100), [Incoming::Text(text.clone())]);
    let wire = ClientEncoder::new(params).text(&(text + "c"));
    assert_eq!(
        feed(&mut server(params), &wire, 100).1,
        Some(DecodeError::InflateLimit { limit: 128 * 1024 })
    );
}
