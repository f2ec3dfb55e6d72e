//! JSON Web Tokens of handshakes, and the key sets they are verified with.
//!
//! Key sets are fetched in the background: when a policy names one, every ten minutes, and when a token names a key that
//! is not there. A handshake never waits for a fetch, and a fetch that fails leaves the keys as they were.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::StreamExt as _;
use futures_util::stream;
use tidegate_auth::jwt::{
    Jwks, JwtReason, JwtRefusal, JwtVerifier, KeySet, KeySource, SourceKeys, find_token,
};
use tidegate_auth::{BEARER_SUBPROTOCOL, Secret};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::journal::{self, Facts};
use tidegate_core::notice::{Notice, Place};
use tidegate_core::policy::Policy;
use tidegate_core::snapshot::{Snapshot, Stage};
use tokio::sync::Notify;

use super::{Decision, Handshake, Proof, Refused};
use crate::clock::now_millis;
use crate::gateway::{Gateway, ReadFile};

/// Milliseconds between two fetches of a key set. Source: S3-11.
const REFRESH: u64 = 10 * 60 * 1000;

/// Milliseconds that lie between two fetches at least, however many unknown keys are presented. Source: S3-11.
const SOONEST: u64 = 30 * 1000;

/// Key sets that are fetched at a time, so that one that does not answer keeps few others waiting.
const FETCHES: usize = 16;

/// API id and stage name.
type StageName = (Arc<str>, Arc<str>);

/// The verifiers of all stages.
#[derive(Debug)]
pub(crate) struct JwtKeys {
    stages: ArcSwap<HashMap<StageName, Arc<StageKeys>>>,
    /// Wakes the fetching task.
    due: Notify,
    read_file: ReadFile,
}

/// The verifier of one stage.
#[derive(Debug)]
struct StageKeys {
    policy: Arc<Policy>,
    verifier: ArcSwapOption<JwtVerifier>,
    /// Why there is none.
    problem: String,
    /// The operator has been told of it.
    is_problem_told: AtomicBool,
    /// Key sets that are fetched, with their positions.
    urls: Vec<(usize, String)>,
    /// Milliseconds since 1970; 0 = never.
    fetched_at: AtomicU64,
    is_wanted: AtomicBool,
}

impl JwtKeys {
    pub(crate) fn new(read_file: ReadFile) -> Self {
        Self { stages: ArcSwap::default(), due: Notify::new(), read_file }
    }

    /// Takes in the policies of a new snapshot. A policy that has changed has its files read again; key sets that were
    /// fetched stay in use wherever the new one names their address.
    pub(crate) fn update(&self, snapshot: &Snapshot) {
        let before = self.stages.load();
        let mut stages = HashMap::new();
        for stage in snapshot.apis.values().flat_map(|api| api.stages.values()) {
            let Some(policy) = stage.policy.as_ref().filter(|policy| policy.policy.jwt.is_some()) else {
                continue;
            };
            let name = (Arc::clone(&stage.api_id), Arc::clone(&stage.name));
            let keys = match before.get(&name) {
                Some(known) if Arc::ptr_eq(&known.policy, &policy.policy) => Arc::clone(known),
                known => Arc::new(StageKeys::new(&policy.policy, &self.read_file, known.map(AsRef::as_ref))),
            };
            stages.insert(name, keys);
        }
        self.stages.store(Arc::new(stages));
        self.due.notify_one();
    }

    fn of(&self, stage: &Stage) -> Option<Arc<StageKeys>> {
        self.stages.load().get(&(Arc::clone(&stage.api_id), Arc::clone(&stage.name))).cloned()
    }

    /// The verifier of a stage, for who issues tokens of it.
    pub(crate) fn verifier(&self, stage: &Stage) -> Option<Arc<JwtVerifier>> {
        self.of(stage)?.verifier.load_full()
    }

    /// Fetches key sets until the gateway stops.
    pub(crate) async fn run(&self, gateway: &Gateway) {
        loop {
            let stages = self.stages.load_full();
            let now = now_millis();
            let mut due = Vec::new();
            for (name, keys) in stages.iter() {
                keys.tell_problem(gateway, name);
                if keys.wait(now) == Some(0) {
                    keys.fetched_at.store(now, Ordering::Relaxed);
                    keys.is_wanted.store(false, Ordering::Relaxed);
                    due.extend(keys.urls.iter().map(|(position, url)| (name, keys, *position, url)));
                }
            }
            stream::iter(due)
                .for_each_concurrent(FETCHES, |(name, keys, position, url)| {
                    keys.fetch(gateway, name, position, url)
                })
                .await;
            let now = now_millis();
            let next = stages.values().filter_map(|keys| keys.wait(now)).min().unwrap_or(REFRESH);
            let _ = tokio::time::timeout(Duration::from_millis(next.max(100)), self.due.notified()).await;
        }
    }
}

impl StageKeys {
    fn new(policy: &Arc<Policy>, read_file: &ReadFile, before: Option<&Self>) -> Self {
        let mut keys = Self {
            policy: Arc::clone(policy),
            verifier: ArcSwapOption::empty(),
            problem: String::new(),
            is_problem_told: AtomicBool::new(false),
            urls: Vec::new(),
            fetched_at: AtomicU64::new(0),
            is_wanted: AtomicBool::new(false),
        };
        match keys.build(read_file) {
            Ok(verifier) => {
                keys.verifier.store(Some(Arc::new(verifier)));
                keys.take_over(before);
            }
            Err(problem) => keys.problem = problem,
        }
        keys
    }

    /// Takes the key sets that the stage's keys before have fetched. Fetched they are again, as of a new policy.
    fn take_over(&self, before: Option<&Self>) {
        let Some(before) = before else { return };
        let Some(known) = before.verifier.load_full() else { return };
        for (position, url) in &self.urls {
            let is_same = |(_, other): &&(usize, String)| other == url;
            let set = before.urls.iter().find(is_same).and_then(|(position, _)| known.set(*position));
            if let Some(set) = set {
                // A set that the new policy does not take is fetched, and then reported.
                let _ = self.put_set(*position, set.clone());
            }
        }
    }

    fn put_set(&self, position: usize, set: KeySet) -> Result<(), String> {
        let Some(verifier) = self.verifier.load_full() else { return Err(self.problem.clone()) };
        let verifier = verifier.with_set(position, set).map_err(|error| error.to_string())?;
        self.verifier.store(Some(Arc::new(verifier)));
        Ok(())
    }

    fn build(&mut self, read_file: &ReadFile) -> Result<JwtVerifier, String> {
        let Some(options) = &self.policy.jwt else { return Err("no [jwt]".to_owned()) };
        let mut sources = Vec::new();
        for (position, key) in options.keys.iter().enumerate() {
            let read = |path: &str| {
                read_file
                    .read(std::path::Path::new(path))
                    .map_err(|error| format!("jwt.keys[{position}]: {path} cannot be read: {error}"))
            };
            let keys = if let Some(secret) = &key.secret {
                SourceKeys::Secret(Secret::new(secret.clone()))
            } else if let Some(path) = &key.secret_file {
                let text = String::from_utf8(read(path)?)
                    .map_err(|_| format!("jwt.keys[{position}]: {path} is not text"))?;
                SourceKeys::Secret(Secret::new(text.trim_end().to_owned()))
            } else if let Some(path) = &key.jwks_file {
                let jwks = Jwks::parse(&read(path)?)
                    .map_err(|error| format!("jwt.keys[{position}]: {path}: {error}"))?;
                SourceKeys::Set(Some(KeySet { jwks: Arc::new(jwks), fetched_at: now_millis() }))
            } else {
                self.urls.push((position, key.jwks_url.clone().unwrap_or_default()));
                SourceKeys::Set(None)
            };
            sources.push(KeySource { algorithms: key.algorithms.clone(), keys });
        }
        JwtVerifier::new(options, sources)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    /// Every key set has been fetched once.
    fn is_complete(&self) -> bool {
        let verifier = self.verifier.load();
        let has = |position| verifier.as_ref().is_some_and(|verifier| verifier.set(position).is_some());
        self.urls.iter().all(|(position, _)| has(*position))
    }

    /// Milliseconds until the key sets are to be fetched; nothing where none are.
    fn wait(&self, now: u64) -> Option<u64> {
        if self.urls.is_empty() || self.verifier.load().is_none() {
            return None;
        }
        let age = now.saturating_sub(self.fetched_at.load(Ordering::Relaxed));
        let is_wanted = self.is_wanted.load(Ordering::Relaxed);
        let pause = if is_wanted || !self.is_complete() { SOONEST } else { REFRESH };
        Some(pause.saturating_sub(age))
    }

    /// One fetch after the other puts its set: all of them run in one task.
    async fn fetch(&self, gateway: &Gateway, name: &StageName, position: usize, url: &str) {
        let result = gateway.backends.key_set(url).await.and_then(|fetched| {
            let set = KeySet { jwks: Arc::new(fetched.jwks), fetched_at: fetched.received_at };
            self.put_set(position, set)
        });
        if let Err(detail) = result {
            let detail = format!("jwt.keys[{position}]: {detail}");
            gateway.notice(not_fetched(name, Diagnosis::JWT_JWKS_UNREACHABLE, detail));
        }
    }

    /// Says once why no token of the stage can be verified.
    fn tell_problem(&self, gateway: &Gateway, name: &StageName) {
        if !self.problem.is_empty() && !self.is_problem_told.swap(true, Ordering::Relaxed) {
            gateway.notice(not_fetched(name, Diagnosis::CONFIG_INVALID_VALUE, self.problem.clone()));
        }
    }

    /// Has the key sets fetched, as soon as that may be.
    fn want(&self, due: &Notify) {
        if !self.urls.is_empty() && !self.is_wanted.swap(true, Ordering::Relaxed) {
            due.notify_one();
        }
    }
}

fn not_fetched((api_id, stage): &StageName, diagnosis: Diagnosis, detail: String) -> Notice {
    let place = Place { api_id: Arc::clone(api_id), stage: Arc::clone(stage), ..Place::default() };
    Notice::KeySetNotFetched { facts: Facts::none(), place, diagnosis, detail }
}

/// Verifies the token of a handshake.
pub(super) fn check(gateway: &Gateway, handshake: &Handshake<'_>) -> Result<Proof, Refused> {
    // A stage that wants tokens and has nothing to verify them with.
    let broken = |detail: String| {
        Refused::new(ErrorCode::IdentityUnavailable, Diagnosis::AUTH_NOT_CONFIGURED, "jwt", detail)
    };
    let Some(options) = &handshake.policy.policy.jwt else {
        return Err(broken("the policy has no [jwt]".to_owned()));
    };
    let refuse = |refusal: JwtRefusal, token: Option<&Secret>| {
        let code = match refusal.status() {
            503 => ErrorCode::IdentityUnavailable,
            _ => ErrorCode::IdentityRejected,
        };
        let diagnosis = Diagnosis::find(refusal.diagnosis()).unwrap_or(Diagnosis::JWT_MALFORMED);
        let mut refused = Refused::new(code, diagnosis, "jwt", refusal.to_string());
        refused.text = (code == ErrorCode::IdentityRejected).then(|| refusal.client_text());
        if handshake.keeps_facts {
            refused.facts = facts(&refusal, handshake.now);
            let fingerprint = token.map(|token| gateway.tokens.fingerprint(token.expose()));
            refused.facts.add_some("fingerprint", fingerprint);
        }
        refused
    };
    let found =
        find_token(handshake.query, handshake.headers, options).map_err(|refusal| refuse(refusal, None))?;
    let keys = gateway.jwt.of(handshake.stage);
    let Some(keys) = keys else { return Err(broken("no keys for the stage yet".to_owned())) };
    let Some(verifier) = keys.verifier.load_full() else { return Err(broken(keys.problem.clone())) };
    let verified = verifier.verify(found.token.expose(), handshake.now).map_err(|refusal| {
        if refusal.needs_refresh() {
            keys.want(&gateway.jwt.due);
        }
        refuse(refusal, Some(&found.token))
    })?;
    let mut identity = verified.into_identity();
    let decision = handshake.keeps_facts.then(|| {
        let mut facts = Facts::none()
            .with("fingerprint", gateway.tokens.fingerprint(found.token.expose()))
            .with("place", found.place.to_string())
            .with("now", handshake.now);
        facts.add_some("exp", identity.expires_at);
        Decision { kind: journal::Kind::Jwt, remark: None, facts }
    });
    if !options.close_on_expiry {
        identity.expires_at = None;
    }
    let subprotocol = found.answers_bearer.then_some(BEARER_SUBPROTOCOL);
    Ok(Proof { identity: Arc::new(identity), presented: None, subprotocol, decision })
}

/// What proves a refusal, by the names of the journal. Times are milliseconds since 1970, `leeway` is milliseconds.
pub(crate) fn facts(refusal: &JwtRefusal, now: u64) -> Facts {
    let mut facts = Facts::none();
    let mut leeway_used = None;
    match &refusal.reason {
        JwtReason::Missing
        | JwtReason::Signature
        | JwtReason::AlgorithmNotAllowed
        | JwtReason::JwksUnreachable => {}
        JwtReason::WrongPlace(place) => facts.add("place", place.to_string()),
        JwtReason::Ambiguous { first, second } => {
            facts.add("places", vec![first.to_string(), second.to_string()]);
        }
        JwtReason::TooLong { length } => {
            facts.add("length", *length);
            facts.add("limit", tidegate_auth::jwt::MAX_TOKEN);
        }
        JwtReason::Malformed { part, hint } => {
            facts.add("part", part.to_string());
            facts.add_some("hint", hint.as_ref().map(ToString::to_string));
        }
        JwtReason::UnknownKey { fetched_at } => facts.add_some("keysFetchedAt", *fetched_at),
        JwtReason::Expired { leeway, .. } => leeway_used = Some(*leeway),
        JwtReason::NotYetValid { claim, from, leeway, .. } => {
            leeway_used = Some(*leeway);
            facts.add("claim", *claim);
            facts.add("aheadMs", from.saturating_sub(i64::try_from(now).unwrap_or(i64::MAX)));
        }
        JwtReason::Issuer { expected } => {
            facts.add("claim", "iss");
            facts.add("expected", expected.as_str());
        }
        JwtReason::Audience { expected } => {
            facts.add("claim", "aud");
            facts.add("expected", expected.as_str());
        }
        JwtReason::ClaimsMissing { names } => facts.add("missing", names.clone()),
    }
    facts.add("now", now);
    facts.add_some("leeway", leeway_used);
    if let Some(token) = &refusal.token {
        facts.add("alg", token.algorithm.as_str());
        facts.add_some("kid", token.kid.as_deref());
        facts.add_some("exp", token.exp);
        facts.add_some("nbf", token.nbf);
        facts.add_some("iat", token.iat);
        facts.add("claimNames", token.claim_names.clone());
    }
    facts
}
