//! How many calls a backend has at a time.
//!
//! A backend is what shares a scheme and an authority. Callers bring their own limit, as stages may differ in it; the
//! count is common to all.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_core::limits;
use tokio::sync::Notify;

use super::dial::Origin;

/// Backends that are counted; calls of further ones are not limited.
const MAX_LANES: usize = 10_000;

/// The counts of all backends.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// By authority; `http` and `https`.
    by_authority: [Mutex<HashMap<Box<str>, Arc<Lane>>>; 2],
}

#[derive(Debug, Default)]
struct Lane {
    n_calls: AtomicUsize,
    n_waiting: AtomicUsize,
    freed: Notify,
}

/// The right to one call; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Option<Arc<Lane>>);

/// The backend has as many calls as it may have, and none of them ended in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy {
    /// Callers that wait, this one included.
    pub(super) n_waiting: usize,
}

impl Lanes {
    /// Waits for a turn, at most for `patience`.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place.
    pub(super) async fn enter(
        &self,
        origin: Origin<'_>,
        limit: usize,
        patience: Duration,
    ) -> Result<Turn, Busy> {
        let Some(lane) = self.lane(origin) else { return Ok(Turn(None)) };
        if lane.try_enter(limit) {
            return Ok(Turn(Some(lane)));
        }
        // Boxed: rare and large.
        match tokio::time::timeout(patience, Box::pin(lane.wait(limit))).await {
            Ok(()) => Ok(Turn(Some(lane))),
            Err(_) => Err(Busy { n_waiting: lane.n_waiting.load(Ordering::Relaxed) + 1 }),
        }
    }

    fn lane(&self, origin: Origin<'_>) -> Option<Arc<Lane>> {
        let mut lanes = self.by_authority[usize::from(origin.is_https)].lock();
        if let Some(lane) = lanes.get(origin.authority) {
            return Some(Arc::clone(lane));
        }
        if lanes.len() >= MAX_LANES {
            return None;
        }
        let lane = Arc::new(Lane::default());
        lanes.insert(origin.authority.into(), Arc::clone(&lane));
        Some(lane)
    }

    /// Forgets backends that nobody calls.
    pub(super) fn sweep(&self) {
        for lanes in &self.by_authority {
            let mut lanes = lanes.lock();
            // Few backends cost nothing to remember.
            if lanes.len() > limits::MAX_IDLE_PER_BACKEND {
                lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
            }
        }
    }
}

impl Lane {
    fn try_enter(&self, limit: usize) -> bool {
        let more = |n_calls| (n_calls < limit).then_some(n_calls + 1);
        self.n_calls.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    fn leave(&self) {
        // Either this look sees who waits, or the look of who waits sees the free place: hence the strict order.
        self.n_calls.fetch_sub(1, Ordering::SeqCst);
        if self.n_waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    async fn wait(&self, limit: usize) {
        let _waiting = Waiting::new(&self.n_waiting);
        loop {
            // Registered before the look, so that no end of a call is missed between the two.
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.try_enter(limit) {
                return;
            }
            freed.await;
        }
    }
}

/// Counts somebody who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(lane) = &self.0 {
            lane.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn no_more_than_the_limit_are_in_at_a_time() {
        // integration.overload
        let uri: http::Uri = "http://b.example:1/".parse().unwrap();
        let other: http::Uri = "https://b.example:1/".parse().unwrap();
        let lanes = Lanes::default();
        let first = lanes.enter(Origin::of(&uri), 2, SHORT).await.unwrap();
        let _second = lanes.enter(Origin::of(&uri), 2, SHORT).await.unwrap();
        assert_eq!(lanes.enter(Origin::of(&uri), 2, SHORT).await.unwrap_err(), Busy { n_waiting: 1 });
        // Another limit, another backend.
        drop(lanes.enter(Origin::of(&uri), 3, SHORT).await.unwrap());
        drop(lanes.enter(Origin::of(&other), 2, SHORT).await.unwrap());
        let long = Duration::from_secs(30);
        let waiting = lanes.enter(Origin::of(&uri), 2, long);
        let (entered, ()) = tokio::join!(waiting, async { drop(first) });
        entered.unwrap();
        let lane = lanes.lane(Origin::of(&uri)).unwrap();
        assert_eq!((lane.n_calls.load(Ordering::SeqCst), lane.n_waiting.load(Ordering::SeqCst)), (1, 0));
    }

    #[tokio::test]
    async fn many_take_turns_and_none_is_forgotten() {
        let uri: http::Uri = "http://b.example/".parse().unwrap();
        let lanes = Lanes::default();
        let n_in = AtomicUsize::new(0);
        let calls = (0..200).map(|_| async {
            let turn = lanes.enter(Origin::of(&uri), 3, Duration::from_secs(30)).await.unwrap();
            assert!(n_in.fetch_add(1, Ordering::SeqCst) < 3);
            tokio::task::yield_now().await;
            n_in.fetch_sub(1, Ordering::SeqCst);
            drop(turn);
        });
        futures_util::future::join_all(calls).await;
        assert_eq!(lanes.lane(Origin::of(&uri)).unwrap().n_calls.load(Ordering::SeqCst), 0);
    }
}
