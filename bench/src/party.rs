//! Clients that are sent frames of unknown length: WebSocket connections on one thread, whose frames are counted and, for
//! those who wait for something, looked into.

use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Poll};
use tidegate_ws::ClientEncoder;

use crate::http_exchange::head_len;
use crate::swarm::{handshake, read, register_few, wait};

/// Bytes of one read.
const READ_BUFFER: usize = 64 * 1024;

/// Connections of one source address.
const PER_SOURCE: usize = 16;

/// First byte of a text frame, of a ping and of a close frame.
const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const CLOSE: u8 = 0x88;

/// A frame that somebody has waited for.
#[derive(Debug)]
pub struct Arrival {
    /// Whose.
    pub idx: usize,
    /// Since the request.
    pub latency: Duration,
    /// Its payload.
    pub text: Vec<u8>,
}

/// Client connections, all open.
#[derive(Debug)]
pub struct Party {
    poll: Poll,
    events: Events,
    guests: Vec<Guest>,
    buffer: Vec<u8>,
    encoder: ClientEncoder,
    /// Text frames that have come so far, to everybody.
    pub n_frames: u64,
    /// Payload bytes of these.
    pub n_bytes: u64,
}

#[derive(Debug)]
struct Guest {
    stream: TcpStream,
    state: State,
    /// The beginning of a frame, or of the handshake's answer.
    received: Vec<u8>,
    awaited: Option<Awaited>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Upgrading,
    Open,
}

#[derive(Debug)]
struct Awaited {
    /// What the payload contains.
    marker: Vec<u8>,
    since: Instant,
}

impl Party {
    /// Opens a connection for each of `paths`, `window` at a time.
    ///
    /// # Errors
    /// One was refused, or nothing came for a while.
    pub fn open(address: SocketAddr, paths: &[String], window: usize) -> Result<Self> {
        let mut party = Self {
            poll: Poll::new().context("create an epoll instance")?,
            events: Events::with_capacity(1024),
            guests: Vec::with_capacity(paths.len()),
            buffer: vec![0; READ_BUFFER],
            encoder: ClientEncoder::new(None),
            n_frames: 0,
            n_bytes: 0,
        };
        let mut n_open = 0;
        while n_open < paths.len() {
            while party.guests.len() < paths.len() && party.guests.len() - n_open < window {
                let idx = party.guests.len();
                let stream = register_few(&party.poll, address, idx, PER_SOURCE)?;
                let received = Vec::new();
                party.guests.push(Guest { stream, state: State::Connecting, received, awaited: None });
            }
            let mut arrivals = Vec::new();
            wait(&mut party.poll, &mut party.events, None)
                .with_context(|| format!("{n_open} of {} connections are open", paths.len()))?;
            for event in &party.events {
                let idx = event.token().0;
                let guest = &mut party.guests[idx];
                if guest.state == State::Connecting && guest.stream.peer_addr().is_ok() {
                    let request = handshake(address, &paths[idx]);
                    guest.stream.write_all(&request).context("send the handshake")?;
                    guest.state = State::Upgrading;
                }
                if let Some(error) = guest.stream.take_error().context("look at a socket")? {
                    return Err(error).context("connect");
                }
                let was_open = guest.state == State::Open;
                let counts = guest.receive(idx, &mut party.buffer, &party.encoder, &mut arrivals)?;
                party.n_frames += counts.n_frames;
                party.n_bytes += counts.n_bytes;
                n_open += usize::from(!was_open && guest.state == State::Open);
            }
        }
        Ok(party)
    }

    /// Sends a text; a frame to the same client whose payload contains `marker` is the next of its arrivals.
    ///
    /// # Errors
    /// It waits for another one, or the socket takes no more.
    pub fn ask(&mut self, idx: usize, text: &str, marker: &str) -> Result<()> {
        let guest = &mut self.guests[idx];
        ensure!(guest.awaited.is_none(), "client {idx} waits already");
        guest.awaited = Some(Awaited { marker: marker.as_bytes().to_vec(), since: Instant::now() });
        guest.stream.write_all(&self.encoder.text(text)).context("send an event")
    }

    /// Takes what has come, or waits for something to come: without `timeout`, nothing for a while is an error.
    ///
    /// # Errors
    /// A connection ended.
    pub fn arrivals(&mut self, timeout: Option<Duration>) -> Result<Vec<Arrival>> {
        let mut arrivals = Vec::new();
        wait(&mut self.poll, &mut self.events, timeout)?;
        for event in &self.events {
            let idx = event.token().0;
            let counts = self.guests[idx].receive(idx, &mut self.buffer, &self.encoder, &mut arrivals)?;
            self.n_frames += counts.n_frames;
            self.n_bytes += counts.n_bytes;
        }
        Ok(arrivals)
    }

    /// Takes what comes, until nothing has come for `quiet`.
    ///
    /// # Errors
    /// A connection ended.
    pub fn be_quiet(&mut self, quiet: Duration) -> Result<()> {
        let mut last = (Instant::now(), self.n_frames);
        while last.0.elapsed() < quiet {
            self.arrivals(Some(quiet))?;
            if self.n_frames != last.1 {
                last = (Instant::now(), self.n_frames);
            }
        }
        Ok(())
    }

    /// Waits until this many frames have come since the beginning.
    ///
    /// # Errors
    /// More came, or nothing for a while: somebody was lost.
    pub fn settle(&mut self, n_frames: u64) -> Result<()> {
        while self.n_frames < n_frames {
            let so_far = self.n_frames;
            self.arrivals(None).with_context(|| format!("{so_far} of {n_frames} frames have come"))?;
        }
        ensure!(self.n_frames == n_frames, "{} frames came instead of {n_frames}", self.n_frames);
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Counts {
    n_frames: u64,
    n_bytes: u64,
}

impl Guest {
    /// Reads until there is nothing more.
    fn receive(
        &mut self,
        idx: usize,
        buffer: &mut [u8],
        encoder: &ClientEncoder,
        arrivals: &mut Vec<Arrival>,
    ) -> Result<Counts> {
        let mut counts = Counts::default();
        if self.state == State::Connecting {
            return Ok(counts);
        }
        while let Some(n_read) = read(&mut self.stream, buffer)? {
            let fresh = &buffer[..n_read];
            if self.received.is_empty() && self.state == State::Open {
                let used = self.frames(idx, fresh, encoder, arrivals, &mut counts)?;
                self.received.extend_from_slice(&fresh[used..]);
            } else {
                let mut whole = std::mem::take(&mut self.received);
                whole.extend_from_slice(fresh);
                let mut used = 0;
                if self.state == State::Upgrading
                    && let Some(len) = head_len(&whole)
                {
                    if !whole.starts_with(b"HTTP/1.1 101 ") {
                        bail!("the handshake was answered {:?}", String::from_utf8_lossy(&whole));
                    }
                    self.state = State::Open;
                    used = len;
                }
                if self.state == State::Open {
                    used += self.frames(idx, &whole[used..], encoder, arrivals, &mut counts)?;
                }
                whole.drain(..used);
                self.received = whole;
            }
            if n_read < buffer.len() {
                break;
            }
        }
        Ok(counts)
    }

    /// Takes the complete frames; gives the number of their bytes.
    fn frames(
        &mut self,
        idx: usize,
        bytes: &[u8],
        encoder: &ClientEncoder,
        arrivals: &mut Vec<Arrival>,
        counts: &mut Counts,
    ) -> Result<usize> {
        let mut used = 0;
        while let Some((first, payload, len)) = frame(&bytes[used..]) {
            used += len;
            match first {
                TEXT => {
                    counts.n_frames += 1;
                    counts.n_bytes += payload.len() as u64;
                    if self.awaited.as_ref().is_some_and(|awaited| contains(payload, &awaited.marker))
                        && let Some(awaited) = self.awaited.take()
                    {
                        let latency = awaited.since.elapsed();
                        arrivals.push(Arrival { idx, latency, text: payload.to_vec() });
                    }
                }
                PING => match self.stream.write_all(&encoder.pong(payload)) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error).context("pong"),
                    _ => {}
                },
                CLOSE => bail!("client {idx} was closed: {}", String::from_utf8_lossy(payload)),
                other => bail!("a frame that begins with {other:#x}"),
            }
        }
        Ok(used)
    }
}

/// First byte, payload and whole length of a server's frame, once it is complete.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (first, len, head) = match *bytes {
        [first, 126, high, low, ..] => (first, usize::from(u16::from_be_bytes([high, low])), 4),
        [first, 127, a, b, c, d, e, f, g, h, ..] => {
            (first, usize::try_from(u64::from_be_bytes([a, b, c, d, e, f, g, h])).ok()?, 10)
        }
        [first, len, ..] if len < 126 => (first, usize::from(len), 2),
        _ => return None,
    };
    Some((first, bytes.get(head..head + len)?, head + len))
}

fn contains(payload: &[u8], marker: &[u8]) -> bool {
    payload.windows(marker.len().max(1)).any(|window| window == marker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_servers_are_cut_apart() {
        for len in [0, 125, 126, 65_535, 65_536] {
            let text = "x".repeat(len);
            let mut bytes = tidegate_ws::OutboundMessage::text(text.clone().into()).frames(None).to_vec();
            // Fragments are another matter.
            if bytes[0] != TEXT {
                continue;
            }
            let whole = bytes.len();
            assert!(frame(&bytes[..whole - 1]).is_none(), "{len}");
            bytes.push(TEXT);
            assert_eq!(frame(&bytes), Some((TEXT, text.as_bytes(), whole)));
        }
    }

    #[test]
    fn a_marker_is_found_or_not() {
        assert!(contains(b"{\"content\":\"m-1;\"}", b"m-1;"));
        assert!(!contains(b"{\"content\":\"m-12;\"}", b"m-1;"));
        assert!(!contains(b"m", b"m-1;"));
    }
}
