//! One process with everything that it starts: it ends with its owner.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use crate::Log;

/// Longest line of output that is passed on in one piece, in bytes; the rest of it follows as lines of its own.
const MAX_LINE: usize = 16 * 1024;

/// A process in a group of its own. Dropping it kills the group.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    group: Option<Pid>,
}

impl Process {
    /// Starts a program. Its output goes to `log` under `name`.
    pub(crate) fn start(
        name: &str,
        command: &[String],
        folder: &Path,
        environment: &[(OsString, OsString)],
        log: &Log,
    ) -> io::Result<Self> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // What the program starts is found again by the group.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(output) = child.stdout.take() {
            tokio::spawn(pass_on(output, name.to_owned(), Log::clone(log)));
        }
        if let Some(output) = child.stderr.take() {
            tokio::spawn(pass_on(output, name.to_owned(), Log::clone(log)));
        }
        Ok(Self { child, group })
    }

    /// Waits for its end.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end, and kills it after `patience`.
    pub(crate) async fn end(mut self, patience: Duration) {
        self.signal(Signal::TERM);
        let _ = tokio::time::timeout(patience, self.child.wait()).await;
    }

    /// Largest memory that it has used so far, in MB, where the system tells.
    pub(crate) fn peak_memory_mb(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes.div_ceil(1024))
    }

    fn signal(&self, signal: Signal) {
        // A group that is gone needs no signal.
        let _ = self.group.map(|group| kill_process_group(group, signal));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Passes on what a program writes, line by line.
async fn pass_on(mut output: impl AsyncRead + Unpin, name: String, log: Log) {
    let mut pending = Vec::new();
    let mut buffer = vec![0; 8 * 1024];
    loop {
        let n_read = match output.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n_read) => n_read,
        };
        pending.extend_from_slice(buffer.get(..n_read).unwrap_or_default());
        // Runtimes divide the lines of one record by carriage returns.
        while let Some(end) = pending.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            tell(&name, pending.get(..end).unwrap_or_default(), &log);
            pending.drain(..=end);
        }
        while pending.len() > MAX_LINE {
            tell(&name, pending.get(..MAX_LINE).unwrap_or_default(), &log);
            pending.drain(..MAX_LINE);
        }
    }
    tell(&name, &pending, &log);
}

fn tell(name: &str, line: &[u8], log: &Log) {
    let line = String::from_utf8_lossy(line);
    // Terminals obey control characters; functions' output may be a client's.
    let line: String =
        line.trim_end().chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
    if !line.is_empty() {
        log(name, &line);
    }
}
