//! One coarse clock for all connections: idle and age limits, pings, stalled writers.
//!
//! A connection stands in one bucket. When its bucket comes round, its next deadline is computed from what
//! happened meanwhile, and it is put where that deadline falls: nothing is moved when a message passes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_core::id::ConnectionId;

/// How often the wheel turns. Limits are whole seconds, so they are met within a quarter more.
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// Buckets; deadlines farther than this many ticks (four minutes) are looked at on the way.
const N_BUCKETS: usize = 1024;

/// Why a connection stands in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its limits; stands here for the whole life of the connection.
    Limits,
    /// Its socket took nothing; once.
    Stall,
}

#[derive(Debug)]
pub(crate) struct TimerWheel {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    buckets: Vec<Vec<(ConnectionId, Kind)>>,
    /// Tick that was handled last.
    at: u64,
}

impl TimerWheel {
    pub(crate) fn new(now: u64) -> Arc<Self> {
        let at = now / TICK.as_millis() as u64;
        Arc::new(Self { inner: Mutex::new(Inner { buckets: vec![Vec::new(); N_BUCKETS], at }) })
    }

    /// Puts a connection where `deadline` (milliseconds since 1970) falls.
    pub(crate) fn schedule(&self, id: ConnectionId, kind: Kind, deadline: u64) {
        let mut inner = self.inner.lock();
        // A started tick counts as over, so nothing fires before its time.
        let wanted = deadline / TICK.as_millis() as u64 + 1;
        let tick = wanted.clamp(inner.at + 1, inner.at + N_BUCKETS as u64 - 1);
        let bucket_idx = (tick % N_BUCKETS as u64) as usize;
        inner.buckets[bucket_idx].push((id, kind));
    }

    /// Everything whose bucket has come round by `now`.
    pub(crate) fn turn(&self, now: u64) -> Vec<(ConnectionId, Kind)> {
        let mut inner = self.inner.lock();
        let target = now / TICK.as_millis() as u64;
        let mut due = Vec::new();
        // After a long sleep of the machine one round sees every bucket.
        let n_ticks = target.saturating_sub(inner.at).min(N_BUCKETS as u64);
        let first = target + 1 - n_ticks;
        for tick in first..first + n_ticks {
            let bucket_idx = (tick % N_BUCKETS as u64) as usize;
            due.append(&mut inner.buckets[bucket_idx]);
        }
        inner.at = inner.at.max(target);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32) -> ConnectionId {
        ConnectionId::new(1, 0, slot, 0)
    }

    #[test]
    fn deadlines_come_in_time_and_not_before() {
        let wheel = TimerWheel::new(10_000);
        wheel.schedule(id(1), Kind::Limits, 11_000);
        wheel.schedule(id(2), Kind::Stall, 500_000_000);
        assert_eq!(wheel.turn(11_000), []);
        assert_eq!(wheel.turn(11_250), [(id(1), Kind::Limits)]);
        // Far deadlines are looked at when the wheel has gone round.
        assert_eq!(wheel.turn(10_000 + 250 * 1023), [(id(2), Kind::Stall)]);
    }

    #[test]
    fn a_late_turn_misses_nothing() {
        let wheel = TimerWheel::new(0);
        for slot in 0..100 {
            wheel.schedule(id(slot), Kind::Limits, u64::from(slot) * 2500);
        }
        assert_eq!(wheel.turn(10_000_000).len(), 100);
    }
}
