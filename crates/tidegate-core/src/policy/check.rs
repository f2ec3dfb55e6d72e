//! What is wrong with a policy, and with which of its values. Nothing here looks at files, names or clocks.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use http::{HeaderName, Uri};

use super::{Access, IdentityCheck, Jwt, JwtKey, Policy, Unlisted};
use crate::channel::ChannelRules;
use crate::diagnosis::Diagnosis;
use crate::network::Network;
use crate::origin::OriginList;
use crate::select::Expression;

/// One thing that is wrong, or that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblem {
    /// Where, from the policy on: `channels.rules[2].join.any[0][1]`.
    pub path: String,
    /// Stable name of the class: `config.invalid-value` for errors; a name of its own for each warning (S0-96).
    pub id: &'static str,
    /// For whoever wrote the policy. Never has a secret in it.
    pub message: String,
    /// The policy cannot be used. Otherwise it is a warning.
    pub is_error: bool,
}

impl PolicyProblem {
    /// A value that cannot be used.
    pub fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        let id = Diagnosis::CONFIG_INVALID_VALUE.as_str();
        Self { path: path.into(), id, message: message.into(), is_error: true }
    }

    fn warning(path: impl Into<String>, id: &'static str, message: &str) -> Self {
        Self { path: path.into(), id, message: message.to_owned(), is_error: false }
    }
}

/// Warning: the backend cannot tell the gateway from others.
pub const NO_BACKEND_SECRET: &str = "config.no-backend-secret";
/// Warning: channels that nobody listed are open.
pub const UNLISTED_OPEN: &str = "config.unlisted-open";
/// Warning: a cookie identifies, and pages of any origin may use it.
pub const ORIGINS_OPEN: &str = "config.origins-open";
/// Warning: a secret that can be guessed is taken.
pub const WEAK_SECRET: &str = "config.weak-secret";
/// Warning: a pattern fits names that begin with somebody else's id.
pub const OPEN_PREFIX: &str = "config.open-prefix";

/// Stands for a secret where a policy is shown, and keeps the stored one where a policy is sent.
pub const REDACTED: &str = "****";

/// Longest name of a header, parameter, cookie, claim or control key.
const MAX_NAME: usize = 128;
/// Most entries of a list that a policy may have.
const MAX_ENTRIES: usize = 1000;
/// Most entries of a list that is gone through for each connection or message.
const MAX_SHORT_ENTRIES: usize = 100;
/// Attempts, tokens: what is remembered one by one.
const MAX_COUNTED: u64 = 10_000;
/// Shortest secret towards the backend. Source: the Django package's check of `gateway_secret`.
const MIN_BACKEND_SECRET: usize = 32;
/// Shortest symmetric secret, in bytes. Source: S3-10.
const MIN_JWT_SECRET: usize = 32;

const HMAC: [&str; 3] = ["HS256", "HS384", "HS512"];
const ASYMMETRIC: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

/// Headers that the gateway itself writes, or that say how a message is framed.
const OWN_HEADERS: [&str; 11] = [
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Policy {
    /// Everything that is wrong, and warnings, in the order of the policy's sections. A policy without an error
    /// compiles.
    pub fn problems(&self) -> Vec<PolicyProblem> {
        let mut check = Check::default();
        self.check_admission(&mut check);
        self.check_connect_tokens(&mut check);
        if let Some(jwt) = &self.jwt {
            check_jwt(jwt, &mut check);
        }
        self.check_attempts_and_messages(&mut check);
        self.check_channels(&mut check);
        self.check_rest(&mut check);
        check.problems
    }

    fn check_admission(&self, check: &mut Check) {
        let admission = &self.admission;
        let mut seen = HashSet::new();
        for (idx, proof) in admission.checks.iter().enumerate() {
            let path = format!("admission.checks[{idx}]");
            if !seen.insert(*proof) {
                check.invalid(&path, "listed twice");
            }
            let has_keys = self.jwt.as_ref().is_some_and(|jwt| !jwt.keys.is_empty());
            match proof {
                IdentityCheck::Jwt if !has_keys => check.invalid(&path, "jwt needs jwt.keys"),
                IdentityCheck::ApiKey if admission.api_keys.is_empty() => {
                    check.invalid(&path, "api_key needs admission.api_keys");
                }
                _ => {}
            }
        }
        check.origins("admission.origins", &admission.origins);
        let identifies_by_cookie = self.jwt.as_ref().is_some_and(|jwt| !jwt.cookie.is_empty())
            && admission.checks.contains(&IdentityCheck::Jwt);
        if identifies_by_cookie && admission.origins.is_empty() {
            check.problems.push(PolicyProblem::warning(
                "admission.origins",
                ORIGINS_OPEN,
                "a cookie identifies users and the list is empty: any page may connect in their name",
            ));
        }
        check.length("admission.api_keys", admission.api_keys.len(), MAX_ENTRIES);
        let mut seen = HashSet::new();
        for (idx, key) in admission.api_keys.iter().enumerate() {
            let path = format!("admission.api_keys[{idx}]");
            check.text(&format!("{path}.user"), &key.user, 256);
            let is_hash =
                key.sha256.len() == 64 && key.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if !is_hash {
                check.invalid(&format!("{path}.sha256"), "64 lower-case hex characters expected");
            } else if !seen.insert(&key.sha256) {
                check.invalid(&format!("{path}.sha256"), "the same key as one before");
            }
            check.texts(&format!("{path}.roles"), &key.roles);
        }
    }

    fn check_connect_tokens(&self, check: &mut Check) {
        let tokens = &self.connect_tokens;
        check.parameter("connect_tokens.parameter", &tokens.parameter);
        check.range("connect_tokens.lifetime", tokens.lifetime, 5..=300);
        check.range("connect_tokens.per_minute", tokens.per_minute.into(), 1..=MAX_COUNTED);
        check.range("connect_tokens.max_unspent", tokens.max_unspent.into(), 1..=MAX_COUNTED);
        check.cookie("connect_tokens.cookie", &tokens.cookie);
        let Some(endpoint) = &tokens.endpoint else { return };
        check.url("connect_tokens.endpoint.url", &endpoint.url);
        check.origins("connect_tokens.endpoint.origins", &endpoint.origins);
        check.length("connect_tokens.endpoint.headers", endpoint.headers.len(), MAX_SHORT_ENTRIES);
        for (idx, name) in endpoint.headers.iter().enumerate() {
            check.header(&format!("connect_tokens.endpoint.headers[{idx}]"), name);
        }
    }

    fn check_attempts_and_messages(&self, check: &mut Check) {
        let attempts = &self.attempts;
        for (name, limit) in [
            ("per_address", attempts.per_address),
            ("per_user", attempts.per_user),
            ("failed_per_address", attempts.failed_per_address),
        ] {
            check.range(&format!("attempts.{name}"), limit.into(), 0..=MAX_COUNTED);
        }
        check.range("attempts.window", attempts.window, 1..=86_400);
        check.range("attempts.ipv6_prefix", attempts.ipv6_prefix.into(), 1..=128);
        check.length("attempts.exempt", attempts.exempt.len(), MAX_SHORT_ENTRIES);
        for (idx, network) in attempts.exempt.iter().enumerate() {
            if let Err(error) = network.parse::<Network>() {
                check.invalid(&format!("attempts.exempt[{idx}]"), &error.to_string());
            }
        }
        let messages = &self.messages;
        // Not a number is in no range.
        if !(0.0..=100_000.0).contains(&messages.rate) {
            check.invalid("messages.rate", "0 to 100000 expected");
        }
        if messages.burst != 0.0 && !(1.0..=100_000.0).contains(&messages.burst) {
            check.invalid("messages.burst", "0, or 1 to 100000 expected");
        } else if messages.burst != 0.0 && messages.rate == 0.0 {
            check.invalid("messages.burst", "does nothing without messages.rate");
        }
    }

    fn check_channels(&self, check: &mut Check) {
        let channels = &self.channels;
        if channels.unlisted == Unlisted::Allow {
            check.problems.push(PolicyProblem::warning(
                "channels.unlisted",
                UNLISTED_OPEN,
                "everybody may join a channel that no rule names",
            ));
        }
        if !channels.parameter.is_empty() {
            check.parameter("channels.parameter", &channels.parameter);
        }
        check.range("channels.max_per_connection", channels.max_per_connection as u64, 1..=1000);
        check.length("channels.default_by_domain", channels.default_by_domain.len(), MAX_ENTRIES);
        check.length("channels.rules", channels.rules.len(), MAX_ENTRIES);
        if let Err(problems) = ChannelRules::compile(channels) {
            check.problems.extend(problems);
        }
        for (idx, rule) in channels.rules.iter().enumerate() {
            let path = format!("channels.rules[{idx}]");
            if rule.pattern.ends_with("}*") {
                check.problems.push(PolicyProblem::warning(
                    format!("{path}.match"),
                    OPEN_PREFIX,
                    "a prefix that ends with a placeholder fits longer values too: `12` fits the channels of \
                     `123`; put a separator before the `*`",
                ));
            }
            for (right, access) in
                [("join", &rule.join), ("publish", &rule.publish), ("presence", &rule.presence)]
            {
                check.access(&format!("{path}.{right}"), access);
            }
            if let Some(history) = rule.history {
                check.range(&format!("{path}.history.count"), history.count as u64, 1..=10_000);
                check.range(&format!("{path}.history.age"), history.age, 1..=86_400);
            }
        }
    }

    fn check_rest(&self, check: &mut Check) {
        check.range("push.wait_ms", self.push.wait_ms, 0..=30_000);
        check.range("push.idempotency_window", self.push.idempotency_window, 1..=3600);
        check.range("push.max_bytes", self.push.max_bytes as u64, 0..=16 * 1024 * 1024);
        if !self.control.key.is_empty() {
            check.text("control.key", &self.control.key, MAX_NAME);
        }
        check.length("handlers.select", self.handlers.select.len(), 10);
        for (idx, text) in self.handlers.select.iter().enumerate() {
            let path = format!("handlers.select[{idx}]");
            match Expression::parse(text) {
                Err(error) => check.invalid(&path, &error.to_string()),
                Ok(expression) if !expression.reads_only_body() => {
                    check.invalid(&path, "only $request.body can be read from a message");
                }
                Ok(_) => {}
            }
        }
        check.texts("handlers.allowed", &self.handlers.allowed);
        for (idx, name) in self.handlers.allowed.iter().enumerate() {
            if crate::snapshot::is_reserved(name) {
                check.invalid(&format!("handlers.allowed[{idx}]"), "messages cannot choose this route");
            }
        }
        let backend = &self.backend;
        check.header("backend.secret_header", &backend.secret_header);
        check.length("backend.secrets", backend.secrets.len(), 10);
        for (idx, secret) in backend.secrets.iter().enumerate() {
            let path = format!("backend.secrets[{idx}]");
            let is_legal = |b: u8| {
                b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'+' | b'/' | b'=' | b'-')
            };
            if secret == REDACTED {
                check.no_stored_secret(&path);
            } else if !(MIN_BACKEND_SECRET..=1024).contains(&secret.len()) || !secret.bytes().all(is_legal) {
                check.invalid(&path, "32 to 1024 characters out of A-Z a-z 0-9 . _ ~ + / = - expected");
            }
        }
        if backend.secrets.is_empty() {
            if backend.sign {
                check.invalid("backend.sign", "needs backend.secrets");
            }
            check.problems.push(PolicyProblem::warning(
                "backend.secrets",
                NO_BACKEND_SECRET,
                "whoever reaches the backend can pretend to be the gateway",
            ));
        }
    }

    /// The policy with [`REDACTED`] in place of its secrets, for everyone who reads it (S0-97).
    pub fn redacted(&self) -> Self {
        let mut shown = self.clone();
        for secret in shown.secrets_mut().into_iter().flatten() {
            REDACTED.clone_into(secret);
        }
        shown
    }

    /// The policy with the stored secrets of `old` wherever it has [`REDACTED`] (S0-97).
    ///
    /// Secrets towards the backend and those of `jwt.keys` are each a list. In a list as long as the stored one a
    /// secret keeps its position. In a list of another length that still has as many [`REDACTED`] as secrets are
    /// stored they stand for these in order, so that one may be put before or behind. Otherwise it cannot be
    /// known which are meant: [`REDACTED`] stays, and [`Self::problems`] reports it.
    pub fn merge_redacted(&self, old: &Self) -> Self {
        let (mut merged, mut old) = (self.clone(), old.clone());
        for (secrets, stored) in merged.secrets_mut().into_iter().zip(old.secrets_mut()) {
            let is_same_length = secrets.len() == stored.len();
            let n_redacted = secrets.iter().filter(|secret| **secret == REDACTED).count();
            let mut in_order = stored.iter();
            for (idx, secret) in secrets.into_iter().enumerate().filter(|(_, secret)| **secret == REDACTED) {
                let kept = match is_same_length {
                    true => stored.get(idx),
                    false if n_redacted == stored.len() => in_order.next(),
                    false => None,
                };
                if let Some(kept) = kept {
                    kept.as_str().clone_into(secret);
                }
            }
        }
        merged
    }

    /// All secrets, by kind. A new kind of secret belongs here.
    fn secrets_mut(&mut self) -> [Vec<&mut String>; 2] {
        let keys = self.jwt.iter_mut().flat_map(|jwt| &mut jwt.keys);
        [keys.filter_map(|key| key.secret.as_mut()).collect(), self.backend.secrets.iter_mut().collect()]
    }
}

fn check_jwt(jwt: &Jwt, check: &mut Check) {
    check.length("jwt.keys", jwt.keys.len(), MAX_SHORT_ENTRIES);
    for (idx, key) in jwt.keys.iter().enumerate() {
        check_jwt_key(key, jwt.allow_weak_secret, &format!("jwt.keys[{idx}]"), check);
    }
    for (path, text) in [("jwt.issuer", &jwt.issuer), ("jwt.audience", &jwt.audience)] {
        if let Some(text) = text {
            check.text(path, text, 1024);
        }
    }
    check.range("jwt.leeway", jwt.leeway, 0..=300);
    if !jwt.require_exp {
        check.problems.push(PolicyProblem::warning(
            "jwt.require_exp",
            Diagnosis::JWT_NO_EXPIRY.as_str(),
            "tokens without exp are accepted, and never expire",
        ));
    }
    check.text("jwt.claims.user", &jwt.claims.user, MAX_NAME);
    check.texts("jwt.claims.user_fallback", &jwt.claims.user_fallback);
    check.texts("jwt.claims.required", &jwt.claims.required);
    check.cookie("jwt.cookie", &jwt.cookie);
    check.parameter("jwt.parameter", &jwt.parameter);
}

fn check_jwt_key(key: &JwtKey, takes_weak: bool, path: &str, check: &mut Check) {
    let sources = [&key.secret, &key.secret_file, &key.jwks_url, &key.jwks_file];
    if sources.iter().filter(|source| source.is_some()).count() != 1 {
        check.invalid(path, "exactly one of secret, secret_file, jwks_url and jwks_file expected");
    }
    match key.secret.as_deref() {
        Some(REDACTED) => check.no_stored_secret(&format!("{path}.secret")),
        Some("") => check.invalid(&format!("{path}.secret"), "must not be empty"),
        Some(secret) if secret.len() < MIN_JWT_SECRET && takes_weak => {
            check.problems.push(PolicyProblem::warning(
                format!("{path}.secret"),
                WEAK_SECRET,
                "under 32 bytes: it can be guessed from a token",
            ));
        }
        Some(secret) if secret.len() < MIN_JWT_SECRET => check.invalid(
            &format!("{path}.secret"),
            "32 bytes or more expected; jwt.allow_weak_secret takes shorter ones",
        ),
        _ => {}
    }
    if let Some(url) = &key.jwks_url {
        check.url(&format!("{path}.jwks_url"), url);
    }
    for (name, file) in [("secret_file", &key.secret_file), ("jwks_file", &key.jwks_file)] {
        if file.as_deref() == Some("") {
            check.invalid(&format!("{path}.{name}"), "must not be empty");
        }
    }
    // S3-10: a public key must never be taken for an HMAC secret.
    let is_symmetric = key.secret.is_some() || key.secret_file.is_some();
    let fitting: &[&str] = if is_symmetric { &HMAC } else { &ASYMMETRIC };
    if key.algorithms.is_empty() {
        check.invalid(&format!("{path}.algorithms"), &format!("one of {} expected", fitting.join(", ")));
    }
    for (idx, algorithm) in key.algorithms.iter().enumerate() {
        if !fitting.contains(&algorithm.as_str()) {
            let message = format!("one of {} expected for this source", fitting.join(", "));
            check.invalid(&format!("{path}.algorithms[{idx}]"), &message);
        }
    }
}

/// Collects problems. What could be a secret is in none of its messages.
#[derive(Default)]
struct Check {
    problems: Vec<PolicyProblem>,
}

impl Check {
    fn invalid(&mut self, path: &str, message: &str) {
        self.problems.push(PolicyProblem::invalid(path, message));
    }

    fn no_stored_secret(&mut self, path: &str) {
        self.invalid(
            path,
            "**** keeps the stored secret, and none is stored for this place: send the secret",
        );
    }

    fn range(&mut self, path: &str, value: u64, range: RangeInclusive<u64>) {
        if !range.contains(&value) {
            let message = format!("{value}: {} to {} expected", range.start(), range.end());
            self.invalid(path, &message);
        }
    }

    fn length(&mut self, path: &str, length: usize, most: usize) {
        if length > most {
            self.invalid(path, &format!("{length} entries: at most {most} expected"));
        }
    }

    /// Text for people or programs: something, not too long, nothing invisible.
    fn text(&mut self, path: &str, text: &str, longest: usize) {
        if text.is_empty() || text.len() > longest || text.chars().any(char::is_control) {
            self.invalid(path, &format!("1 to {longest} bytes without control characters expected"));
        }
    }

    fn texts(&mut self, path: &str, texts: &[String]) {
        self.length(path, texts.len(), MAX_ENTRIES);
        for (idx, text) in texts.iter().enumerate() {
            self.text(&format!("{path}[{idx}]"), text, MAX_NAME);
        }
    }

    fn parameter(&mut self, path: &str, name: &str) {
        let is_unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_unreserved) {
            self.invalid(path, "name of a query parameter out of letters, digits and - . _ ~ expected");
        }
    }

    /// A cookie's name, or nothing.
    fn cookie(&mut self, path: &str, name: &str) {
        // RFC 6265 takes the same token as for header names.
        if !name.is_empty() && (name.len() > MAX_NAME || HeaderName::from_bytes(name.as_bytes()).is_err()) {
            self.invalid(path, "name of a cookie expected");
        }
    }

    fn header(&mut self, path: &str, name: &str) {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(header) if name.len() <= MAX_NAME => {
                let header = header.as_str();
                let is_own = OWN_HEADERS.contains(&header) || header.starts_with("tidegate-");
                if is_own {
                    self.invalid(path, "the gateway writes this header itself");
                }
            }
            _ => self.invalid(path, "name of a header expected"),
        }
    }

    fn url(&mut self, path: &str, url: &str) {
        let is_good = url.parse::<Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
                // A password here would be shown to all who may read the policy.
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        });
        if !is_good || url.len() > 2048 {
            self.invalid(path, "an http:// or https:// address without user and password expected");
        }
    }

    fn origins(&mut self, path: &str, origins: &[String]) {
        self.length(path, origins.len(), MAX_SHORT_ENTRIES);
        for (idx, error) in OriginList::parse(origins).err().into_iter().flatten() {
            self.invalid(&format!("{path}[{idx}]"), &error.to_string());
        }
    }

    fn access(&mut self, path: &str, access: &Access) {
        match access {
            Access::Ask { url, cache } => {
                self.url(&format!("{path}.ask"), url);
                self.range(&format!("{path}.cache"), *cache, 0..=86_400);
            }
            Access::Any(lists) => {
                self.length(&format!("{path}.any"), lists.len(), MAX_SHORT_ENTRIES);
                for (idx, list) in lists.iter().enumerate() {
                    self.length(&format!("{path}.any[{idx}]"), list.len(), MAX_SHORT_ENTRIES);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
