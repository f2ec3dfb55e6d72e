//! What the fuzz targets do with their input. The replay test of `tidegate-ws` runs the same functions over the corpus,
//! so what was once found stays found without a nightly toolchain.

use tidegate_ws::{Decoder, DeflateParams, Incoming, Limits, Role, extension};

const LIMITS: Limits = Limits { max_frame: 4096, max_message: 16 * 1024 };

/// First byte: bit 0 chooses compression, bit 1 context takeover, the other bits the size of the reads. The rest is
/// what the peer sent.
pub fn decode(role: Role, data: &[u8]) {
    let Some((&choice, wire)) = data.split_first() else { return };
    let takeover = choice & 2 != 0;
    let deflate = (choice & 1 != 0).then_some(DeflateParams {
        server_no_context_takeover: !takeover,
        client_no_context_takeover: !takeover,
        ..DeflateParams::default()
    });
    let whole = events(role, deflate, wire, wire.len().max(1));
    let pieces = events(role, deflate, wire, usize::from(choice >> 2) + 1);
    assert_eq!(whole, pieces, "the cuts between reads must not show");
}

/// All events, and whether an error ended them.
fn events(role: Role, deflate: Option<DeflateParams>, wire: &[u8], read: usize) -> (Vec<Incoming>, bool) {
    let mut decoder = Decoder::new(role, LIMITS, deflate);
    let mut events = Vec::new();
    for piece in wire.chunks(read) {
        let mut piece = piece.to_vec();
        let mut at = 0;
        while at < piece.len() {
            let rest = piece.len() - at;
            let Ok(decoded) = decoder.decode(&mut piece[at..]) else { return (events, true) };
            assert!(decoded.consumed <= rest);
            assert!(decoded.event.is_some() || decoded.consumed == rest, "input was left without an event");
            at += decoded.consumed;
            if let Some(event) = decoded.event {
                let len = match &event {
                    Incoming::Text(text) => text.len(),
                    Incoming::Binary(payload) => payload.len(),
                    Incoming::Ping(payload) | Incoming::Pong(payload) => {
                        payload.len() + LIMITS.max_message - 125
                    }
                    Incoming::Close(_) => 0,
                };
                assert!(len <= LIMITS.max_message);
                events.push(event);
            }
        }
    }
    (events, false)
}

/// Any header value: the answer to an offer is one the own client accepts, with the same parameters.
pub fn extension_offers(data: &[u8]) {
    let Ok(header) = std::str::from_utf8(data) else { return };
    if let Some((params, response)) = extension::negotiate(header) {
        assert_eq!(extension::accept(&response), Ok(Some(params)));
        assert!((9..=15).contains(&params.server_max_window_bits));
        assert!((8..=15).contains(&params.client_max_window_bits));
    }
    // Must not panic; what it says about arbitrary text does not matter.
    let _ = extension::accept(header);
}
