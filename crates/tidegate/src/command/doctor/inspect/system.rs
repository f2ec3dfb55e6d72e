//! `doctor --system`: reads what the kernel tells.

use std::path::Path;
use std::time::Duration;

use tidegate_doctor::inspect::system::{self, OpenFiles, SystemView};
use tidegate_doctor::report::Report;

/// Between two looks at counters.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn check(data_dir: &Path, report: &mut Report) {
    let overflows = || read("/proc/net/netstat").as_deref().and_then(system::listen_overflows);
    let before = overflows();
    tokio::time::sleep(PAUSE).await;
    let ports = read("/proc/sys/net/ipv4/ip_local_port_range").as_deref().and_then(system::port_range);
    let mut peers: Vec<_> = match ports {
        Some(range) => {
            let mut all = read("/proc/net/tcp").map(|text| system::peers(&text, range)).unwrap_or_default();
            for (peer, count) in
                read("/proc/net/tcp6").map(|text| system::peers(&text, range)).unwrap_or_default()
            {
                *all.entry(peer).or_insert(0) += count;
            }
            all.into_iter().collect()
        }
        None => Vec::new(),
    };
    peers.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let number = |path: &str| read(path).and_then(|text| text.trim().parse::<u64>().ok());
    let keepalive = |name: &str| number(&format!("/proc/sys/net/ipv4/tcp_keepalive_{name}"));
    let view = SystemView {
        files: open_files(),
        overflows: before.zip(overflows()),
        ports,
        peers,
        memory: read("/proc/meminfo").as_deref().and_then(system::memory),
        is_clock_synchronized: is_clock_synchronized(),
        disk: disk(data_dir),
        somaxconn: number("/proc/sys/net/core/somaxconn"),
        keepalive: keepalive("time")
            .zip(keepalive("intvl"))
            .zip(keepalive("probes"))
            .map(|((time, interval), count)| (time, interval, count)),
    };
    let (probes, findings) = system::check(&view);
    report.probes.extend(probes);
    report.findings.extend(findings);
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Of the gateway that runs here; of this process where none does.
fn open_files() -> Option<OpenFiles> {
    let own = std::process::id();
    let running = std::fs::read_dir("/proc").ok().and_then(|entries| {
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let is_gateway = |id: &u32| {
            let arguments = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let mut words = arguments.split(|byte| *byte == 0);
            let is_program = words.next().is_some_and(|program| program.ends_with(b"tidegate"));
            is_program && words.next().is_some_and(|command| matches!(command, b"serve" | b"dev"))
        };
        ids.filter(|id| *id != own).find(is_gateway)
    });
    let of = |id: u32, is_gateway| {
        let (soft, hard) = system::open_file_limits(&read(&format!("/proc/{id}/limits"))?)?;
        let n_open = std::fs::read_dir(format!("/proc/{id}/fd")).ok().map(|entries| entries.count() as u64);
        Some(OpenFiles { n_open, soft, hard, is_gateway })
    };
    running.and_then(|id| of(id, true)).or_else(|| of(own, false))
}

/// What time services leave behind; a machine without any says nothing.
fn is_clock_synchronized() -> Option<bool> {
    let timesync = Path::new("/run/systemd/timesync");
    if timesync.is_dir() {
        return Some(timesync.join("synchronized").exists());
    }
    None
}

/// Total and free bytes.
fn disk(directory: &Path) -> Option<(u64, u64)> {
    let found = rustix::fs::statvfs(directory).ok()?;
    Some((found.f_blocks.saturating_mul(found.f_frsize), found.f_bavail.saturating_mul(found.f_frsize)))
}
