//! Repeated calls: the first answer of a key is given again for ten minutes.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;

/// Milliseconds for which a key is remembered.
pub const WINDOW_MS: u64 = 600_000;

/// Keys that are remembered; the oldest is forgotten for a new one.
pub const MAX_KEYS: usize = 10_000;

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: the caller does it now, and says [`Idempotency::done`] or [`Idempotency::forget`].
    First,
    /// Somebody is doing it.
    UnderWay,
    /// It was answered so.
    Answered(Bytes),
}

#[derive(Debug)]
struct Remembered {
    since: u64,
    answer: Option<Bytes>,
}

#[derive(Debug, Default)]
struct Table {
    keys: HashMap<String, Remembered>,
    /// Oldest first; may name keys that were forgotten.
    order: VecDeque<(u64, String)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Idempotency(Mutex<Table>);

impl Idempotency {
    /// Takes a key.
    pub fn begin(&self, key: &str, now: u64) -> Seen {
        let mut table = self.0.lock();
        table.expire(now);
        if let Some(known) = table.keys.get(key) {
            return known.answer.clone().map_or(Seen::UnderWay, Seen::Answered);
        }
        table.keys.insert(key.to_owned(), Remembered { since: now, answer: None });
        table.order.push_back((now, key.to_owned()));
        Seen::First
    }

    /// It was done.
    pub fn done(&self, key: &str, answer: Bytes) {
        if let Some(known) = self.0.lock().keys.get_mut(key) {
            known.answer = Some(answer);
        }
    }

    /// It was not done; the key may be used again.
    pub fn forget(&self, key: &str) {
        self.0.lock().keys.remove(key);
    }
}

impl Table {
    fn expire(&mut self, now: u64) {
        while let Some((since, _)) = self.order.front() {
            if now.saturating_sub(*since) < WINDOW_MS && self.order.len() < MAX_KEYS {
                break;
            }
            let Some((since, key)) = self.order.pop_front() else { break };
            // The key may have been forgotten and taken again.
            if self.keys.get(&key).is_some_and(|known| known.since == since) {
                self.keys.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_holds_for_ten_minutes() {
        // S3-47
        let keys = Idempotency::default();
        assert_eq!(keys.begin("a", 0), Seen::First);
        assert_eq!(keys.begin("a", 1), Seen::UnderWay);
        keys.done("a", Bytes::from_static(b"1"));
        assert_eq!(keys.begin("a", WINDOW_MS - 1), Seen::Answered(Bytes::from_static(b"1")));
        assert_eq!(keys.begin("a", WINDOW_MS), Seen::First);
        keys.forget("a");
        assert_eq!(keys.begin("a", WINDOW_MS), Seen::First);
    }

    #[test]
    fn the_oldest_key_goes_when_there_are_too_many() {
        // S3-47
        let keys = Idempotency::default();
        for number in 0..=MAX_KEYS {
            assert_eq!(keys.begin(&number.to_string(), 5), Seen::First);
        }
        assert!(keys.0.lock().keys.len() <= MAX_KEYS && keys.0.lock().order.len() <= MAX_KEYS);
        assert_eq!(keys.begin(&MAX_KEYS.to_string(), 5), Seen::UnderWay);
        assert_eq!(keys.begin("0", 5), Seen::First);
    }
}
