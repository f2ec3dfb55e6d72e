//! The server side of comparisons, as a process of its own.
//!
//! The two bare ones are single epoll loops without any protocol: what the kernel costs when nobody does more than
//! read and write.
//!
//! Each prints its address as its first line; the fan-out node pushes when it is told `push COUNT BYTES`.

mod bare;

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct Arguments {
    /// What to serve
    kind: NodeKind,
    /// Payload of an echoed frame, in bytes
    #[arg(long, default_value_t = 100)]
    payload: usize,
}

/// What a node serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NodeKind {
    /// Answers every read with a prepared frame.
    BareEcho,
    /// Writes a prepared frame to every connection.
    BareFanout,
}

/// Arguments for [`crate::child::Helper::start`].
pub fn arguments(kind: NodeKind, payload: usize) -> Vec<String> {
    let name = kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    vec!["node".to_owned(), name, "--payload".to_owned(), payload.to_string()]
}

/// Serves until it is killed.
pub fn run(arguments: &Arguments) -> Result<()> {
    match arguments.kind {
        NodeKind::BareEcho => bare::echo(arguments.payload),
        NodeKind::BareFanout => bare::fanout(),
    }
}

/// `push COUNT BYTES`: this many messages of this size to everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Push {
    count: usize,
    payload: usize,
}

impl Push {
    fn parse(line: &str) -> Option<Self> {
        let (count, payload) = line.trim().strip_prefix("push ")?.split_once(' ')?;
        Some(Self { count: count.parse().ok()?, payload: payload.parse().ok()? })
    }
}

fn print_address(address: SocketAddr) -> Result<()> {
    println!("{address}");
    std::io::stdout().flush().context("print the own address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        assert_eq!(Push::parse("push 100 256\n"), Some(Push { count: 100, payload: 256 }));
        for line in ["", "push", "push 1", "push x 1", "pull 1 2"] {
            assert_eq!(Push::parse(line), None);
        }
    }
}
