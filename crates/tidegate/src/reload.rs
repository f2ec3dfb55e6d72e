//! Taking over a new configuration while the node serves.
//!
//! What is written is read and checked as at the start, in full and off the runtime's threads. What needs a restart keeps
//! its value (`config/changes.rs`). Everything that can fail comes before the first thing that changes, so a reload happens
//! as a whole or not at all. One runs at a time.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tidegate_admin::{Configured, Reload, ReloadFailure, Reloaded, SettingChange};
use tidegate_auth::Credential;
use tidegate_control::ControlPlane;
use tidegate_control::declarative::Problem as Told;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::notice::{Notice, Place};
use tidegate_core::port::{BoxFuture, StoreError};
use tidegate_doctor::journal::Journal;
use tidegate_gateway::{Changes, Gateway, NodeSettings, SettingsOf};
use tokio::signal::unix::Signal;
use tokio::sync::{Mutex, watch};

use crate::access;
use crate::apps::Counted;
use crate::certificates::{self, Certificates, Source};
use crate::certs;
use crate::cli::ConfigArgs;
use crate::config::changes::{self, Outcome};
use crate::config::{self, Config, INVALID_VALUE, Problem};
use crate::invoke_api::InvokeCallers;
use crate::surroundings::{Addresses, control_settings, surroundings};

/// Between two looks at the files of the certificate. Whoever renews it has days.
const LOOK_AT_FILES: Duration = Duration::from_secs(60);

/// For so long files must stay as they are before they are read: a pair is written one after the other.
const SETTLED: Duration = Duration::from_secs(2);

/// Looks at files that do not settle; the next round goes on.
const MAX_LOOKS: usize = 10;

/// Paths of settings that a log line names.
const MAX_NAMED: usize = 20;

/// How the configuration is read once more.
pub(crate) struct Reread {
    pub(crate) args: ConfigArgs,
    /// What the command makes of what is written.
    pub(crate) adjust: Box<dyn Fn(&mut Config) + Send + Sync>,
    /// Settings that the command has chosen: they need a restart, too.
    pub(crate) fixed: Vec<&'static str>,
}

/// What runs on the configuration.
pub(crate) struct Parts {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) control: ControlPlane,
    pub(crate) configured: Arc<ArcSwap<Configured>>,
    /// Who may call functions, where there are any.
    pub(crate) invoke: Option<Arc<ArcSwap<InvokeCallers>>>,
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) addresses: Addresses,
    /// The key of the node's own functions.
    pub(crate) of_functions: Option<Credential>,
    pub(crate) apps: Counted,
    pub(crate) journal: Option<Arc<Journal>>,
    /// How often the repeated checks run.
    pub(crate) doctor_interval: watch::Sender<Option<Duration>>,
}

/// Reloads the configuration of a running node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reloader {
    inner: Arc<Inner>,
}

struct Inner {
    reread: Reread,
    parts: Parts,
    /// What the node runs on.
    in_force: ArcSwap<Config>,
    /// One reload at a time.
    turn: Mutex<()>,
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

/// A new configuration that is known to be good, with everything that had to be read for it.
struct Prepared {
    outcome: Outcome,
    certificate: Option<certificates::Loaded>,
    backend_tls: Option<rustls::ClientConfig>,
}

impl Reload for Reloader {
    fn reload<'a>(
        &'a self,
        is_dry_run: bool,
        actor: &'a str,
    ) -> BoxFuture<'a, Result<Reloaded, ReloadFailure>> {
        Box::pin(async move {
            let result = self.run(is_dry_run).await;
            if !is_dry_run {
                self.tell(&result, actor);
            }
            result
        })
    }
}

impl Reloader {
    /// `config` is what the node was started with.
    pub(crate) fn new(reread: Reread, parts: Parts, config: Config) -> Self {
        let in_force = ArcSwap::from_pointee(config);
        Self { inner: Arc::new(Inner { reread, parts, in_force, turn: Mutex::default() }) }
    }

    /// What the node runs on now.
    pub(crate) fn in_force(&self) -> Arc<Config> {
        self.inner.in_force.load_full()
    }

    /// Reloads with each SIGHUP. Signals that come meanwhile are one.
    pub(crate) async fn run_signals(self, mut signals: Signal) {
        while signals.recv().await.is_some() {
            // It is logged and noted there.
            let _ = self.reload(false, "SIGHUP").await;
        }
    }

    /// Looks at the files of the certificate now and then, and takes over a new one.
    pub(crate) async fn watch_certificate(self) {
        let Some(certificates) = self.inner.parts.certificates.clone() else { return };
        loop {
            let scale = self.in_force().settings.data_plane.time_scale.max(1);
            tokio::time::sleep(LOOK_AT_FILES / scale).await;
            let Some(mut seen) = look(certificates.source()).await else { continue };
            if seen == certificates.seen() {
                continue;
            }
            for _ in 0..MAX_LOOKS {
                tokio::time::sleep(SETTLED / scale).await;
                let Some(now) = look(certificates.source()).await else { break };
                if std::mem::replace(&mut seen, now) == now {
                    break;
                }
            }
            self.renew_certificate(&certificates, seen).await;
        }
    }

    /// Takes over the files of the certificate, which look like `seen`.
    async fn renew_certificate(&self, certificates: &Certificates, seen: certificates::Seen) {
        let _turn = self.inner.turn.lock().await;
        let source = certificates.source();
        let Source::Files { certificate, .. } = &source else { return };
        let object = certificate.display().to_string();
        // A reload may have been quicker.
        if certificates.seen() == seen {
            return;
        }
        let to_load = source.clone();
        let refused = match tokio::task::spawn_blocking(move || to_load.load()).await {
            Ok(Ok(loaded)) => {
                certificates.replace(loaded);
                tracing::info!(file = object, "a new certificate is shown from now on");
                let mut config = Config::clone(&self.in_force());
                let written = tokio::task::spawn_blocking(move || {
                    config.written.look_at_files_of("tls");
                    config
                });
                if let Ok(config) = written.await {
                    self.inner.in_force.store(Arc::new(config));
                }
                None
            }
            Ok(Err(error)) => {
                let problem = format!("{error:#}");
                let diag = Diagnosis::PROVISION_INVALID_CERTIFICATE.as_str();
                tracing::warn!(
                    file = object,
                    problem,
                    diag,
                    "the new certificate cannot be used; the old one stays"
                );
                certificates.refuse(seen, problem);
                Some(Diagnosis::PROVISION_INVALID_CERTIFICATE)
            }
            Err(error) => {
                tracing::error!(%error, diag = Diagnosis::INTERNAL.as_str(), "reading a certificate failed unexpectedly");
                return;
            }
        };
        self.configure_admin(&self.in_force());
        self.notice("certificate", "gateway", refused, Facts::none().with("object", object));
    }

    async fn run(&self, is_dry_run: bool) -> Result<Reloaded, ReloadFailure> {
        let _turn = self.inner.turn.lock().await;
        let inner = Arc::clone(&self.inner);
        let preparing = tokio::task::spawn_blocking(move || inner.prepare(is_dry_run));
        let prepared = preparing.await.map_err(|error| {
            tracing::error!(%error, diag = Diagnosis::INTERNAL.as_str(), "reading the configuration failed unexpectedly");
            ReloadFailure::Unavailable("The configuration could not be read".to_owned())
        })?;
        let prepared = prepared.map_err(invalid)?;
        let changes = prepared.outcome.changes.clone();
        let warnings = config::warnings(&prepared.outcome.config).into_iter().map(told).collect();
        if !is_dry_run && (changes.iter().any(|change| !change.needs_restart) || self.has_bad_certificate()) {
            self.take_over(prepared).await?;
        }
        Ok(Reloaded { changes, warnings })
    }

    fn has_bad_certificate(&self) -> bool {
        self.inner.parts.certificates.as_ref().is_some_and(|certificates| certificates.problem().is_some())
    }

    /// First what can fail.
    async fn take_over(&self, prepared: Prepared) -> Result<(), ReloadFailure> {
        let Prepared { outcome, certificate, backend_tls } = prepared;
        let Inner { parts, in_force, .. } = &*self.inner;
        let config = &outcome.config;
        if let (Some(app), Some(chat)) = (&parts.apps.chat, &config.apps.chat)
            && outcome.has_changed(&["chat.users_file"])
        {
            app.enter_users(chat.users.clone()).await.map_err(|error| {
                tracing::debug!(%error, "users of chat.users_file were not entered");
                ReloadFailure::Unavailable("The users of chat.users_file could not be entered".to_owned())
            })?;
        }
        let usage_plans = match outcome.has_changed(&["api_keys", "usage_plans"]) {
            true => {
                Some((config.usage_plans.clone(), parts.gateway.usage_records().await.map_err(no_store)?))
            }
            false => None,
        };
        let mounts = crate::apps::changed_mounts(config, &parts.apps, &outcome).map_err(|problems| {
            invalid(
                problems
                    .into_iter()
                    .map(|(path, message)| Problem { path, message, id: INVALID_VALUE })
                    .collect(),
            )
        })?;
        let is_loopback = parts.addresses.public.ip().is_loopback();
        let changes = Changes {
            node: Some(node_settings(config, is_loopback, parts.of_functions.as_ref())),
            backend_tls,
            usage_plans,
            mounts,
        };
        // From here on nothing fails.
        parts.gateway.change_settings(changes);
        if let (Some(certificates), Some(certificate)) = (&parts.certificates, certificate) {
            certificates.replace(certificate);
        }
        self.configure_admin(config);
        if let Some(invoke) = &parts.invoke {
            invoke.store(Arc::new(InvokeCallers::new(config, is_loopback)));
        }
        if let Some(journal) = &parts.journal {
            journal.set_longest_connection(config.longest_connection());
        }
        parts.doctor_interval.send_replace(config.doctor_interval);
        parts.control.change_settings(control_settings(config, &parts.addresses)).await;
        in_force.store(Arc::new(outcome.config));
        Ok(())
    }

    fn configure_admin(&self, config: &Config) {
        let Parts { configured, addresses, certificates, .. } = &self.inner.parts;
        configured.store(Arc::new(Configured {
            settings: config::as_json(&config.shown),
            callers: access::callers(config, addresses.public.ip().is_loopback()),
            surroundings: surroundings(config, addresses, certificates.as_deref()),
        }));
    }

    fn tell(&self, result: &Result<Reloaded, ReloadFailure>, actor: &str) {
        let named = |paths: Vec<&str>| {
            let n_more = paths.len().saturating_sub(MAX_NAMED);
            let mut named = paths.into_iter().take(MAX_NAMED).collect::<Vec<_>>().join(", ");
            if n_more > 0 {
                named.push_str(&format!(" and {n_more} more"));
            }
            named
        };
        match result {
            Ok(Reloaded { changes, .. }) => {
                let paths = |waits: bool| {
                    let of = changes.iter().filter(|change: &&SettingChange| change.needs_restart == waits);
                    of.map(|change| change.path.as_str()).collect::<Vec<_>>()
                };
                let (changed, waiting) = (paths(false), paths(true));
                let facts = Facts::none()
                    .with("counts", changed.len())
                    .with("keys", changed.clone())
                    .with("needsRestart", waiting.clone());
                tracing::info!(
                    actor,
                    changed = named(changed),
                    needs_restart = named(waiting),
                    "the configuration was reloaded"
                );
                self.notice("configuration", actor, None, facts);
            }
            Err(failure) => {
                let diagnosis = failure.diagnosis();
                let (problems, keys) = match failure {
                    ReloadFailure::Invalid(problems) => (
                        problems.iter().map(|told| format!("{}: {}", told.path, told.message)).collect(),
                        problems.iter().map(|told| told.path.clone()).collect(),
                    ),
                    ReloadFailure::Unavailable(message) => (vec![message.clone()], Vec::new()),
                };
                let problems = named(problems.iter().map(String::as_str).collect());
                let diag = diagnosis.as_str();
                tracing::warn!(
                    actor,
                    problems,
                    diag,
                    "the configuration was not reloaded; nothing has changed"
                );
                let facts = Facts::none().with("keys", keys);
                self.notice("configuration", actor, Some(diagnosis), facts);
            }
        }
    }

    fn notice(&self, what: &'static str, actor: &str, refused: Option<Diagnosis>, facts: Facts) {
        let (place, actor) = (Place::default(), actor.to_owned());
        self.inner.parts.gateway.notice(Notice::Controlled { place, what, actor, refused, facts });
    }
}

impl Inner {
    /// Reads and checks everything; changes nothing.
    fn prepare(&self, is_dry_run: bool) -> Result<Prepared, Vec<Problem>> {
        let mut written = config::load(&self.reread.args)?.config;
        (self.reread.adjust)(&mut written);
        if written.credentials.is_empty() {
            return Err(vec![config::no_credentials()]);
        }
        let in_force = self.in_force.load_full();
        let mut outcome = changes::compare(&in_force, &written, &self.reread.fixed)?;
        (self.reread.adjust)(&mut outcome.config);
        let wrong = |path: &str, error: anyhow::Error| {
            let (path, message) = (path.to_owned(), format!("{error:#}"));
            vec![Problem { path, message, id: Diagnosis::PROVISION_INVALID_CERTIFICATE.as_str() }]
        };
        let backend_tls = certs::client_config(outcome.config.backend_ca.as_deref())
            .map_err(|error| wrong("backend_ca", error))?;
        let backend_tls = outcome.has_changed(&["backend_ca"]).then_some(backend_tls);
        let certificate = match (Source::of(&outcome.config), &self.parts.certificates) {
            (Some(source), Some(certificates)) => {
                let is_made = matches!(source, Source::LocalCa { .. });
                let is_other = source != certificates.source();
                match (is_made, is_other) {
                    // To make one is to change something.
                    (true, true) if is_dry_run => None,
                    (true, false) => None,
                    _ => Some(source.load().map_err(|error| wrong("tls", error))?),
                }
            }
            _ => None,
        };
        Ok(Prepared { outcome, certificate, backend_tls })
    }
}

/// What of a configuration the data plane runs on. Functions of the node have a key of their own.
pub(crate) fn node_settings(
    config: &Config,
    is_loopback: bool,
    of_functions: Option<&Credential>,
) -> NodeSettings {
    NodeSettings {
        credentials: config.credentials.iter().chain(of_functions).cloned().collect(),
        api_keys: config.api_keys.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        settings: SettingsOf { all: Arc::clone(&config.settings), by_api: config.settings_by_api.clone() },
        explain_mismatch: config.sigv4.explain_mismatch.unwrap_or(is_loopback),
        clock_skew: Duration::from_secs(config.sigv4.clock_skew),
        signature_hosts: config.sigv4.allowed_hosts.clone(),
        max_connections: config.max_connections,
        debug_clients: config.debug_clients.clone(),
        probe: config.probe,
        aws: config.lambda.aws.clone(),
        shown_query_values: config.journal.query_values.iter().map(|name| name.as_str().into()).collect(),
        drain_spread: config.drain_spread,
    }
}

fn no_store(error: StoreError) -> ReloadFailure {
    tracing::debug!(%error, "what was used of usage plans was not read");
    ReloadFailure::Unavailable("The store does not answer".to_owned())
}

fn invalid(problems: Vec<Problem>) -> ReloadFailure {
    ReloadFailure::Invalid(problems.into_iter().map(told).collect())
}

fn told(problem: Problem) -> Told {
    let Problem { path, message, id } = problem;
    Told { path, message, diagnosis: Some(id.to_owned()) }
}

async fn look(source: Source) -> Option<certificates::Seen> {
    tokio::task::spawn_blocking(move || source.look()).await.ok()
}
