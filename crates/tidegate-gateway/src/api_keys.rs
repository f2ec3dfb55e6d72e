//! API keys of clients and the usage plans that say what they are good for.
//!
//! A route that demands a key (`apiKeyRequired`) admits those that are enabled and in a plan of the stage. A plan may have
//! a rate, counted apart for each of its keys on this node, and a quota of a period, which outlives the process. Keys are
//! known by their hash only.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidegate_auth::ApiKey;
use tidegate_core::context::PresentedKey;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::mapping::query_values;
use tidegate_core::port::{Record, RecordChange, RecordKind, RecordStore};
use tidegate_core::quota::Quota;
use tidegate_core::snapshot::{ApiKeySource, Stage, Throttle};
use tidegate_core::throttle::Bucket;

use crate::authorizer::Refusal;
use crate::clock::now_millis;
use crate::integration::Failure;

/// Header of a key.
const HEADER: &str = "x-api-key";

/// Milliseconds between two writes of what has been used: a crash forgets no more.
const FLUSH_PAUSE: u64 = 1000;

/// Counters from which on a reload forgets those of pairs that it takes away. Until then a pair that comes back has used
/// what it had used.
const MAX_REMEMBERED: usize = 100_000;

/// Milliseconds for which a record of use is kept: longer than any period.
const KEPT: u64 = 62 * 24 * 3600 * 1000;

/// All keys and plans. There are as many counters as keys in plans, so the configuration bounds them; those of pairs that
/// a reload took away stay until there are `MAX_REMEMBERED`.
#[derive(Debug, Clone, Default)]
pub struct UsagePlans {
    /// All keys.
    pub keys: Vec<UsageKey>,
    /// All plans.
    pub plans: Vec<UsagePlan>,
}

/// One API key.
#[derive(Debug, Clone)]
pub struct UsageKey {
    /// What events and logs say of it.
    pub id: String,
    /// Its hash.
    pub hash: ApiKey,
    /// Another one admits nobody.
    pub is_enabled: bool,
}

/// What keys are good for.
#[derive(Debug, Clone)]
pub struct UsagePlan {
    /// Its name.
    pub name: String,
    /// Ids of its keys.
    pub keys: Vec<String>,
    /// API id and stage.
    pub stages: Vec<(String, String)>,
    /// Of each key.
    pub throttle: Option<Throttle>,
    /// Of each key.
    pub quota: Option<Quota>,
}

/// Plans, and what was used of them.
#[derive(Debug)]
pub(crate) struct ApiKeys {
    plans: ArcSwap<UsagePlans>,
    /// By the key of their record.
    used: Mutex<HashMap<String, Used>>,
    /// Milliseconds since 1970 of the last write.
    flushed_at: Mutex<u64>,
    records: Arc<dyn RecordStore>,
}

#[derive(Debug, Default)]
struct Used {
    bucket: Option<Bucket>,
    counted: Counted,
    is_written: bool,
}

/// What is kept of a counter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    /// Milliseconds since 1970 when the period began.
    since: u64,
    /// Requests since then.
    n: u64,
}

/// Where the key of a handshake may be.
pub(crate) struct Presented<'a> {
    pub(crate) source: ApiKeySource,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: &'a str,
    /// `usageIdentifierKey` of the authorizer's answer.
    pub(crate) of_authorizer: Option<&'a str>,
}

impl Presented<'_> {
    /// The key, if there is one; and where it was looked for.
    fn find(&self, stage: &Stage) -> Result<String, String> {
        if self.source == ApiKeySource::Authorizer {
            let key = self.of_authorizer.filter(|key| !key.is_empty()).map(str::to_owned);
            return key.ok_or_else(|| "usageIdentifierKey of the authorizer's answer".to_owned());
        }
        let header = self.headers.get(HEADER).map(|value| String::from_utf8_lossy(value.as_bytes()));
        if let Some(key) = header.filter(|key| !key.is_empty()) {
            return Ok(key.into_owned());
        }
        let Some(parameter) = &stage.settings.api.api_key_query_parameter else {
            return Err(format!("header {HEADER}"));
        };
        let in_query = query_values(self.query, parameter).last().filter(|key| !key.is_empty());
        in_query.ok_or_else(|| format!("header {HEADER}, query parameter {parameter}"))
    }
}

impl ApiKeys {
    pub(crate) fn new(plans: UsagePlans, records: Arc<dyn RecordStore>) -> Self {
        let plans = ArcSwap::from_pointee(plans);
        Self { plans, used: Mutex::default(), flushed_at: Mutex::default(), records }
    }

    /// Takes in what earlier processes have counted.
    pub(crate) fn restore(&self, records: Vec<Record>) {
        restore(&mut self.used.lock(), &self.plans.load(), &records);
    }

    /// Other keys and plans. What was used of those that stay stays used; of those that are new, `records` tells what
    /// earlier processes have counted.
    pub(crate) fn replace(&self, plans: UsagePlans, records: Vec<Record>) {
        // What is forgotten here is written first.
        self.flush(now_millis(), true);
        let mut used = self.used.lock();
        if used.len() >= MAX_REMEMBERED {
            let names: HashSet<String> = names(&plans).collect();
            used.retain(|name, _| names.contains(name));
        }
        restore(&mut used, &plans, &records);
        self.plans.store(Arc::new(plans));
    }

    /// Whether the key of a handshake admits it; counts it then, if it is to be counted.
    pub(crate) fn admit(
        &self,
        stage: &Stage,
        presented: &Presented<'_>,
        now: u64,
        is_counted: bool,
    ) -> Result<PresentedKey, Refusal> {
        let value = presented.find(stage).map_err(|looked_for| {
            let detail = format!("no key in {looked_for}");
            let failure = Failure::new(ErrorCode::ApiKeyRejected, Diagnosis::APIKEY_MISSING, detail);
            Refusal::from(failure.with("lookedFor", looked_for))
        })?;
        let plans = self.plans.load();
        let mut found = None;
        for known in &plans.keys {
            // All are compared: which one fits must not show in the time.
            if known.hash.verify(&value) {
                found = Some(known);
            }
        }
        let rejected =
            |detail: &'static str| Failure::new(ErrorCode::ApiKeyRejected, Diagnosis::APIKEY_UNKNOWN, detail);
        let Some(key) = found else {
            return Err(rejected("the key is not known").into());
        };
        let with_id = |failure: Failure| Refusal::from(failure.with("apiKeyId", key.id.as_str()));
        if !key.is_enabled {
            return Err(with_id(rejected("the key is disabled")));
        }
        let is_of_stage = |(api, name): &(String, String)| **api == *stage.api_id && **name == *stage.name;
        let mut of_key = plans.plans.iter().filter(|plan| plan.keys.contains(&key.id));
        let Some(plan) = of_key.find(|plan| plan.stages.iter().any(is_of_stage)) else {
            return Err(with_id(rejected("the key is in no usage plan of the stage")));
        };
        self.count(record_key(plan, &key.id), plan, now, is_counted)
            .map_err(|failure| with_id(failure.with("usagePlan", plan.name.as_str())))?;
        Ok(PresentedKey { value, id: key.id.clone() })
    }

    /// The rate first: what it refuses does not count for the quota.
    fn count(&self, name: String, plan: &UsagePlan, now: u64, is_counted: bool) -> Result<(), Failure> {
        let mut used = self.used.lock();
        let used = used.entry(name).or_default();
        if let Some(quota) = &plan.quota {
            let since = quota.period_start(now);
            if used.counted.since != since {
                used.counted = Counted { since, n: 0 };
            }
        }
        if let Some(throttle) = plan.throttle {
            let bucket = used.bucket.get_or_insert_with(|| Bucket::full(throttle, now));
            let mut copy = *bucket;
            let is_allowed = copy.take(throttle, now);
            if is_counted {
                *bucket = copy;
            }
            if !is_allowed {
                let detail = "the rate of the usage plan is reached";
                let failure = Failure::new(ErrorCode::UsageThrottled, Diagnosis::APIKEY_OVER_LIMIT, detail);
                return Err(failure.with("limit", throttle.rate).with("burst", throttle.burst));
            }
        }
        if let Some(quota) = &plan.quota {
            if used.counted.n >= quota.limit {
                let detail = "the quota of the usage plan is used up";
                let failure = Failure::new(ErrorCode::QuotaExceeded, Diagnosis::APIKEY_OVER_LIMIT, detail);
                return Err(failure.with("limit", quota.limit).with("count", used.counted.n));
            }
            if is_counted {
                used.counted.n += 1;
                used.is_written = false;
            }
        }
        Ok(())
    }

    /// Writes what has changed, at most once a second unless `is_last`. What a full queue does not take is tried again.
    pub(crate) fn flush(&self, now: u64, is_last: bool) {
        let mut flushed_at = self.flushed_at.lock();
        if !is_last && now.saturating_sub(*flushed_at) < FLUSH_PAUSE {
            return;
        }
        *flushed_at = now;
        drop(flushed_at);
        let changed: Vec<(String, Counted)> = {
            let used = self.used.lock();
            let changed = used.iter().filter(|(_, used)| !used.is_written && used.counted.n > 0);
            changed.map(|(name, used)| (name.clone(), used.counted)).collect()
        };
        let change = |(name, counted): &(String, Counted)| {
            Some(RecordChange::Put(Record {
                kind: RecordKind::Usage,
                key: name.clone(),
                created_at: counted.since,
                expires_at: counted.since + KEPT,
                body: serde_json::to_string(counted).ok()?,
            }))
        };
        let changes: Vec<RecordChange> = changed.iter().filter_map(change).collect();
        if changes.is_empty() || !self.records.write_later(changes) {
            return;
        }
        let mut used = self.used.lock();
        for (name, counted) in changed {
            if let Some(used) = used.get_mut(&name).filter(|used| used.counted == counted) {
                used.is_written = true;
            }
        }
    }
}

/// Keys of the records of all pairs of a plan and a key of it.
fn names(plans: &UsagePlans) -> impl Iterator<Item = String> {
    plans.plans.iter().flat_map(|plan| plan.keys.iter().map(|key_id| record_key(plan, key_id)))
}

/// Adds what `records` have of pairs that `used` does not know.
fn restore(used: &mut HashMap<String, Used>, plans: &UsagePlans, records: &[Record]) {
    let records: HashMap<&str, &str> =
        records.iter().map(|record| (record.key.as_str(), record.body.as_str())).collect();
    for name in names(plans).filter(|name| records.contains_key(name.as_str())).collect::<Vec<_>>() {
        let body = records.get(name.as_str()).copied().unwrap_or_default();
        if let Ok(counted) = serde_json::from_str(body) {
            used.entry(name).or_insert(Used { bucket: None, counted, is_written: true });
        }
    }
}

/// Names of plans have no slash.
fn record_key(plan: &UsagePlan, key_id: &str) -> String {
    format!("{}/{key_id}", plan.name)
}
