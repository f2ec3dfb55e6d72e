//! One-time connect tokens: issued by or for the backend, presented once in a handshake.
//!
//! Memory is asked first and decides who of several wins on this node; the store decides among nodes and after a restart.
//! Neither holds a token, only its keyed hash. What is told to clients is one text; operators get the reason.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_auth::{ConnectToken, TokenKeys};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::id::ConnectionId;
use tidegate_core::identity::{AuthKind, Identity};
use tidegate_core::origin::OriginList;
use tidegate_core::port::{Record, RecordChange, RecordKind, RecordStore};
use tidegate_core::sliding_window::{SlidingWindow, Verdict};
use tidegate_core::snapshot::Stage;

use crate::gateway::Gateway;

/// Tokens that are remembered at a time, spent and expired ones included; at the bound none are issued.
const MAX_TOKENS: usize = 500_000;

/// Users whose requests for tokens are counted.
const MAX_REQUESTERS: usize = 100_000;

/// Milliseconds for which spent and expired tokens are remembered, so that a late use can be told apart.
pub(crate) const MEMORY: u64 = 15 * 60 * 1000;

/// Shortest and longest life of a token, in seconds.
const LIFETIME: std::ops::RangeInclusive<u64> = 5..=300;

/// What a token is asked for with.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenRequest {
    /// Id of the user; absent: a token for nobody in particular.
    pub user: Option<String>,
    /// Id of the login; connections of one session end together.
    pub session: Option<String>,
    /// Roles.
    pub roles: Vec<String>,
    /// Claims.
    pub claims: BTreeMap<String, Value>,
    /// The only channels it may join.
    pub channels: Option<Vec<String>>,
    /// Origin of the page that will use it.
    pub origin: Option<String>,
    /// Client address that will use it.
    pub address: Option<IpAddr>,
    /// Seconds, 5 to 300; absent: as the policy says.
    pub lifetime: Option<u64>,
    /// Value of the session cookie that the handshake must carry. Only its keyed hash is kept.
    pub session_cookie: Option<String>,
}

impl std::fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenRequest").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A new token.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token; shown once.
    pub token: ConnectToken,
    /// Seconds.
    pub expires_in: u64,
    /// Milliseconds since 1970.
    pub expires_at: u64,
}

/// Why there is no token, or why one is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRefusal {
    /// What the client is told.
    pub code: ErrorCode,
    /// For the operator.
    pub diagnosis: Diagnosis,
    /// For the operator: names and numbers.
    pub detail: String,
    /// Seconds.
    pub retry_after: Option<u64>,
}

impl TokenRefusal {
    fn new(code: ErrorCode, diagnosis: Diagnosis, detail: impl Into<String>) -> Self {
        Self { code, diagnosis, detail: detail.into(), retry_after: None }
    }

    fn rejected(diagnosis: Diagnosis, detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::IdentityRejected, diagnosis, detail)
    }
}

/// What is stored of a token.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    api_id: Arc<str>,
    stage: Arc<str>,
    identity: Arc<Identity>,
    /// Keyed hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cookie: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    issued_at: u64,
    expires_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spent: Option<Spent>,
}

/// The first use of a token.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Spent {
    at: u64,
    address: IpAddr,
    connection_id: String,
}

/// A token that may be spent.
#[derive(Debug)]
pub(crate) struct Presented {
    hash: String,
    pub(crate) identity: Arc<Identity>,
}

/// What a handshake shows beside the token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Showing<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) cookie: Option<&'a str>,
    pub(crate) origin: Option<&'a str>,
    pub(crate) address: IpAddr,
    pub(crate) now: u64,
}

/// A user within a stage.
type Requester = (Arc<str>, Arc<str>, Arc<str>);

/// All tokens of this node.
pub(crate) struct Tokens {
    keys: TokenKeys,
    records: Arc<dyn RecordStore>,
    known: Mutex<Known>,
    requests: Mutex<SlidingWindow<Requester>>,
}

#[derive(Debug, Default)]
struct Known {
    by_hash: HashMap<String, Entry>,
    /// When to forget, in the order of issue; lives differ by minutes at most.
    order: VecDeque<(u64, String)>,
    unspent_by_user: HashMap<Requester, u32>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    pub(crate) fn new(keys: TokenKeys, records: Arc<dyn RecordStore>) -> Self {
        let requests = Mutex::new(SlidingWindow::new(MAX_REQUESTERS));
        Self { keys, records, known: Mutex::default(), requests }
    }

    /// Takes in what an earlier process left.
    pub(crate) fn restore(&self, records: Vec<Record>) {
        let mut known = self.known.lock();
        for record in records {
            // A record of a later version that cannot be read is no token that can be presented.
            if let Ok(entry) = serde_json::from_str::<Entry>(&record.body) {
                known.insert(record.key, entry);
            }
        }
    }

    /// The id under which a cookie's session is known where its backend names none.
    pub(crate) fn session_of_cookie(&self, cookie: &str) -> String {
        let hash = self.keys.hash_session(cookie);
        let (_, digits) = hash.as_str().split_once('.').unwrap_or_default();
        digits.chars().take(32).collect()
    }

    async fn issue(
        &self,
        stage: &Stage,
        request: TokenRequest,
        now: u64,
    ) -> Result<IssuedToken, TokenRefusal> {
        let bad = |detail: &str| TokenRefusal::new(ErrorCode::BadRequest, Diagnosis::TOKEN_UNKNOWN, detail);
        let defaults = tidegate_core::policy::ConnectTokens::default();
        let settings = stage.policy.as_ref().map_or(&defaults, |policy| &policy.policy.connect_tokens);
        let lifetime = request.lifetime.unwrap_or(settings.lifetime);
        if !LIFETIME.contains(&lifetime) {
            return Err(bad("lifetime must be 5 to 300 seconds"));
        }
        if request.user.as_ref().is_some_and(|user| user.is_empty() || user.len() > 255) {
            return Err(bad("user must have 1 to 255 characters"));
        }
        if let Some(origin) = &request.origin
            && OriginList::parse(std::slice::from_ref(origin)).is_err()
        {
            return Err(bad("origin must be like https://app.example"));
        }
        let requester: Option<Requester> = request
            .user
            .as_deref()
            .map(|user| (Arc::clone(&stage.api_id), Arc::clone(&stage.name), user.into()));
        if let Some(requester) = &requester {
            let verdict = self.requests.lock().admit(requester, now, settings.per_minute, 60_000, false);
            if let Verdict::Limited { retry_after_ms } = verdict {
                let detail = format!("over {} tokens a minute", settings.per_minute);
                let mut refusal = TokenRefusal::new(
                    ErrorCode::TokenRequestsExceeded,
                    Diagnosis::RATELIMIT_TOKEN_REQUESTS,
                    detail,
                );
                refusal.retry_after = Some(retry_after_ms.div_ceil(1000).max(1));
                return Err(refusal);
            }
        }
        let cookie = request.session_cookie.as_deref().filter(|cookie| !cookie.is_empty());
        let session = request.session.or_else(|| cookie.map(|cookie| self.session_of_cookie(cookie)));
        let entry = Entry {
            api_id: Arc::clone(&stage.api_id),
            stage: Arc::clone(&stage.name),
            identity: Arc::new(Identity {
                user: request.user.map(Into::into),
                session: session.map(Into::into),
                auth: AuthKind::Token,
                roles: request.roles,
                claims: request.claims,
                channels: request.channels,
                ..Identity::default()
            }),
            cookie: cookie.map(|cookie| self.keys.hash_session(cookie).as_str().to_owned()),
            origin: request.origin,
            address: request.address,
            issued_at: now,
            expires_at: now + lifetime * 1000,
            spent: None,
        };
        let token = ConnectToken::generate().map_err(|_| {
            TokenRefusal::new(ErrorCode::Internal, Diagnosis::INTERNAL, "no random bytes from the system")
        })?;
        let hash = self.keys.hash(&token).as_str().to_owned();
        {
            let mut known = self.known.lock();
            known.forget_old(now);
            let n_unspent = requester.as_ref().and_then(|user| known.unspent_by_user.get(user)).copied();
            if n_unspent.unwrap_or(0) >= settings.max_unspent || known.by_hash.len() >= MAX_TOKENS {
                let mut refusal = TokenRefusal::new(
                    ErrorCode::TokenRequestsExceeded,
                    Diagnosis::RATELIMIT_TOKEN_REQUESTS,
                    "too many unspent tokens",
                );
                refusal.retry_after = Some(lifetime);
                return Err(refusal);
            }
            known.insert(hash.clone(), entry.clone());
        }
        let record = record(RecordKind::Token, &hash, &entry);
        if let Err(error) = self.records.write(vec![RecordChange::Put(record)]).await {
            self.known.lock().remove(&hash);
            return Err(TokenRefusal::new(
                ErrorCode::IdentityUnavailable,
                Diagnosis::STORE_UNAVAILABLE,
                error.to_string(),
            ));
        }
        Ok(IssuedToken { token, expires_in: lifetime, expires_at: entry.expires_at })
    }

    /// Looks a token up and compares what it is bound to. It is not spent by that.
    pub(crate) fn look_up(
        &self,
        token: &ConnectToken,
        showing: &Showing<'_>,
        is_connected: impl Fn(ConnectionId) -> bool,
    ) -> Result<Presented, TokenRefusal> {
        let rejected = |diagnosis, detail: String| Err(TokenRefusal::rejected(diagnosis, detail));
        let candidates = self.keys.candidates(token);
        let known = self.known.lock();
        let Some((hash, entry)) =
            candidates.iter().find_map(|hash| known.by_hash.get_key_value(hash.as_str()))
        else {
            return rejected(Diagnosis::TOKEN_UNKNOWN, "never issued here, or long ago".to_owned());
        };
        let now = showing.now;
        if let Some(spent) = &entry.spent {
            let is_open = ConnectionId::parse(&spent.connection_id).is_ok_and(is_connected);
            let diagnosis =
                if is_open { Diagnosis::TOKEN_REUSED } else { Diagnosis::TOKEN_REUSED_ON_RECONNECT };
            let age = now.saturating_sub(spent.at) / 1000;
            return rejected(diagnosis, format!("used {age} s ago from {}", spent.address));
        }
        if now >= entry.expires_at {
            let age = now.saturating_sub(entry.issued_at) / 1000;
            return rejected(Diagnosis::TOKEN_EXPIRED, format!("issued {age} s ago"));
        }
        if now + 1000 < entry.issued_at {
            return rejected(Diagnosis::TOKEN_CLOCK, "issued in the future".to_owned());
        }
        if *entry.api_id != *showing.stage.api_id || *entry.stage != *showing.stage.name {
            return rejected(Diagnosis::TOKEN_ORIGIN_MISMATCH, "issued for another API or stage".to_owned());
        }
        if let Some(bound) = &entry.cookie {
            match showing.cookie.filter(|cookie| !cookie.is_empty()) {
                None => return rejected(Diagnosis::TOKEN_SESSION_MISSING, "no session cookie".to_owned()),
                Some(cookie) if !self.keys.is_session(bound, cookie) => {
                    // The same address logged in anew; another one never had that session.
                    let diagnosis = match entry.address {
                        Some(address) if address != showing.address => Diagnosis::TOKEN_OTHER_BROWSER,
                        _ => Diagnosis::TOKEN_SESSION_CHANGED,
                    };
                    return rejected(diagnosis, "the session cookie is another one".to_owned());
                }
                Some(_) => {}
            }
        }
        if let Some(bound) = &entry.origin {
            let list = OriginList::parse(std::slice::from_ref(bound));
            let is_same =
                showing.origin.is_some_and(|origin| list.as_ref().is_ok_and(|list| list.contains(origin)));
            if !is_same {
                return rejected(Diagnosis::TOKEN_ORIGIN_MISMATCH, "another origin".to_owned());
            }
        }
        if entry.address.is_some_and(|bound| bound != showing.address) {
            return rejected(Diagnosis::TOKEN_OTHER_BROWSER, "another client address".to_owned());
        }
        Ok(Presented { hash: hash.clone(), identity: Arc::clone(&entry.identity) })
    }

    /// Spends a token: true for exactly one of any number of callers.
    pub(crate) async fn spend(
        &self,
        presented: &Presented,
        address: IpAddr,
        connection_id: ConnectionId,
        now: u64,
    ) -> Result<(), TokenRefusal> {
        let entry = {
            let mut known = self.known.lock();
            let spent = Spent { at: now, address, connection_id: connection_id.to_string() };
            match known.spend(&presented.hash, spent) {
                Some(entry) => entry,
                None => {
                    let detail = "another handshake used it at the same time";
                    return Err(TokenRefusal::rejected(Diagnosis::TOKEN_REUSED, detail));
                }
            }
        };
        let instead = record(RecordKind::SpentToken, &presented.hash, &entry);
        match self.records.take(RecordKind::Token, presented.hash.clone(), Some(instead)).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let detail = "another node used it at the same time";
                Err(TokenRefusal::rejected(Diagnosis::TOKEN_REUSED, detail))
            }
            // Nobody knows whether it counts as used, so it does.
            Err(error) => Err(TokenRefusal::new(
                ErrorCode::IdentityUnavailable,
                Diagnosis::STORE_UNAVAILABLE,
                error.to_string(),
            )),
        }
    }

    /// Makes unspent tokens invalid. Answers how many.
    pub(crate) async fn revoke(&self, concerns: impl Fn(&str, &str, &Identity) -> bool) -> usize {
        let revoked: Vec<String> = {
            let mut known = self.known.lock();
            let hashes: Vec<String> = known
                .by_hash
                .iter()
                .filter(|(_, entry)| {
                    entry.spent.is_none() && concerns(&entry.api_id, &entry.stage, &entry.identity)
                })
                .map(|(hash, _)| hash.clone())
                .collect();
            for hash in &hashes {
                known.remove(hash);
            }
            hashes
        };
        let n_revoked = revoked.len();
        let changes = revoked.into_iter().map(|hash| RecordChange::Delete(RecordKind::Token, hash)).collect();
        // In memory they are gone; a store that fails now leaves rows that expire within minutes.
        let _ = self.records.write(changes).await;
        n_revoked
    }

    /// Forgets what is old.
    pub(crate) fn forget_old(&self, now: u64) {
        self.known.lock().forget_old(now);
    }

    /// Unspent tokens that may still be presented.
    pub(crate) fn n_unspent(&self) -> usize {
        self.known.lock().unspent_by_user.values().map(|n| *n as usize).sum()
    }
}

impl Known {
    fn insert(&mut self, hash: String, entry: Entry) {
        self.order.push_back((entry.expires_at + MEMORY, hash.clone()));
        if entry.spent.is_none()
            && let Some(requester) = entry.requester()
        {
            *self.unspent_by_user.entry(requester).or_default() += 1;
        }
        self.by_hash.insert(hash, entry);
    }

    fn spend(&mut self, hash: &str, spent: Spent) -> Option<Entry> {
        let entry = self.by_hash.get_mut(hash).filter(|entry| entry.spent.is_none())?;
        entry.spent = Some(spent);
        let entry = entry.clone();
        self.count_down(&entry);
        Some(entry)
    }

    fn remove(&mut self, hash: &str) {
        if let Some(entry) = self.by_hash.remove(hash)
            && entry.spent.is_none()
        {
            self.count_down(&entry);
        }
    }

    fn count_down(&mut self, entry: &Entry) {
        let Some(requester) = entry.requester() else { return };
        if let Some(n_unspent) = self.unspent_by_user.get_mut(&requester) {
            *n_unspent -= 1;
            if *n_unspent == 0 {
                self.unspent_by_user.remove(&requester);
            }
        }
    }

    fn forget_old(&mut self, now: u64) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            let Some((_, hash)) = self.order.pop_front() else { return };
            self.remove(&hash);
        }
    }
}

impl Entry {
    fn requester(&self) -> Option<Requester> {
        let user = self.identity.user.as_ref()?;
        Some((Arc::clone(&self.api_id), Arc::clone(&self.stage), Arc::clone(user)))
    }
}

fn record(kind: RecordKind, hash: &str, entry: &Entry) -> Record {
    Record {
        kind,
        key: hash.to_owned(),
        created_at: entry.issued_at,
        expires_at: entry.expires_at + MEMORY,
        // Maps with text keys and plain values always have a JSON form.
        body: serde_json::to_string(entry).unwrap_or_default(),
    }
}

impl Gateway {
    /// Issues a token for a stage.
    ///
    /// # Errors
    /// [`TokenRefusal`]: values out of range, limits, the store. Nothing was issued.
    pub async fn issue_token(
        &self,
        stage: &Stage,
        request: TokenRequest,
        now: u64,
    ) -> Result<IssuedToken, TokenRefusal> {
        self.tokens.issue(stage, request, now).await
    }
}
