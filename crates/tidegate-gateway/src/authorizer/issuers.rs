//! Issuers of tokens that authorizers of type `JWT` take, and their keys.
//!
//! An issuer's keys are found by its discovery document (OpenID Connect Discovery 1.0, section 4). They are fetched in the
//! background: when a deployment names the issuer, every ten minutes, and when a token names a key that is not there. A
//! handshake waits for the first fetch only, within the time that an authorizer may take; a fetch that fails leaves the
//! keys as they were.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::StreamExt as _;
use futures_util::stream;
use http::Uri;
use tidegate_auth::jwt::{JwtVerifier, KeySet, KeySource, SourceKeys};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::notice::{Notice, Place};
use tidegate_core::policy::{Jwt, JwtClaims};
use tidegate_core::snapshot::{Authorization, Snapshot};
use tokio::sync::{Notify, watch};

use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::integration::http::check_host;

/// Milliseconds between two fetches. Source: as for key sets of policies (S3-11).
const REFRESH: u64 = 10 * 60 * 1000;

/// Milliseconds that lie between two fetches of an issuer at least, however many unknown keys are presented.
const SOONEST: u64 = 30 * 1000;

/// Issuers that are asked at a time, so that one that does not answer keeps few others waiting.
const FETCHES: usize = 16;

/// Longest discovery document, in bytes. Source: our choice; those of large providers have 2 to 5 KB.
const MAX_DOCUMENT: usize = 64 * 1024;

/// Below the issuer. Source: OpenID Connect Discovery 1.0, section 4.1.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// Algorithms whose public keys an issuer may publish. The service takes RSA ones only; shared secrets never are
/// published.
const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

/// The issuers of all deployments.
#[derive(Debug, Default)]
pub(crate) struct Issuers {
    known: ArcSwap<HashMap<String, Arc<Issuer>>>,
    /// Wakes the fetching task.
    due: Notify,
}

/// One issuer.
#[derive(Debug)]
pub(crate) struct Issuer {
    issuer: String,
    /// A stage that uses it, for those who are told of failures.
    place: Place,
    verifier: ArcSwapOption<JwtVerifier>,
    /// Milliseconds since 1970 of the last fetch's begin; 0 = never.
    fetched_at: AtomicU64,
    is_wanted: AtomicBool,
    /// How many fetches have ended.
    n_ended: watch::Sender<u64>,
}

impl Issuers {
    /// Takes in the deployments of a new snapshot. Whom a deployment names that was known before keeps its keys.
    pub(crate) fn update(&self, snapshot: &Snapshot) {
        let before = self.known.load();
        let mut known: HashMap<String, Arc<Issuer>> = HashMap::new();
        for stage in snapshot.apis.values().flat_map(|api| api.stages.values()) {
            let Some(deployment) = &stage.deployment else { continue };
            let Some(route) = deployment.routes.get("$connect") else { continue };
            let Authorization::Jwt(authorizer) = &route.authorization else { continue };
            let issuer = authorizer.issuer.as_str();
            if known.contains_key(issuer) {
                continue;
            }
            let place = || Place {
                api_id: Arc::clone(&stage.api_id),
                stage: Arc::clone(&stage.name),
                ..Place::default()
            };
            let entry = before.get(issuer).cloned().unwrap_or_else(|| Arc::new(Issuer::new(issuer, place())));
            known.insert(issuer.to_owned(), entry);
        }
        if !known.is_empty() || !before.is_empty() {
            self.known.store(Arc::new(known));
            self.due.notify_one();
        }
    }

    /// The issuer of this name, if a deployment uses it.
    pub(crate) fn get(&self, issuer: &str) -> Option<Arc<Issuer>> {
        self.known.load().get(issuer).cloned()
    }

    /// Has an issuer's keys fetched, as soon as that may be.
    pub(crate) fn want(&self, issuer: &Issuer) {
        if !issuer.is_wanted.swap(true, Ordering::Relaxed) {
            self.due.notify_one();
        }
    }

    /// Fetches keys until the gateway stops.
    pub(crate) async fn run(&self, gateway: &Gateway) {
        loop {
            let known = self.known.load_full();
            let now = now_millis();
            let due: Vec<&Arc<Issuer>> = known.values().filter(|issuer| issuer.wait(now) == 0).collect();
            for issuer in &due {
                issuer.fetched_at.store(now, Ordering::Relaxed);
                issuer.is_wanted.store(false, Ordering::Relaxed);
            }
            stream::iter(due).for_each_concurrent(FETCHES, |issuer| issuer.fetch(gateway)).await;
            let now = now_millis();
            let next = known.values().map(|issuer| issuer.wait(now)).min().unwrap_or(REFRESH);
            let _ = tokio::time::timeout(Duration::from_millis(next.max(100)), self.due.notified()).await;
        }
    }
}

impl Issuer {
    fn new(issuer: &str, place: Place) -> Self {
        Self {
            issuer: issuer.to_owned(),
            place,
            verifier: ArcSwapOption::empty(),
            fetched_at: AtomicU64::new(0),
            is_wanted: AtomicBool::new(false),
            n_ended: watch::Sender::new(0),
        }
    }

    /// What verifies its tokens. Waits until keys have been fetched, or a fetch has failed; `None` then.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn verifier(&self) -> Option<Arc<JwtVerifier>> {
        if let Some(verifier) = self.verifier.load_full() {
            return Some(verifier);
        }
        // The sender is ours: it does not go away.
        let _ = self.n_ended.subscribe().wait_for(|n_ended| *n_ended > 0).await;
        self.verifier.load_full()
    }

    /// Milliseconds until its keys are to be fetched.
    fn wait(&self, now: u64) -> u64 {
        let is_urgent = self.is_wanted.load(Ordering::Relaxed) || self.verifier.load().is_none();
        let age = now.saturating_sub(self.fetched_at.load(Ordering::Relaxed));
        (if is_urgent { SOONEST } else { REFRESH }).saturating_sub(age)
    }

    async fn fetch(&self, gateway: &Gateway) {
        if let Err(detail) = self.try_fetch(gateway).await {
            let detail = format!("issuer {}: {detail}", self.issuer);
            let (place, diagnosis) = (self.place.clone(), Diagnosis::JWT_JWKS_UNREACHABLE);
            gateway.notice(Notice::KeySetNotFetched { facts: Facts::none(), place, diagnosis, detail });
        }
        self.n_ended.send_modify(|n_ended| *n_ended += 1);
    }

    async fn try_fetch(&self, gateway: &Gateway) -> Result<(), String> {
        let base = self.issuer.strip_suffix('/').unwrap_or(&self.issuer);
        let document = get(gateway, &format!("{base}{WELL_KNOWN}")).await?;
        let address = keys_address(&document, &self.issuer)?;
        check(gateway, &address).map_err(|error| format!("jwks_uri: {error}"))?;
        let fetched = gateway.backends.key_set(&address).await;
        let fetched = fetched.map_err(|error| format!("jwks_uri: {error}"))?;
        if fetched.jwks.is_empty() {
            return Err("jwks_uri: the set has no key that could verify a token".to_owned());
        }
        let set = KeySet { jwks: Arc::new(fetched.jwks), fetched_at: fetched.received_at };
        self.verifier.store(Some(Arc::new(verifier(&self.issuer, set)?)));
        Ok(())
    }
}

/// Whether the gateway may send requests to this address.
fn check(gateway: &Gateway, url: &str) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|_| "it is no address".to_owned())?;
    let in_force = gateway.in_force();
    let allowed = &in_force.node.settings.all.integration.allowed_hosts;
    check_host(allowed, uri.host().unwrap_or_default()).map_err(|failure| failure.detail.into_owned())
}

async fn get(gateway: &Gateway, url: &str) -> Result<bytes::Bytes, String> {
    check(gateway, url)?;
    match gateway.backends.get(url).await {
        Ok((200, body)) => Ok(body),
        Ok((status, _)) => Err(format!("status {status}")),
        Err(failure) => Err(failure.detail.into_owned()),
    }
}

/// `jwks_uri` of a discovery document. It must be the document of this issuer (OpenID Connect Discovery 1.0, section 4.3),
/// and keys of an issuer with TLS must come by TLS.
fn keys_address(document: &[u8], issuer: &str) -> Result<String, String> {
    if document.len() > MAX_DOCUMENT {
        return Err(format!("the document has {} bytes, {MAX_DOCUMENT} are permitted", document.len()));
    }
    let document: serde_json::Value =
        serde_json::from_slice(document).map_err(|_| "the document is no JSON".to_owned())?;
    let text = |name: &str| document.get(name).and_then(serde_json::Value::as_str);
    let bare = |text: &str| text.strip_suffix('/').unwrap_or(text).to_owned();
    if text("issuer").map(bare) != Some(bare(issuer)) {
        return Err("the document is of another issuer".to_owned());
    }
    let address = text("jwks_uri").ok_or("the document has no jwks_uri")?;
    let is_safe =
        address.starts_with("https://") || (address.starts_with("http://") && issuer.starts_with("http://"));
    if !is_safe {
        return Err("jwks_uri is no https:// address".to_owned());
    }
    Ok(address.to_owned())
}

/// What every authorizer of an issuer has in common; audience and scopes are looked at afterwards.
fn verifier(issuer: &str, set: KeySet) -> Result<JwtVerifier, String> {
    let options = Jwt {
        issuer: Some(issuer.to_owned()),
        require_exp: true,
        // Nobody asks whose token it is; `iss` is there whenever the issuer is right.
        claims: JwtClaims { user_fallback: vec!["iss".to_owned()], ..JwtClaims::default() },
        ..Jwt::default()
    };
    let algorithms = ALGORITHMS.map(str::to_owned).to_vec();
    let source = KeySource { algorithms, keys: SourceKeys::Set(Some(set)) };
    JwtVerifier::new(&options, vec![source])
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use tidegate_auth::jwt::Jwks;

    use super::*;

    #[test]
    fn documents_are_of_their_issuer_and_keys_come_no_worse_than_it() {
        let address = |issuer: &str, document: &str| keys_address(document.as_bytes(), issuer);
        let document = r#"{"issuer": "https://id.example.com/", "jwks_uri": "https://keys.example.com/k"}"#;
        assert_eq!(address("https://id.example.com", document).unwrap(), "https://keys.example.com/k");
        assert_eq!(address("https://id.example.com/", document).unwrap(), "https://keys.example.com/k");
        assert!(address("https://other.example.com", document).unwrap_err().contains("another issuer"));
        let plain = r#"{"issuer": "https://id.example.com", "jwks_uri": "http://keys.example.com/k"}"#;
        assert!(address("https://id.example.com", plain).unwrap_err().contains("https"));
        let file = r#"{"issuer": "http://id.local", "jwks_uri": "file:///etc/passwd"}"#;
        assert!(address("http://id.local", file).is_err());
        let local = r#"{"issuer": "http://id.local", "jwks_uri": "http://id.local/k"}"#;
        assert_eq!(address("http://id.local", local).unwrap(), "http://id.local/k");
        for broken in
            ["", "[]", "{}", r#"{"issuer": "http://id.local"}"#, r#"{"jwks_uri": "http://id.local"}"#]
        {
            assert!(address("http://id.local", broken).is_err(), "{broken}");
        }
        let long = format!(r#"{{"issuer": "http://id.local", "more": "{}"}}"#, "x".repeat(MAX_DOCUMENT));
        assert!(address("http://id.local", &long).unwrap_err().contains("permitted"));
    }

    #[test]
    fn every_algorithm_is_one_that_verifiers_know() {
        let jwks = Jwks::parse(br#"{"keys": []}"#).unwrap();
        let set = KeySet { jwks: Arc::new(jwks), fetched_at: 0 };
        assert!(verifier("https://id.example.com", set).is_ok());
    }
}
