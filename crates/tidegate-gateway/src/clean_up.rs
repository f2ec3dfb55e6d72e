//! Removing what is old: continuously, in bounded steps, with nothing to schedule.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::channel::ChannelName;
use tidegate_core::journal::Facts;
use tidegate_core::notice::{Notice, Place};
use tidegate_core::policy::History;
use tidegate_core::port::{RecordKind, StoreError};

use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::groups::Key;

/// How often a step is made.
const INTERVAL: Duration = Duration::from_secs(5);

/// Records of a kind that one step removes at most: the store does nothing else meanwhile.
const STEP: usize = 200;

/// Rounds after which it is said that they happen: an hour.
const NOTED: u64 = 720;

/// Steps in a row: more than can come in between two rounds.
const STEPS: usize = 200;

/// Bytes of the log of attempts, and of the log of changes.
const MAX_LOG_BYTES: u64 = 100 * 1024 * 1024;

/// What a clean-up on request concerns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CleanUp {
    /// Spent and expired tokens older than this many seconds go; absent: those whose time has come.
    pub token_age: Option<u64>,
    /// Attempts older than this many days go; absent: those whose time has come.
    pub attempt_age: Option<u64>,
    /// Only counts.
    pub dry_run: bool,
}

/// How many records went, or would have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanedUp {
    /// Tokens, spent ones included.
    pub tokens: usize,
    /// Lines of the log of attempts.
    pub attempts: usize,
    /// Bans that have ended.
    pub bans: usize,
    /// Lines of the log of changes.
    pub audit: usize,
}

impl Gateway {
    pub(crate) async fn run_clean_up(&self) {
        let (mut n_runs, mut n_removed) = (0_u64, 0_usize);
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = now_millis();
            self.tokens.forget_old(now);
            self.bans.forget_old(now);
            self.groups.trim(now, |key| self.history_of(key));
            self.disconnects.catch_up().await;
            for kind in [
                RecordKind::Token,
                RecordKind::SpentToken,
                RecordKind::Ban,
                RecordKind::Attempt,
                RecordKind::Audit,
            ] {
                // What fails now is tried again in a moment; whoever needs the store hears of it elsewhere.
                for _ in 0..STEPS {
                    let removed = self.records.expire(kind, now, STEP, false).await;
                    n_removed += removed.as_ref().copied().unwrap_or(0);
                    if !matches!(removed, Ok(STEP)) {
                        break;
                    }
                }
            }
            for kind in [RecordKind::Attempt, RecordKind::Audit] {
                for _ in 0..STEPS {
                    let removed = self.records.shrink(kind, MAX_LOG_BYTES, STEP).await;
                    n_removed += removed.as_ref().copied().unwrap_or(0);
                    if !matches!(removed, Ok(STEP)) {
                        break;
                    }
                }
            }
            if n_runs.is_multiple_of(NOTED) {
                self.notice(Notice::Controlled {
                    place: Place::default(),
                    what: "clean-up",
                    actor: "gateway".to_owned(),
                    refused: None,
                    facts: Facts::none()
                        .with("object", "records")
                        .with("runs", n_runs)
                        .with("removed", n_removed),
                });
                n_removed = 0;
            }
            n_runs += 1;
        }
    }

    /// What a channel may keep, as its stage says now.
    fn history_of(&self, key: &Key) -> Option<History> {
        let stage = self.stage(&key.api_id, &key.stage)?;
        let name: ChannelName = key.name.parse().ok()?;
        stage.policy.as_ref()?.channels.delivery(&name)?.history
    }

    /// Removes what is old, all of it, and says how much that was.
    ///
    /// # Errors
    /// The store fails; what had gone before is gone.
    pub async fn clean_up(&self, request: &CleanUp) -> Result<CleanedUp, StoreError> {
        let now = now_millis();
        // A record's end is its age plus what it is kept for; an earlier age means a later now.
        let at = |kept: u64, age: Option<u64>| match age {
            Some(age) => now + kept.saturating_sub(age),
            None => now,
        };
        let tokens_at =
            at(crate::tokens::MEMORY, request.token_age.map(|seconds| seconds.saturating_mul(1000)));
        let attempts_at = at(
            crate::admission::ATTEMPTS_KEPT,
            request.attempt_age.map(|days| days.saturating_mul(24 * 3600 * 1000)),
        );
        let mut done = CleanedUp::default();
        for (kind, at, count) in [
            (RecordKind::Token, tokens_at, &mut done.tokens),
            (RecordKind::Attempt, attempts_at, &mut done.attempts),
            (RecordKind::Ban, now, &mut done.bans),
            (RecordKind::Audit, now, &mut done.audit),
        ] {
            *count = self.expire_all(kind, at, request.dry_run).await?;
        }
        done.tokens += self.expire_all(RecordKind::SpentToken, tokens_at, request.dry_run).await?;
        Ok(done)
    }

    async fn expire_all(&self, kind: RecordKind, at: u64, is_dry_run: bool) -> Result<usize, StoreError> {
        let mut total = 0;
        loop {
            let n_removed = self.records.expire(kind, at, STEP, is_dry_run).await?;
            total += n_removed;
            if is_dry_run || n_removed < STEP {
                return Ok(total);
            }
        }
    }
}
