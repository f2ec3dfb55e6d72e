//! Users, sessions and tokens that are refused for a time, whatever they present.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tidegate_core::identity::Identity;
use tidegate_core::port::{Record, RecordChange, RecordKind, RecordStore, StoreError};

/// Banned users, sessions and tokens at a time; one more is refused.
const MAX_BANS: usize = 1_000_000;

/// What is banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BanKind {
    /// A user id.
    User,
    /// A session id.
    Session,
    /// The id (`jti`) of a JSON Web Token.
    TokenId,
}

/// One ban.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// What is banned.
    pub kind: BanKind,
    /// Which one.
    pub id: String,
    /// In this API only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// Milliseconds since 1970.
    pub since: u64,
    /// Milliseconds since 1970.
    pub until: u64,
    /// For operators.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Ban {
    fn key(&self) -> String {
        let kind = match self.kind {
            BanKind::User => "user",
            BanKind::Session => "session",
            BanKind::TokenId => "token",
        };
        format!("{kind}:{}:{}", self.api.as_deref().unwrap_or("*"), self.id)
    }
}

/// Why a ban was not made.
#[derive(Debug, thiserror::Error)]
pub enum BanError {
    /// There are as many as are kept.
    #[error("{MAX_BANS} users, sessions or tokens are banned already")]
    Full,
    /// The store refuses.
    #[error("store the ban")]
    Store(#[source] StoreError),
}

#[derive(Debug)]
pub(crate) struct Bans {
    records: Arc<dyn RecordStore>,
    /// By what they ban; several for different APIs.
    by_subject: RwLock<HashMap<(BanKind, String), Vec<Ban>>>,
}

impl Bans {
    pub(crate) fn new(records: Arc<dyn RecordStore>) -> Self {
        Self { records, by_subject: RwLock::default() }
    }

    pub(crate) fn restore(&self, records: Vec<Record>) {
        for record in records {
            if let Ok(ban) = serde_json::from_str::<Ban>(&record.body) {
                self.note(ban);
            }
        }
    }

    fn note(&self, ban: Ban) {
        let mut by_subject = self.by_subject.write();
        let bans = by_subject.entry((ban.kind, ban.id.clone())).or_default();
        bans.retain(|known| known.api != ban.api);
        bans.push(ban);
    }

    /// Bans; a ban of the same subject and API is replaced.
    pub(crate) async fn add(&self, ban: Ban) -> Result<(), BanError> {
        {
            let by_subject = self.by_subject.read();
            let is_known = by_subject.contains_key(&(ban.kind, ban.id.clone()));
            if !is_known && by_subject.len() >= MAX_BANS {
                return Err(BanError::Full);
            }
        }
        let record = Record {
            kind: RecordKind::Ban,
            key: ban.key(),
            created_at: ban.since,
            expires_at: ban.until,
            body: serde_json::to_string(&ban).unwrap_or_default(),
        };
        self.records.write(vec![RecordChange::Put(record)]).await.map_err(BanError::Store)?;
        self.note(ban);
        Ok(())
    }

    /// Lifts a ban. False when there was none.
    pub(crate) async fn lift(&self, kind: BanKind, id: &str, api: Option<&str>) -> Result<bool, BanError> {
        let found = {
            let by_subject = self.by_subject.read();
            let bans = by_subject.get(&(kind, id.to_owned()));
            bans.and_then(|bans| bans.iter().find(|ban| ban.api.as_deref() == api)).map(Ban::key)
        };
        let Some(key) = found else { return Ok(false) };
        self.records
            .write(vec![RecordChange::Delete(RecordKind::Ban, key)])
            .await
            .map_err(BanError::Store)?;
        let mut by_subject = self.by_subject.write();
        if let Some(bans) = by_subject.get_mut(&(kind, id.to_owned())) {
            bans.retain(|ban| ban.api.as_deref() != api);
            if bans.is_empty() {
                by_subject.remove(&(kind, id.to_owned()));
            }
        }
        Ok(true)
    }

    /// The ban that concerns an identity, if there is one.
    pub(crate) fn find(&self, identity: &Identity, api_id: &str, now: u64) -> Option<Ban> {
        let by_subject = self.by_subject.read();
        if by_subject.is_empty() {
            return None;
        }
        let subjects = [
            (BanKind::User, identity.user.as_deref()),
            (BanKind::Session, identity.session.as_deref()),
            (BanKind::TokenId, identity.token_id.as_deref()),
        ];
        subjects.into_iter().find_map(|(kind, id)| {
            let bans = by_subject.get(&(kind, id?.to_owned()))?;
            let is_meant = |ban: &&Ban| ban.until > now && ban.api.as_deref().is_none_or(|api| api == api_id);
            bans.iter().find(is_meant).cloned()
        })
    }

    /// All that hold, in no order.
    pub(crate) fn list(&self, now: u64) -> Vec<Ban> {
        let by_subject = self.by_subject.read();
        by_subject.values().flatten().filter(|ban| ban.until > now).cloned().collect()
    }

    pub(crate) fn forget_old(&self, now: u64) {
        let mut by_subject = self.by_subject.write();
        by_subject.retain(|_, bans| {
            bans.retain(|ban| ban.until > now);
            !bans.is_empty()
        });
    }
}
