//! Any valid stream gives the same events however it is cut into reads.

use bytes::Bytes;
use proptest::prelude::*;
use tidegate_ws::{
    ClientEncoder, CloseCode, CloseFrame, Decoder, DeflateParams, Incoming, Limits, Opcode, OutboundMessage,
    Role,
};

use crate::wire::{events, feed, frame, server};

const LIMITS: Limits = Limits { max_frame: 1 << 20, max_message: 1 << 20 };

#[derive(Clone, Debug)]
struct Sent {
    event: Incoming,
    fragment: usize,
    /// Goes between the fragments.
    ping: Option<Vec<u8>>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let text = prop_oneof![
        any::<String>(),
        "[a-zé€😀]{0,40}".prop_map(|text| text.repeat(50)),
        Just(String::new()),
    ];
    let event = prop_oneof![
        text.prop_map(Incoming::Text),
        prop::collection::vec(any::<u8>(), 0..600).prop_map(|bytes| Incoming::Binary(bytes.into())),
        prop::collection::vec(0u8..4, 0..3000).prop_map(|bytes| Incoming::Binary(bytes.into())),
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(|bytes| Incoming::Pong(bytes.into())),
    ];
    let ping = prop::option::of(prop::collection::vec(any::<u8>(), 0..=125));
    (event, 1usize..200, ping).prop_map(|(event, fragment, ping)| Sent { event, fragment, ping })
}

fn encode(messages: &[Sent], deflate: Option<DeflateParams>) -> (Vec<u8>, Vec<Incoming>) {
    let encoder = ClientEncoder::new(deflate);
    let mut wire = Vec::new();
    let mut expected = Vec::new();
    for Sent { event, fragment, ping } in messages {
        let frames = match event {
            Incoming::Text(text) => encoder.fragments(Opcode::Text, text.as_bytes(), *fragment),
            Incoming::Binary(bytes) => encoder.fragments(Opcode::Binary, bytes, *fragment),
            Incoming::Pong(payload) => vec![encoder.pong(payload)],
            other => unreachable!("{other:?} is not generated"),
        };
        for (idx, fragment) in frames.iter().enumerate() {
            if let (Some(ping), true) = (ping, idx > 0) {
                wire.extend(encoder.ping(ping));
                expected.push(Incoming::Ping(Bytes::copy_from_slice(ping)));
            }
            wire.extend(fragment);
        }
        expected.push(event.clone());
    }
    (wire, expected)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_cut(
        messages in prop::collection::vec(sent(), 1..6),
        compressed: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let params = compressed.then(DeflateParams::default);
        let (wire, expected) = encode(&messages, params);
        let decoder = || Decoder::new(Role::Server, LIMITS, params);
        prop_assert_eq!(&events(&mut decoder(), &wire, wire.len()), &expected);
        prop_assert_eq!(&events(&mut decoder(), &wire, 1), &expected);

        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len())).collect();
        cuts.extend([0, wire.len()]);
        cuts.sort_unstable();
        let mut one = decoder();
        let pieces: Vec<_> = cuts.windows(2).filter(|ends| ends[0] < ends[1]).collect();
        let got: Vec<_> = pieces.iter().flat_map(|ends| {
            let piece = &wire[ends[0]..ends[1]];
            events(&mut one, piece, piece.len())
        }).collect();
        prop_assert_eq!(&got, &expected);
        prop_assert!(one.is_idle());
    }

    #[test]
    fn every_cut_in_two(messages in prop::collection::vec(sent(), 1..3)) {
        let params = Some(DeflateParams::default());
        let (mut wire, _) = encode(&messages, params);
        wire.truncate(1500);
        let whole = feed(&mut server(params), &wire, wire.len());
        for cut in 0..wire.len() {
            let mut decoder = server(params);
            let (mut got, mut error) = feed(&mut decoder, &wire[..cut], wire.len());
            if error.is_none() {
                let (more, end) = feed(&mut decoder, &wire[cut..], wire.len());
                got.extend(more);
                error = end;
            }
            prop_assert_eq!(&(got, error), &whole);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..400), compressed: bool) {
        for role in [Role::Server, Role::Client] {
            let decoder = || Decoder::new(role, LIMITS, compressed.then(DeflateParams::default));
            let whole = feed(&mut decoder(), &data, data.len().max(1));
            prop_assert_eq!(&feed(&mut decoder(), &data, 1), &whole);
        }
    }

    #[test]
    fn what_a_server_sends(text in "[a-zé€😀]{0,400}", n in 0usize..200, bits in 9u8..=15, compressed: bool) {
        let text = text.repeat(n);
        let params = compressed.then_some(DeflateParams { server_max_window_bits: bits, ..DeflateParams::default() });
        let wire = OutboundMessage::text(Bytes::from(text.clone())).frames(params);
        let mut client = Decoder::new(Role::Client, LIMITS, params);
        prop_assert_eq!(events(&mut client, &wire, 1000), vec![Incoming::Text(text)]);
    }
}

#[test]
fn control_frames_of_a_server() {
    let close = CloseFrame::new(CloseCode::POLICY_VIOLATION, "no");
    let wire = [tidegate_ws::ping(b"a"), tidegate_ws::pong(b""), tidegate_ws::close(Some(&close))].concat();
    let mut client = Decoder::new(Role::Client, LIMITS, None);
    assert_eq!(
        events(&mut client, &wire, 1),
        [
            Incoming::Ping(Bytes::from_static(b"a")),
            Incoming::Pong(Bytes::new()),
            Incoming::Close(Some(close)),
        ]
    );
}

#[test]
fn context_takeover_of_a_peer_that_insists() {
    // RFC 7692, section 7.2.3.2: the second "Hello" refers to the first.
    let params = Some(DeflateParams { client_no_context_takeover: false, ..DeflateParams::default() });
    let hello = Incoming::Text("Hello".to_owned());
    let first = frame(0xc1, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    let second = frame(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00]);
    let between = frame(0x81, b"plain");
    let wire = [first, between, second].concat();
    for read in [1, wire.len()] {
        let mut decoder = server(params);
        let plain = Incoming::Text("plain".to_owned());
        assert_eq!(events(&mut decoder, &wire, read), [hello.clone(), plain, hello.clone()]);
        assert!(decoder.is_idle());
    }
    // Without takeover the reference points nowhere.
    let mut decoder = server(Some(DeflateParams::default()));
    assert!(feed(&mut decoder, &wire, wire.len()).1.is_some());
}
