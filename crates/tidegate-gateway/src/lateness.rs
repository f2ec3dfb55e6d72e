//! How late the gateway's clock comes round: when it is late again and again, the processors have more to do than they
//! can.
//!
//! One look for each tick of the timer wheel, which takes no time. A single late tick says nothing: a machine that
//! slept or was moved has one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A tick that comes later than this is late. Source: our choice; the wheel itself turns as often.
const LATE: Duration = Duration::from_millis(250);

/// So many in a row are no accident.
const IN_A_ROW: u32 = 4;

/// Between two reports of the same trouble, in milliseconds.
const PAUSE: u64 = 60_000;

/// What the ticks were like lately.
#[derive(Debug, Default)]
pub(crate) struct Lateness {
    n_late: u32,
    longest: Duration,
    /// Milliseconds since 1970; 0 = never.
    reported: u64,
}

/// Ticks in a row that were late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overload {
    /// How many.
    pub(crate) n_late: u32,
    /// The latest of them.
    pub(crate) longest: Duration,
}

impl Lateness {
    /// Takes in how late a tick came; answers when that has to be reported.
    pub(crate) fn on_tick(&mut self, late: Duration, now: u64) -> Option<Overload> {
        if late <= LATE {
            self.n_late = 0;
            self.longest = Duration::ZERO;
            return None;
        }
        self.n_late = self.n_late.saturating_add(1);
        self.longest = self.longest.max(late);
        let is_due = self.reported == 0 || now.saturating_sub(self.reported) >= PAUSE;
        if self.n_late < IN_A_ROW || !is_due {
            return None;
        }
        self.reported = now;
        Some(Overload { n_late: self.n_late, longest: self.longest })
    }
}

/// When the node was last found overloaded, for whoever looks later.
#[derive(Debug, Default)]
pub(crate) struct LastOverload {
    /// Milliseconds since 1970; 0 = never.
    at: AtomicU64,
    longest_ms: AtomicU64,
}

impl LastOverload {
    pub(crate) fn set(&self, now: u64, overload: Overload) {
        let longest = u64::try_from(overload.longest.as_millis()).unwrap_or(u64::MAX);
        self.longest_ms.store(longest, Ordering::Relaxed);
        self.at.store(now, Ordering::Relaxed);
    }

    /// The delay in milliseconds, if it was after `since` (milliseconds since 1970).
    pub(crate) fn since(&self, since: u64) -> Option<u64> {
        let at = self.at.load(Ordering::Relaxed);
        (at > 0 && at >= since).then(|| self.longest_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_millis(400);

    #[test]
    fn single_late_ticks_say_nothing() {
        // limit.overload
        let mut lateness = Lateness::default();
        for now in 0..100 {
            assert_eq!(lateness.on_tick(LONG * 100, now), None, "a machine that slept");
            for _ in 0..3 {
                assert_eq!(lateness.on_tick(LATE, now), None);
            }
        }
    }

    #[test]
    fn it_is_reported_once_a_minute() {
        // limit.overload
        let mut lateness = Lateness::default();
        let reports: Vec<_> =
            (1..=400).filter_map(|tick| Some((tick * 500, lateness.on_tick(LONG, tick * 500)?))).collect();
        let times: Vec<u64> = reports.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [2_000, 62_000, 122_000, 182_000]);
        assert_eq!(reports[0].1, Overload { n_late: 4, longest: LONG });
    }

    #[test]
    fn the_last_one_is_kept() {
        let last = LastOverload::default();
        assert_eq!(last.since(0), None);
        last.set(5_000, Overload { n_late: 4, longest: LONG });
        assert_eq!((last.since(5_000), last.since(5_001)), (Some(400), None));
    }
}
