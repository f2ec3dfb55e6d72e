//! Text of a message in progress, checked for UTF-8 as its bytes arrive.

use crate::decode::DecodeError;

/// Grows as bytes arrive; refuses the first byte that cannot belong to UTF-8, also in the middle of a frame.
#[derive(Debug, Default)]
pub(crate) struct Text {
    checked: String,
    /// Begin of a character whose other bytes have not arrived.
    begun: [u8; 4],
    begun_len: u8,
}

impl Text {
    /// Bytes received, those of an incomplete character included.
    pub(crate) fn len(&self) -> usize {
        self.checked.len() + usize::from(self.begun_len)
    }

    /// Takes the next bytes. The capacity never exceeds `limit`, which the caller holds the sum to.
    pub(crate) fn push(&mut self, mut bytes: &[u8], limit: usize) -> Result<(), DecodeError> {
        while self.begun_len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            self.continue_character(byte, limit)?;
        }
        let (whole, begun) = bytes.split_at(bytes.len() - incomplete_suffix(bytes));
        let text = check(whole).map_err(|offset| self.invalid_at(offset))?;
        self.reserve(text.len(), limit);
        self.checked.push_str(text);
        for &byte in begun {
            self.continue_character(byte, limit)?;
        }
        Ok(())
    }

    /// The whole text.
    pub(crate) fn finish(self) -> Result<String, DecodeError> {
        if self.begun_len > 0 { Err(self.invalid_at(0)) } else { Ok(self.checked) }
    }

    fn continue_character(&mut self, byte: u8, limit: usize) -> Result<(), DecodeError> {
        let len = usize::from(self.begun_len);
        // A character is complete or refused at its fourth byte, so the index stays in range.
        self.begun[len] = byte;
        let begun = self.begun;
        match std::str::from_utf8(&begun[..=len]) {
            Ok(character) => {
                self.reserve(character.len(), limit);
                self.checked.push_str(character);
                self.begun_len = 0;
            }
            Err(error) if error.error_len().is_none() => self.begun_len += 1,
            Err(_) => return Err(self.invalid_at(0)),
        }
        Ok(())
    }

    fn reserve(&mut self, additional: usize, limit: usize) {
        if let Some(target) = grown(self.checked.capacity(), self.checked.len() + additional, limit) {
            self.checked.reserve_exact(target - self.checked.len());
        }
    }

    fn invalid_at(&self, offset: usize) -> DecodeError {
        DecodeError::NotUtf8 { offset: self.checked.len() + offset }
    }
}

/// Checks text that ought to be whole; the error is the offset of the first invalid character.
pub(crate) fn check(bytes: &[u8]) -> Result<&str, usize> {
    simdutf8::basic::from_utf8(bytes)
        .map_err(|_| simdutf8::compat::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len))
}

/// How many bytes at the end may begin a character that needs more.
fn incomplete_suffix(bytes: &[u8]) -> usize {
    for (n, &byte) in (1..4).zip(bytes.iter().rev()) {
        let needed = match byte {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
            0x80..=0xbf => continue,
            _ => 1,
        };
        return if needed > n { n } else { 0 };
    }
    0
}

/// The capacity to grow to when `needed` bytes do not fit: doubled like that of a `Vec`, but never beyond `limit`.
pub(crate) fn grown(capacity: usize, needed: usize, limit: usize) -> Option<usize> {
    (needed > capacity).then(|| (capacity * 2).min(limit).max(needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(pieces: &[&[u8]]) -> Result<String, usize> {
        let mut text = Text::default();
        for piece in pieces {
            text.push(piece, 1 << 20).map_err(offset)?;
        }
        text.finish().map_err(offset)
    }

    fn offset(error: DecodeError) -> usize {
        match error {
            DecodeError::NotUtf8 { offset } => offset,
            other => panic!("unexpected {other}"),
        }
    }

    #[test]
    fn characters_across_pieces() {
        let whole = "aé€😀z";
        for first in 0..=whole.len() {
            for second in first..=whole.len() {
                let bytes = whole.as_bytes();
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(pushed(&pieces).as_deref(), Ok(whole));
            }
        }
    }

    #[test]
    fn refused_at_the_first_impossible_byte() {
        let check = |pieces: &[&[u8]], at: usize| assert_eq!(pushed(pieces), Err(at), "{pieces:?}");
        check(&[b"ab\xff"], 2);
        check(&[b"ab\xc0"], 2);
        check(&[b"ab", b"\xf4", b"\x90"], 2);
        check(&[b"\xed\xa0"], 0);
        check(&[b"\xf5"], 0);
        check(&[b"abc\xe2\x82"], 3);
        check(&[b"\xe2\x28\xa1"], 0);
        check(&[b"\x80"], 0);
        check(&[b"\x80\x80\x80\x80"], 0);
    }
}
