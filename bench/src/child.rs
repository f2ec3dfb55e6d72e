//! Child processes: started, watched through `/proc`, ended with their owner.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub struct OwnedChild(Child);

impl OwnedChild {
    /// Starts a process.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("start {}", command.get_program().display()))?;
        Ok(Self(child))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The exit status if it has ended.
    pub fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        self.0.try_wait().context("look at a child process")
    }
}

impl Drop for OwnedChild {
    fn drop(&mut self) {
        // It may have ended already; then both fail, and nothing is left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Another role of this binary in a process of its own, listening on a free port.
#[derive(Debug)]
pub struct Helper {
    child: OwnedChild,
    input: ChildStdin,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Helper {
    /// Starts this binary with `arguments`; it must print its address as its first line.
    pub fn start(arguments: &[String]) -> Result<Self> {
        let binary = std::env::current_exe().context("find the own binary")?;
        let mut child = OwnedChild::spawn(
            Command::new(binary).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()),
        )?;
        let (Some(input), Some(output)) = (child.0.stdin.take(), child.0.stdout.take()) else {
            bail!("a child process without pipes");
        };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("read the address of a child process")?;
        let address = line.trim().parse().with_context(|| format!("parse the address {line:?}"))?;
        Ok(Self { child, input, address })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Sends it a line on its standard input.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}").context("write to a child process")?;
        self.input.flush().context("write to a child process")
    }
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read the memory of a process")?;
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
        .context("a process without VmRSS")?;
    Ok(kilobytes.trim().parse::<u64>().context("parse VmRSS")? * 1024)
}

/// Processor time of a process so far, in user and kernel mode together. Resolution: one clock tick, 10 ms.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("read the time of a process")?;
    // The second field is the name in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(") ").context("parse /proc/pid/stat")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |idx: usize| -> Result<u64> {
        fields.get(idx).context("a short /proc/pid/stat")?.parse().context("parse /proc/pid/stat")
    };
    // Fields 14 and 15 of proc(5), counted from the state, which is the third.
    let total = ticks(11)? + ticks(12)?;
    Ok(Duration::from_secs_f64(total as f64 / rustix::param::clock_ticks_per_second() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_has_memory_and_time() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).expect("memory") > 100_000);
        let before = cpu_time(pid).expect("time");
        let mut sum = 0_u64;
        while cpu_time(pid).expect("time") == before {
            sum = std::hint::black_box(sum + 1);
        }
    }
}
