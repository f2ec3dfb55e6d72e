//! Identifiers of connections, requests and messages: 16 characters, URL-safe base64 of 11 bytes.
//!
//! A connection id says where its connection lives, so finding it needs no hash table and no store: 36 bits
//! of time in sixteenths of a second (ids of one slot never repeat, and the leading characters grow with
//! time, as those of the real service do), 8 bits node, 20 bits slot, 24 bits of a keyed check value that
//! makes guessing pointless. The check value is the caller's: this crate knows no key.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE};

/// Characters of an id, the final `=` included.
///
/// Source: ids of the real service that were examined, all `^[A-Za-z0-9_-]{15}=$`.
pub const ID_LENGTH: usize = 16;

/// Slots that one node can address: 2^20.
pub const MAX_SLOTS: usize = 1 << 20;

/// Reads ids whose two unused low bits are set too: they have the right shape, so they must be answered as
/// unknown and not as malformed.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// One WebSocket from its `$connect` to its `$disconnect`; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId([u8; 11]);

/// The text is no connection id: not 15 characters of the URL-safe alphabet and a final `=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a connection id")]
pub struct MalformedId;

impl ConnectionId {
    /// Puts an id together. `ticks` are sixteenths of a second since 1970, of which 36 bits are kept; `slot`
    /// is below [`MAX_SLOTS`]; `check` gives its low 24 bits.
    pub fn new(ticks: u64, node: u8, slot: u32, check: u32) -> Self {
        let head = ((ticks & 0xF_FFFF_FFFF) << 28) | (u64::from(node) << 20) | (u64::from(slot) & 0xF_FFFF);
        let mut bytes = [0; 11];
        bytes[..8].copy_from_slice(&head.to_be_bytes());
        bytes[8..].copy_from_slice(&check.to_be_bytes()[1..]);
        Self(bytes)
    }

    /// Reads the 16-character form.
    ///
    /// # Errors
    /// [`MalformedId`] for any other length or alphabet. A well-formed id that was never issued is no error.
    pub fn parse(text: &str) -> Result<Self, MalformedId> {
        read_id(text).map(Self)
    }

    /// The part that the check value protects.
    pub fn head(self) -> u64 {
        u64::from_be_bytes([
            self.0[0], self.0[1], self.0[2], self.0[3], self.0[4], self.0[5], self.0[6], self.0[7],
        ])
    }

    /// When it was made, in milliseconds since 1970; exact to a sixteenth of a second.
    pub fn made_at(self) -> u64 {
        (self.head() >> 28) * 1000 / 16
    }

    /// What proves that whoever made it knew the key; 24 bits.
    pub fn check(self) -> u32 {
        u32::from_be_bytes([0, self.0[8], self.0[9], self.0[10]])
    }

    /// The node that owns the connection.
    pub fn node(self) -> u8 {
        (self.head() >> 20) as u8
    }

    /// Index in that node's registry.
    pub fn slot(self) -> u32 {
        (self.head() & 0xF_FFFF) as u32
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_id(&self.0, f)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_id(&self.0, f)
    }
}

/// The bits of a UUID behind its variant.
const UUID_TAIL: u128 = (1 << 62) - 1;

/// One event or one HTTP request; the same form as a connection id, unique, not secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 11]);

impl RequestId {
    /// `millis` since 1970, of which 40 bits lead; `entropy` gives 48 bits.
    pub fn new(millis: u64, entropy: u64) -> Self {
        let mut bytes = [0; 11];
        bytes[..5].copy_from_slice(&millis.to_be_bytes()[3..]);
        bytes[5..].copy_from_slice(&entropy.to_be_bytes()[2..]);
        Self(bytes)
    }

    /// Reads the 16-character form.
    ///
    /// # Errors
    /// [`MalformedId`] for any other length or alphabet.
    pub fn parse(text: &str) -> Result<Self, MalformedId> {
        read_id(text).map(Self)
    }

    /// It as a UUID of version 4, as answers of the management API have it; the 34 bits that it has more come from
    /// `entropy`. The way back is [`Self::from_uuid`], so that nobody has to keep which belongs to which.
    pub fn to_uuid(self, entropy: u64) -> String {
        let id = self.0.iter().fold(0_u128, |id, byte| (id << 8) | u128::from(*byte));
        let bits = (id << 34) | u128::from(entropy & 0x3_FFFF_FFFF);
        let (head, middle, tail) = (bits >> 74, (bits >> 62) & 0xFFF, bits & UUID_TAIL);
        format!(
            "{:08x}-{:04x}-4{middle:03x}-{:04x}-{:012x}",
            head >> 16,
            head & 0xFFFF,
            0x8000 | (tail >> 48),
            tail & 0xFFFF_FFFF_FFFF
        )
    }

    /// The id in a UUID that [`Self::to_uuid`] made. Any other UUID of version 4 gives an id that nobody has.
    ///
    /// # Errors
    /// [`MalformedId`]: no UUID of version 4 in its usual form.
    pub fn from_uuid(text: &str) -> Result<Self, MalformedId> {
        let is_dash = |at: usize| [8, 13, 18, 23].contains(&at);
        let fits =
            |(at, byte): (usize, u8)| if is_dash(at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
        if text.len() != 36 || !text.bytes().enumerate().all(fits) {
            return Err(MalformedId);
        }
        let all = u128::from_str_radix(&text.replace('-', ""), 16).map_err(|_| MalformedId)?;
        if (all >> 76) & 0xF != 4 || (all >> 62) & 3 != 2 {
            return Err(MalformedId);
        }
        let bits = ((all >> 80) << 74) | (((all >> 64) & 0xFFF) << 62) | (all & UUID_TAIL);
        let mut bytes = [0; 11];
        bytes.copy_from_slice(&(bits >> 34).to_be_bytes()[5..]);
        Ok(Self(bytes))
    }

    /// When it was made, in milliseconds since 1970: of the times that it may mean, 35 years apart, the one that is
    /// nearest to `around`.
    pub fn made_at(self, around: u64) -> u64 {
        const SPAN: u64 = 1 << 40;
        let [a, b, c, d, e, ..] = self.0;
        let low = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        let same = around / SPAN * SPAN + low;
        let others = [same.checked_sub(SPAN), same.checked_add(SPAN)].into_iter().flatten();
        others.fold(
            same,
            |best, other| if other.abs_diff(around) < best.abs_diff(around) { other } else { best },
        )
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_id(&self.0, f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_id(&self.0, f)
    }
}

fn read_id(text: &str) -> Result<[u8; 11], MalformedId> {
    if text.len() != ID_LENGTH || !text.ends_with('=') {
        return Err(MalformedId);
    }
    let mut bytes = [0; 12];
    match LENIENT.decode_slice(text, &mut bytes) {
        Ok(11) => bytes[..11].try_into().map_err(|_| MalformedId),
        _ => Err(MalformedId),
    }
}

fn write_id(bytes: &[u8; 11], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0; ID_LENGTH];
    let length = URL_SAFE.encode_slice(bytes, &mut text).map_err(|_| fmt::Error)?;
    f.write_str(std::str::from_utf8(&text[..length]).map_err(|_| fmt::Error)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_keeps_its_parts() {
        let id = ConnectionId::new(27_790_000_000, 3, 70_000, 0xABCDEF);
        assert_eq!((id.node(), id.slot()), (3, 70_000));
        let text = id.to_string();
        assert_eq!(text.len(), ID_LENGTH);
        assert!(text.ends_with('='));
        assert_eq!(ConnectionId::parse(&text), Ok(id));
    }

    #[test]
    fn a_request_id_says_when_it_was_made() {
        for millis in [0, 5, (1 << 40) - 1, 1 << 40, 1_790_000_000_000] {
            let id = RequestId::new(millis, 77);
            assert_eq!(RequestId::parse(&id.to_string()), Ok(id));
            for around in [millis, millis + 1_000_000_000, millis.saturating_sub(1_000_000_000)] {
                assert_eq!(id.made_at(around), millis);
            }
        }
    }

    #[test]
    fn a_request_id_is_found_in_its_uuid() {
        for (millis, entropy) in
            [(0, 0), (1_790_000_000_000, u64::MAX), (5, 0x1234_5678_9ABC_DEF0), (u64::MAX, 7)]
        {
            let id = RequestId::new(millis, entropy);
            for more in [0, u64::MAX, 0x2_0000_0001] {
                let uuid = id.to_uuid(more);
                assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"), "{uuid}");
                assert!("89ab".contains(&uuid[19..20]), "{uuid}");
                assert_eq!(RequestId::from_uuid(&uuid), Ok(id));
                assert_eq!(RequestId::from_uuid(&uuid.to_uppercase()), Ok(id));
            }
        }
        for bad in [
            "",
            "00000000-0000-1000-8000-000000000000",
            "00000000-0000-4000-c000-000000000000",
            "00000000-0000-4000-8000-00000000000",
            "000000000000-4000-8000-000000000000-",
            "0000000g-0000-4000-8000-000000000000",
        ] {
            assert_eq!(RequestId::from_uuid(bad), Err(MalformedId), "{bad}");
        }
    }

    #[test]
    fn ids_grow_with_time() {
        let earlier = ConnectionId::new(1000, 0, 9, 1).to_string();
        let later = ConnectionId::new(1016, 0, 0, 0).to_string();
        assert_ne!(earlier, later);
        assert!(ConnectionId::new(1016, 0, 0, 0) > ConnectionId::new(1000, 255, 9, 1));
    }

    #[test]
    fn shape_decides_what_is_malformed() {
        // S0-84, AG-11: the right shape is never malformed, whoever made it.
        for good in ["Hh2QmdfDIkwCF6w=", "_______________=", "-AAAAAAAAAAAAAB="] {
            assert!(ConnectionId::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "abc",
            "Hh2QmdfDIkwCF6w",
            "Hh2QmdfDIkwCF6w==",
            "Hh2QmdfDIkwCF6+=",
            "Hh2QmdfDIkwCF=w=",
            "Hh2Qmdf%DIkwCF6=",
        ] {
            assert_eq!(ConnectionId::parse(bad), Err(MalformedId), "{bad}");
        }
    }

    #[test]
    fn request_ids_have_the_same_form() {
        let id = RequestId::new(1_736_942_400_000, u64::MAX).to_string();
        assert_eq!(id.len(), ID_LENGTH);
        assert!(ConnectionId::parse(&id).is_ok());
    }
}
