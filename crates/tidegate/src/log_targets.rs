//! Where access and execution logs go: files and standard output, written by a thread of its own.
//!
//! Nobody waits for a disk: lines wait in a bounded queue, and what does not fit is dropped and counted. A disk that is full
//! costs lines, never the gateway.

mod file;

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate_core::context::iso_time;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::log::{ExecutionLine, LogSink};

use self::file::LogFile;
use crate::config::{LogSettings, LogTarget};

/// Lines that wait for the thread.
const QUEUE_LINES: usize = 16_384;

/// Bytes that wait for the thread.
const QUEUE_BYTES: usize = 16 << 20;

/// Lines that are written at a time.
const BATCH: usize = 8192;

/// How long a line waits for others that are written with it. Without this each line would wake the thread and cost a call
/// of the system of its own, which takes longer than everything else about it.
const LINGER: Duration = Duration::from_millis(5);

/// Targets that are open at a time; with more all of them are closed, and opened when they are needed.
const MAX_OPEN: usize = 256;

/// Between two lines about lost lines.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// How long the end of the process waits for what is queued.
const END: Duration = Duration::from_secs(5);

/// Longest name of a file, in bytes.
const MAX_NAME: usize = 120;

/// What became of lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LineCounts {
    /// In their file, or on standard output.
    pub(crate) written: u64,
    /// The queue was full.
    pub(crate) dropped: u64,
    /// The file took them not.
    pub(crate) failed: u64,
}

#[derive(Debug, Default)]
struct Counts {
    queued_bytes: AtomicUsize,
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

enum Order {
    Line { target: Arc<str>, line: String },
    End,
}

/// Takes lines and hands them to the thread that writes them.
#[derive(Debug)]
pub(crate) struct LogTargets {
    sender: SyncSender<Order>,
    counts: Arc<Counts>,
    /// Where execution logs go beside the process's own log.
    execution: Option<Arc<str>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LogTargets {
    /// Starts the thread. Files are opened when there is a line for them.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(settings: &LogSettings, data_dir: &Path, is_dev: bool) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE_LINES);
        let counts = Arc::new(Counts::default());
        let writer = Writer {
            targets: settings
                .targets
                .clone()
                .into_iter()
                .map(|(name, target)| (name.into(), target))
                .collect(),
            folder: data_dir.join("logs"),
            is_dev,
            open: HashMap::new(),
            counts: Arc::clone(&counts),
            told: Told::default(),
        };
        let thread =
            std::thread::Builder::new().name("logs".to_owned()).spawn(move || writer.run(&receiver))?;
        let execution = settings.execution.as_deref().map(Arc::from);
        Ok(Self { sender, counts, execution, thread: Mutex::new(Some(thread)) })
    }

    pub(crate) fn counts(&self) -> LineCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LineCounts {
            written: get(&self.counts.written),
            dropped: get(&self.counts.dropped),
            failed: get(&self.counts.failed),
        }
    }

    /// Writes what is queued. Waits, but not for ever.
    pub(crate) fn close(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        let deadline = Instant::now() + END;
        while self.sender.try_send(Order::End).is_err() && !thread.is_finished() {
            if Instant::now() >= deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn queue(&self, target: Arc<str>, line: String) {
        let n_bytes = line.len();
        let queued = self.counts.queued_bytes.fetch_add(n_bytes, Ordering::Relaxed);
        let is_taken =
            queued + n_bytes <= QUEUE_BYTES && self.sender.try_send(Order::Line { target, line }).is_ok();
        if !is_taken {
            self.counts.queued_bytes.fetch_sub(n_bytes, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl LogSink for LogTargets {
    fn access(&self, target: &Arc<str>, line: String) {
        self.queue(Arc::clone(target), line);
    }

    fn execution(&self, line: &ExecutionLine<'_>) {
        // Failures of an API are its owner's; that the gateway itself is well is what levels of this log are about.
        tracing::info!(
            target: "tidegate::execution",
            request_id = line.request_id,
            api = line.api_id,
            stage = line.stage,
            route = line.route_key,
            connection = line.connection_id.map(tracing::field::display),
            execution_level = line.level.as_str(),
            line = line.line,
        );
        let Some(target) = &self.execution else { return };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let text = format!(
            "{} {}/{} {} {}",
            iso_time(now.as_millis() as u64),
            line.api_id,
            line.stage,
            line.level.as_str(),
            line.line
        );
        self.queue(Arc::clone(target), text);
    }
}

/// Lines about lost lines, not too often.
#[derive(Debug, Default)]
struct Told {
    dropped: u64,
    at: Option<Instant>,
}

/// What the thread has.
struct Writer {
    targets: HashMap<Arc<str>, LogTarget>,
    /// Of targets that nobody has configured.
    folder: PathBuf,
    is_dev: bool,
    open: HashMap<Arc<str>, Open>,
    counts: Arc<Counts>,
    told: Told,
}

/// A target with lines that are about to be written.
struct Open {
    place: Place,
    buffer: Vec<u8>,
    n_lines: u64,
    /// The last attempt failed, and operators know it.
    is_failing: bool,
    n_lost: u64,
}

enum Place {
    Stdout,
    File(LogFile),
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        let mut is_over = false;
        while !is_over {
            let mut next = match orders.recv_timeout(TELL_AGAIN) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if matches!(next, Some(Order::Line { .. })) {
                std::thread::sleep(LINGER);
            }
            let mut n_lines = 0;
            while let Some(order) = next.take() {
                match order {
                    Order::Line { target, line } => self.add(target, &line),
                    Order::End => is_over = true,
                }
                n_lines += 1;
                if n_lines < BATCH && !is_over {
                    next = orders.try_recv().ok();
                }
            }
            self.write_all();
            self.tell_dropped();
        }
    }

    fn add(&mut self, target: Arc<str>, line: &str) {
        self.counts.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
        if self.open.len() >= MAX_OPEN && !self.open.contains_key(&target) {
            self.write_all();
            self.open.clear();
        }
        if !self.open.contains_key(&target) {
            let place = self.place(&target);
            let open = Open { place, buffer: Vec::new(), n_lines: 0, is_failing: false, n_lost: 0 };
            self.open.insert(Arc::clone(&target), open);
        }
        if let Some(open) = self.open.get_mut(&target) {
            open.buffer.extend_from_slice(line.as_bytes());
            open.buffer.push(b'\n');
            open.n_lines += 1;
        }
    }

    /// Where the lines of a target go.
    fn place(&self, name: &str) -> Place {
        let target = self.targets.get(name);
        if target.map_or(self.is_dev, |target| target.stdout) {
            return Place::Stdout;
        }
        let settings = target.cloned().unwrap_or_default();
        let path =
            settings.file.clone().unwrap_or_else(|| self.folder.join(format!("{}.log", file_name(name))));
        Place::File(LogFile::new(path, settings.max_bytes, settings.max_files))
    }

    fn write_all(&mut self) {
        for (name, open) in &mut self.open {
            if open.buffer.is_empty() {
                continue;
            }
            let result = match &mut open.place {
                Place::Stdout => {
                    let mut stdout = std::io::stdout().lock();
                    stdout.write_all(&open.buffer).and_then(|()| stdout.flush())
                }
                Place::File(file) => file.write(&open.buffer),
            };
            let n_lines = std::mem::take(&mut open.n_lines);
            open.buffer.clear();
            open.buffer.shrink_to(1 << 20);
            match result {
                Ok(()) => {
                    self.counts.written.fetch_add(n_lines, Ordering::Relaxed);
                    if std::mem::take(&mut open.is_failing) {
                        let lost = std::mem::take(&mut open.n_lost);
                        tracing::info!(target_name = &**name, lost, "lines of a log are written again");
                    }
                }
                Err(error) => {
                    self.counts.failed.fetch_add(n_lines, Ordering::Relaxed);
                    open.n_lost += n_lines;
                    // Once, until it works again: whatever is wrong, it is wrong for each line.
                    if !std::mem::replace(&mut open.is_failing, true) {
                        let diag = Diagnosis::LOG_NOT_WRITTEN.as_str();
                        let error = error.to_string();
                        tracing::warn!(
                            target_name = &**name,
                            error,
                            diag,
                            "lines of a log cannot be written"
                        );
                    }
                }
            }
        }
    }

    fn tell_dropped(&mut self) {
        let dropped = self.counts.dropped.load(Ordering::Relaxed);
        let is_time = self.told.at.is_none_or(|at| at.elapsed() >= TELL_AGAIN);
        if dropped > self.told.dropped && is_time {
            let lost = dropped - self.told.dropped;
            let diag = Diagnosis::LOG_NOT_WRITTEN.as_str();
            tracing::warn!(
                lost,
                diag,
                "lines of logs were dropped: they come faster than they can be written"
            );
            self.told = Told { dropped, at: Some(Instant::now()) };
        }
    }
}

/// A name of a target as that of a file: whatever may stand in a path of its own is replaced.
fn file_name(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).take(MAX_NAME).collect();
    let plain = plain.trim_start_matches(['.', '_']);
    if plain.is_empty() { "access".to_owned() } else { plain.to_owned() }
}

#[cfg(test)]
mod tests;
