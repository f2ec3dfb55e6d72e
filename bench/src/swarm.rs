//! Many client connections on one thread, with as little work per message as possible.
//!
//! The clients share two processors with what they measure, so they do not decode: every answer is known
//! beforehand by its length and its first bytes, and anything else ends the run.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::http_exchange::head_len;

/// Handshakes, or first messages, under way at a time. Below the backlog of any listener.
const WINDOW: usize = 256;

/// Source addresses that connections are spread over, 127.0.0.2 and following: each has its own ports.
const N_SOURCES: usize = 16;

/// How long without any event until a run has failed.
const STALL: Duration = Duration::from_secs(20);

/// Bytes of one read.
const READ_BUFFER: usize = 64 * 1024;

/// Where clients connect.
#[derive(Debug, Clone)]
pub struct Target {
    /// The listener.
    pub address: SocketAddr,
    /// Path of the WebSocket handshake; none: bare TCP.
    pub path: Option<String>,
}

/// What clients send and what they expect.
#[derive(Debug)]
pub struct Exchange {
    /// Complete requests; connection `i` of `n` sends number `i`, `i + n`, `i + 2n`, ... of them, over and over.
    pub requests: Vec<Bytes>,
    /// Length of every answer, in bytes.
    pub reply_len: usize,
    /// How every answer begins.
    pub reply_prefix: Bytes,
}

impl Exchange {
    /// A text message over WebSocket that comes back as it is. At most 65,535 bytes.
    pub fn echo(text: &str) -> Self {
        let head = server_head(text.len());
        Self {
            requests: vec![Bytes::from(tidegate_ws::ClientEncoder::new(None).text(text))],
            reply_len: head.len() + text.len(),
            reply_prefix: Bytes::from(head),
        }
    }
}

/// First bytes of a server's text frame.
pub fn server_head(len: usize) -> Vec<u8> {
    match len {
        0..=125 => vec![0x81, len as u8],
        _ => [&[0x81, 126][..], &(len as u16).to_be_bytes()].concat(),
    }
}

/// A JSON text of exactly `size` bytes (at least 40) that selects no named route.
pub fn payload(size: usize) -> String {
    let frame = r#"{"action":"bench","data":""}"#;
    let filling = "x".repeat(size.saturating_sub(frame.len()));
    format!(r#"{{"action":"bench","data":"{filling}"}}"#)
}

/// What a load came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Answers within [`Self::elapsed`].
    pub exchanges: u64,
    /// How long requests were sent.
    pub elapsed: Duration,
    /// Nanoseconds from request to answer, sorted.
    latencies: Vec<u32>,
}

impl Outcome {
    /// What came of exchanges with these latencies, in any order, within `elapsed`.
    pub fn of(latencies: &[Duration], elapsed: Duration) -> Self {
        let nanos = |latency: &Duration| u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX);
        let mut nanoseconds: Vec<u32> = latencies.iter().map(nanos).collect();
        nanoseconds.sort_unstable();
        Self { exchanges: nanoseconds.len() as u64, elapsed, latencies: nanoseconds }
    }
}

impl Outcome {
    /// Answers in a second.
    pub fn per_second(&self) -> f64 {
        self.exchanges as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that `share` (0 to 1) of the exchanges did not exceed, in milliseconds.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let idx =
            ((self.latencies.len() as f64 * share) as usize).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(idx).map_or(0.0, |nanos| f64::from(*nanos) / 1e6)
    }
}

#[derive(Debug)]
struct Peer {
    stream: TcpStream,
    state: State,
    /// Answer bytes that are still to come.
    pending: usize,
    sent_at: Instant,
    next_request: usize,
}

#[derive(Debug)]
enum State {
    Connecting,
    /// Holds what has come of the handshake's answer.
    Upgrading(Vec<u8>),
    Open,
    /// Has sent its close frame and waits for the end. Only in [`cycle`].
    Closing,
}

/// Client connections, all open.
#[derive(Debug)]
pub struct Swarm {
    poll: Poll,
    events: Events,
    peers: Vec<Peer>,
    buffer: Vec<u8>,
}

impl Swarm {
    /// Opens `count` connections.
    pub fn open(target: &Target, count: usize) -> Result<Self> {
        let mut swarm = Self {
            poll: Poll::new().context("create an epoll instance")?,
            events: Events::with_capacity(1024),
            peers: Vec::with_capacity(count),
            buffer: vec![0; READ_BUFFER],
        };
        swarm.grow(target, count)?;
        Ok(swarm)
    }

    /// Opens further connections, until there are `count`.
    pub fn grow(&mut self, target: &Target, count: usize) -> Result<()> {
        let handshake = target.path.as_deref().map(|path| handshake(target.address, path));
        let mut n_open = self.peers.len();
        while n_open < count {
            while self.peers.len() < count && self.peers.len() - n_open < WINDOW {
                let idx = self.peers.len();
                let stream = register(&self.poll, target.address, idx)?;
                self.peers.push(Peer::new(stream, idx));
            }
            self.wait(None)?;
            for event in &self.events {
                let peer = &mut self.peers[event.token().0];
                if peer.advance(handshake.as_deref(), &mut self.buffer)? {
                    n_open += 1;
                }
            }
        }
        Ok(())
    }

    /// Every connection from number `from` on sends one request and gets its answer, few at a time.
    pub fn exchange_once(&mut self, exchange: &Exchange, from: usize) -> Result<()> {
        let count = self.peers.len();
        let mut start = from;
        while start < count {
            let end = count.min(start + WINDOW);
            for peer in &mut self.peers[start..end] {
                peer.send(exchange, count)?;
            }
            let mut waiting = end - start;
            while waiting > 0 {
                self.wait(None)?;
                for event in &self.events {
                    let peer = &mut self.peers[event.token().0];
                    if peer.receive(exchange, &mut self.buffer)?.is_some() {
                        waiting -= 1;
                    }
                }
            }
            start = end;
        }
        Ok(())
    }

    /// Every connection sends its next request as soon as it has its answer, for `duration`.
    ///
    /// With `pace`, that many requests a second leave instead, on whichever connection is free; the clock has
    /// steps of a millisecond.
    pub fn run(&mut self, exchange: &Exchange, duration: Duration, pace: Option<f64>) -> Result<Outcome> {
        let count = self.peers.len();
        let mut outcome = Outcome::default();
        let started = Instant::now();
        let mut free: Vec<usize> = Vec::new();
        let mut n_sent = 0_usize;
        match pace {
            Some(_) => free.extend(0..count),
            None => {
                for peer in &mut self.peers {
                    peer.send(exchange, count)?;
                }
                n_sent = count;
            }
        }
        let mut n_answered = 0_usize;
        let mut ended_at = None;
        while ended_at.is_none() || n_answered < n_sent {
            if let (Some(rate), None) = (pace, ended_at) {
                let due = (started.elapsed().as_secs_f64() * rate) as usize;
                while n_sent < due && !free.is_empty() {
                    let idx = free.swap_remove(n_sent % free.len());
                    self.peers[idx].send(exchange, count)?;
                    n_sent += 1;
                }
            }
            self.wait(pace.map(|_| Duration::from_millis(1)))?;
            let elapsed = started.elapsed();
            if ended_at.is_none() && elapsed >= duration {
                ended_at = Some(elapsed);
            }
            for event in &self.events {
                let idx = event.token().0;
                let peer = &mut self.peers[idx];
                let Some(latency) = peer.receive(exchange, &mut self.buffer)? else { continue };
                n_answered += 1;
                if ended_at.is_some() {
                    continue;
                }
                outcome.exchanges += 1;
                outcome.latencies.push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
                match pace {
                    Some(_) => free.push(idx),
                    None => {
                        peer.send(exchange, count)?;
                        n_sent += 1;
                    }
                }
            }
        }
        outcome.elapsed = ended_at.unwrap_or(duration);
        outcome.latencies.sort_unstable();
        Ok(outcome)
    }

    /// Reads until every connection has got exactly `n_bytes`; answers when the last byte had come.
    ///
    /// # Errors
    /// A connection ended or got more, or nothing came for a while: somebody was lost.
    pub fn receive(&mut self, n_bytes: usize) -> Result<Instant> {
        for peer in &mut self.peers {
            peer.pending = n_bytes;
        }
        let mut waiting = self.peers.len();
        while waiting > 0 {
            self.wait(None).with_context(|| format!("{waiting} connections wait for their message"))?;
            for event in &self.events {
                let peer = &mut self.peers[event.token().0];
                while let Some(n_read) = peer.read(&mut self.buffer)? {
                    peer.pending = peer.pending.checked_sub(n_read).context("more than was pushed came")?;
                    if peer.pending == 0 {
                        waiting -= 1;
                    }
                    if n_read < self.buffer.len() {
                        break;
                    }
                }
            }
        }
        Ok(Instant::now())
    }

    /// Sends `request` on every connection and collects what comes back until `is_complete`.
    pub fn collect(&mut self, request: &[u8], is_complete: fn(&[u8]) -> bool) -> Result<Vec<Vec<u8>>> {
        let mut answers = vec![Vec::new(); self.peers.len()];
        let mut waiting = self.peers.len();
        for peer in &mut self.peers {
            peer.stream.write_all(request).context("send")?;
        }
        while waiting > 0 {
            self.wait(None)?;
            for event in &self.events {
                let idx = event.token().0;
                if let Some(n_read) = self.peers[idx].read(&mut self.buffer)? {
                    answers[idx].extend_from_slice(&self.buffer[..n_read]);
                    if is_complete(&answers[idx]) {
                        waiting -= 1;
                    }
                }
            }
        }
        Ok(answers)
    }

    /// Reads and discards whatever comes until `stop` says so.
    pub fn drain(&mut self, stop: &dyn Fn() -> bool) -> Result<u64> {
        let mut n_bytes = 0;
        while !stop() {
            self.wait(Some(Duration::from_millis(50)))?;
            for event in &self.events {
                let peer = &mut self.peers[event.token().0];
                while let Some(n_read) = peer.read(&mut self.buffer)? {
                    n_bytes += n_read as u64;
                    if n_read < self.buffer.len() {
                        break;
                    }
                }
            }
        }
        Ok(n_bytes)
    }

    /// Waits for events. Without `timeout`, none within [`STALL`] is an error.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        wait(&mut self.poll, &mut self.events, timeout)
    }
}

impl Peer {
    fn new(stream: TcpStream, idx: usize) -> Self {
        Self { stream, state: State::Connecting, pending: 0, sent_at: Instant::now(), next_request: idx }
    }

    /// Takes the handshake a step further; true when the connection has just been opened.
    fn advance(&mut self, handshake: Option<&[u8]>, buffer: &mut [u8]) -> Result<bool> {
        loop {
            match &mut self.state {
                State::Connecting => {
                    if let Some(error) = self.stream.take_error().context("look at a socket")? {
                        return Err(error).context("connect");
                    }
                    if self.stream.peer_addr().is_err() {
                        return Ok(false);
                    }
                    let Some(handshake) = handshake else {
                        self.state = State::Open;
                        return Ok(true);
                    };
                    self.stream.write_all(handshake).context("send the handshake")?;
                    self.state = State::Upgrading(Vec::new());
                }
                State::Upgrading(received) => {
                    let Some(n_read) = read(&mut self.stream, buffer)? else { return Ok(false) };
                    received.extend_from_slice(&buffer[..n_read]);
                    let Some(head_len) = head_len(received) else { continue };
                    if !received.starts_with(b"HTTP/1.1 101 ") || head_len != received.len() {
                        bail!("the handshake was answered {:?}", String::from_utf8_lossy(received));
                    }
                    self.state = State::Open;
                    return Ok(true);
                }
                State::Open | State::Closing => return Ok(false),
            }
        }
    }

    fn send(&mut self, exchange: &Exchange, n_peers: usize) -> Result<()> {
        let request = &exchange.requests[self.next_request % exchange.requests.len()];
        self.next_request += n_peers;
        self.sent_at = Instant::now();
        self.pending = exchange.reply_len;
        // A request fits into the socket's buffer: the previous one has been answered.
        self.stream.write_all(request).context("send a request")
    }

    /// Reads what is there; the latency when the answer is complete.
    fn receive(&mut self, exchange: &Exchange, buffer: &mut [u8]) -> Result<Option<Duration>> {
        if self.pending == 0 {
            return Ok(None);
        }
        let Some(n_read) = self.read(buffer)? else { return Ok(None) };
        let is_first = self.pending == exchange.reply_len;
        let prefix = &exchange.reply_prefix;
        if n_read > self.pending
            || is_first && !buffer[..n_read].starts_with(&prefix[..prefix.len().min(n_read)])
        {
            bail!("unexpected answer {:?}", String::from_utf8_lossy(&buffer[..n_read]));
        }
        self.pending -= n_read;
        Ok((self.pending == 0).then(|| self.sent_at.elapsed()))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        read(&mut self.stream, buffer)
    }
}

/// Opens and closes connections, `concurrency` at a time, for `duration`: TCP, handshake, close frame, end.
pub fn cycle(target: &Target, concurrency: usize, duration: Duration) -> Result<Outcome> {
    let path = target.path.as_deref().context("a cycle needs a handshake")?;
    let handshake = handshake(target.address, path);
    open_and_close(target.address, concurrency, |_, started| {
        (started.elapsed() < duration).then(|| handshake.clone())
    })
}

/// As [`cycle`], but opens each of `paths` once.
pub fn cycle_each(address: SocketAddr, concurrency: usize, paths: &[String]) -> Result<Outcome> {
    open_and_close(address, concurrency, |turn, _| paths.get(turn).map(|path| handshake(address, path)))
}

/// `next` gives the handshake of a turn, or nothing when there are no more; turns under way are finished then.
fn open_and_close(
    address: SocketAddr,
    concurrency: usize,
    next: impl Fn(usize, Instant) -> Option<Vec<u8>>,
) -> Result<Outcome> {
    let normal = tidegate_ws::CloseFrame::from(tidegate_ws::CloseCode::NORMAL);
    let close = tidegate_ws::ClientEncoder::new(None).close(Some(&normal));
    let mut poll = Poll::new().context("create an epoll instance")?;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; READ_BUFFER];
    let started = Instant::now();
    let mut peers = Vec::with_capacity(concurrency);
    let mut turn = 0;
    while peers.len() < concurrency
        && let Some(handshake) = next(turn, started)
    {
        let idx = peers.len();
        peers.push((Peer::new(register_as(&poll, address, idx, turn)?, idx), handshake));
        turn += 1;
    }
    let mut n_open = peers.len();
    let mut outcome = Outcome::default();
    while n_open > 0 {
        wait(&mut poll, &mut events, None)?;
        for event in &events {
            let idx = event.token().0;
            let (peer, handshake) = &mut peers[idx];
            if peer.advance(Some(handshake), &mut buffer)? {
                peer.stream.write_all(&close).context("send the close frame")?;
                peer.state = State::Closing;
            }
            if !matches!(peer.state, State::Closing) || !is_over(&mut peer.stream, &mut buffer)? {
                continue;
            }
            outcome.exchanges += 1;
            let latency = peer.sent_at.elapsed().as_nanos();
            outcome.latencies.push(u32::try_from(latency).unwrap_or(u32::MAX));
            match next(turn, started) {
                Some(handshake) => {
                    peers[idx] = (Peer::new(register_as(&poll, address, idx, turn)?, idx), handshake);
                    turn += 1;
                }
                None => {
                    // No further event of this socket: it has ended.
                    peer.state = State::Connecting;
                    poll.registry().deregister(&mut peer.stream).context("let a socket go")?;
                    n_open -= 1;
                }
            }
        }
    }
    outcome.elapsed = started.elapsed();
    outcome.latencies.sort_unstable();
    Ok(outcome)
}

/// Whether the peer has ended the connection after its close frame.
fn is_over(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<bool> {
    loop {
        match stream.read(buffer) {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("wait for the end"),
        }
    }
}

/// A complete handshake request.
pub fn handshake(address: SocketAddr, path: &str) -> Vec<u8> {
    let key = tidegate_ws::handshake::new_key();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nUser-Agent: tidegate-bench\r\n\r\n"
    )
    .into_bytes()
}

fn register(poll: &Poll, address: SocketAddr, idx: usize) -> Result<TcpStream> {
    register_as(poll, address, idx, idx)
}

/// Begins to connect, from a source address that `turn` chooses, and registers the socket as `idx`.
fn register_as(poll: &Poll, address: SocketAddr, idx: usize, turn: usize) -> Result<TcpStream> {
    let socket = client_socket()?;
    if address.ip().is_loopback() {
        let last = u8::try_from(2 + turn % N_SOURCES).context("a source address")?;
        bind(&socket, Ipv4Addr::new(127, 0, 0, last))?;
    }
    begin(poll, socket, address, idx)
}

/// As [`register`], from an address that at most `per_source` connections share, as a limit for each address demands.
pub fn register_few(poll: &Poll, address: SocketAddr, idx: usize, per_source: usize) -> Result<TcpStream> {
    let socket = client_socket()?;
    if address.ip().is_loopback() {
        let number = u16::try_from(idx / per_source.max(1)).context("a source address")?;
        let [high, low] = number.to_be_bytes();
        bind(&socket, Ipv4Addr::new(127, 1, high, low))?;
    }
    begin(poll, socket, address, idx)
}

fn client_socket() -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).context("make a socket")?;
    socket.set_nonblocking(true).context("make a socket non-blocking")?;
    socket.set_tcp_nodelay(true).context("set nodelay")?;
    Ok(socket)
}

fn bind(socket: &Socket, source: Ipv4Addr) -> Result<()> {
    let source = SocketAddr::new(IpAddr::V4(source), 0);
    socket.bind(&source.into()).context("bind a source address")
}

fn begin(poll: &Poll, socket: Socket, address: SocketAddr, idx: usize) -> Result<TcpStream> {
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if is_in_progress(&error) => {}
        Err(error) => return Err(error).context("connect"),
    }
    let mut stream = TcpStream::from_std(socket.into());
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(&mut stream, Token(idx), interest).context("register a socket")?;
    Ok(stream)
}

fn is_in_progress(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
        || error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}

/// `None`: nothing there for now. The end of the connection is an error.
pub fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<Option<usize>> {
    loop {
        match stream.read(buffer) {
            Ok(0) => bail!("the connection was closed"),
            Ok(n_read) => return Ok(Some(n_read)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("read"),
        }
    }
}

/// Waits for events. Without `timeout`, none within [`STALL`] is an error.
pub fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> Result<()> {
    loop {
        match poll.poll(events, Some(timeout.unwrap_or(STALL))) {
            Ok(()) if events.is_empty() && timeout.is_none() => {
                bail!("nothing came for {} s", STALL.as_secs())
            }
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("wait for events"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_size_and_are_json() {
        for size in [40, 100, 256] {
            let text = payload(size);
            assert_eq!(text.len(), size);
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }

    #[test]
    fn an_echo_is_as_long_as_the_frame_of_a_server() {
        for size in [40, 125, 126, 256] {
            let text = payload(size);
            let frame = tidegate_ws::OutboundMessage::text(Bytes::from(text.clone())).frames(None);
            let exchange = Exchange::echo(&text);
            assert_eq!(exchange.reply_len, frame.len());
            assert!(frame.starts_with(&exchange.reply_prefix));
        }
    }

    #[test]
    fn percentiles() {
        let outcome = Outcome {
            exchanges: 4,
            elapsed: Duration::from_secs(2),
            latencies: vec![1_000_000, 2_000_000, 3_000_000, 4_000_000],
        };
        assert_eq!(outcome.per_second(), 2.0);
        assert_eq!(outcome.percentile_ms(0.5), 3.0);
        assert_eq!(outcome.percentile_ms(0.99), 4.0);
        assert_eq!(Outcome::default().percentile_ms(0.5), 0.0);
    }
}
