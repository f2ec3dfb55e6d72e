//! Keeps what happened: notices of the data plane become entries of a store.
//!
//! [`Journal::take`] is called on hot paths. It puts the notice into a bounded buffer and wakes nobody but the task that
//! writes, and that at most once in [`DELAY`]; everything else happens in that task. Nothing ever waits for the journal,
//! and nothing fails because of it: what does not fit is dropped and counted, successes before failures.
//!
//! `journal/entry.rs` says which notice becomes which entry, `sample.rs` what is counted instead of written, `guard.rs`
//! what is taken out of facts although it should not be there, `address.rs` how much of a client's address is kept.

mod address;
mod entry;
mod guard;
mod sample;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_core::id::ConnectionId;
use tidegate_core::journal::{Draft, Entry, EntryQuery, Erase, JournalState, JournalStore, Retention};
use tidegate_core::notice::{Notice, NoticeSink};
use tidegate_core::port::{BoxFuture, StoreError};
use tokio::sync::Notify;

pub use self::address::{AddressKey, ClientAddress};
use self::sample::{Handled, Kept, Sampler, Share};

/// Notices that wait at most; of about a kilobyte each.
pub const CAPACITY: usize = 16_384;

/// Longest time from an event to its entry.
pub const DELAY: Duration = Duration::from_millis(200);

/// Entries of one write: a transaction of some megabytes, and an answer within milliseconds.
const BATCH: usize = 1000;

/// Notices whose entries are made without the help of another thread.
const AT_ONCE: u64 = 32;

/// Between two clean-ups, and the length of a count of what went well.
const MINUTE: Duration = Duration::from_secs(60);

/// Between two log lines about entries that were lost.
const LOSS_LOG_INTERVAL: u64 = 60_000_000;

/// How long ends of connections are kept beyond the longest connection. Source: what backends need to clean up after.
const ENDS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// What is kept.
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// The node that writes.
    pub node: u32,
    /// How much of clients' addresses.
    pub client_address: ClientAddress,
    /// Under which addresses are hashed; per installation.
    pub address_key: AddressKey,
    /// How long entries are kept.
    pub kept: Duration,
    /// Most bytes on the disk.
    pub max_bytes: u64,
    /// Most entries.
    pub max_entries: u64,
    /// Accepted handshakes in a second above which only a part of them is written.
    pub sample_handshakes: u32,
    /// Successful pushes and changes of membership in a second above which only a part of them is written.
    pub sample_posts: u32,
    /// How long the longest connection may last; unlimited ones do not count.
    pub longest_connection: Duration,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            node: 0,
            client_address: ClientAddress::Full,
            address_key: AddressKey::new(&[0; 32]),
            kept: Duration::from_secs(7 * 24 * 3600),
            max_bytes: 512 << 20,
            max_entries: 5_000_000,
            sample_handshakes: 5000,
            sample_posts: 1000,
            longest_connection: Duration::from_secs(2 * 3600),
        }
    }
}

/// What the journal did since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries that were written.
    pub written: u64,
    /// Notices and entries that were lost.
    pub dropped: u64,
    /// Successes that were counted and not written.
    pub sampled: u64,
}

/// A journal and its buffer. It is a [`JournalStore`] too: whoever asks sees what was taken before.
#[derive(Debug)]
pub struct Journal {
    store: Arc<dyn JournalStore>,
    config: Arc<JournalConfig>,
    /// [`JournalConfig::longest_connection`] as it is now, in seconds.
    longest_connection: AtomicU64,
    /// Microseconds since 1970.
    clock: fn() -> u64,
    /// How many handshakes are written, to be asked without the buffer's lock.
    share: Arc<Share>,
    /// Handled messages of this minute.
    handled: Handled,
    buffer: Mutex<Buffer>,
    /// Something is in the buffer.
    filled: Notify,
    /// The buffer is half full.
    half_full: Notify,
    /// One write at a time, so that whoever waits for it knows that what was taken before is there.
    writing: tokio::sync::Mutex<()>,
    written: AtomicU64,
    dropped: AtomicU64,
    /// The last write failed.
    is_failing: AtomicBool,
    loss_logged: AtomicU64,
}

#[derive(Debug)]
struct Buffer {
    successes: Vec<Taken>,
    failures: Vec<Taken>,
    sampler: Sampler,
}

/// A notice, when it was taken, and of how many like it.
#[derive(Debug)]
struct Taken {
    at: u64,
    notice: Notice,
    one_in: u32,
}

impl Journal {
    /// A journal over a store. `clock` gives microseconds since 1970.
    pub fn new(store: Arc<dyn JournalStore>, config: JournalConfig, clock: fn() -> u64) -> Self {
        let sampler = Sampler::new(config.sample_handshakes, config.sample_posts);
        Self {
            store,
            longest_connection: AtomicU64::new(config.longest_connection.as_secs()),
            config: Arc::new(config),
            clock,
            share: sampler.share(),
            handled: Handled::default(),
            buffer: Mutex::new(Buffer { successes: Vec::new(), failures: Vec::new(), sampler }),
            filled: Notify::new(),
            half_full: Notify::new(),
            writing: tokio::sync::Mutex::new(()),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            loss_logged: AtomicU64::new(0),
        }
    }

    /// Takes a notice. Never waits.
    pub fn take(&self, notice: Notice) {
        match &notice {
            // What a handshake asked its backend stands in the handshake's own entry; messages are counted.
            Notice::IntegrationCalled { .. } if !entry::is_failure(&notice) => return,
            Notice::MessageHandled { place, size, dropped_reply, remark, .. } => {
                // The first of a minute with something remarkable is written, as an example.
                let is_first = self.handled.count(place, *size, *dropped_reply, *remark);
                if remark.is_none() || !is_first {
                    return;
                }
            }
            _ => {}
        }
        let at = (self.clock)();
        let mut buffer = self.buffer.lock();
        let kept = buffer.sampler.look(&notice, at);
        let is_full = buffer.len() >= CAPACITY;
        match kept {
            Kept::No => return,
            Kept::OneIn(one_in) if !is_full => buffer.successes.push(Taken { at, notice, one_in }),
            // A success makes room for a failure.
            Kept::Failure if !is_full || buffer.successes.pop().is_some() => {
                buffer.failures.push(Taken { at, notice, one_in: 1 });
            }
            Kept::OneIn(_) | Kept::Failure => {}
        }
        let length = buffer.len();
        drop(buffer);
        if is_full {
            // Either it or the one that made room.
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        match length {
            1 => self.filled.notify_one(),
            length if length == CAPACITY / 2 => self.half_full.notify_one(),
            _ => {}
        }
    }

    /// What it did so far.
    pub fn counts(&self) -> Counts {
        Counts {
            written: self.written.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            sampled: self.buffer.lock().sampler.n_sampled(),
        }
    }

    /// Writes and cleans up, for as long as it is polled. To be run once.
    ///
    /// # Cancel safety
    /// What was taken out of the buffer and not yet written is lost with the future; [`Self::close`] loses nothing.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.write_on(), self.clean_up_on());
    }

    async fn write_on(&self) {
        let mut minute = tokio::time::interval(MINUTE);
        minute.tick().await;
        loop {
            tokio::select! {
                () = self.filled.notified() => {}
                _ = minute.tick() => self.conclude_minute(),
            }
            // Whatever comes meanwhile shares the write.
            let _ = tokio::time::timeout(DELAY, self.half_full.notified()).await;
            // Failures are counted and logged there.
            let _ = self.flush().await;
        }
    }

    async fn clean_up_on(&self) {
        let mut minute = tokio::time::interval(MINUTE);
        loop {
            minute.tick().await;
            if let Err(error) = self.store.retain(self.retention()).await {
                tracing::debug!(error = cause(&error), "the journal cannot be cleaned up");
            }
        }
    }

    /// Connections may last so long from now on: their beginnings are kept accordingly.
    pub fn set_longest_connection(&self, longest: Duration) {
        self.longest_connection.store(longest.as_secs(), Ordering::Relaxed);
    }

    fn retention(&self) -> Retention {
        let now = (self.clock)();
        let ago = |time: Duration| now.saturating_sub(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        let longest = Duration::from_secs(self.longest_connection.load(Ordering::Relaxed));
        let ends_kept = longest.saturating_add(ENDS_KEPT).max(self.config.kept);
        Retention {
            before: ago(self.config.kept),
            max_bytes: self.config.max_bytes,
            max_entries: self.config.max_entries,
            ends_before: ago(ends_kept),
        }
    }

    /// The counts of what went well become entries.
    fn conclude_minute(&self) {
        let counted = self.handled.conclude();
        let mut buffer = self.buffer.lock();
        let at = (self.clock)();
        for notice in counted {
            buffer.successes.push(Taken { at, notice, one_in: 1 });
        }
    }

    /// Writes what was taken so far; answers after it can be read.
    ///
    /// # Errors
    /// The store failed; the entries are lost and counted.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let _writing = self.writing.lock().await;
        let (mut taken, failures) = {
            let mut buffer = self.buffer.lock();
            // New ones, so that the memory of a burst is given back.
            (std::mem::take(&mut buffer.successes), std::mem::take(&mut buffer.failures))
        };
        taken.extend(failures);
        // In the order of time; those of one moment as they came.
        taken.sort_by_key(|taken| taken.at);
        let mut result = Ok(());
        let mut taken = taken.into_iter();
        loop {
            let batch: Vec<Taken> = taken.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return result;
            }
            result = self.write(self.drafts(batch).await).await.and(result);
        }
    }

    /// What is to be written of a batch. Many are a matter of milliseconds, in which a worker of the gateway has better
    /// things to do.
    async fn drafts(&self, batch: Vec<Taken>) -> Vec<Draft> {
        let config = Arc::clone(&self.config);
        let n_taken = batch.len() as u64;
        let make = move || batch.into_iter().map(|taken| draft(&config, taken)).collect();
        if n_taken <= AT_ONCE {
            return make();
        }
        match tokio::task::spawn_blocking(make).await {
            Ok(drafts) => drafts,
            Err(error) => {
                // It panicked, or the process ends.
                let diag = tidegate_core::diagnosis::Diagnosis::STORE_UNAVAILABLE.as_str();
                tracing::error!(n_entries = n_taken, %error, diag, "entries of the journal were lost");
                self.dropped.fetch_add(n_taken, Ordering::Relaxed);
                Vec::new()
            }
        }
    }

    async fn write(&self, drafts: Vec<Draft>) -> Result<(), StoreError> {
        if drafts.is_empty() {
            return Ok(());
        }
        let n_entries = drafts.len() as u64;
        let drafts = Arc::new(drafts);
        let result = self.store.write(Arc::clone(&drafts)).await;
        self.conclude(result, n_entries, || self.store.write(drafts)).await
    }

    /// Tries a failed write once more if a clean-up makes room for it, and counts.
    async fn conclude<'a>(
        &'a self,
        mut result: Result<(), StoreError>,
        n_entries: u64,
        again: impl FnOnce() -> BoxFuture<'a, Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        if result.is_err() && !matches!(result, Err(StoreError::Busy)) {
            // Perhaps there is no room left.
            if self.store.retain(self.retention()).await.is_ok_and(|n_removed| n_removed > 0) {
                result = again().await;
            }
        }
        self.is_failing.store(result.is_err(), Ordering::Relaxed);
        match &result {
            Ok(()) => self.written.fetch_add(n_entries, Ordering::Relaxed),
            Err(error) => {
                self.report_loss(n_entries, error);
                self.dropped.fetch_add(n_entries, Ordering::Relaxed)
            }
        };
        result
    }

    fn report_loss(&self, n_entries: u64, error: &StoreError) {
        let now = (self.clock)();
        let logged = self.loss_logged.load(Ordering::Relaxed);
        if logged != 0 && now.saturating_sub(logged) < LOSS_LOG_INTERVAL {
            return;
        }
        self.loss_logged.store(now.max(1), Ordering::Relaxed);
        let diag = tidegate_core::diagnosis::Diagnosis::STORE_UNAVAILABLE.as_str();
        tracing::warn!(
            n_entries,
            error = cause(error),
            diag,
            "the journal cannot be written; connections go on"
        );
    }

    /// Writes what is left, for the end of the process.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub async fn close(&self) -> Result<(), StoreError> {
        self.conclude_minute();
        self.flush().await
    }

    /// The query with an address as it is kept.
    fn as_kept(&self, mut query: EntryQuery) -> EntryQuery {
        query.address = query.address.map(|address| self.address_as_kept(address));
        query
    }

    fn address_as_kept(&self, address: String) -> String {
        let JournalConfig { client_address, address_key, .. } = &*self.config;
        client_address.conceal(&address, address_key).unwrap_or(address)
    }
}

/// What is to be written of a notice.
fn draft(config: &JournalConfig, taken: Taken) -> Draft {
    let mut draft = entry::of(taken.notice, taken.at, config.node);
    if taken.one_in > 1 {
        draft.facts.add("sampledOneIn", taken.one_in);
    }
    conceal(config, &mut draft.address);
    guard::facts(&mut draft.facts, config.client_address, &config.address_key);
    draft
}

/// Leaves as much of an address as the setting says.
fn conceal(config: &JournalConfig, address: &mut Option<String>) {
    let JournalConfig { client_address, address_key, .. } = config;
    if let Some(address) = address
        && *client_address != ClientAddress::Full
        && let Some(concealed) = client_address.conceal(address, address_key)
    {
        *address = concealed;
    }
}

/// What the engine said, which is more than the error itself says.
fn cause(error: &StoreError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

impl Buffer {
    fn len(&self) -> usize {
        self.successes.len() + self.failures.len()
    }
}

impl NoticeSink for Journal {
    fn take(&self, notice: Notice) {
        Self::take(self, notice);
    }

    fn keeps_facts(&self) -> bool {
        true
    }

    fn wants_success(&self, connection_id: ConnectionId) -> bool {
        self.share.has(connection_id, (self.clock)())
    }
}

/// Reads see what was taken before. An address may be given as it is or as it is kept.
impl JournalStore for Journal {
    /// Past the buffer: for what is no notice.
    fn append(&self, mut entries: Vec<Entry>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            for entry in &mut entries {
                conceal(&self.config, &mut entry.address);
                let facts = entry.facts.iter_mut().map(|(name, value)| (name.as_str(), value));
                guard::values(facts, self.config.client_address, &self.config.address_key);
            }
            let _writing = self.writing.lock().await;
            let n_entries = entries.len() as u64;
            let result = self.store.append(entries.clone()).await;
            self.conclude(result, n_entries, || self.store.append(entries)).await
        })
    }

    fn query(&self, query: EntryQuery) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        Box::pin(async move {
            // What cannot be written is lost; what is there can be read.
            let _ = self.flush().await;
            self.store.query(self.as_kept(query)).await
        })
    }

    fn count_outcomes(&self, query: EntryQuery) -> BoxFuture<'_, Result<Vec<(String, u64)>, StoreError>> {
        Box::pin(async move {
            let _ = self.flush().await;
            self.store.count_outcomes(self.as_kept(query)).await
        })
    }

    fn retain(&self, retention: Retention) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.store.retain(retention)
    }

    fn erase(&self, whose: Erase) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let _ = self.flush().await;
            let whose = match whose {
                Erase::User(user) => Erase::User(user),
                Erase::Address(address) => Erase::Address(self.address_as_kept(address)),
            };
            self.store.erase(whose).await
        })
    }

    /// An error while entries cannot be written.
    fn state(&self) -> BoxFuture<'_, Result<JournalState, StoreError>> {
        Box::pin(async move {
            self.flush().await?;
            if self.is_failing.load(Ordering::Relaxed) {
                let source = "the last entries could not be written".into();
                return Err(StoreError::Unavailable { operation: "write", source });
            }
            let counts = self.counts();
            let state = self.store.state().await?;
            Ok(JournalState { dropped: counts.dropped, sampled: counts.sampled, ..state })
        })
    }
}

/// Stands where a journal would be: nothing is kept, and every question fails with the reason.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct NoJournal {
    /// Why there is none.
    pub reason: String,
    /// It is switched off, which is no failure.
    pub is_off: bool,
}

impl NoJournal {
    fn refuse<T: Send + 'static>(&self) -> BoxFuture<'_, Result<T, StoreError>> {
        let source = Box::new(self.clone());
        Box::pin(async move { Err(StoreError::Unavailable { operation: "open", source }) })
    }

    /// Whether an error of a store says that the journal is switched off.
    pub fn is_off(error: &StoreError) -> bool {
        std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<Self>())
            .is_some_and(|journal| journal.is_off)
    }
}

impl JournalStore for NoJournal {
    fn append(&self, _: Vec<Entry>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.refuse()
    }

    fn query(&self, _: EntryQuery) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        self.refuse()
    }

    fn count_outcomes(&self, _: EntryQuery) -> BoxFuture<'_, Result<Vec<(String, u64)>, StoreError>> {
        self.refuse()
    }

    fn retain(&self, _: Retention) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.refuse()
    }

    fn erase(&self, _: Erase) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.refuse()
    }

    fn state(&self) -> BoxFuture<'_, Result<JournalState, StoreError>> {
        self.refuse()
    }
}

#[cfg(test)]
mod tests;
