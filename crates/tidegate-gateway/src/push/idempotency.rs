//! Results of pushes by idempotency key: a repeated key is answered with the first result and sends nothing.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::publish::PushResult;

/// Keys remembered at a time; at the bound a push with a new key is refused rather than a promise broken.
const MAX_KEYS: usize = 100_000;

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
}

#[derive(Debug)]
struct Entry {
    subject: u64,
    ends_at: u64,
    cell: Arc<OnceCell<PushResult>>,
}

/// Whose turn it is.
#[derive(Debug)]
pub(crate) enum Claim {
    /// The result is there, or the first to fill the cell makes it.
    Taken(Arc<OnceCell<PushResult>>),
    /// The key belongs to another push.
    Other,
    /// No more keys can be remembered.
    Full,
}

impl Idempotency {
    /// The place for the result of `key`. `subject` is what is pushed to whom; `window` is in milliseconds.
    pub(crate) fn claim(&self, key: Key, subject: &(String, Bytes), now: u64, window: u64) -> Claim {
        let subject = self.hasher.hash_one(subject);
        let mut inner = self.inner.lock();
        while inner.order.front().is_some_and(|(ends_at, _)| *ends_at <= now) {
            let Some((ends_at, key)) = inner.order.pop_front() else { break };
            if inner.by_key.get(&key).is_some_and(|entry| entry.ends_at == ends_at) {
                inner.by_key.remove(&key);
            }
        }
        match inner.by_key.get(&key) {
            Some(entry) if entry.ends_at > now => {
                return match entry.subject == subject {
                    true => Claim::Taken(Arc::clone(&entry.cell)),
                    false => Claim::Other,
                };
            }
            _ => {}
        }
        if inner.order.len() >= MAX_KEYS {
            return Claim::Full;
        }
        let cell = Arc::new(OnceCell::new());
        let ends_at = now + window;
        inner.order.push_back((ends_at, key.clone()));
        inner.by_key.insert(key, Entry { subject, ends_at, cell: Arc::clone(&cell) });
        Claim::Taken(cell)
    }
}
