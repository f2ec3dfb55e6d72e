//! Compression contexts, shared by all connections of a thread.
//!
//! A context of zlib takes tens to hundreds of kilobytes. None belongs to a connection: a message borrows one
//! from its thread and gives it back when it is complete. Only a peer that insists on context takeover makes its
//! decoder keep one between messages.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Ends every message on the way into the inflater and is left out on the wire. Source: RFC 7692, section 7.2.1.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Smallest payload, in bytes, that is worth compressing.
///
/// A choice, not a measurement: every compression resets a whole context first, and a payload this small fits into
/// one TCP segment either way.
pub const MIN_DEFLATE: usize = 256;

/// Effort of the compressor, 1 to 9; a low one, because gateways pay by CPU time.
const LEVEL: u32 = 3;

/// Inflated bytes that are handed on at a time. It bounds what a small input can make the decoder write at once.
const SCRATCH: usize = 16 * 1024;

/// Idle inflaters a thread keeps. More exist only while that many compressed messages are half received.
const MAX_POOLED: usize = 4;

thread_local! {
    static INFLATERS: RefCell<Vec<Decompress>> = const { RefCell::new(Vec::new()) };
    static SCRATCH_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// One for each window size, by window bits.
    static DEFLATERS: RefCell<[Option<Compress>; 16]> = const { RefCell::new([const { None }; 16]) };
}

/// A compressed message does not follow RFC 1951.
#[derive(Debug)]
pub(crate) struct Corrupt;

/// Inflate context, borrowed from the thread's pool; returns to it when dropped.
#[derive(Debug)]
pub(crate) struct Inflater(Option<Decompress>);

impl Inflater {
    /// A context without history. Its window is the largest one, so it reads messages of any smaller window.
    pub(crate) fn take() -> Self {
        let pooled = INFLATERS.with_borrow_mut(Vec::pop);
        Self(Some(match pooled {
            Some(mut context) => {
                context.reset(false);
                context
            }
            None => Decompress::new(false),
        }))
    }

    /// Inflates a piece of a message into `sink`, which may refuse.
    pub(crate) fn push<E: From<Corrupt>>(
        &mut self,
        input: &[u8],
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(context) = &mut self.0 else { return Err(Corrupt.into()) };
        SCRATCH_BUFFER.with_borrow_mut(|scratch| {
            scratch.resize(SCRATCH, 0);
            inflate(context, input, scratch, sink)
        })
    }

    /// Ends a message: puts back the tail that the sender left out.
    pub(crate) fn end_message<E: From<Corrupt>>(
        &mut self,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.push(&TAIL, sink)
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        if let Some(context) = self.0.take() {
            // Fails only while the thread ends; then the context goes with it.
            let _ = INFLATERS.try_with(|pool| {
                if let Ok(mut pool) = pool.try_borrow_mut()
                    && pool.len() < MAX_POOLED
                {
                    pool.push(context);
                }
            });
        }
    }
}

fn inflate<E: From<Corrupt>>(
    context: &mut Decompress,
    mut input: &[u8],
    scratch: &mut [u8],
    sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let (n_in, n_out) = (context.total_in(), context.total_out());
        let status = context.decompress(input, scratch, FlushDecompress::Sync).map_err(|_| Corrupt)?;
        let consumed = (context.total_in() - n_in) as usize;
        let produced = (context.total_out() - n_out) as usize;
        input = input.get(consumed..).unwrap_or_default();
        if let Some(bytes @ [_, ..]) = scratch.get(..produced) {
            sink(bytes)?;
        }
        if status == Status::StreamEnd {
            // A block with BFINAL may end a message or stand inside it (RFC 7692, section 7.2.3.4). What follows
            // cannot refer to bytes before it here; no known sender does that.
            context.reset(false);
        } else if input.is_empty() && produced < scratch.len() {
            return Ok(());
        } else if consumed == 0 && produced == 0 {
            return Err(Corrupt.into());
        }
        if status == Status::StreamEnd && input.is_empty() {
            return Ok(());
        }
    }
}

/// Whether messages can be compressed with this window. zlib has no raw streams with a window of 256 bytes.
pub(crate) fn can_deflate(window_bits: u8) -> bool {
    (9..=15).contains(&window_bits)
}

/// Compresses one message, given in pieces, on its own; the tail is left out.
///
/// `None` when the result would not be smaller than the payload.
pub(crate) fn deflate<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    len: usize,
    window_bits: u8,
) -> Option<Vec<u8>> {
    if !can_deflate(window_bits) {
        return None;
    }
    DEFLATERS.with_borrow_mut(|contexts| {
        let slot = contexts.get_mut(usize::from(window_bits))?;
        let context = slot.get_or_insert_with(|| {
            Compress::new_with_window_bits(Compression::new(LEVEL), false, window_bits)
        });
        context.reset();
        // No larger than the payload with the tail: what does not fit is not worth sending.
        let mut out = Vec::with_capacity(len + TAIL.len());
        for piece in pieces {
            let mut rest = piece;
            while !rest.is_empty() {
                let before = context.total_in();
                context.compress_vec(rest, &mut out, FlushCompress::None).ok()?;
                let consumed = (context.total_in() - before) as usize;
                if consumed == 0 {
                    return None;
                }
                rest = &rest[consumed..];
            }
        }
        context.compress_vec(&[], &mut out, FlushCompress::Sync).ok()?;
        let complete = out.ends_with(&TAIL) && out.len() < out.capacity();
        out.truncate(out.len().saturating_sub(TAIL.len()));
        (complete && out.len() < len).then_some(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflate_all(input: &[u8]) -> Result<Vec<u8>, Corrupt> {
        let mut out = Vec::new();
        let mut inflater = Inflater::take();
        let mut sink = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok::<(), Corrupt>(())
        };
        inflater.push(input, &mut sink)?;
        inflater.end_message(&mut sink)?;
        Ok(out)
    }

    #[test]
    fn examples_of_the_rfc() {
        // RFC 7692, section 7.2.3: one block, sharing the window, no compression, BFINAL, two blocks.
        for message in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            assert_eq!(inflate_all(message).expect("a message of the RFC inflates"), b"Hello");
        }
        assert_eq!(inflate_all(&[]).expect("an empty frame is an empty message"), b"");
    }

    #[test]
    fn round_trip_with_every_window() {
        let plain: Vec<u8> =
            (0..20_000u64).flat_map(|i| format!("{{\"n\":{}}},", i * i % 977).into_bytes()).collect();
        for bits in 9..=15 {
            let packed = deflate(plain.chunks(1000), plain.len(), bits).expect("the payload shrinks");
            assert!(packed.len() < plain.len() / 2, "{bits}: {}", packed.len());
            assert_eq!(inflate_all(&packed).expect("what was deflated inflates"), plain);
            // A reader that has only the agreed window understands it too.
            let mut small = Decompress::new_with_window_bits(false, bits);
            let mut out = Vec::with_capacity(plain.len() + 64);
            small
                .decompress_vec(&packed, &mut out, FlushDecompress::Sync)
                .expect("the small window is enough");
            assert_eq!(out.len(), plain.len());
        }
        assert!(deflate([&plain[..]].into_iter(), plain.len(), 8).is_none());
    }

    #[test]
    fn what_does_not_shrink_stays() {
        let mut noise = vec![0; 4096];
        getrandom::fill(&mut noise).expect("random bytes");
        assert!(deflate([&noise[..]].into_iter(), noise.len(), 15).is_none());
    }

    #[test]
    fn garbage_is_corrupt_and_the_context_recovers() {
        assert!(inflate_all(&[0xff; 32]).is_err());
        assert_eq!(inflate_all(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]).expect("inflates"), b"Hello");
    }
}
