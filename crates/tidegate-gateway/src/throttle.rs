//! The token buckets of all stages and routes, in bounded memory, and those of the whole account.

use std::collections::HashMap;
use std::sync::Arc;

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
    requests: Option<Shared>,
    connects: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    throttle: Throttle,
    bucket: Mutex<Bucket>,
}

impl Shared {
    fn admit(&self, now: u64) -> Result<(), Throttle> {
        if self.bucket.lock().take(self.throttle, now) { Ok(()) } else { Err(self.throttle) }
    }
}

impl AccountLimits {
    /// Full buckets. `now` is in milliseconds.
    pub(crate) fn new(limits: &Limits, now: u64) -> Self {
        let shared =
            |throttle: Throttle| Shared { throttle, bucket: Mutex::new(Bucket::full(throttle, now)) };
        Self { requests: limits.requests().map(shared), connects: limits.connects().map(shared) }
    }

    /// Takes a token for a message or a management call.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn admit_request(&self, now: u64) -> Result<(), Throttle> {
        self.requests.as_ref().map_or(Ok(()), |shared| shared.admit(now))
    }

    /// Takes what a handshake needs: it is a request, too.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn admit_connect(&self, now: u64) -> Result<(), Throttle> {
        self.connects.as_ref().map_or(Ok(()), |shared| shared.admit(now))?;
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
    }
}
