//! Questions to name servers, and their answers. Source: RFC 1035, section 4; RFC 3596 for AAAA.
//!
//! Small on purpose: a resolver library would hide which server said what, and for how long.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// Most records that are read of one answer.
const MAX_RECORDS: usize = 64;

/// Most pointers that are followed in one name: more is a loop.
const MAX_JUMPS: usize = 16;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    A = 1,
    Ns = 2,
    Aaaa = 28,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    Address(IpAddr),
    /// Another name of the same.
    Alias(String),
    NameServer(String),
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: String,
    /// Seconds that it may still be kept.
    pub(super) ttl: u32,
    pub(super) data: Data,
}

/// The answer of one name server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// 0 no error, 3 no such name. Source: RFC 1035, section 4.1.1.
    pub(super) code: u8,
    /// From a server that owns the zone.
    pub(super) is_authoritative: bool,
    is_cut: bool,
    pub(super) records: Vec<Record>,
    /// Records of the authority section, for referrals.
    pub(super) referral: Vec<Record>,
}

impl Reply {
    /// Addresses in the answer, each with its remaining time.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (IpAddr, u32)> {
        self.records.iter().filter_map(|record| match record.data {
            Data::Address(address) => Some((address, record.ttl)),
            _ => None,
        })
    }

    /// Names on the way to the addresses.
    pub(super) fn aliases(&self) -> impl Iterator<Item = &str> {
        self.records.iter().filter_map(|record| match &record.data {
            Data::Alias(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Name servers, from whichever section they came in.
    pub(super) fn name_servers(&self) -> impl Iterator<Item = &str> {
        self.records.iter().chain(&self.referral).filter_map(|record| match &record.data {
            Data::NameServer(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

/// Asks one name server; over TCP when the answer does not fit into a packet. Nothing: no usable answer in time.
pub(super) async fn ask(server: SocketAddr, name: &str, kind: Kind, limit: Duration) -> Option<Reply> {
    tokio::time::timeout(limit, exchange(server, name, kind)).await.ok()?
}

async fn exchange(server: SocketAddr, name: &str, kind: Kind) -> Option<Reply> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).ok()?;
    let question = question(id, name, kind)?;
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(server).await.ok()?;
    socket.send(&question).await.ok()?;
    let mut buffer = [0; 4096];
    let reply = loop {
        let n = socket.recv(&mut buffer).await.ok()?;
        // Somebody else's packet is not the answer.
        if let Some(reply) = parse(&buffer[..n], id) {
            break reply;
        }
    };
    if !reply.is_cut {
        return Some(reply);
    }
    let mut stream = TcpStream::connect(server).await.ok()?;
    let length = u16::try_from(question.len()).ok()?;
    stream.write_all(&length.to_be_bytes()).await.ok()?;
    stream.write_all(&question).await.ok()?;
    let mut answer = vec![0; usize::from(stream.read_u16().await.ok()?)];
    stream.read_exact(&mut answer).await.ok()?;
    parse(&answer, id)
}

fn question(id: [u8; 2], name: &str, kind: Kind) -> Option<Vec<u8>> {
    // Recursion desired, one question.
    let mut out = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        out.push(length);
        out.extend_from_slice(label.as_bytes());
    }
    out.extend_from_slice(&[0, 0, kind as u8, 0, 1]);
    Some(out)
}

/// Reads an answer; nothing when it is none, or the answer to another question.
fn parse(packet: &[u8], id: [u8; 2]) -> Option<Reply> {
    let mut reader = Reader { packet, at: 0 };
    let head = reader.take(12)?;
    let is_answer = head[2] & 0x80 != 0;
    if head[..2] != id || !is_answer {
        return None;
    }
    let count = |at: usize| usize::from(u16::from_be_bytes([head[at], head[at + 1]]));
    for _ in 0..count(4) {
        reader.name()?;
        reader.take(4)?;
    }
    let is_cut = head[2] & 0x02 != 0;
    let mut sections = [Vec::new(), Vec::new()];
    for (section, at) in sections.iter_mut().zip([6, 8]) {
        for _ in 0..count(at).min(MAX_RECORDS) {
            match reader.record() {
                Some(Some(record)) => section.push(record),
                Some(None) => {}
                // The end of a packet that was cut.
                None if is_cut => break,
                None => return None,
            }
        }
    }
    let [records, referral] = sections;
    Some(Reply { code: head[3] & 0x0f, is_authoritative: head[2] & 0x04 != 0, is_cut, records, referral })
}

struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let bytes = self.packet.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(bytes)
    }

    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut at = self.at;
        let mut end = None;
        for _ in 0..MAX_JUMPS * 16 {
            let length = usize::from(*self.packet.get(at)?);
            match length {
                0 => {
                    self.at = end.unwrap_or(at + 1);
                    return Some(name);
                }
                1..=63 => {
                    let label = self.packet.get(at + 1..at + 1 + length)?;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    // Names go into reports: nothing that a terminal would obey.
                    name.extend(label.iter().map(|byte| match byte {
                        0x21..=0x7e => char::from(byte.to_ascii_lowercase()),
                        _ => '?',
                    }));
                    if name.len() > 255 {
                        return None;
                    }
                    at += 1 + length;
                }
                192..=255 => {
                    let low = usize::from(*self.packet.get(at + 1)?);
                    end = end.or(Some(at + 2));
                    at = (length & 63) << 8 | low;
                }
                _ => return None,
            }
        }
        None
    }

    fn record(&mut self) -> Option<Option<Record>> {
        let name = self.name()?;
        let fixed = self.take(10)?;
        let kind = u16::from_be_bytes([fixed[0], fixed[1]]);
        let ttl = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let start = self.at;
        let data = match kind {
            1 => <[u8; 4]>::try_from(self.packet.get(start..start + length)?)
                .ok()
                .map(|octets| Data::Address(octets.into())),
            28 => <[u8; 16]>::try_from(self.packet.get(start..start + length)?)
                .ok()
                .map(|octets| Data::Address(octets.into())),
            5 => Some(Data::Alias(self.name()?)),
            2 => Some(Data::NameServer(self.name()?)),
            _ => None,
        };
        self.at = start;
        self.take(length)?;
        Some(data.map(|data| Record { name, ttl, data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ws.example.test` is an alias of `gw.example.test`, which has an address; names compressed.
    fn packet() -> Vec<u8> {
        let mut packet = question([7, 9], "ws.example.test", Kind::A).unwrap();
        packet[2..8].copy_from_slice(&[0x84, 0, 0, 1, 0, 2]);
        packet.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 5, 2, b'g', b'w', 0xc0, 15]);
        packet.extend_from_slice(&[0xc0, 45, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 7]);
        packet
    }

    #[test]
    fn answers_are_read() {
        let reply = parse(&packet(), [7, 9]).unwrap();
        assert!(reply.is_authoritative);
        assert_eq!(reply.code, 0);
        assert_eq!(reply.aliases().collect::<Vec<_>>(), ["gw.example.test"]);
        assert_eq!(reply.addresses().collect::<Vec<_>>(), [(IpAddr::from([192, 0, 2, 7]), 300)]);
        assert_eq!(parse(&packet(), [7, 8]), None, "another question");
    }

    #[test]
    fn hostile_answers_are_refused() {
        let good = packet();
        for length in 0..good.len() {
            // Must not panic, whatever is missing.
            let _ = parse(&good[..length], [7, 9]);
        }
        for at in 12..good.len() {
            let mut bad = good.clone();
            bad[at] = 0xff;
            let _ = parse(&bad, [7, 9]);
        }
        let mut looped = good;
        looped[33] = 0xc0;
        looped[34] = 33;
        assert_eq!(parse(&looped, [7, 9]), None, "a name that points to itself");
    }

    #[test]
    fn impossible_names_are_not_asked() {
        assert_eq!(question([0, 0], &"a".repeat(64), Kind::A), None);
        assert_eq!(question([0, 0], "a..b", Kind::A), None);
    }
}
