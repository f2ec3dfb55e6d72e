//! From a table to checked values, all problems at once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tidegate_core::settings::{Profile, Settings};
use tidegate_core::signature::Signatures;
use tidegate_gateway::Network;
use toml::{Table, Value};

use super::logs::is_of_process;
use super::read::{API_SECTIONS, NODE_SECTIONS, SECTIONS, TOP_KEYS, Written};
use super::{Config, INVALID_VALUE, Problem, Proxy, Shown, SigV4, Tls, UNKNOWN_KEY, nearest};

/// Longest `drain_spread`, in seconds: those who are closed first have long come back by then.
const MAX_DRAIN_SPREAD: u64 = 60;

/// Checks everything; `None` only together with problems.
pub(super) fn check_table(table: &Table, problems: &mut Vec<Problem>) -> Option<Config> {
    for key in table.keys() {
        let all = [TOP_KEYS, API_SECTIONS, NODE_SECTIONS, SECTIONS];
        let is_known = all.iter().any(|known| known.contains(&key.as_str()));
        if !is_known {
            let known = all.into_iter().flatten().copied();
            problems.push(Problem {
                path: key.clone(),
                message: format!("unknown key{}", nearest(key, known)),
                id: UNKNOWN_KEY,
            });
        }
    }
    let mut check = Checker { table, problems };
    let listen = check.parse("listen", "127.0.0.1:8080", "address:port");
    let admin = check.parse("admin", "127.0.0.1:8081", "address:port");
    let data_dir: String = check.value("data_dir").unwrap_or_else(|| "tidegate-data".to_owned());
    let region = check.value("region").unwrap_or_else(|| "us-east-1".to_owned());
    let account_id: String = check.value("account_id").unwrap_or_else(|| "000000000000".to_owned());
    if account_id.len() != 12 || !account_id.bytes().all(|b| b.is_ascii_digit()) {
        check.problem("account_id", "12 digits expected");
    }
    let public_hostname = check.value("public_hostname");
    let shutdown_timeout: u64 = check.value("shutdown_timeout").unwrap_or(30);
    let drain_spread: u64 = check.value("drain_spread").unwrap_or(5);
    if drain_spread > MAX_DRAIN_SPREAD {
        check.problem("drain_spread", "0 to 60 seconds expected");
    }
    let max_connections: usize = check.value("max_connections").unwrap_or(1_000_000);
    let doctor_interval: u64 = check.value("doctor_interval").unwrap_or(300);
    // Proxies stand before the node, not before one API; both places of the key mean the same.
    let in_section =
        check.table.get("data_plane").and_then(|section| section.get("trusted_proxies")).cloned();
    let proxies: Vec<String> = match in_section {
        Some(value) => value
            .try_into()
            .map_err(|error: toml::de::Error| check.problem("data_plane.trusted_proxies", error.message()))
            .unwrap_or_default(),
        None => check.value("trusted_proxies").unwrap_or_default(),
    };
    let mut trusted_proxies = Vec::new();
    for proxy in proxies {
        match proxy.parse() {
            Ok(network) => trusted_proxies.push(network),
            Err(error) => check.problem("trusted_proxies", &format!("{proxy}: {error}")),
        }
    }
    let mut debug_clients: Vec<Network> = Vec::new();
    for client in check.value::<Vec<String>>("debug_clients").unwrap_or_default() {
        match client.parse::<Network>() {
            // Reasons are for developers at their own machines, not for whole networks of strangers.
            Ok(network) if network.is_wider_than(16, 48) => {
                let message = format!("{client}: wider than /16 (IPv4) or /48 (IPv6)");
                check.problem("debug_clients", &message);
            }
            Ok(network) => debug_clients.push(network),
            Err(error) => check.problem("debug_clients", &format!("{client}: {error}")),
        }
    }
    let probe = check.value("probe").unwrap_or(true);
    let credentials = check.credentials();
    let api_key = check.secret("api_key").map(|key| check.bearer_key("api_key", &key));
    let admin_keys = check.admin_keys(api_key.as_ref());
    let api_keys = api_key.into_iter().collect();
    let mut settings = check.settings(table, "", &Settings::default());
    let is_aws = settings.limits.profile == Profile::Aws;
    if is_aws {
        check.profile("", table, &mut settings);
    }
    let mut settings_by_api = HashMap::new();
    if let Some(Value::Table(apis)) = table.get("apis") {
        for (api_id, value) in apis {
            let Value::Table(sections) = value else {
                check.problem(&format!("apis.{api_id}"), "a table expected");
                continue;
            };
            let merged = merge_sections(table, sections);
            for key in sections.keys().filter(|key| !API_SECTIONS.contains(&key.as_str())) {
                let hint = nearest(key, API_SECTIONS.iter().copied());
                check.problem(&format!("apis.{api_id}.{key}"), &format!("unknown section{hint}"));
            }
            let prefix = format!("apis.{api_id}.");
            let mut settings = check.settings(&merged, &prefix, &Settings::default());
            if is_aws {
                check.profile(&prefix, sections, &mut settings);
            }
            settings_by_api.insert(api_id.clone(), Arc::new(settings));
        }
    }
    let sigv4 = check.section::<SigV4>("sigv4").unwrap_or_default();
    let tls: Option<Tls> = check.section("tls");
    if let Some(tls) = &tls
        && !tls.local_ca
        && (tls.certificate.is_none() || tls.key.is_none())
    {
        check.problem("tls", "certificate and key, or local_ca = true, expected");
    }
    let proxy = check.section::<Proxy>("proxy").and_then(|proxy| proxy.listen);
    if tls.as_ref().is_some_and(|tls| tls.listen.is_none()) && proxy.is_none() {
        check.problem("tls.listen", "missing: without it, and without [proxy], nothing uses the certificate");
    }
    if proxy.is_some() && tls.is_none() {
        check.problem("proxy", "the proxy leads to the TLS side, so [tls] is needed too");
    }
    let backend_ca: Option<String> = check.value("backend_ca");
    let signatures = check.signatures();
    let journal = check.journal();
    let logs = check.logs();
    let apps = check.apps();
    let lambda = check.lambda(&region);
    check.hook_functions(&apps, &lambda);
    let usage_plans = check.usage_plans();
    Some(Config {
        listen: listen?,
        admin: admin?,
        data_dir: data_dir.into(),
        region,
        account_id,
        public_hostname,
        shutdown_timeout: Duration::from_secs(shutdown_timeout),
        drain_spread: Duration::from_secs(drain_spread),
        max_connections,
        credentials,
        api_keys,
        admin_keys,
        trusted_proxies,
        debug_clients,
        probe,
        settings: Arc::new(settings),
        settings_by_api,
        sigv4,
        tls,
        proxy,
        backend_ca: backend_ca.map(PathBuf::from),
        signatures,
        journal,
        logs,
        shown: Shown::new(),
        doctor_interval: (doctor_interval > 0).then(|| Duration::from_secs(doctor_interval)),
        is_dev: false,
        apps,
        lambda,
        usage_plans,
        written: Written::default(),
    })
}

/// The sections of one API over those of all.
fn merge_sections(all: &Table, of_api: &Table) -> Table {
    let mut merged = Table::new();
    for section in API_SECTIONS {
        let mut keys = Table::new();
        for source in [all, of_api] {
            if let Some(Value::Table(inner)) = source.get(*section) {
                keys.extend(inner.clone());
            }
        }
        let is_of_api = of_api.get(*section).is_some_and(|section| section.get("trusted_proxies").is_some());
        if !is_of_api {
            keys.remove("trusted_proxies");
        }
        if *section == "logs" {
            // What is the process's may not stand below an API; there it stays, to be refused.
            let of_api = of_api.get(*section).and_then(Value::as_table);
            keys.retain(|key, _| !is_of_process(key) || of_api.is_some_and(|keys| keys.contains_key(key)));
        }
        merged.insert((*section).to_owned(), Value::Table(keys));
    }
    merged
}

pub(super) struct Checker<'a> {
    pub(super) table: &'a Table,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl Checker<'_> {
    pub(super) fn problem(&mut self, path: &str, message: &str) {
        // What the deserializer and our own checks say of keys begins so.
        let id = if message.starts_with("unknown ") { UNKNOWN_KEY } else { INVALID_VALUE };
        self.problems.push(Problem { path: path.to_owned(), message: without_value(message), id });
    }

    pub(super) fn value<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let value = self.table.get(key)?.clone();
        value.try_into().map_err(|error: toml::de::Error| self.problem(key, error.message())).ok()
    }

    pub(super) fn parse<T: std::str::FromStr>(&mut self, key: &str, default: &str, form: &str) -> Option<T> {
        let text: String = match self.table.contains_key(key) {
            true => self.value(key)?,
            false => default.to_owned(),
        };
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.problem(key, &format!("`{text}`: {form} expected"));
        }
        parsed
    }

    /// A section, key by key, so that every wrong key is reported and not only the first.
    pub(super) fn section<T: DeserializeOwned + Default>(&mut self, name: &str) -> Option<T> {
        let value = self.table.get(name)?;
        let Value::Table(section) = value else {
            self.problem(name, "a table expected");
            return None;
        };
        self.table_of(name, section)
    }

    /// As [`Self::section`], of a table that is at hand.
    pub(super) fn table_of<T: DeserializeOwned + Default>(
        &mut self,
        name: &str,
        section: &Table,
    ) -> Option<T> {
        let (good, bad) = self.good_of(name, section);
        bad.is_empty().then_some(good)
    }

    /// A section without its keys that are unknown or wrong, and those keys; each of them is a problem.
    pub(super) fn good_of<T: DeserializeOwned + Default>(
        &mut self,
        name: &str,
        section: &Table,
    ) -> (T, Vec<String>) {
        let (mut good, mut bad) = (Table::new(), Vec::new());
        for (key, value) in section {
            let alone = Table::from_iter([(key.clone(), value.clone())]);
            match Value::Table(alone).try_into::<T>() {
                Ok(_) => {
                    good.insert(key.clone(), value.clone());
                }
                Err(error) => {
                    self.problem(&format!("{name}.{key}"), error.message());
                    bad.push(key.clone());
                }
            }
        }
        (Value::Table(good).try_into().unwrap_or_default(), bad)
    }

    fn settings(&mut self, table: &Table, prefix: &str, default: &Settings) -> Settings {
        let mut good = Table::new();
        for section in API_SECTIONS.iter().chain(NODE_SECTIONS) {
            let Some(value) = table.get(*section) else { continue };
            let Value::Table(keys) = value else {
                self.problem(&format!("{prefix}{section}"), "a table expected");
                continue;
            };
            let mut good_keys = Table::new();
            for (key, value) in keys {
                if prefix.is_empty() && *section == "data_plane" && key == "trusted_proxies" {
                    continue;
                }
                if prefix.is_empty() && *section == "logs" && is_of_process(key) {
                    continue;
                }
                let alone = Table::from_iter([(key.clone(), value.clone())]);
                let outer = Table::from_iter([((*section).to_owned(), Value::Table(alone))]);
                match Value::Table(outer).try_into::<Settings>() {
                    Ok(_) => {
                        good_keys.insert(key.clone(), value.clone());
                    }
                    Err(error) => self.problem(&format!("{prefix}{section}.{key}"), error.message()),
                }
            }
            good.insert((*section).to_owned(), Value::Table(good_keys));
        }
        let settings: Settings = Value::Table(good).try_into().unwrap_or_else(|_| default.clone());
        self.check_ranges(prefix, &settings);
        settings
    }

    fn check_ranges(&mut self, prefix: &str, settings: &Settings) {
        let data_plane = &settings.data_plane;
        let ranges: [(&str, u64, std::ops::RangeInclusive<u64>); 15] = [
            ("logs.line_bytes", settings.logs.line_bytes as u64, 128..=65_536),
            ("data_plane.max_frame_bytes", data_plane.max_frame_bytes as u64, 125..=64 << 20),
            ("data_plane.max_message_bytes", data_plane.max_message_bytes as u64, 125..=64 << 20),
            ("data_plane.per_connection_concurrency", data_plane.per_connection_concurrency as u64, 1..=64),
            ("data_plane.outbound_buffer_bytes", data_plane.outbound_buffer_bytes as u64, 1024..=1 << 30),
            ("data_plane.disconnect_retries", u64::from(data_plane.disconnect_retries), 0..=100),
            ("data_plane.time_scale", u64::from(data_plane.time_scale), 1..=1_000_000),
            ("integration.retries", u64::from(settings.integration.retries), 0..=10),
            ("integration.max_timeout_ms", u64::from(settings.integration.max_timeout_ms), 50..=3_600_000),
            ("management.hold_ms", settings.management.hold_ms, 1..=60_000),
            ("integration.pool_idle_ms", settings.integration.pool_idle_ms, 1..=600_000),
            ("integration.max_parallel", settings.integration.max_parallel as u64, 1..=1_000_000),
            ("data_plane.server_ping_timeout", data_plane.server_ping_timeout, 1..=3600),
            ("authorizer.timeout_ms", settings.authorizer.timeout_ms, 1..=60_000),
            ("authorizer.max_age", settings.authorizer.max_age, 0..=31_536_000),
        ];
        for (key, value, range) in ranges {
            if !range.contains(&value) {
                let message = format!("{value} is not between {} and {}", range.start(), range.end());
                self.problem(&format!("{prefix}{key}"), &message);
            }
        }
        if let Some(name) = &settings.context.domain_name
            && (name.is_empty() || name.len() > 512 || !name.bytes().all(|b| b.is_ascii_graphic()))
        {
            self.problem(
                &format!("{prefix}context.domain_name"),
                "a host name expected, or a host and a path",
            );
        }
        if settings.api.api_key_query_parameter.as_deref() == Some("") {
            self.problem(&format!("{prefix}api.api_key_query_parameter"), "a name expected");
        }
        if let Some(host) = &settings.integration.host_header
            && (host.is_empty() || !host.bytes().all(|b| b.is_ascii_graphic()))
        {
            self.problem(
                &format!("{prefix}integration.host_header"),
                "a host name, with or without a port, expected",
            );
        }
    }

    /// The table that the file of `signatures` makes.
    fn signatures(&mut self) -> Option<Signatures> {
        let file: PathBuf = self.value("signatures")?;
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                self.problem("signatures", &format!("{}: {error}", file.display()));
                return None;
            }
        };
        match Signatures::with(&text) {
            Ok(table) => Some(table),
            Err(errors) => {
                for error in errors {
                    self.problem("signatures", &format!("{}: {error}", file.display()));
                }
                None
            }
        }
    }
}

/// What the deserializer says of a value of the wrong type, without the value: it may be a secret that lacks its quotes, and
/// problems are logged.
fn without_value(message: &str) -> String {
    let at = ["invalid type: ", "invalid value: "].iter().find_map(|begin| message.find(begin));
    match at.and_then(|at| Some((at, message.rsplit_once(", expected ")?))) {
        Some((at, (found, expected))) if found.len() > at => {
            let value = found.get(at..).and_then(|told| told.find(['`', '"']));
            let kind = value.and_then(|value| found.get(..at + value)).unwrap_or(found);
            format!("{}, expected {expected}", kind.trim_end())
        }
        _ => message.to_owned(),
    }
}
