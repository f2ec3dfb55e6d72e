//! The HTTP backend of the benchmarks: keep-alive, answers 200 with the request's body, as little work as possible. At
//! `/authorize` it is an authorizer that allows everything.

use std::hint::black_box;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::http_exchange::{content_length, head_len};

/// Largest request, in bytes.
const MAX_REQUEST: usize = 1024 * 1024;

/// How requests of an authorizer begin.
const AUTHORIZE: &[u8] = b"POST /authorize ";

/// What an authorizer answers that allows everything.
const ALLOWED: &[u8] = br#"{"principalId":"bench","policyDocument":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"execute-api:Invoke","Resource":"*"}]},"context":{"plan":"gold"}}"#;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Processor time that each request costs beyond the echo, in microseconds
    #[arg(long, default_value_t = 0)]
    work_us: u64,
}

/// Arguments for [`crate::child::Helper::start`].
pub fn arguments(work: Duration) -> Vec<String> {
    vec!["backend".to_owned(), "--work-us".to_owned(), work.as_micros().to_string()]
}

/// Serves until it is killed.
pub fn run(arguments: &Arguments) -> Result<()> {
    let work = Duration::from_micros(arguments.work_us);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_io().build().context("start the runtime")?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        println!("{}", listener.local_addr().context("read the own address")?);
        std::io::stdout().flush().context("print the own address")?;
        loop {
            let (stream, _) = listener.accept().await.context("accept")?;
            // A connection ends with its peer, all of them with the process.
            tokio::spawn(serve(stream, work));
        }
    })
}

async fn serve(mut stream: TcpStream, work: Duration) {
    let _ = stream.set_nodelay(true);
    let mut received = Vec::with_capacity(4096);
    let mut answer = Vec::with_capacity(4096);
    loop {
        while let Some((head_len, body_len)) = request(&received) {
            let rest = head_len + body_len;
            if work > Duration::ZERO {
                busy(work);
            }
            let body = match received.starts_with(AUTHORIZE) {
                true => ALLOWED,
                false => &received[head_len..rest],
            };
            answer
                .extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ");
            let _ = write!(answer, "{}\r\n\r\n", body.len());
            answer.extend_from_slice(body);
            received.drain(..rest);
        }
        if !answer.is_empty() {
            if stream.write_all(&answer).await.is_err() {
                return;
            }
            answer.clear();
        }
        if received.len() > MAX_REQUEST || !matches!(stream.read_buf(&mut received).await, Ok(1..)) {
            return;
        }
    }
}

/// Lengths of head and body of the first request, once it is complete.
fn request(received: &[u8]) -> Option<(usize, usize)> {
    let head_len = head_len(received)?;
    let head = std::str::from_utf8(&received[..head_len]).ok()?;
    let body_len = content_length(head).unwrap_or(0);
    (received.len() >= head_len + body_len).then_some((head_len, body_len))
}

/// Uses the processor for `work`, as an application would: time in which others had it does not count.
fn busy(work: Duration) {
    let used = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    };
    let started = used();
    while used().saturating_sub(started) < work {
        for step in 0..100 {
            black_box(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_complete_or_not() {
        let whole = b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc";
        for cut in 0..whole.len() {
            assert_eq!(request(&whole[..cut]), None);
        }
        assert_eq!(request(whole), Some((whole.len() - 3, 3)));
        assert_eq!(request(b"GET / HTTP/1.1\r\n\r\n"), Some((18, 0)));
    }
}
