//! The token buckets of all stages and routes, in bounded memory, and those of the whole account.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tidegate_core::settings::Limits;
use tidegate_core::snapshot::{Stage, Throttle};
use tidegate_core::throttle::Bucket;

/// Buckets kept at a time; at the bound all start afresh, which errs on the client's side.
const MAX_BUCKETS: usize = 100_000;

/// By API, stage and route key.
type Key = (Arc<str>, Arc<str>, String);

#[derive(Debug, Default)]
pub(crate) struct Throttles {
    buckets: Mutex<HashMap<Key, Bucket>>,
}

impl Throttles {
    /// Takes a token for one event of a route. Routes without a throttle cost nothing.
    pub(crate) fn admit(&self, stage: &Stage, route_key: &str, now: u64) -> bool {
        let Some(throttle) = stage.throttle(route_key) else { return true };
        let key = (Arc::clone(&stage.api_id), Arc::clone(&stage.name), route_key.to_owned());
        let mut buckets = self.buckets.lock();
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
            buckets.clear();
        }
        buckets.entry(key).or_insert_with(|| Bucket::full(throttle, now)).take(throttle, now)
    }
}

/// What all APIs share, as the quotas of an account do. Without a limit, asking costs nothing.
#[derive(Debug)]
pub(crate) struct AccountLimits {
    requests: Shared,
    connects: Shared,
}

#[derive(Debug)]
struct Shared {
    /// Spares the lock where there is no limit.
    is_limited: AtomicBool,
    bucket: Mutex<Option<(Throttle, Bucket)>>,
}

impl Shared {
    /// A full bucket, or no limit.
    fn new(throttle: Option<Throttle>, now: u64) -> Self {
        let bucket = throttle.map(|throttle| (throttle, Bucket::full(throttle, now)));
        Self { is_limited: AtomicBool::new(bucket.is_some()), bucket: Mutex::new(bucket) }
    }

    fn admit(&self, now: u64) -> Result<(), Throttle> {
        if !self.is_limited.load(Ordering::Relaxed) {
            return Ok(());
        }
        match &mut *self.bucket.lock() {
            None => Ok(()),
            Some((throttle, bucket)) => bucket.take(*throttle, now).then_some(()).ok_or(*throttle),
        }
    }

    /// A limit that stays keeps its bucket: nobody gets a full one by changing something else.
    fn change(&self, throttle: Option<Throttle>, now: u64) {
        let mut bucket = self.bucket.lock();
        if bucket.as_ref().map(|(throttle, _)| *throttle) != throttle {
            *bucket = throttle.map(|throttle| (throttle, Bucket::full(throttle, now)));
            self.is_limited.store(bucket.is_some(), Ordering::Relaxed);
        }
    }
}

impl AccountLimits {
    /// Full buckets. `now` is in milliseconds.
    pub(crate) fn new(limits: &Limits, now: u64) -> Self {
        Self { requests: Shared::new(limits.requests(), now), connects: Shared::new(limits.connects(), now) }
    }

    /// Other limits from now on; `now` is in milliseconds.
    pub(crate) fn change(&self, limits: &Limits, now: u64) {
        self.requests.change(limits.requests(), now);
        self.connects.change(limits.connects(), now);
    }

    /// Takes a token for a message or a management call.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn admit_request(&self, now: u64) -> Result<(), Throttle> {
        self.requests.admit(now)
    }

    /// Takes what a handshake needs: it is a request, too.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn admit_connect(&self, now: u64) -> Result<(), Throttle> {
        self.connects.admit(now)?;
        self.admit_request(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_takes_of_both_and_a_message_of_one() {
        let limits = Limits { requests_per_second: 3, connects_per_second: 1, ..Limits::default() };
        let account = AccountLimits::new(&limits, 1000);
        assert_eq!(account.admit_connect(1000), Ok(()));
        assert_eq!(account.admit_connect(1000), Err(Throttle { rate: 1.0, burst: 1.0 }));
        assert_eq!([account.admit_request(1000), account.admit_request(1000)], [Ok(()), Ok(())]);
        assert_eq!(account.admit_request(1000), Err(Throttle { rate: 3.0, burst: 3.0 }));
        assert_eq!(account.admit_connect(2000), Ok(()));
        let without = AccountLimits::new(&Limits::default(), 0);
        assert!((0..10_000).all(|_| without.admit_connect(0).is_ok()));
        // A limit that did not change does not begin anew; one that did holds from the next event on.
        account.change(&limits, 2000);
        assert_eq!(account.admit_connect(2000), Err(Throttle { rate: 1.0, burst: 1.0 }));
        account.change(&Limits { connects_per_second: 2, ..limits }, 2000);
        assert_eq!([account.admit_connect(2000), account.admit_connect(2000)], [Ok(()), Ok(())]);
        without.change(&Limits { requests_per_second: 1, ..Limits::default() }, 0);
        assert_eq!([without.admit_request(0).is_ok(), without.admit_request(0).is_ok()], [true, false]);
    }
}
