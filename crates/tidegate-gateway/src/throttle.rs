//! The token buckets of all stages and routes, in bounded memory.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_core::snapshot::Stage;
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
