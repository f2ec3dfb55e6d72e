//! `doctor --config FILE`, and the same checks when a node starts.

use std::net::SocketAddr;
use std::path::Path;

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::settings::Settings;
use tidegate_doctor::inspect::certificate;
use tidegate_doctor::inspect::configuration::{self, ConfigurationView, SecretView};
use tidegate_doctor::inspect::{definitions, facts, system};
use tidegate_doctor::report::{Confidence, Finding, Probe, Report, Severity};

use crate::certificates::Source;
use crate::certs;
use crate::cli::ConfigArgs;
use crate::config::{self, Loaded};

pub(super) fn check(file: &Path, report: &mut Report) {
    let args = ConfigArgs { config: Some(file.to_owned()), ..ConfigArgs::default() };
    let found = match config::load(&args) {
        Ok(loaded) => {
            let mut found = findings(&loaded);
            found.extend(config::app_warnings(&loaded.config).iter().map(of_apps));
            let secrets = config::secrets(file);
            let views: Vec<SecretView<'_>> =
                secrets.iter().map(|(path, value)| SecretView { path, value }).collect();
            found.extend(configuration::secrets(&views));
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
