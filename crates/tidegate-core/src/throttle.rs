//! Token buckets: `burst` tokens, refilled at `rate` a second, one token per event.

use crate::snapshot::Throttle;

/// The state of one bucket.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    tokens: f64,
    /// Milliseconds of the caller's clock.
    refilled_at: u64,
}

impl Bucket {
    /// A full bucket.
    pub fn full(throttle: Throttle, now: u64) -> Self {
        Self { tokens: throttle.burst, refilled_at: now }
    }

    /// Takes one token. `now` is in milliseconds of any steady clock; going back is harmless.
    pub fn take(&mut self, throttle: Throttle, now: u64) -> bool {
        let elapsed = now.saturating_sub(self.refilled_at) as f64 / 1000.0;
        self.refilled_at = self.refilled_at.max(now);
        self.tokens = (self.tokens + elapsed * throttle.rate).min(throttle.burst);
        let is_allowed = self.tokens >= 1.0;
        if is_allowed {
            self.tokens -= 1.0;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Messages;

    #[test]
    fn a_burst_passes_and_the_next_waits() {
        let throttle = Throttle { rate: 2.0, burst: 3.0 };
        let mut bucket = Bucket::full(throttle, 1000);
        let taken: Vec<bool> = (0..4).map(|_| bucket.take(throttle, 1000)).collect();
        assert_eq!(taken, [true, true, true, false]);
        assert!(!bucket.take(throttle, 1499));
        assert!(bucket.take(throttle, 1500));
        assert!(!bucket.take(throttle, 1400));
    }

    #[test]
    fn messages_of_a_connection_have_a_bucket_that_lets_some_pass() {
        let bucket = |rate, burst| Messages { rate, burst, ..Messages::default() }.throttle();
        assert_eq!(bucket(0.0, 0.0), None);
        assert_eq!(bucket(10.0, 0.0), Some(Throttle { rate: 10.0, burst: 10.0 }));
        assert_eq!(bucket(10.0, 30.0), Some(Throttle { rate: 10.0, burst: 30.0 }));
        assert_eq!(bucket(0.1, 0.0), Some(Throttle { rate: 0.1, burst: 1.0 }));
    }
}
