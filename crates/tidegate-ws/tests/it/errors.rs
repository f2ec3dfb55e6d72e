//! Everything RFC 6455 and 7692 forbid is refused with the right close code, and as early as its bytes allow.

use tidegate_ws::{CloseCode, CloseFrame, DecodeError, Decoder, DeflateParams, Incoming, Role};

use crate::wire::{LIMITS, events, feed, frame, server};

/// `wire` fails with `error` in one read and byte by byte, and in both cases at its last byte and not before.
fn refused(deflate: bool, wire: &[u8], error: DecodeError) {
    for read in [wire.len(), 1] {
        let mut decoder = server(deflate.then(DeflateParams::default));
        assert_eq!(feed(&mut decoder, wire, read).1.as_ref(), Some(&error), "{wire:02x?} read by {read}");
        let mut decoder = server(deflate.then(DeflateParams::default));
        assert_eq!(feed(&mut decoder, &wire[..wire.len() - 1], read).1, None, "{wire:02x?} fails too early");
    }
}

#[test]
fn wrong_first_byte() {
    for first in [0x91, 0xa1, 0xc1, 0xf1, 0x98, 0xc8] {
        refused(false, &[first], DecodeError::ReservedBits);
    }
    for opcode in [3, 7, 11, 15] {
        refused(false, &[0x80 | opcode], DecodeError::BadOpcode { opcode });
    }
    for first in [0x08, 0x09, 0x0a] {
        refused(false, &[first], DecodeError::FragmentedControl);
    }
    refused(false, &[0x80], DecodeError::UnexpectedContinuation);
    refused(false, &[0x00], DecodeError::UnexpectedContinuation);
    refused(false, &[&frame(0x01, b"a")[..], &[0x81]].concat(), DecodeError::InterleavedData);
    refused(false, &[&frame(0x02, b"")[..], &[0x02]].concat(), DecodeError::InterleavedData);
    refused(
        false,
        &[&frame(0x01, b"a")[..], &frame(0x80, b"b"), &[0x80]].concat(),
        DecodeError::UnexpectedContinuation,
    );
}

#[test]
fn rsv1_where_compression_does_not_allow_it() {
    refused(true, &[0xc9], DecodeError::ReservedBits);
    refused(true, &[0xa1], DecodeError::ReservedBits);
    refused(true, &[&frame(0x41, b"\xf2")[..], &[0xc0]].concat(), DecodeError::ReservedBits);
}

#[test]
fn wrong_second_byte() {
    refused(false, &[0x81, 0x05], DecodeError::Unmasked);
    refused(false, &[0x89, 0xfe], DecodeError::ControlTooLong);
    refused(false, &[0x88, 0xff], DecodeError::ControlTooLong);
    let mut client = Decoder::new(Role::Client, LIMITS, None);
    assert_eq!(client.decode(&mut [0x81, 0x85]), Err(DecodeError::Masked));
}

#[test]
fn lengths_that_are_not_minimal() {
    refused(false, &[0x82, 0xfe, 0, 125, 1, 2, 3, 4], DecodeError::BadLength);
    refused(false, &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4], DecodeError::BadLength);
    refused(false, &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], DecodeError::BadLength);
}

#[test]
fn close_frames() {
    refused(false, &frame(0x88, &[3]), DecodeError::BadClosePayload);
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535] {
        refused(false, &frame(0x88, &code.to_be_bytes()), DecodeError::BadCloseCode { code });
    }
    refused(false, &frame(0x88, b"\x03\xe8ok\xff"), DecodeError::NotUtf8 { offset: 2 });
    let close = |payload: &[u8]| events(&mut server(None), &frame(0x88, payload), 1);
    assert_eq!(close(b""), [Incoming::Close(None)]);
    assert_eq!(
        close(b"\x0f\xa0bye"),
        [Incoming::Close(Some(CloseFrame::new(CloseCode::new(4000).unwrap(), "bye")))]
    );
}

#[test]
fn nothing_counts_after_close_or_error() {
    let mut decoder = server(None);
    let wire = [frame(0x88, b""), frame(0x81, b"late"), vec![0xff; 40]].concat();
    assert_eq!(events(&mut decoder, &wire, wire.len()), [Incoming::Close(None)]);
    assert!(decoder.is_idle());
    let mut decoder = server(None);
    assert!(decoder.decode(&mut [0xff]).is_err());
    assert_eq!(events(&mut decoder, &frame(0x81, b"late"), 64), []);
    assert!(decoder.is_idle());
}

#[test]
fn text_fails_at_the_first_bad_byte() {
    let text = |payload: &[u8], n_read: usize, offset: usize| {
        let wire = frame(0x81, payload);
        // The header of a short client frame has six bytes; the frame is not complete yet.
        refused(false, &wire[..6 + n_read], DecodeError::NotUtf8 { offset });
    };
    text(b"caf\xff and more", 4, 3);
    text(b"\xce\xba\xed\xa0\x80edited", 4, 2);
    text(b"\xf4\x90\x80\x80 too high", 2, 0);
    // At the end of the message, half a character is as bad.
    refused(false, &frame(0x81, b"caf\xc3"), DecodeError::NotUtf8 { offset: 3 });
    // Across fragments.
    let wire = [frame(0x01, b"caf\xc3"), frame(0x00, b"\xa9"), frame(0x80, b"\xe2\x82")].concat();
    refused(false, &wire, DecodeError::NotUtf8 { offset: 5 });
}

#[test]
fn compressed_text_is_checked_too() {
    // A stored block with the bytes "a\xff".
    refused(
        true,
        &frame(0xc1, b"\x00\x02\x00\xfd\xffa\xff\x00")[..6 + 7],
        DecodeError::NotUtf8 { offset: 1 },
    );
    let wire = frame(0xc1, &[0xff; 4]);
    let mut decoder = server(Some(DeflateParams::default()));
    assert_eq!(feed(&mut decoder, &wire, wire.len()).1, Some(DecodeError::BadDeflate));
}

#[test]
fn close_codes_of_errors() {
    let check = |error: DecodeError, code: CloseCode| assert_eq!(error.close_code(), code, "{error}");
    check(DecodeError::ReservedBits, CloseCode::PROTOCOL_ERROR);
    check(DecodeError::Unmasked, CloseCode::PROTOCOL_ERROR);
    check(DecodeError::BadCloseCode { code: 1005 }, CloseCode::PROTOCOL_ERROR);
    check(DecodeError::NotUtf8 { offset: 0 }, CloseCode::INVALID_PAYLOAD);
    check(DecodeError::BadDeflate, CloseCode::INVALID_PAYLOAD);
    check(DecodeError::FrameTooLarge { size: 2, limit: 1 }, CloseCode::MESSAGE_TOO_BIG);
    check(DecodeError::MessageTooLarge { size: 2, limit: 1 }, CloseCode::MESSAGE_TOO_BIG);
    check(DecodeError::InflateLimit { limit: 1 }, CloseCode::MESSAGE_TOO_BIG);
}
