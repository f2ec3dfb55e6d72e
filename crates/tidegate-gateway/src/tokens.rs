//! One-time connect tokens: issued by or for the backend, presented once in a handshake.
//!
//! Memory is asked first and decides who of several wins on this node; the store decides among nodes and after a restart.
//! Neither holds a token, only its keyed hash. What is told to clients is one text; operators get the reason.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
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
use tidegate_core::journal::{FactValue, Facts};
use tidegate_core::notice::{Notice, Place};
use tidegate_core::origin::OriginList;
use tidegate_core::port::{Record, RecordChange, RecordKind, RecordStore};
use tidegate_core::sliding_window::{SlidingWindow, Verdict};
use tidegate_core::snapshot::Stage;

use crate::gateway::Gateway;

/// Tokens that are remembered at a time. At the bound those that were spent or expired first are forgotten, so that a
/// late use of one is reported as unknown; only when all can still be presented none are issued.
const MAX_TOKENS: usize = 500_000;

/// Longest form of what a token says about its user, in bytes of JSON: roles, claims and channels are the issuer's and
/// are kept until the token is used.
const MAX_IDENTITY: usize = 8 * 1024;

/// Longest id of a user or a session, in bytes.
const MAX_ID: usize = 255;

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
#[derive(Debug, Clone, PartialEq)]
pub struct TokenRefusal {
    /// What the client is told.
    pub code: ErrorCode,
    /// For the operator.
    pub diagnosis: Diagnosis,
    /// For the operator: names and numbers.
    pub detail: String,
    /// Seconds.
    pub retry_after: Option<u64>,
    /// What the catalogue names as proof.
    pub facts: Facts,
}

impl TokenRefusal {
    fn new(code: ErrorCode, diagnosis: Diagnosis, detail: impl Into<String>) -> Self {
        Self { code, diagnosis, detail: detail.into(), retry_after: None, facts: Facts::none() }
    }

    fn rejected(diagnosis: Diagnosis, detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::IdentityRejected, diagnosis, detail)
    }

    fn with(mut self, name: &'static str, value: impl FactValue) -> Self {
        self.facts.add(name, value);
        self
    }
}

/// What is stored of a token.
#[derive(Clone, Serialize, Deserialize)]
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
pub(crate) struct Presented {
    hash: Hash,
    pub(crate) identity: Arc<Identity>,
    /// Milliseconds since it was issued.
    pub(crate) age: u64,
    fingerprint: String,
}

/// What a handshake shows beside the token. There is no `Debug`: the cookie is in it.
#[derive(Clone, Copy)]
pub(crate) struct Showing<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) cookie: Option<&'a str>,
    pub(crate) origin: Option<&'a str>,
    pub(crate) address: IpAddr,
    pub(crate) now: u64,
}

/// What became of the connection that a token was used for first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstUse {
    /// It is open, or about to be.
    Open,
    /// It never opened: something refused it after the token was spent.
    Refused,
    /// It has ended.
    Ended,
}

/// Keyed hash of a token.
type Hash = Arc<str>;

/// A user within a stage.
type Requester = (Arc<str>, Arc<str>, Arc<str>);

/// All tokens of this node.
pub(crate) struct Tokens {
    keys: TokenKeys,
    records: Arc<dyn RecordStore>,
    known: Mutex<Known>,
    requests: Mutex<SlidingWindow<Requester>>,
}

#[derive(Default)]
struct Known {
    by_hash: HashMap<Hash, Entry>,
    /// Those that can still be presented, by the time at which they expire.
    live: BTreeSet<(u64, Hash)>,
    /// How many of them each user has.
    live_by_user: HashMap<Requester, u32>,
    /// The spent and the expired, in the order in which they became so, with the time to forget them.
    dead: VecDeque<(u64, Hash)>,
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
                let Some(hash) = record.key.get(TIME_IN_KEY..) else { continue };
                known.make_room(MAX_TOKENS);
                known.insert(hash.into(), entry);
            }
        }
    }

    /// The id under which a cookie's session is known where its backend names none.
    pub(crate) fn session_of_cookie(&self, cookie: &str) -> String {
        let hash = self.keys.hash_session(cookie);
        let (_, digits) = hash.as_str().split_once('.').unwrap_or_default();
        digits.chars().take(32).collect()
    }

    pub(crate) async fn issue(
        &self,
        stage: &Stage,
        request: TokenRequest,
        now: u64,
    ) -> Result<IssuedToken, TokenRefusal> {
        let bad =
            |detail: &str| TokenRefusal::new(ErrorCode::BadRequest, Diagnosis::CONFIG_INVALID_VALUE, detail);
        let defaults = tidegate_core::policy::ConnectTokens::default();
        let settings = stage.policy.as_ref().map_or(&defaults, |policy| &policy.policy.connect_tokens);
        let lifetime = request.lifetime.unwrap_or(settings.lifetime);
        if !LIFETIME.contains(&lifetime) {
            return Err(bad("lifetime must be 5 to 300 seconds"));
        }
        let is_no_id = |id: &Option<String>| id.as_ref().is_some_and(|id| id.is_empty() || id.len() > MAX_ID);
        if is_no_id(&request.user) {
            return Err(bad("user must have 1 to 255 bytes"));
        }
        if is_no_id(&request.session) {
            return Err(bad("session must have 1 to 255 bytes"));
        }
        let cookie = request.session_cookie.as_deref().filter(|cookie| !cookie.is_empty());
        if cookie.is_some() && settings.cookie.is_empty() {
            // Bound to a cookie that nobody reads, no handshake could ever use it.
            return Err(bad("session_cookie needs the cookie's name in connect_tokens.cookie"));
        }
        if let Some(origin) = &request.origin
            && OriginList::parse(std::slice::from_ref(origin)).is_err()
        {
            return Err(bad("origin must be like https://app.example"));
        }
        let said = (&request.roles, &request.claims, &request.channels);
        // Texts and plain values always have a JSON form.
        if serde_json::to_string(&said).is_ok_and(|said| said.len() > MAX_IDENTITY) {
            return Err(bad("roles, claims and channels must have 8 KB of JSON at most"));
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
                    Diagnosis::TOKENREQ_RATE_LIMITED,
                    detail,
                );
                refusal.retry_after = Some(retry_after_ms.div_ceil(1000).max(1));
                return Err(refusal
                    .with("limit", settings.per_minute)
                    .with("count", settings.per_minute)
                    .with("windowSeconds", 60)
                    .with("resetAt", now.saturating_add(retry_after_ms)));
            }
        }
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
            address: request.address.map(|address| address.to_canonical()),
            issued_at: now,
            expires_at: now + lifetime * 1000,
            spent: None,
        };
        let token = ConnectToken::generate().map_err(|_| {
            TokenRefusal::new(ErrorCode::Internal, Diagnosis::INTERNAL, "no random bytes from the system")
        })?;
        let hash: Hash = self.keys.hash(&token).as_str().into();
        {
            let mut known = self.known.lock();
            known.forget_old(now);
            let n_live = requester.as_ref().and_then(|user| known.live_by_user.get(user)).copied();
            if n_live.unwrap_or(0) >= settings.max_unspent || !known.make_room(MAX_TOKENS) {
                let mut refusal = TokenRefusal::new(
                    ErrorCode::TokenRequestsExceeded,
                    Diagnosis::RATELIMIT_TOKEN_REQUESTS,
                    "too many unspent tokens",
                );
                refusal.retry_after = Some(lifetime);
                return Err(refusal.with("limit", settings.max_unspent).with("count", n_live.unwrap_or(0)));
            }
            known.insert(Arc::clone(&hash), entry.clone());
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
        first_use: impl Fn(ConnectionId) -> FirstUse,
    ) -> Result<Presented, TokenRefusal> {
        let fingerprint = self.fingerprint(token.expose());
        let candidates = self.keys.candidates(token);
        let found = {
            let known = self.known.lock();
            let found = candidates.iter().find_map(|hash| known.by_hash.get_key_value(hash.as_str()));
            found.map(|(hash, entry)| (Arc::clone(hash), entry.clone()))
        };
        let Some((hash, entry)) = found else {
            let refusal = TokenRefusal::rejected(Diagnosis::TOKEN_UNKNOWN, "never issued here, or long ago");
            return Err(refusal.with("fingerprint", fingerprint));
        };
        let now = showing.now;
        let age = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub_unsigned(entry.issued_at);
        let rejected = |diagnosis, detail: String| {
            let refusal = TokenRefusal::rejected(diagnosis, detail);
            refusal.with("fingerprint", fingerprint.as_str()).with("tokenAgeMs", age)
        };
        let differs = |diagnosis, what: &'static str, detail: &str| {
            rejected(diagnosis, detail.to_owned()).with("differs", what)
        };
        if let Some(spent) = &entry.spent {
            let first = ConnectionId::parse(&spent.connection_id).map_or(FirstUse::Ended, first_use);
            let is_open = first == FirstUse::Open;
            let diagnosis = match first {
                FirstUse::Ended => Diagnosis::TOKEN_REUSED_ON_RECONNECT,
                FirstUse::Open | FirstUse::Refused => Diagnosis::TOKEN_REUSED,
            };
            let ago = now.saturating_sub(spent.at) / 1000;
            return Err(rejected(diagnosis, format!("used {ago} s ago from {}", spent.address))
                .with("firstUsedAt", spent.at)
                .with("firstUsedFrom", spent.address.to_string())
                .with("firstConnectionId", spent.connection_id.as_str())
                .with("firstIsOpen", is_open));
        }
        if now >= entry.expires_at {
            let detail = format!("issued {} s ago", now.saturating_sub(entry.issued_at) / 1000);
            let lifetime = entry.expires_at.saturating_sub(entry.issued_at);
            return Err(rejected(Diagnosis::TOKEN_EXPIRED, detail).with("lifetimeMs", lifetime));
        }
        if now + 1000 < entry.issued_at {
            return Err(rejected(Diagnosis::TOKEN_CLOCK, "issued in the future".to_owned()));
        }
        let mismatch = Diagnosis::TOKEN_ORIGIN_MISMATCH;
        if *entry.api_id != *showing.stage.api_id || *entry.stage != *showing.stage.name {
            let what = if *entry.api_id == *showing.stage.api_id { "stage" } else { "api" };
            return Err(differs(mismatch, what, "issued for another API or stage"));
        }
        if let Some(bound) = &entry.cookie {
            match showing.cookie.filter(|cookie| !cookie.is_empty()) {
                None => {
                    return Err(differs(Diagnosis::TOKEN_SESSION_MISSING, "session", "no session cookie"));
                }
                Some(cookie) if !self.keys.is_session(bound, cookie) => {
                    // The same address logged in anew; another one never had that session.
                    let diagnosis = match entry.address {
                        Some(address) if address != showing.address => Diagnosis::TOKEN_OTHER_BROWSER,
                        _ => Diagnosis::TOKEN_SESSION_CHANGED,
                    };
                    return Err(differs(diagnosis, "session", "the session cookie is another one"));
                }
                Some(_) => {}
            }
        }
        if let Some(bound) = &entry.origin {
            let list = OriginList::parse(std::slice::from_ref(bound));
            let is_same =
                showing.origin.is_some_and(|origin| list.as_ref().is_ok_and(|list| list.contains(origin)));
            if !is_same {
                return Err(differs(mismatch, "origin", "another origin").with("expected", bound.as_str()));
            }
        }
        if entry.address.is_some_and(|bound| bound != showing.address) {
            return Err(differs(Diagnosis::TOKEN_OTHER_BROWSER, "address", "another client address"));
        }
        let age = now.saturating_sub(entry.issued_at);
        Ok(Presented { hash, identity: entry.identity, age, fingerprint })
    }

    /// What the journal has of a token that was issued.
    pub(crate) fn facts_of(&self, issued: &IssuedToken, bindings: Vec<&'static str>) -> Facts {
        Facts::none()
            .with("fingerprint", self.fingerprint(issued.token.expose()))
            .with("lifetimeMs", issued.expires_in * 1000)
            .with("bindings", bindings)
    }

    /// By what two presentations of one token are recognized.
    pub(crate) fn fingerprint(&self, token: &str) -> String {
        self.keys.fingerprint(token)
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
                    let detail = "used or revoked while this handshake was under way";
                    return Err(TokenRefusal::rejected(Diagnosis::TOKEN_REUSED, detail)
                        .with("fingerprint", presented.fingerprint.as_str())
                        .with("tokenAgeMs", presented.age));
                }
            }
        };
        let instead = record(RecordKind::SpentToken, &presented.hash, &entry);
        match self
            .records
            .take(RecordKind::Token, record_key(entry.issued_at, &presented.hash), Some(instead))
            .await
        {
            Ok(true) => Ok(()),
            Ok(false) => {
                let detail = "another node used it at the same time";
                Err(TokenRefusal::rejected(Diagnosis::TOKEN_REUSED, detail)
                    .with("fingerprint", presented.fingerprint.as_str())
                    .with("tokenAgeMs", presented.age))
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
            let revoked: Vec<(u64, Hash)> = known
                .live
                .iter()
                .filter_map(|(_, hash)| {
                    let entry = known.by_hash.get(hash)?;
                    let is_meant = concerns(&entry.api_id, &entry.stage, &entry.identity);
                    is_meant.then(|| (entry.issued_at, Arc::clone(hash)))
                })
                .collect();
            for (_, hash) in &revoked {
                known.remove(hash);
            }
            revoked.iter().map(|(issued_at, hash)| record_key(*issued_at, hash)).collect()
        };
        let n_revoked = revoked.len();
        let delete = |key| RecordChange::Delete(RecordKind::Token, key);
        let changes = revoked.into_iter().map(delete).collect();
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
        self.known.lock().live.len()
    }
}

impl Known {
    fn insert(&mut self, hash: Hash, entry: Entry) {
        match &entry.spent {
            Some(_) => self.dead.push_back((entry.expires_at + MEMORY, Arc::clone(&hash))),
            None => {
                self.live.insert((entry.expires_at, Arc::clone(&hash)));
                if let Some(requester) = entry.requester() {
                    *self.live_by_user.entry(requester).or_default() += 1;
                }
            }
        }
        self.by_hash.insert(hash, entry);
    }

    /// Notes the use of a token that has none yet, and answers what is to be stored of it.
    fn spend(&mut self, hash: &Hash, spent: Spent) -> Option<Entry> {
        let entry = self.by_hash.get_mut(hash).filter(|entry| entry.spent.is_none())?;
        entry.spent = Some(spent);
        let expires_at = entry.expires_at;
        self.end(hash, expires_at);
        self.by_hash.get(hash).cloned()
    }

    /// Forgets a token that was not used.
    fn remove(&mut self, hash: &Hash) {
        let Some(entry) = self.by_hash.remove(hash) else { return };
        if self.live.remove(&(entry.expires_at, Arc::clone(hash))) {
            self.count_down(entry.requester());
        }
    }

    /// A token can be presented no more. What it said about its user is not needed to tell that.
    fn end(&mut self, hash: &Hash, expires_at: u64) {
        if !self.live.remove(&(expires_at, Arc::clone(hash))) {
            return;
        }
        self.dead.push_back((expires_at + MEMORY, Arc::clone(hash)));
        if let Some(entry) = self.by_hash.get_mut(hash) {
            let requester = entry.requester();
            entry.identity = Arc::default();
            self.count_down(requester);
        }
    }

    fn count_down(&mut self, requester: Option<Requester>) {
        let Some(requester) = requester else { return };
        if let Some(n_live) = self.live_by_user.get_mut(&requester) {
            *n_live -= 1;
            if *n_live == 0 {
                self.live_by_user.remove(&requester);
            }
        }
    }

    fn forget_old(&mut self, now: u64) {
        while let Some((expires_at, hash)) = self.live.first().filter(|(at, _)| *at <= now).cloned() {
            self.end(&hash, expires_at);
        }
        // Lives differ by minutes: one that is not at the front yet stays that much longer.
        while self.dead.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
    }

    /// Room for one more. False when everything that is remembered can still be presented.
    fn make_room(&mut self, max_tokens: usize) -> bool {
        while self.by_hash.len() >= max_tokens {
            if !self.forget_first() {
                return false;
            }
        }
        true
    }

    fn forget_first(&mut self) -> bool {
        let Some((_, hash)) = self.dead.pop_front() else { return false };
        self.by_hash.remove(&hash);
        true
    }
}

impl Entry {
    fn requester(&self) -> Option<Requester> {
        let user = self.identity.user.as_ref()?;
        Some((Arc::clone(&self.api_id), Arc::clone(&self.stage), Arc::clone(user)))
    }
}

/// Characters of a record's key before the hash.
const TIME_IN_KEY: usize = 13;

/// The time leads: what is written together is stored together, and a commit touches few pages.
fn record_key(at: u64, hash: &Hash) -> String {
    format!("{at:012x}.{hash}")
}

fn record(kind: RecordKind, hash: &Hash, entry: &Entry) -> Record {
    let created_at = entry.spent.as_ref().map_or(entry.issued_at, |spent| spent.at);
    Record {
        kind,
        key: record_key(created_at, hash),
        created_at,
        expires_at: entry.expires_at + MEMORY,
        // Maps with text keys and plain values always have a JSON form.
        body: serde_json::to_string(entry).unwrap_or_default(),
    }
}

/// What a token of this request is bound to.
pub(crate) fn bindings(request: &TokenRequest) -> Vec<&'static str> {
    let bindings = [
        ("session", request.session_cookie.as_ref().is_some_and(|cookie| !cookie.is_empty())),
        ("origin", request.origin.is_some()),
        ("address", request.address.is_some()),
    ];
    bindings.into_iter().filter_map(|(name, is_bound)| is_bound.then_some(name)).collect()
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
        let user: Option<Arc<str>> = request.user.as_deref().map(Into::into);
        let bindings = bindings(&request);
        let issued = self.tokens.issue(stage, request, now).await;
        if self.keeps_facts() {
            let place = Place {
                api_id: Arc::clone(&stage.api_id),
                stage: Arc::clone(&stage.name),
                user,
                ..Place::default()
            };
            let told = match &issued {
                Ok(issued) => Some((None, self.tokens.facts_of(issued, bindings))),
                // Who asks for something that there is not learns that by the answer.
                Err(refusal) if refusal.code == ErrorCode::BadRequest => None,
                Err(refusal) => {
                    let facts = refusal.facts.clone().with("status", refusal.code.row().status);
                    Some((Some(refusal.diagnosis), facts.with("detail", refusal.detail.as_str())))
                }
            };
            if let Some((refused, facts)) = told {
                self.notice(Notice::TokenRequested { place, refused, facts });
            }
        }
        issued
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(user: &str, expires_at: u64) -> Entry {
        let identity = Identity { user: Some(user.into()), ..Identity::default() };
        Entry {
            api_id: "api".into(),
            stage: "prod".into(),
            identity: Arc::new(identity),
            cookie: None,
            origin: None,
            address: None,
            issued_at: 0,
            expires_at,
            spent: None,
        }
    }

    fn spent() -> Spent {
        Spent { at: 1, address: [127, 0, 0, 1].into(), connection_id: String::new() }
    }

    fn n_live(known: &Known, user: &str) -> u32 {
        known.live_by_user.get(&("api".into(), "prod".into(), user.into())).copied().unwrap_or(0)
    }

    // S0-76: a token that has expired is none that a user has.
    #[test]
    fn expired_tokens_leave_the_cap_and_are_remembered() {
        let mut known = Known::default();
        // The first lives longest: it must not keep the others in the count.
        for (hash, expires_at) in [("a", 300), ("b", 5), ("c", 60)] {
            known.insert(hash.into(), entry("ada", expires_at));
        }
        assert_eq!(n_live(&known, "ada"), 3);
        known.forget_old(5);
        assert_eq!((n_live(&known, "ada"), known.by_hash.len()), (2, 3));
        assert!(known.spend(&"a".into(), spent()).is_some());
        assert!(known.spend(&"a".into(), spent()).is_none());
        assert_eq!(n_live(&known, "ada"), 1);
        known.remove(&"c".into());
        assert!(known.live_by_user.is_empty() && known.live.is_empty());
        // What is told of a late use needs no claims.
        assert_eq!(known.by_hash["b"].identity.user, None);
        known.forget_old(300 + MEMORY);
        assert!(known.by_hash.is_empty() && known.dead.is_empty());
    }

    #[test]
    fn at_the_bound_the_first_that_was_used_is_forgotten() {
        let mut known = Known::default();
        for hash in ["a", "b", "c"] {
            known.insert(hash.into(), entry(hash, 300));
        }
        assert!(!known.make_room(3));
        known.spend(&"b".into(), spent());
        assert!(known.make_room(3));
        assert!(!known.by_hash.contains_key("b") && known.by_hash.len() == 2);
    }
}
