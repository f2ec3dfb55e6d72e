//! Counting attempts in a sliding window: at most so many in any stretch of so long, for each key.
//!
//! Exact: the times of the newest attempts are kept, as many as the limit is. Times are milliseconds of any clock
//! that the caller passes in. Locking and sharding are the caller's.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

/// Keys kept at a time unless said otherwise.
pub const DEFAULT_MAX_KEYS: usize = 100_000;

/// Attempts kept for all keys together, for each key that may be kept: 16 MB at most of a default window.
const ATTEMPTS_PER_KEY: usize = 20;

/// Keys that are looked at for removal each time that one is recorded. More than one, so that keys leave faster
/// than they come.
const REMOVAL_STEP: usize = 2;

/// Whether one more is within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Admitted,
    /// No.
    Limited {
        /// Milliseconds until it would be, if nothing is recorded until then; at least 1.
        retry_after_ms: u64,
    },
}

/// The attempts of many keys.
///
/// Asking and counting are separate: [`Self::check`] counts nothing, [`Self::record`] refuses nothing. So a caller may
/// count attempts that were refused, or only those that failed. [`Self::admit`] does both.
///
/// # Bounds
/// One key holds at most as many attempts as the limit it was last recorded with. All keys together hold at most
/// `max_keys` keys and 20 times as many attempts; over either, the key that was used least recently is forgotten, and
/// starts afresh: the bound errs on the side of those who are counted. Keys whose attempts have all left their
/// window are removed as others are recorded, two at a time.
///
/// # Changing limits
/// Limit and window come with each call. A larger limit or a longer window than before sees only what the smaller
/// one kept, until one window has passed: this too errs on the side of those who are counted.
#[derive(Debug)]
pub struct SlidingWindow<K> {
    keys: HashMap<K, Log>,
    /// Keys by their last use, the oldest first.
    by_use: BTreeMap<u64, K>,
    next_use: u64,
    n_attempts: usize,
    max_keys: usize,
}

#[derive(Debug)]
struct Log {
    /// Not falling, none later than the last call's time.
    attempts: VecDeque<u64>,
    /// When the last of them leaves its window.
    expires_at: u64,
    last_use: u64,
}

impl<K: Hash + Eq + Clone> Default for SlidingWindow<K> {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_KEYS)
    }
}

impl<K: Hash + Eq + Clone> SlidingWindow<K> {
    /// Holds at most `max_keys` keys, one at least.
    pub fn new(max_keys: usize) -> Self {
        Self {
            keys: HashMap::new(),
            by_use: BTreeMap::new(),
            next_use: 0,
            n_attempts: 0,
            max_keys: max_keys.max(1),
        }
    }

    /// Whether one more attempt at `now_ms` is within `limit` in `window_ms`. Counts nothing. 0 = no limit.
    ///
    /// An attempt leaves the window when exactly `window_ms` have passed. A clock that was set back does no harm:
    /// what seems to be later than `now_ms` counts as of now.
    pub fn check(&mut self, key: &K, now_ms: u64, limit: u32, window_ms: u64) -> Verdict {
        if limit == 0 {
            return Verdict::Admitted;
        }
        self.touch(key);
        let Some(log) = self.keys.get_mut(key) else { return Verdict::Admitted };
        log.turn_back(now_ms);
        // There is room exactly when the attempt that is `limit` attempts back has left.
        let oldest = log.attempts.len().checked_sub(limit as usize).and_then(|idx| log.attempts.get(idx));
        match oldest.map(|oldest| oldest.saturating_add(window_ms).saturating_sub(now_ms)) {
            None | Some(0) => Verdict::Admitted,
            Some(retry_after_ms) => Verdict::Limited { retry_after_ms },
        }
    }

    /// Counts an attempt. With limit 0 there is nothing to count.
    pub fn record(&mut self, key: &K, now_ms: u64, limit: u32, window_ms: u64) {
        if limit == 0 {
            return;
        }
        self.remove_expired(now_ms);
        if !self.touch(key) {
            let last_use = self.next_use();
            self.by_use.insert(last_use, key.clone());
            let log = Log { attempts: VecDeque::new(), expires_at: 0, last_use };
            self.keys.insert(key.clone(), log);
        }
        if let Some(log) = self.keys.get_mut(key) {
            self.n_attempts -= log.attempts.len();
            log.turn_back(now_ms);
            while log.attempts.front().is_some_and(|first| first.saturating_add(window_ms) <= now_ms) {
                log.attempts.pop_front();
            }
            log.attempts.push_back(now_ms);
            while log.attempts.len() > limit as usize {
                log.attempts.pop_front();
            }
            log.expires_at = now_ms.saturating_add(window_ms);
            self.n_attempts += log.attempts.len();
        }
        let max_attempts = self.max_keys.saturating_mul(ATTEMPTS_PER_KEY);
        while self.keys.len() > self.max_keys || (self.n_attempts > max_attempts && self.keys.len() > 1) {
            self.forget_oldest();
        }
    }

    /// [`Self::check`], and [`Self::record`] if it is admitted; with `is_penal` also if it is not, so that whoever
    /// goes on stays out (S0-80).
    pub fn admit(&mut self, key: &K, now_ms: u64, limit: u32, window_ms: u64, is_penal: bool) -> Verdict {
        let verdict = self.check(key, now_ms, limit, window_ms);
        if is_penal || verdict == Verdict::Admitted {
            self.record(key, now_ms, limit, window_ms);
        }
        verdict
    }

    /// Keys that are held.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Nothing is held.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn next_use(&mut self) -> u64 {
        self.next_use += 1;
        self.next_use
    }

    /// Makes a key the one that was used last. Also when it is only asked about: one that goes on knocking is not
    /// to be forgotten for being refused.
    fn touch(&mut self, key: &K) -> bool {
        let this_use = self.next_use();
        let Some(log) = self.keys.get_mut(key) else { return false };
        if let Some(key) = self.by_use.remove(&log.last_use) {
            self.by_use.insert(this_use, key);
        }
        log.last_use = this_use;
        true
    }

    fn remove_expired(&mut self, now_ms: u64) {
        for _ in 0..REMOVAL_STEP {
            let oldest = self.by_use.values().next().and_then(|key| self.keys.get(key));
            if oldest.is_none_or(|log| log.expires_at > now_ms) {
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.by_use.pop_first()
            && let Some(log) = self.keys.remove(&key)
        {
            self.n_attempts -= log.attempts.len();
        }
    }
}

impl Log {
    /// Nothing is later than now, whatever the clock said before.
    fn turn_back(&mut self, now_ms: u64) {
        for attempt in self.attempts.iter_mut().rev().take_while(|attempt| **attempt > now_ms) {
            *attempt = now_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITED: fn(u64) -> Verdict = |retry_after_ms| Verdict::Limited { retry_after_ms };

    #[test]
    fn the_window_slides() {
        // S0-79
        let mut window = SlidingWindow::default();
        let mut admit = |now| window.admit(&'a', now, 2, 100, false);
        assert_eq!(admit(0), Verdict::Admitted);
        assert_eq!(admit(60), Verdict::Admitted);
        assert_eq!(admit(99), LIMITED(1));
        assert_eq!(admit(100), Verdict::Admitted);
        assert_eq!(admit(100), LIMITED(60));
        assert_eq!(admit(160), Verdict::Admitted);
        assert_eq!(window.admit(&'b', 160, 2, 100, false), Verdict::Admitted);
    }

    #[test]
    fn only_a_penalty_counts_refused_attempts() {
        // S0-80
        let mut window = SlidingWindow::default();
        let mut insist = |key, is_penal| {
            let verdicts = (0..10).map(|step| window.admit(&key, step * 50, 1, 100, is_penal));
            verdicts.filter(|verdict| *verdict == Verdict::Admitted).count()
        };
        assert_eq!(insist('a', false), 5);
        assert_eq!(insist('b', true), 1);
    }

    #[test]
    fn attempts_that_failed_can_be_counted_alone() {
        // S0-81
        let mut window = SlidingWindow::default();
        for now in 0..10 {
            assert_eq!(window.check(&'a', now, 2, 100), Verdict::Admitted);
        }
        window.record(&'a', 10, 2, 100);
        window.record(&'a', 11, 2, 100);
        assert_eq!(window.check(&'a', 12, 2, 100), LIMITED(98));
        assert_eq!(window.check(&'a', 12, 0, 100), Verdict::Admitted);
    }

    #[test]
    fn the_key_that_was_used_least_recently_is_forgotten() {
        let mut window = SlidingWindow::new(2);
        window.record(&'a', 0, 1, 1000);
        window.record(&'b', 0, 1, 1000);
        // A refused one is in use.
        assert_eq!(window.check(&'a', 0, 1, 1000), LIMITED(1000));
        window.record(&'c', 0, 1, 1000);
        assert_eq!(window.len(), 2);
        assert_eq!(window.check(&'b', 0, 1, 1000), Verdict::Admitted);
        assert_eq!(window.check(&'a', 0, 1, 1000), LIMITED(1000));
    }

    #[test]
    fn attempts_are_bounded_over_all_keys() {
        let mut window = SlidingWindow::new(2);
        for _ in 0..30 {
            window.record(&'a', 0, 1000, 1000);
        }
        for _ in 0..30 {
            window.record(&'b', 0, 1000, 1000);
        }
        assert_eq!((window.len(), window.n_attempts), (1, 30));
        assert_eq!(window.check(&'b', 0, 30, 1000), LIMITED(1000));
    }

    #[test]
    fn keys_leave_when_their_window_has_passed() {
        // S0-93
        let mut window = SlidingWindow::new(1000);
        for key in 0..100 {
            window.record(&key, 0, 5, 100);
        }
        for now in 100..151 {
            window.record(&1000, now, 5, 100);
        }
        assert_eq!(window.len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let mut window = SlidingWindow::default();
        window.record(&'a', 1_000_000, 1, 100);
        assert_eq!(window.check(&'a', 500, 1, 100), LIMITED(100));
        assert_eq!(window.check(&'a', 600, 1, 100), Verdict::Admitted);
    }

    /// Every attempt of every key, for ever.
    #[derive(Default)]
    struct Model {
        attempts: Vec<(u8, u64)>,
    }

    impl Model {
        fn check(&mut self, key: u8, now: u64, limit: u32, window: u64) -> Verdict {
            for (other, time) in &mut self.attempts {
                // Without a limit nothing is looked at.
                if *other == key && limit > 0 {
                    *time = now.min(*time);
                }
            }
            let is_free = |at: u64| {
                let within = |time: u64| at < time + window;
                let counted = self.attempts.iter().filter(|(other, time)| *other == key && within(*time));
                limit == 0 || counted.count() < limit as usize
            };
            match (0..=window).find(|wait| is_free(now + wait)) {
                Some(0) => Verdict::Admitted,
                wait => LIMITED(wait.expect("everything leaves")),
            }
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Check,
        Record,
        Admit { is_penal: bool },
    }

    fn step(elapsed: impl Strategy<Value = i64>) -> impl Strategy<Value = (u8, i64, Step)> {
        let action = prop_oneof![
            Just(Step::Check),
            Just(Step::Record),
            proptest::bool::ANY.prop_map(|is_penal| Step::Admit { is_penal }),
        ];
        (0_u8..4, elapsed, action)
    }

    fn run(
        window: &mut SlidingWindow<u8>,
        steps: &[(u8, i64, Step)],
        limits: impl Fn(u8, usize) -> (u32, u64),
        mut compare: impl FnMut(Verdict, Verdict) -> Result<(), TestCaseError>,
    ) -> Result<(), TestCaseError> {
        let mut model = Model::default();
        let mut now = 100_u64;
        for (idx, (key, elapsed, step)) in steps.iter().copied().enumerate() {
            now = now.saturating_add_signed(elapsed);
            let (limit, length) = limits(key, idx);
            let expected = model.check(key, now, limit, length);
            // The model follows what was done, so that one difference is not many.
            let is_counted = match step {
                Step::Check => {
                    compare(window.check(&key, now, limit, length), expected)?;
                    false
                }
                Step::Record => {
                    window.record(&key, now, limit, length);
                    true
                }
                Step::Admit { is_penal } => {
                    let verdict = window.admit(&key, now, limit, length, is_penal);
                    compare(verdict, expected)?;
                    is_penal || verdict == Verdict::Admitted
                }
            };
            if is_counted && limit > 0 {
                model.attempts.push((key, now));
            }
        }
        Ok(())
    }

    proptest! {
        // S0-79, S0-80, S0-81
        #[test]
        fn verdicts_are_those_of_a_model_that_forgets_nothing(
            steps in prop::collection::vec(step(0_i64..12), 0..120),
            limits in prop::array::uniform4((0_u32..5, 1_u64..60)),
        ) {
            let mut window = SlidingWindow::new(100);
            run(&mut window, &steps, |key, _| limits[key as usize], |found, expected| {
                prop_assert_eq!(found, expected);
                Ok(())
            })?;
        }

        #[test]
        fn bounds_changing_limits_and_bad_clocks_never_refuse_more(
            steps in prop::collection::vec(step(prop_oneof![9 => 0_i64..12, 1 => -40_i64..0]), 0..120),
            limits in prop::collection::vec((0_u32..5, 1_u64..60), 120),
        ) {
            let mut window = SlidingWindow::new(2);
            run(&mut window, &steps, |_, idx| limits[idx], |found, expected| {
                prop_assert!(found == Verdict::Admitted || expected != Verdict::Admitted);
                Ok(())
            })?;
            prop_assert!(window.len() <= 2);
            let held: usize = window.keys.values().map(|log| log.attempts.len()).sum();
            prop_assert_eq!(window.n_attempts, held);
            prop_assert_eq!(window.by_use.len(), window.len());
        }
    }
}
