//! How often somebody may do something: a bounded table of buckets by key.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;
use tidegate_core::snapshot::Throttle;
use tidegate_core::throttle::Bucket;

/// Keys that are counted at a time.
pub const MAX_KEYS: usize = 10_000;

/// A bucket that nobody took from for so long, in milliseconds, is full again or will be.
const IDLE_MS: u64 = 60_000;

#[derive(Debug)]
struct Counted {
    bucket: Bucket,
    used_at: u64,
}

/// Buckets by key. When there are too many keys, those of a minute ago are forgotten; when that is not enough, a new key
/// gets nothing.
#[derive(Debug)]
pub struct Rates<K> {
    buckets: Mutex<HashMap<K, Counted>>,
}

impl<K> Default for Rates<K> {
    fn default() -> Self {
        Self { buckets: Mutex::default() }
    }
}

impl<K: Hash + Eq> Rates<K> {
    /// Takes one for `key`; false when there is none. `None` is no limit; `now` in milliseconds.
    pub fn take(&self, throttle: Option<Throttle>, key: K, now: u64) -> bool {
        let Some(throttle) = throttle else { return true };
        let mut buckets = self.buckets.lock();
        if buckets.len() >= MAX_KEYS && !buckets.contains_key(&key) {
            buckets.retain(|_, counted| now.saturating_sub(counted.used_at) < IDLE_MS);
            if buckets.len() >= MAX_KEYS {
                return false;
            }
        }
        let full = || Counted { bucket: Bucket::full(throttle, now), used_at: now };
        let counted = buckets.entry(key).or_insert_with(full);
        counted.used_at = now;
        counted.bucket.take(throttle, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_forgets_who_is_idle_and_admits_nobody_else() {
        // S3-45
        let (table, throttle) = (Rates::default(), Some(Throttle { rate: 1.0, burst: 1.0 }));
        let take = |key, now| table.take(throttle, key, now);
        for key in 0..MAX_KEYS {
            assert!(take(key, 1000));
        }
        assert!(!take(MAX_KEYS, 1000));
        assert!(!take(0, 1000) && take(0, 2000));
        assert!(take(MAX_KEYS, 1000 + IDLE_MS), "those of a minute ago were forgotten");
        assert!(table.take(None, 0, 1000));
    }
}
