//! `doctor --config FILE`, and the same checks when a node starts.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tidegate_auth::jwt::Jwks;
use tidegate_auth::jwt::jwks::MAX_JWKS_BYTES;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::settings::Settings;
use tidegate_doctor::inspect::certificate;
use tidegate_doctor::inspect::configuration::{self, ConfigurationView, SecretView};
use tidegate_doctor::inspect::key_set::{self, KeySetView};
use tidegate_doctor::inspect::{definitions, facts, shown_url, system};
use tidegate_doctor::report::{Confidence, Finding, Probe, Report, Severity};
use tidegate_gateway::fetch_key_set;

use crate::certificates::Source;
use crate::certs;
use crate::cli::ConfigArgs;
use crate::config::{self, Config, Loaded};

pub(super) async fn check(file: &Path, timeout: Duration, report: &mut Report) {
    let mut key_sets = Vec::new();
    let args = ConfigArgs { config: Some(file.to_owned()), ..ConfigArgs::default() };
    let found = match config::load(&args) {
        Ok(loaded) => {
            let mut found = findings(&loaded);
            found.extend(config::app_warnings(&loaded.config).iter().map(of_apps));
            let secrets = config::secrets(file);
            let views: Vec<SecretView<'_>> =
                secrets.iter().map(|(path, value)| SecretView { path, value }).collect();
            found.extend(configuration::secrets(&views));
            key_sets = key_sets_of(&loaded.config, timeout).await;
            found
        }
        Err(problems) => {
            let finding = |problem: &config::Problem| {
                configuration::problem(problem.id, &problem.path, &problem.message, Severity::Problem)
            };
            problems.iter().map(finding).collect()
        }
    };
    let measurements = facts([("file", file.display().to_string().into())]);
    let result = definitions::worst(&found);
    report.probes.push(Probe { name: "configuration".to_owned(), result, measurements });
    report.findings.extend(found);
    for (probe, found) in key_sets {
        report.probes.push(probe);
        report.findings.extend(found);
    }
}

/// The key sets of `[jwt]`, fetched as the node fetches them, or read.
async fn key_sets_of(config: &Config, timeout: Duration) -> Vec<(Probe, Vec<Finding>)> {
    let mut checked = Vec::new();
    let Some(jwt) = &config.apps.jwt else { return checked };
    for (position, key) in jwt.keys.iter().enumerate() {
        let (target, fetched) = match (&key.jwks_url, &key.jwks_file) {
            (Some(url), _) => (shown_url(url), fetch(config, url, timeout).await),
            (None, Some(file)) => (file.clone(), read(file)),
            (None, None) => continue,
        };
        let fetched = fetched.as_ref();
        checked.push(key_set::check(&KeySetView {
            position,
            target: &target,
            is_file: key.jwks_url.is_none(),
            algorithms: &key.algorithms,
            allow_weak_secret: jwt.allow_weak_secret,
            leeway: jwt.leeway,
            set: fetched.map(|fetched| &fetched.0).map_err(String::as_str),
            date: fetched.ok().and_then(|(_, date)| date.as_ref()).map(|(date, at)| (date.as_str(), *at)),
        }));
    }
    checked
}

/// A key set, and when it was answered by both clocks.
type KeySet = (Jwks, Option<(String, u64)>);

async fn fetch(config: &Config, url: &str, timeout: Duration) -> Result<KeySet, String> {
    let tls = certs::client_config(config.backend_ca.as_deref()).map_err(|error| format!("{error:#}"))?;
    let fetched = tokio::time::timeout(timeout, fetch_key_set(tls, url)).await;
    let fetched = fetched.unwrap_or_else(|_| Err("no answer in time".to_owned()))?;
    let at = fetched.received_at;
    Ok((fetched.jwks, fetched.date.map(|date| (date, at))))
}

fn read(file: &str) -> Result<KeySet, String> {
    // One byte more than a set may have: the reader says that it is too long.
    let longest = u64::try_from(MAX_JWKS_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut document = Vec::new();
    let opened = std::fs::File::open(file);
    opened
        .and_then(|opened| opened.take(longest).read_to_end(&mut document))
        .map_err(|error| format!("it cannot be read: {error}"))?;
    Ok((Jwks::parse(&document).map_err(|error| error.to_string())?, None))
}

/// Whether the proxy in front logs queries is not known from here.
fn of_apps(warning: &config::Problem) -> Finding {
    let is_known = warning.id != Diagnosis::LOG_TOKEN_IN_QUERY.as_str();
    let severity = if is_known { Severity::Warning } else { Severity::Info };
    let mut finding = configuration::problem(warning.id, &warning.path, &warning.message, severity);
    if !is_known {
        finding.confidence = Confidence::Possible;
    }
    finding
}

/// What works in a configuration and is probably not meant.
pub(crate) fn findings(loaded: &Loaded) -> Vec<Finding> {
    let config = &loaded.config;
    let warning = |problem: config::Problem| {
        configuration::problem(problem.id, &problem.path, &problem.message, Severity::Warning)
    };
    let mut found: Vec<Finding> = config::warnings(config).into_iter().map(warning).collect();
    let tls = config.tls.as_ref().and_then(|tls| tls.listen);
    let mut listeners: Vec<(&str, SocketAddr, bool)> = vec![("listen", config.listen, false)];
    listeners.extend(tls.map(|address| ("tls.listen", address, true)));
    let mut settings: Vec<(String, &Settings)> = vec![(String::new(), &config.settings)];
    settings.extend(config.settings_by_api.iter().map(|(id, settings)| (format!("apis.{id}."), &**settings)));
    let log_filter = std::env::var("TIDEGATE_LOG").ok();
    let memory = std::fs::read_to_string("/proc/meminfo").ok();
    let view = ConfigurationView {
        listeners: &listeners,
        n_trusted_proxies: config.trusted_proxies.len(),
        public_hostname: config.public_hostname.as_deref(),
        max_connections: loaded.is_set("max_connections").then_some(config.max_connections as u64),
        open_files: rlimit::getrlimit(rlimit::Resource::NOFILE).ok().map(|(_, hard)| hard),
        memory: memory.as_deref().and_then(system::memory).map(|(total, _)| total),
        settings: &settings,
        explains_mismatch: config.sigv4.explain_mismatch == Some(true),
        has_debug_clients: !config.debug_clients.is_empty(),
        log_filter: log_filter.as_deref(),
    };
    found.extend(configuration::check(&view));
    if let Some(tls) = &config.tls
        && let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key)
    {
        found.extend(certificate_findings(certificate, key, config.public_hostname.as_deref()));
    }
    if let Some(file) = &config.backend_ca
        && let Err(error) = certs::read_chain(file)
    {
        found.push(invalid(file, &error));
    }
    found
}

fn invalid(file: &Path, error: &anyhow::Error) -> Finding {
    let text = format!("{}: {error:#}", file.display());
    Finding::problem(Diagnosis::PROVISION_INVALID_CERTIFICATE)
        .seen(text, facts([("file", file.display().to_string().into())]))
}

fn certificate_findings(file: &Path, key: &Path, hostname: Option<&str>) -> Vec<Finding> {
    let chain = match certs::read_chain(file) {
        Ok(chain) => chain,
        Err(error) => return vec![invalid(file, &error)],
    };
    let source = Source::Files { certificate: file.to_owned(), key: key.to_owned() };
    if let Err(error) = source.load() {
        return vec![invalid(file, &error)];
    }
    let Some(read) = chain.first().and_then(|der| certificate::read(der)) else { return Vec::new() };
    let host = hostname.map(|name| name.rsplit_once(':').map_or(name, |(host, _)| host));
    let now = jiff::Timestamp::now().as_second();
    let mut findings = certificate::check(&read, host, now);
    for finding in &mut findings {
        for evidence in &mut finding.evidence {
            evidence.text = format!("{}: {}", file.display(), evidence.text);
        }
    }
    findings
}
