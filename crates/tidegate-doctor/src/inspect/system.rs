//! The machine: what the files below `/proc` and `/run` say. The parsers take text and trust nothing in it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::{Value, json};
use tidegate_core::diagnosis::Diagnosis;

use super::facts;
use crate::report::{Confidence, Finding, Probe, ProbeResult, Severity};

/// Share of a limit from which on it is worth a warning, in percent.
const FULL: u64 = 80;

/// Peers that are listed.
const MAX_PEERS: usize = 5;

/// What was read; absent parts could not be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SystemView {
    /// Of the gateway's process, or of this one where none runs.
    pub files: Option<OpenFiles>,
    /// Two looks at the counters of full accept queues, a moment apart.
    pub overflows: Option<(u64, u64)>,
    /// First and last port of outgoing connections.
    pub ports: Option<(u16, u16)>,
    /// Outgoing connections by the address that they lead to.
    pub peers: Vec<(SocketAddr, u64)>,
    /// Total and available memory, in bytes.
    pub memory: Option<(u64, u64)>,
    /// The clock is synchronized; absent: nobody says.
    pub is_clock_synchronized: Option<bool>,
    /// Total and free bytes of the file system of the data directory.
    pub disk: Option<(u64, u64)>,
    /// Longest accept queue that the kernel allows.
    pub somaxconn: Option<u64>,
    /// Seconds of silence until the kernel asks whether a peer lives, seconds between its questions, and their number.
    pub keepalive: Option<(u64, u64, u64)>,
}

/// Open files of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// Files that are open.
    pub n_open: Option<u64>,
    /// Soft limit; the gateway raises it to the hard one when it starts.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
    /// The process is a running gateway.
    pub is_gateway: bool,
}

/// Soft and hard limit of open files. `text`: `/proc/PID/limits`.
pub fn open_file_limits(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line.split_whitespace();
    let number = |word: &str| if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() };
    Some((number(words.next()?)?, number(words.next()?)?))
}

/// How often an accept queue was full since the machine started. `text`: `/proc/net/netstat`.
pub fn listen_overflows(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == "ListenOverflows").and_then(|(_, value)| value.parse().ok())
}

/// First and last port. `text`: `/proc/sys/net/ipv4/ip_local_port_range`.
pub fn port_range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_whitespace();
    let range: (u16, u16) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (range.0 <= range.1).then_some(range)
}

/// Connections whose own port is one of `range`, by the address that they lead to; busiest first. `text`: `/proc/net/tcp` or
/// `/proc/net/tcp6`. Connections that only wait for their time to pass hold a port too.
pub fn peers(text: &str, range: (u16, u16)) -> BTreeMap<SocketAddr, u64> {
    let mut peers = BTreeMap::new();
    for line in text.lines().skip(1) {
        let mut words = line.split_whitespace().skip(1);
        let (Some(local), Some(remote), Some(state)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        // 0A: listening.
        let (Some(local), Some(remote), true) =
            (socket_address(local), socket_address(remote), state != "0A")
        else {
            continue;
        };
        if (range.0..=range.1).contains(&local.port()) && !(range.0..=range.1).contains(&remote.port()) {
            *peers.entry(remote).or_insert(0) += 1;
        }
    }
    peers
}

/// `0100007F:1F90` is 127.0.0.1:8080: words of 32 bits as this machine has them in memory.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (word_idx, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(word_idx * 8)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// Total and available memory, in bytes. `text`: `/proc/meminfo`.
pub fn memory(text: &str) -> Option<(u64, u64)> {
    let value = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim_start_matches(':')
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
            .map(|kib| kib.saturating_mul(1024))
    };
    Some((value("MemTotal")?, value("MemAvailable")?))
}

/// Probes and findings of a machine.
pub fn check(view: &SystemView) -> (Vec<Probe>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut probes = Vec::new();
    let mut probe = |name: &str, measured: Option<serde_json::Map<String, Value>>, found: Vec<Finding>| {
        let (result, measurements) = match measured {
            Some(measured) => (super::definitions::worst(&found), measured),
            None => (ProbeResult::Inconclusive, facts([("reason", "this machine does not say".into())])),
        };
        probes.push(Probe { name: name.to_owned(), result, measurements });
        findings.extend(found);
    };
    let is_full = |used: u64, limit: u64| u128::from(used) * 100 >= u128::from(limit) * u128::from(FULL);

    let found = view.files.and_then(|files| {
        let n_open = files.n_open?;
        let limit = if files.is_gateway { files.soft } else { files.hard };
        is_full(n_open, limit).then(|| {
            let text = format!("{n_open} of {limit} files are open");
            Finding::warning(Diagnosis::LIMIT_FILE_DESCRIPTORS)
                .seen(text, facts([("count", n_open.into()), ("limit", limit.into())]))
        })
    });
    let few = view.files.filter(|files| files.hard < 4096).map(|files| {
        let text = format!("a process may open {} files here: as many clients at most", files.hard);
        Finding::warning(Diagnosis::LIMIT_FILE_DESCRIPTORS).seen(text, facts([("limit", files.hard.into())]))
    });
    let measured = view.files.map(|files| {
        facts([
            ("count", json!(files.n_open)),
            ("limit", files.soft.into()),
            ("hardLimit", files.hard.into()),
            ("isGateway", files.is_gateway.into()),
        ])
    });
    probe("open files", measured, found.or(few).into_iter().collect());

    let found = view.overflows.filter(|(before, after)| after > before).map(|(before, after)| {
        let text =
            format!("{} connections found a full accept queue while this was measured", after - before);
        Finding::problem(Diagnosis::LIMIT_ACCEPT_QUEUE)
            .seen(text, facts([("count", (after - before).into()), ("limit", json!(view.somaxconn))]))
    });
    let measured = view
        .overflows
        .map(|(_, after)| facts([("sinceStart", after.into()), ("limit", json!(view.somaxconn))]));
    probe("accept queue", measured, found.into_iter().collect());

    let measured = view.ports.map(|(first, last)| {
        let listed: Vec<Value> = view
            .peers
            .iter()
            .take(MAX_PEERS)
            .map(|(peer, count)| json!({ "peer": peer.to_string(), "count": count }))
            .collect();
        facts([("first", first.into()), ("last", last.into()), ("peers", json!(listed))])
    });
    let found = view.ports.into_iter().flat_map(|(first, last)| {
        let limit = u64::from(last - first) + 1;
        view.peers.iter().filter(move |(_, count)| is_full(*count, limit)).map(move |(peer, count)| {
            let text = format!("{count} of {limit} source ports lead to {peer}");
            Finding::warning(Diagnosis::LIMIT_EPHEMERAL_PORTS).seen(
                text,
                facts([
                    ("peer", peer.to_string().into()),
                    ("count", (*count).into()),
                    ("limit", limit.into()),
                ]),
            )
        })
    });
    probe("source ports", measured, found.collect());

    let found = view.memory.filter(|(total, available)| available.saturating_mul(20) < *total).map(
        |(total, available)| {
            let text = format!("{} of {} MB are available", available >> 20, total >> 20);
            Finding::warning(Diagnosis::LIMIT_MEMORY)
                .seen(text, facts([("available", available.into()), ("limit", total.into())]))
        },
    );
    let measured = view
        .memory
        .map(|(total, available)| facts([("total", total.into()), ("available", available.into())]));
    probe("memory", measured, found.into_iter().collect());

    let found = (view.is_clock_synchronized == Some(false)).then(|| {
        let finding = Finding::new(Diagnosis::TOKEN_CLOCK, Severity::Warning, Confidence::Likely);
        finding.seen(
            "the clock of this machine is not synchronized: times of tokens and signatures may be wrong",
            facts([("synchronized", false.into())]),
        )
    });
    // A machine without a time service of its own, as a container, is no reason to doubt its clock.
    let measured =
        facts([("synchronized", view.is_clock_synchronized.map_or("cannot tell".into(), Value::Bool))]);
    probe("clock", Some(measured), found.into_iter().collect());

    let found = view.disk.filter(|(total, free)| *free < 64 << 20 || free.saturating_mul(20) < *total).map(
        |(total, free)| {
            let text = format!("{} of {} MB are free where the data directory is", free >> 20, total >> 20);
            let severity = if free < 64 << 20 { Severity::Problem } else { Severity::Warning };
            Finding::new(Diagnosis::STORE_UNAVAILABLE, severity, Confidence::Likely)
                .seen(text, facts([("free", free.into()), ("limit", total.into())]))
        },
    );
    let measured = view.disk.map(|(total, free)| facts([("total", total.into()), ("free", free.into())]));
    probe("disk", measured, found.into_iter().collect());

    let measured = view.keepalive.map(|(time, interval, count)| {
        facts([("time", time.into()), ("interval", interval.into()), ("probes", count.into())])
    });
    probe("keep-alive", measured, Vec::new());
    (probes, findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max processes             unlimited            unlimited            processes \n\
        Max open files            1024                 1048576              files     \n";
    const NETSTAT: &str =
        "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 17 18\nIpExt: InOctets\nIpExt: 5\n";
    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n\
        1: 0100007F:9C40 0100007F:1F40 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1\n\
        2: 0100007F:9C41 0100007F:1F40 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0\n\
        3: 0100007F:1F90 0100007F:9C42 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4 30 10 -1\n";

    #[test]
    fn files_of_the_kernel_are_read() {
        // DX-51
        assert_eq!(open_file_limits(LIMITS), Some((1024, 1_048_576)));
        assert_eq!(listen_overflows(NETSTAT), Some(17));
        assert_eq!(port_range("32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(
            memory("MemTotal:  2048 kB\nMemFree: 1 kB\nMemAvailable:   1024 kB\n"),
            Some((2 << 20, 1 << 20))
        );
        let found = peers(TCP, (32768, 60999));
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("127.0.0.1:8000".parse().unwrap(), 2)]);
        let v6 = "0000000000000000FFFF00000100007F:1F40";
        assert_eq!(socket_address(v6), Some("127.0.0.1:8000".parse().unwrap()));
        for nonsense in ["", "Max open files", "TcpExt:", "a b c d", "\u{0}"] {
            assert_eq!(
                (open_file_limits(nonsense), listen_overflows(nonsense), port_range(nonsense)),
                (None, None, None)
            );
            assert!(peers(nonsense, (1, 2)).is_empty() && memory(nonsense).is_none());
        }
    }

    fn healthy() -> SystemView {
        SystemView {
            files: Some(OpenFiles { n_open: Some(40), soft: 1_048_576, hard: 1_048_576, is_gateway: true }),
            overflows: Some((17, 17)),
            ports: Some((32768, 60999)),
            peers: vec![("10.0.0.1:443".parse().unwrap(), 20)],
            memory: Some((8 << 30, 4 << 30)),
            is_clock_synchronized: Some(true),
            disk: Some((100 << 30, 50 << 30)),
            somaxconn: Some(4096),
            keepalive: Some((7200, 75, 9)),
        }
    }

    #[test]
    fn a_healthy_machine_has_no_finding() {
        // DX-51
        let (probes, findings) = check(&healthy());
        assert_eq!(findings, []);
        assert_eq!(probes.len(), 7);
        assert!(probes.iter().all(|probe| probe.result == ProbeResult::Ok), "{probes:?}");
        let (probes, findings) = check(&SystemView { is_clock_synchronized: None, ..SystemView::default() });
        assert!(findings.is_empty());
        assert_eq!(probes.iter().filter(|probe| probe.result == ProbeResult::Inconclusive).count(), 6);
    }

    #[test]
    fn what_is_nearly_used_up_is_named() {
        // limit.file-descriptors, limit.accept-queue, limit.ephemeral-ports, limit.memory
        let ids = |view: SystemView| check(&view).1.into_iter().map(|finding| finding.id).collect::<Vec<_>>();
        let files =
            |n_open, hard| Some(OpenFiles { n_open: Some(n_open), soft: hard, hard, is_gateway: true });
        assert_eq!(ids(SystemView { files: files(9_000, 10_000), ..healthy() }), ["limit.file-descriptors"]);
        assert_eq!(ids(SystemView { files: files(5, 1024), ..healthy() }), ["limit.file-descriptors"]);
        assert_eq!(ids(SystemView { overflows: Some((17, 19)), ..healthy() }), ["limit.accept-queue"]);
        let peers = vec![("10.0.0.1:443".parse().unwrap(), 28_000)];
        assert_eq!(ids(SystemView { peers, ..healthy() }), ["limit.ephemeral-ports"]);
        assert_eq!(ids(SystemView { memory: Some((8 << 30, 100 << 20)), ..healthy() }), ["limit.memory"]);
        assert_eq!(ids(SystemView { is_clock_synchronized: Some(false), ..healthy() }), ["token.clock"]);
        assert_eq!(ids(SystemView { disk: Some((100 << 30, 1 << 20)), ..healthy() }), ["store.unavailable"]);
    }
}
