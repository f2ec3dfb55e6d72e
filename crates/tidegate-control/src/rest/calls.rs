//! How often operations may be called: the service's rates, where the limits of the service are asked for.

use http::Method;
use parking_lot::Mutex;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::snapshot::Throttle;
use tidegate_core::throttle::Bucket;

use crate::error::ApiError;
use crate::limits::CallRates;

/// The buckets of all operations, and of those that have one of their own.
#[derive(Debug)]
pub(super) struct Calls {
    all: Limit,
    create_deployment: Limit,
    create_domain_name: Limit,
    create_vpc_link: Limit,
}

#[derive(Debug)]
struct Limit {
    throttle: Throttle,
    bucket: Mutex<Bucket>,
}

impl Limit {
    fn new(throttle: Throttle, now: u64) -> Self {
        Self { throttle, bucket: Mutex::new(Bucket::full(throttle, now)) }
    }

    fn admit(&self, action: &'static str, now: u64) -> Result<(), ApiError> {
        if self.bucket.lock().take(self.throttle, now) {
            return Ok(());
        }
        let facts = Facts::none()
            .with("action", action)
            .with("limit", self.throttle.rate)
            .with("burst", self.throttle.burst);
        Err(ApiError::too_many("Too Many Requests").because(Diagnosis::PROVISION_THROTTLED, facts))
    }
}

impl Calls {
    /// Full buckets. `now` is in milliseconds.
    pub(super) fn new(rates: CallRates, now: u64) -> Self {
        Self {
            all: Limit::new(rates.all, now),
            create_deployment: Limit::new(rates.create_deployment, now),
            create_domain_name: Limit::new(rates.create_domain_name, now),
            create_vpc_link: Limit::new(rates.create_vpc_link, now),
        }
    }

    /// Takes what one call needs. `path` begins with `/v2/`.
    ///
    /// # Errors
    /// 429, with the bucket that is empty in its reason.
    pub(super) fn admit(&self, method: &Method, path: &str, now: u64) -> Result<(), ApiError> {
        self.all.admit("all", now)?;
        if *method != Method::POST {
            return Ok(());
        }
        let path: Vec<&str> = path.trim_matches('/').split('/').collect();
        match path.as_slice() {
            ["v2", "apis", _, "deployments"] => self.create_deployment.admit("CreateDeployment", now),
            ["v2", "domainnames"] => self.create_domain_name.admit("CreateDomainName", now),
            ["v2", "vpclinks"] => self.create_vpc_link.admit("CreateVpcLink", now),
            _ => Ok(()),
        }
    }
}
