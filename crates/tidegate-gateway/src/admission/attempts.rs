//! How often somebody may try to connect: sliding windows by address and by user, and the log of attempts.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::journal::Facts;
use tidegate_core::network::AddressKey;
use tidegate_core::notice::{Notice, Place};
use tidegate_core::port::{Record, RecordChange, RecordKind, RecordStore};
use tidegate_core::sliding_window::{SlidingWindow, Verdict};
use tidegate_core::snapshot::StagePolicy;

use super::{Handshake, Refused};
use crate::gateway::Gateway;

/// Locks that the windows are spread over.
const N_SHARDS: usize = 16;

/// Addresses, and users, that are counted at a time; beyond them the one that was idle longest starts afresh.
const MAX_KEYS: usize = 200_000;

/// Lines of the log that are written together.
const BATCH: usize = 64;

/// Milliseconds for which attempts are kept in the log.
pub(crate) const ATTEMPTS_KEPT: u64 = 7 * 24 * 3600 * 1000;

/// What is counted apart from everything else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Address(AddressKey),
    /// Refused handshakes of an address.
    Failed(AddressKey),
    User(Arc<str>),
}

type Counted = (Arc<str>, Arc<str>, Who);

/// All windows.
#[derive(Debug)]
pub(crate) struct Attempts {
    shards: [Mutex<SlidingWindow<Counted>>; N_SHARDS],
    hasher: RandomState,
    records: Arc<dyn RecordStore>,
    /// Lines of the log that are written together, fewer than [`BATCH`].
    pending: Mutex<Vec<RecordChange>>,
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limited {
    what: &'static str,
    limit: u32,
    retry_after_ms: u64,
}

impl Limited {
    /// The numbers. What is over a limit is not counted, so the count is the limit.
    fn facts(&self, handshake: &Handshake<'_>, window: u64) -> Facts {
        Facts::none()
            .with("of", self.what)
            .with("limit", self.limit)
            .with("count", self.limit)
            .with("windowSeconds", window)
            .with("resetAt", handshake.now.saturating_add(self.retry_after_ms))
    }
}

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome<'a> {
    /// 101, or the status of the refusal.
    pub(crate) status: u16,
    /// Absent when it was accepted.
    pub(crate) diagnosis: Option<Diagnosis>,
    pub(crate) user: Option<&'a str>,
    pub(crate) connection_id: Option<tidegate_core::id::ConnectionId>,
}

/// One line of the log of attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Milliseconds since 1970.
    pub at: u64,
    /// API.
    pub api: String,
    /// Stage.
    pub stage: String,
    /// Client address.
    pub address: IpAddr,
    /// User id, when it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// 101, or the status of the refusal.
    pub status: u16,
    /// Diagnosis id of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The connection, when it got an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<String>,
}

impl Attempts {
    pub(crate) fn new(records: Arc<dyn RecordStore>) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(SlidingWindow::new(MAX_KEYS / N_SHARDS))),
            hasher: RandomState::new(),
            records,
            pending: Mutex::default(),
        }
    }

    /// Writes the lines that wait for others. To be called every now and then, and at the end.
    pub(crate) fn flush(&self) {
        let batch = std::mem::take(&mut *self.pending.lock());
        if !batch.is_empty() {
            self.write(batch);
        }
    }

    fn write(&self, batch: Vec<RecordChange>) {
        // A full queue costs lines of the log, not handshakes.
        let _ = self.records.write_later(batch);
    }

    /// The address as it is counted.
    pub(crate) fn address_key(&self, policy: &StagePolicy, address: IpAddr) -> AddressKey {
        AddressKey::new(address, policy.policy.attempts.ipv6_prefix)
    }

    fn is_exempt(handshake: &Handshake<'_>) -> bool {
        handshake.policy.is_exempt(handshake.address)
    }

    fn admit(&self, handshake: &Handshake<'_>, who: Who, limit: u32) -> Result<(), u64> {
        let settings = &handshake.policy.policy.attempts;
        let counted = (Arc::clone(&handshake.stage.api_id), Arc::clone(&handshake.stage.name), who);
        let mut shard = self.shards[self.hasher.hash_one(&counted) as usize % N_SHARDS].lock();
        let window = settings.window * 1000;
        match shard.admit(&counted, handshake.now, limit, window, settings.penalty) {
            Verdict::Admitted => Ok(()),
            Verdict::Limited { retry_after_ms } => Err(retry_after_ms),
        }
    }

    fn check(&self, handshake: &Handshake<'_>, who: Who, limit: u32) -> Result<(), u64> {
        let counted = (Arc::clone(&handshake.stage.api_id), Arc::clone(&handshake.stage.name), who);
        let mut shard = self.shards[self.hasher.hash_one(&counted) as usize % N_SHARDS].lock();
        let window = handshake.policy.policy.attempts.window * 1000;
        match shard.check(&counted, handshake.now, limit, window) {
            Verdict::Admitted => Ok(()),
            Verdict::Limited { retry_after_ms } => Err(retry_after_ms),
        }
    }

    /// Counts an attempt of the address.
    pub(super) fn on_arrival(&self, handshake: &Handshake<'_>) -> Result<(), Limited> {
        let settings = &handshake.policy.policy.attempts;
        if Self::is_exempt(handshake) {
            return Ok(());
        }
        let key = self.address_key(handshake.policy, handshake.address);
        let limit = settings.failed_per_address;
        let failed = self.check(handshake, Who::Failed(key), limit).map_err(|retry_after_ms| Limited {
            what: "failed attempts of the address",
            limit,
            retry_after_ms,
        });
        if failed.is_err() && !settings.dry_run {
            return failed;
        }
        // A dry run goes on, and counts as if there were no other limit.
        let limit = settings.per_address;
        let counted = self.admit(handshake, Who::Address(key), limit).map_err(|retry_after_ms| Limited {
            what: "attempts of the address",
            limit,
            retry_after_ms,
        });
        failed.and(counted)
    }

    /// Counts an attempt of a user.
    pub(super) fn on_user(&self, handshake: &Handshake<'_>, user: &Arc<str>) -> Result<(), Limited> {
        if Self::is_exempt(handshake) {
            return Ok(());
        }
        let limit = handshake.policy.policy.attempts.per_user;
        self.admit(handshake, Who::User(Arc::clone(user)), limit).map_err(|retry_after_ms| Limited {
            what: "attempts of the user",
            limit,
            retry_after_ms,
        })
    }

    /// Refuses what is over a limit, or only reports it where the policy says `dry_run`.
    pub(super) fn enforce(
        &self,
        gateway: &Gateway,
        handshake: &Handshake<'_>,
        limited: Limited,
    ) -> Result<(), Refused> {
        let settings = &handshake.policy.policy.attempts;
        let detail = format!("over {} {} in {} s", limited.limit, limited.what, settings.window);
        if settings.dry_run {
            let place = Place {
                api_id: Arc::clone(&handshake.stage.api_id),
                stage: Arc::clone(&handshake.stage.name),
                address: Some(handshake.address),
                ..Place::default()
            };
            gateway.notice(Notice::WouldBeLimited {
                facts: limited.facts(handshake, settings.window),
                place,
                diagnosis: Diagnosis::RATELIMIT_CONNECT,
                detail,
            });
            return Ok(());
        }
        let mut refused =
            Refused::new(ErrorCode::AttemptsExceeded, Diagnosis::RATELIMIT_CONNECT, "attempts", detail);
        refused.retry_after = Some(limited.retry_after_ms.div_ceil(1000).max(1));
        refused.facts = limited.facts(handshake, settings.window);
        Err(refused)
    }

    /// Notes how a handshake ended: in the log, and a refusal in the window of failures. What the gateway or the backend
    /// could not do is no failure of the client; nor is an attempt over a limit, or the limit would never end for whoever
    /// tries again, unless the policy wants that (S0-80).
    pub(crate) fn on_end(&self, handshake: &Handshake<'_>, outcome: &Outcome<'_>, unique: u64) {
        let settings = &handshake.policy.policy.attempts;
        let is_failure = outcome.status < 500
            && outcome
                .diagnosis
                .is_some_and(|diagnosis| diagnosis != Diagnosis::RATELIMIT_CONNECT || settings.penalty);
        if is_failure && settings.failed_per_address > 0 && !Self::is_exempt(handshake) {
            let key = self.address_key(handshake.policy, handshake.address);
            let counted =
                (Arc::clone(&handshake.stage.api_id), Arc::clone(&handshake.stage.name), Who::Failed(key));
            let mut shard = self.shards[self.hasher.hash_one(&counted) as usize % N_SHARDS].lock();
            shard.record(&counted, handshake.now, settings.failed_per_address, settings.window * 1000);
        }
        let line = AttemptRecord {
            at: handshake.now,
            api: handshake.stage.api_id.to_string(),
            stage: handshake.stage.name.to_string(),
            address: handshake.address,
            user: outcome.user.map(str::to_owned),
            status: outcome.status,
            reason: outcome.diagnosis.map(|diagnosis| diagnosis.as_str().to_owned()),
            connection_id: outcome.connection_id.map(|id| id.to_string()),
        };
        let record = Record {
            kind: RecordKind::Attempt,
            // The time leads: lines that come together are stored together.
            key: format!("{:012x}{unique:016x}", handshake.now),
            created_at: handshake.now,
            expires_at: handshake.now + ATTEMPTS_KEPT,
            body: serde_json::to_string(&line).unwrap_or_default(),
        };
        let batch = {
            let mut pending = self.pending.lock();
            pending.push(RecordChange::Put(record));
            if pending.len() < BATCH {
                return;
            }
            std::mem::take(&mut *pending)
        };
        self.write(batch);
    }
}
