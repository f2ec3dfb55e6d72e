//! Results of pushes by idempotency key: a repeated key is answered with the first result and sends nothing.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::publish::PushResult;

/// Keys remembered at a time; at the bound a push with a new key is refused rather than a promise broken.
const MAX_KEYS: usize = 100_000;

/// Connection ids in all remembered results; at the bound as for keys.
const MAX_IDS: usize = 1_000_000;

/// API, stage, and the key itself.
pub(crate) type Key = (Arc<str>, Arc<str>, String);

#[derive(Debug, Default)]
pub(crate) struct Idempotency {
    inner: Mutex<Inner>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Inner {
    by_key: HashMap<Key, Entry>,
    /// Ends of windows with their keys; windows of one stage have one length, so this is nearly in order.
    order: VecDeque<(u64, Key)>,
    /// Ids in the results.
    n_ids: usize,
}

#[derive(Debug)]
struct Entry {
    subject: u64,
    ends_at: u64,
    n_ids: usize,
    result: watch::Receiver<Option<Arc<PushResult>>>,
}

/// Whose turn it is.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Nobody has used the key: push, and tell what came of it with [`Idempotency::conclude`].
    First(watch::Sender<Option<Arc<PushResult>>>),
    /// The result is there or will be.
    Repeated(watch::Receiver<Option<Arc<PushResult>>>),
    /// The key belongs to another push.
    Other,
    /// No more keys can be remembered.
    Full,
}

impl Idempotency {
    /// The place for the result of `key`. `subject` is what is pushed to whom; `window` is in milliseconds.
    pub(crate) fn claim(&self, key: Key, subject: &impl Hash, now: u64, window: u64) -> Claim {
        let subject = self.hasher.hash_one(subject);
        let mut inner = self.inner.lock();
        while inner.order.front().is_some_and(|(ends_at, _)| *ends_at <= now) {
            let Some((ends_at, key)) = inner.order.pop_front() else { break };
            if inner.by_key.get(&key).is_some_and(|entry| entry.ends_at == ends_at) {
                inner.remove(&key);
            }
        }
        if let Some(entry) = inner.by_key.get(&key).filter(|entry| entry.ends_at > now) {
            return match entry.subject == subject {
                true => Claim::Repeated(entry.result.clone()),
                false => Claim::Other,
            };
        }
        inner.remove(&key);
        if inner.order.len() >= MAX_KEYS || inner.n_ids >= MAX_IDS {
            return Claim::Full;
        }
        let (sender, result) = watch::channel(None);
        let ends_at = now.saturating_add(window);
        inner.order.push_back((ends_at, key.clone()));
        inner.by_key.insert(key, Entry { subject, ends_at, n_ids: 0, result });
        Claim::First(sender)
    }

    /// Tells everybody who waits, and who comes later, what came of the push.
    pub(crate) fn conclude(
        &self,
        key: &Key,
        sender: &watch::Sender<Option<Arc<PushResult>>>,
        result: PushResult,
    ) {
        let n_ids = result.gone.len() + result.slow.len();
        sender.send_replace(Some(Arc::new(result)));
        let mut inner = self.inner.lock();
        // The window may have ended, and the key may have been used again.
        let entry = inner.by_key.get_mut(key).filter(|entry| entry.result.same_channel(&sender.subscribe()));
        if let Some(entry) = entry {
            entry.n_ids = n_ids;
            inner.n_ids += n_ids;
        }
    }
}

impl Inner {
    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.by_key.remove(key) {
            self.n_ids -= entry.n_ids;
        }
    }
}
