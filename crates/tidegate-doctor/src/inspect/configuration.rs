//! What works in a configuration and is probably not meant; what a value has to do with another one.

use std::net::SocketAddr;

use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::settings::{ErrorFrames, Settings};

use super::target::{Reach, reach};
use super::{definitions, facts};
use crate::report::{Confidence, Finding, Severity};

/// Memory that an open connection needs at least, in bytes: task, handle and outbox of an idle one, without messages.
const BYTES_PER_CONNECTION: u64 = 8 * 1024;

/// Files beside those of clients: listeners, databases, connections to backends, in and out.
const OTHER_FILES: u64 = 1024;

/// Words of secrets that stand in manuals and examples. The fixed pair of `tidegate dev` is one of them.
const SAMPLE_WORDS: [&str; 9] =
    ["changeme", "change-me", "example", "secret", "password", "insert", "your-", "xxxx", "test-key"];

/// What of a configuration is looked at; `None` where a value was not set or is not known.
#[derive(Debug, Clone, Copy)]
pub struct ConfigurationView<'a> {
    /// Name and address of each listener that clients use, and whether it speaks TLS.
    pub listeners: &'a [(&'a str, SocketAddr, bool)],
    /// How many networks are on `trusted_proxies`.
    pub n_trusted_proxies: usize,
    /// The host name that clients are given.
    pub public_hostname: Option<&'a str>,
    /// `max_connections`, as far as it was written.
    pub max_connections: Option<u64>,
    /// Files that the process may open at most.
    pub open_files: Option<u64>,
    /// Memory of the machine, in bytes.
    pub memory: Option<u64>,
    /// Settings with their name in front: `` or `apis.ID.`.
    pub settings: &'a [(String, &'a Settings)],
    /// `sigv4.explain_mismatch` was switched on.
    pub explains_mismatch: bool,
    /// Clients are on `debug_clients`.
    pub has_debug_clients: bool,
    /// The log filter, as `TIDEGATE_LOG` has it.
    pub log_filter: Option<&'a str>,
}

/// A secret of the configuration, which is looked at and never shown.
#[derive(Clone, Copy)]
pub struct SecretView<'a> {
    /// Where it stands.
    pub path: &'a str,
    /// The secret.
    pub value: &'a str,
}

impl std::fmt::Debug for SecretView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretView").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A finding about a key: its id may be one of configuration only.
pub fn problem(id: &str, path: &str, message: &str, severity: Severity) -> Finding {
    let diagnosis = Diagnosis::find(id).unwrap_or(Diagnosis::CONFIG_INVALID_VALUE);
    Finding::new(diagnosis, severity, Confidence::Proven)
        .seen(format!("{path}: {message}"), facts([("path", path.into())]))
}

/// Secrets that others know or guess.
pub fn secrets(secrets: &[SecretView<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for SecretView { path, value } in secrets {
        let lower = value.to_ascii_lowercase();
        let mut letters: Vec<char> = value.chars().collect();
        letters.sort_unstable();
        letters.dedup();
        let reason = if value.chars().count() < 16 {
            "has fewer than 16 characters"
        } else if letters.len() < 8 {
            "has fewer than 8 different characters"
        } else if SAMPLE_WORDS.iter().any(|word| lower.contains(word)) {
            "looks like a sample out of a manual"
        } else {
            continue;
        };
        let text = format!("{path} {reason}");
        findings.push(
            Finding::warning(Diagnosis::CONFIG_WEAK_SECRET).seen(text, facts([("path", (*path).into())])),
        );
    }
    findings
}

/// What the values say together.
pub fn check(view: &ConfigurationView<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let public: Vec<&str> = view
        .listeners
        .iter()
        .filter(|(_, address, _)| !address.ip().is_loopback())
        .map(|(name, ..)| *name)
        .collect();
    let is_named_publicly = view.public_hostname.is_some_and(|name| {
        let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
        reach(host.trim_matches(['[', ']'])) == Reach::Public
    });
    if public.is_empty() && is_named_publicly && view.n_trusted_proxies == 0 {
        let text = "public_hostname is a public name and every listener is on loopback, so a proxy stands in front; trusted_proxies is empty, so every client has its address";
        let finding =
            Finding::new(Diagnosis::PROXY_CLIENT_IP_COLLAPSED, Severity::Warning, Confidence::Likely);
        findings.push(finding.seen(text, facts([("setting", "trusted_proxies".into())])));
    }
    if let (Some(wanted), Some(files)) = (view.max_connections, view.open_files)
        && wanted.saturating_add(OTHER_FILES) > files
    {
        let text = format!(
            "max_connections is {wanted}, and the process may open {files} files: {} are needed",
            wanted.saturating_add(OTHER_FILES)
        );
        findings.push(
            Finding::warning(Diagnosis::LIMIT_FILE_DESCRIPTORS)
                .seen(text, facts([("limit", files.into()), ("count", wanted.into())])),
        );
    }
    if let (Some(wanted), Some(memory)) = (view.max_connections, view.memory)
        && wanted.saturating_mul(BYTES_PER_CONNECTION) > memory
    {
        let text = format!(
            "max_connections is {wanted}; idle ones alone need about {} MB, and the machine has {} MB",
            wanted.saturating_mul(BYTES_PER_CONNECTION) >> 20,
            memory >> 20
        );
        let finding = Finding::new(Diagnosis::LIMIT_MEMORY, Severity::Warning, Confidence::Likely);
        findings.push(finding.seen(text, facts([("limit", memory.into()), ("count", wanted.into())])));
    }
    let mut debug = Vec::new();
    for (prefix, settings) in view.settings {
        if settings.data_plane.error_frames == ErrorFrames::Detailed {
            debug.push(format!("{prefix}data_plane.error_frames = \"detailed\""));
        }
        if !settings.integration.hide_backend_errors {
            debug.push(format!("{prefix}integration.hide_backend_errors = false"));
        }
        for mut finding in definitions::check_timers(settings) {
            finding.api_id = prefix.strip_prefix("apis.").map(|id| id.trim_end_matches('.').to_owned());
            findings.push(finding);
        }
        if settings.data_plane.max_duration > 0
            && settings.data_plane.duration_jitter >= settings.data_plane.max_duration
        {
            let text = format!(
                "{prefix}data_plane.duration_jitter takes off as much as max_duration has: connections may end at once"
            );
            findings.push(
                Finding::warning(Diagnosis::CONFIG_INVALID_VALUE)
                    .seen(text, facts([("setting", "data_plane.duration_jitter".into())])),
            );
        }
    }
    if view.explains_mismatch {
        debug.push("sigv4.explain_mismatch = true".to_owned());
    }
    if view.has_debug_clients {
        debug.push("debug_clients".to_owned());
    }
    if !debug.is_empty() && (!public.is_empty() || is_named_publicly) {
        let text = format!("{} on a listener that others reach: {}", debug.join(" and "), public.join(", "));
        findings.push(
            Finding::warning(Diagnosis::DEBUG_EXPOSED)
                .seen(text, facts([("settings", json!(debug)), ("listeners", json!(public))])),
        );
    }
    if let Some(filter) = view.log_filter
        && matches!(filter.trim().to_ascii_lowercase().as_str(), "off" | "error")
    {
        let text = format!("TIDEGATE_LOG is {filter}: the log does not say why something was refused");
        findings.push(
            Finding::warning(Diagnosis::LOG_DISABLED).seen(text, facts([("setting", "TIDEGATE_LOG".into())])),
        );
    }
    findings
}
