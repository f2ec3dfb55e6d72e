//! Epoll loops on one thread that read and write, nothing else.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::{Push, print_address};
use crate::swarm::{payload, server_head};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// Bytes of one read.
const READ_BUFFER: usize = 64 * 1024;

/// Answer to a handshake, without the proof that a real client would want.
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

/// The frame a server sends for a payload of `size` bytes.
fn frame(size: usize) -> Vec<u8> {
    [server_head(size), payload(size).into_bytes()].concat()
}

/// Answers every read with one prepared frame.
pub(super) fn echo(size: usize) -> Result<()> {
    let frame = frame(size);
    let mut node = Node::new()?;
    let mut buffer = vec![0; READ_BUFFER];
    let mut events = Events::with_capacity(1024);
    loop {
        wait(&mut node.poll, &mut events)?;
        for event in &events {
            if event.token() == LISTENER {
                node.accept()?;
                continue;
            }
            let Some(stream) = node.stream(event.token()) else { continue };
            match stream.read(&mut buffer) {
                // The clients have one message under way, so this one is whole and the answer fits.
                Ok(1..) if stream.write_all(&frame).is_ok() => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => node.remove(event.token()),
            }
        }
    }
}

/// Writes prepared frames to all connections when told so on standard input.
pub(super) fn fanout() -> Result<()> {
    let mut node = Node::new()?;
    let waker = Arc::new(Waker::new(node.poll.registry(), WAKER).context("make a waker")?);
    let (sender, commands) = mpsc::sync_channel(16);
    // Ends with the process, or with its standard input.
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if let Some(push) = Push::parse(&line)
                && (sender.send(push).is_err() || waker.wake().is_err())
            {
                return;
            }
        }
    });
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; READ_BUFFER];
    let mut waiting: Vec<Bytes> = Vec::new();
    loop {
        wait(&mut node.poll, &mut events)?;
        for event in &events {
            match event.token() {
                LISTENER => node.accept()?,
                WAKER => {
                    while let Ok(push) = commands.try_recv() {
                        // All messages of a burst in one write: the least that any server can do.
                        let all = Bytes::from(frame(push.payload).repeat(push.count));
                        waiting = vec![Bytes::new(); node.streams.len()];
                        for (idx, rest) in waiting.iter_mut().enumerate() {
                            let Some(stream) = &mut node.streams[idx] else { continue };
                            *rest = all.clone();
                            write(stream, rest);
                        }
                    }
                }
                token => {
                    let Some(Some(stream)) = node.streams.get_mut(token.0) else { continue };
                    // The only thing that clients send is their handshake. Its answer tells them that they have
                    // been accepted, which a finished TCP connect does not.
                    if event.is_readable() && matches!(stream.read(&mut buffer), Ok(1..)) {
                        stream.write_all(SWITCHING).context("answer a handshake")?;
                    }
                    if let Some(rest) = waiting.get_mut(token.0) {
                        write(stream, rest);
                    }
                }
            }
        }
    }
}

/// Writes as much of `rest` as the socket takes; the next writable event continues.
fn write(stream: &mut TcpStream, rest: &mut Bytes) {
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(n_written) => drop(rest.split_to(n_written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => rest.clear(),
        }
    }
}

struct Node {
    poll: Poll,
    listener: TcpListener,
    streams: Vec<Option<TcpStream>>,
}

impl Node {
    fn new() -> Result<Self> {
        let poll = Poll::new().context("create an epoll instance")?;
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).context("listen")?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).context("register")?;
        print_address(listener.local_addr().context("read the own address")?)?;
        Ok(Self { poll, listener, streams: Vec::new() })
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nodelay(true).context("set nodelay")?;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    let token = Token(self.streams.len());
                    self.poll.registry().register(&mut stream, token, interest).context("register")?;
                    self.streams.push(Some(stream));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accept"),
            }
        }
    }

    fn stream(&mut self, token: Token) -> Option<&mut TcpStream> {
        self.streams.get_mut(token.0)?.as_mut()
    }

    fn remove(&mut self, token: Token) {
        if let Some(stream) = self.streams.get_mut(token.0) {
            *stream = None;
        }
    }
}

fn wait(poll: &mut Poll, events: &mut Events) -> Result<()> {
    match poll.poll(events, None) {
        Err(error) if error.kind() != ErrorKind::Interrupted => Err(error).context("wait for events"),
        _ => Ok(()),
    }
}
