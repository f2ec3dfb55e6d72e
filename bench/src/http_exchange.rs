//! One HTTP/1.1 request at a time over a blocking socket: for configuration and for looking at an answer once.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Largest answer, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Bytes of head and body as they came.
    pub n_bytes: usize,
    /// The body.
    pub body: Vec<u8>,
}

/// Sends `request`, which is complete, over a fresh connection and reads one answer with a `Content-Length`.
pub fn exchange(address: SocketAddr, request: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).context("connect")?;
    stream.set_read_timeout(Some(TIMEOUT)).context("set a timeout")?;
    stream.set_nodelay(true).context("set nodelay")?;
    stream.write_all(request).context("send the request")?;
    let mut received = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(answer) = parse(&received)? {
            return Ok(answer);
        }
        let n_read = stream.read(&mut chunk).context("read the answer")?;
        if n_read == 0 || received.len() > MAX_ANSWER {
            bail!("no complete answer in {} bytes", received.len());
        }
        received.extend_from_slice(&chunk[..n_read]);
    }
}

fn parse(received: &[u8]) -> Result<Option<Answer>> {
    let Some(head_len) = head_len(received) else { return Ok(None) };
    let head = std::str::from_utf8(&received[..head_len]).context("an answer that is not text")?;
    let status = head.split(' ').nth(1).context("no status")?.parse().context("parse the status")?;
    let body_len = match content_length(head) {
        Some(length) => length,
        None if status == 204 => 0,
        None => bail!("an answer without content-length"),
    };
    let n_bytes = head_len + body_len;
    if received.len() < n_bytes {
        return Ok(None);
    }
    Ok(Some(Answer { status, n_bytes, body: received[head_len..n_bytes].to_vec() }))
}

/// Length of the head with the empty line, once that has arrived.
pub fn head_len(received: &[u8]) -> Option<usize> {
    received.windows(4).position(|window| window == b"\r\n\r\n").map(|position| position + 4)
}

/// The value of `Content-Length` in a head.
pub fn content_length(head: &str) -> Option<usize> {
    head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_complete_or_not() {
        let whole = b"HTTP/1.1 201 Created\r\nContent-LENGTH: 2\r\n\r\nok";
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).expect("no error").is_none(), "{cut}");
        }
        let answer = parse(whole).expect("no error").expect("complete");
        assert_eq!((answer.status, answer.n_bytes, answer.body.as_slice()), (201, whole.len(), &b"ok"[..]));
    }
}
