//! Wiring: store, control plane, data plane, listeners, signals.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use serde_json::{Map, Value};
use tidegate_admin::{AdminApi, Callers, Parts, Surroundings};
use tidegate_auth::{CredentialKeys, RequestParts, Verifier};
use tidegate_control::limits::Quotas;
use tidegate_control::{AuthFailure, Authenticate, Because, ControlPlane, ControlSettings, RestApi};
use tidegate_core::definition::Live;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::function::FunctionRunner;
use tidegate_core::journal::{Entry, EntryQuery, Facts, JournalStore, Kind};
use tidegate_core::log::LogSink;
use tidegate_core::notice::{Notice, Place};
use tidegate_core::port::DefinitionSink;
use tidegate_core::settings::Profile;
use tidegate_doctor::explain::TIME_SCALE;
use tidegate_doctor::journal::{ClientAddress, Journal, JournalConfig, NoJournal};
use tidegate_gateway::{Gateway, GatewayConfig, ReadFile, SettingsOf, SignatureClock, edge};
use tidegate_lambda::Runner;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::admin::{self, Admin, Observed};
use crate::apps::Apps;
use crate::certs;
use crate::config::Config;
use crate::demo::Demo;
use crate::functions::Functions;
use crate::invoke_api::InvokeApi;
use crate::log_targets::LogTargets;
use crate::metrics::Metrics;
use crate::observe::Observer;
use crate::stores::{OpenJournal, Stores};

/// Connections that the kernel holds for a listener that is busy.
const BACKLOG: u32 = 4096;

/// From the start to the first of the repeated checks: backends that start with the node are there by then.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// How long the end of the process waits for the journal.
const JOURNAL_END: Duration = Duration::from_secs(5);

/// How long it waits for an application to put its things in order.
const APP_END: Duration = Duration::from_secs(2);

/// Access key ids that an entry about an unknown one names.
const MAX_SHOWN_KEYS: usize = 10;

/// A running node.
pub(crate) struct App {
    pub(crate) control: ControlPlane,
    gateway: Arc<Gateway>,
    admin: Arc<Admin>,
    addresses: Addresses,
    tasks: JoinSet<()>,
    shutdown_timeout: Duration,
    journal: Option<Arc<Journal>>,
    logs: Arc<LogTargets>,
    functions: Option<Arc<Runner>>,
}

#[derive(Debug, Clone)]
struct Addresses {
    public: SocketAddr,
    admin: SocketAddr,
    tls: Option<SocketAddr>,
    proxy: Option<SocketAddr>,
}

/// What clients connect to: with TLS where a listener or a proxy in front has it.
fn public_base(config: &Config, addresses: &Addresses) -> String {
    match (&config.public_hostname, addresses.tls) {
        (Some(host), None) if config.trusted_proxies.is_empty() => format!("ws://{host}"),
        (Some(host), _) => format!("wss://{host}"),
        (None, Some(address)) => format!("wss://{address}"),
        (None, None) => format!("ws://{}", addresses.public),
    }
}

impl App {
    /// Binds everything and serves. Nothing is bound before the configuration, the certificates and the store
    /// are known to be good.
    pub(crate) async fn start(config: Config, stores: Stores) -> anyhow::Result<Self> {
        let Stores { definitions: store, records, token_keys, journal } = stores;
        // The first provider wins; a second start in one process finds it there.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // Every client is a file; a limit that cannot be raised stays what it is.
        let _ = rlimit::increase_nofile_limit(u64::MAX);

        // A second start in one process finds the table of the first.
        if let Some(signatures) = &config.signatures
            && !signatures.clone().install()
        {
            tracing::debug!("a table of signatures was there before");
        }

        let backend_tls = certs::client_config(config.backend_ca.as_deref())?;
        let acceptor = match &config.tls {
            None => None,
            Some(tls) if tls.local_ca => {
                let made = certs::make(&config.data_dir, &config.region, &tls.names)?;
                Some(certs::acceptor(&made.certificate, &made.key)?)
            }
            Some(tls) => match (&tls.certificate, &tls.key) {
                (Some(certificate), Some(key)) => Some(certs::acceptor(certificate, key)?),
                _ => None,
            },
        };
        let public = bind(config.listen).await?;
        let admin_listener = bind(config.admin).await?;
        let tls_listener = match config.tls.as_ref().and_then(|tls| tls.listen) {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let proxy_listener = match config.proxy {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let local = |listener: &TcpListener| listener.local_addr().context("read a listener's address");
        let addresses = Addresses {
            public: local(&public)?,
            admin: local(&admin_listener)?,
            tls: tls_listener.as_ref().map(local).transpose()?,
            proxy: proxy_listener.as_ref().map(local).transpose()?,
        };

        let functions = Functions::open(&config, acceptor.as_ref())?;
        let apps = Apps::open(&config).await?;
        let outside = apps.outside();
        let mounted = apps.mounts.iter().map(|mount| (mount.api_id.clone(), mount.stage.clone()));
        let metrics = Arc::new(Metrics::new(mounted.collect()));
        let logs = LogTargets::start(&config.logs, &config.data_dir, config.is_dev);
        let logs = Arc::new(logs.context("start the thread that writes logs")?);
        let is_loopback = addresses.public.ip().is_loopback();
        let gateway_config = GatewayConfig {
            node: 0,
            region: config.region.clone(),
            account_id: config.account_id.clone(),
            credentials: config
                .credentials
                .iter()
                .cloned()
                .chain(functions.as_ref().map(|functions| functions.credential.clone()))
                .collect(),
            api_keys: config.api_keys.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            settings: SettingsOf {
                all: Arc::clone(&config.settings),
                by_api: config.settings_by_api.clone(),
            },
            backend_tls,
            explain_mismatch: config.sigv4.explain_mismatch.unwrap_or(is_loopback),
            clock_skew: Duration::from_secs(config.sigv4.clock_skew),
            signature_hosts: config.sigv4.allowed_hosts.clone(),
            max_connections: config.max_connections,
            records: Arc::clone(&records),
            token_keys,
            read_file: ReadFile(Arc::new(|path| std::fs::read(path))),
            debug_clients: config.debug_clients.clone(),
            probe: config.probe,
            logs: Arc::clone(&logs) as Arc<dyn LogSink>,
            functions: functions
                .as_ref()
                .map(|functions| Arc::clone(&functions.runner) as Arc<dyn FunctionRunner>),
            aws: config.lambda.aws.clone(),
            usage_plans: config.usage_plans.clone(),
            signature_clock: SignatureClock::default(),
            mounts: apps.mounts,
            drain_spread: config.drain_spread,
            shown_query_values: config.journal.query_values.iter().map(|name| name.as_str().into()).collect(),
        };
        let Kept { journal, store: journal_store } = keep(journal, &config);
        let observer = Arc::new(Observer::new(Arc::clone(&metrics), journal.clone()));
        let gateway = Gateway::new(gateway_config, observer).context("start the data plane")?;
        Apps::connect(&outside, &gateway);
        gateway.restore().await.context("read tokens and bans")?;
        let settings = ControlSettings {
            region: config.region.clone(),
            account_id: config.account_id.clone(),
            public_base: public_base(&config, &addresses),
            public_hostname: config
                .public_hostname
                .clone()
                .unwrap_or_else(|| addresses.public.ip().to_string()),
            max_timeout_ms: config.settings.integration.max_timeout_ms,
            allow_integration_hosts: config.settings.integration.allowed_hosts.clone(),
            allow_jwt_authorizer: config.settings.control_plane.allow_jwt_authorizer,
            quotas: match config.settings.limits.profile {
                Profile::Tidegate => Quotas::TIDEGATE,
                Profile::Aws => Quotas::AWS,
            },
            ..ControlSettings::default()
        };
        let sink = Arc::new(Published { gateway: Arc::clone(&gateway), metrics: Arc::clone(&metrics) });
        let clock: tidegate_control::Clock = Arc::new(jiff::Timestamp::now);
        let control =
            ControlPlane::load(store, sink, settings, clock).await.context("load the definitions")?;

        let rest = RestApi::new(control.clone(), authenticate(&config, is_loopback));
        let api = AdminApi::new(Parts {
            gateway: Arc::clone(&gateway),
            control: control.clone(),
            records,
            journal: Arc::clone(&journal_store),
            settings: crate::config::as_json(&config.shown),
            callers: Callers {
                keys: config.admin_keys.clone(),
                credentials: config.credentials.clone(),
                verifier: control_verifier(&config, is_loopback),
            },
            version: env!("CARGO_PKG_VERSION"),
            surroundings: surroundings(&config, &addresses),
        });
        let watching =
            config.doctor_interval.map(|interval| watch(api.clone(), interval, Arc::clone(&metrics)));
        let observed =
            Observed { metrics, journal: journal.clone(), logs: Arc::clone(&logs), apps: apps.counted };
        let invoke = functions.as_ref().map(|functions| {
            InvokeApi::new(Arc::clone(&functions.runner), &config, control_verifier(&config, is_loopback))
        });
        let admin = Arc::new(Admin::new(
            rest,
            api,
            control.clone(),
            Arc::clone(&gateway),
            observed,
            config.is_dev,
            invoke,
        ));
        let mut tasks = JoinSet::new();
        if let Some(journal) = &journal {
            note_unclean_end(journal.as_ref()).await;
            tasks.spawn(Arc::clone(journal).run());
        }
        tasks.spawn(Arc::clone(&gateway).run_timers());
        for app in gateway.apps() {
            tasks.spawn(app.run());
        }
        tasks.spawn(Arc::clone(&gateway).run_session_layer());
        if let Some(watching) = watching {
            tasks.spawn(watching);
        }
        let n_left_over = gateway.deliver_left_over().await.context("read the events that were left over")?;
        if n_left_over > 0 {
            tracing::info!(
                n_left_over,
                "sending disconnect events of connections that ended with the process before"
            );
        }
        match functions.as_ref().and_then(|functions| functions.tls.clone()) {
            Some(tls) => tasks.spawn(edge::listener::serve_either(Arc::clone(&gateway), public, tls)),
            None => tasks.spawn(edge::listener::serve(Arc::clone(&gateway), public, None)),
        };
        if let (Some(listener), Some(acceptor)) = (tls_listener, &acceptor) {
            tasks.spawn(edge::listener::serve(Arc::clone(&gateway), listener, Some(acceptor.clone())));
        }
        if let (Some(listener), Some(acceptor)) = (proxy_listener, &acceptor) {
            tasks.spawn(edge::proxy::serve(Arc::clone(&gateway), listener, acceptor.clone()));
        }
        tasks.spawn(admin::serve(Arc::clone(&admin), admin_listener));
        note_start(&gateway, &config, &addresses);
        if let Some(unusual) = unusual(&config) {
            tracing::info!("{unusual}");
        }
        tracing::info!(public = %addresses.public, admin = %addresses.admin, "ready");
        let shutdown_timeout = config.shutdown_timeout;
        let functions = functions.map(|functions| functions.runner);
        Ok(Self { control, gateway, admin, addresses, tasks, shutdown_timeout, journal, logs, functions })
    }

    pub(crate) fn public_address(&self) -> SocketAddr {
        self.addresses.public
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// A second signal: what is under way is given up, and the journal says that the end was wanted.
    async fn end_at_once(&self) -> ExitCode {
        self.end_functions().await;
        self.close_journal(self.gateway.n_connections()).await;
        self.close_logs().await;
        ExitCode::FAILURE
    }

    /// No process of a function outlives the node.
    async fn end_functions(&self) {
        if let Some(functions) = &self.functions {
            functions.stop().await;
        }
    }

    /// The last entry, and everything before it, on the disk.
    async fn close_journal(&self, n_unfinished: usize) {
        let Some(journal) = &self.journal else { return };
        let facts = Facts::none().with("unfinished", n_unfinished);
        control_notice(&self.gateway, "stop", scaled(facts, &self.gateway));
        // Its failure is counted and logged there.
        let _ = tokio::time::timeout(JOURNAL_END, journal.close()).await;
    }

    /// Lines that wait are written.
    async fn close_logs(&self) {
        let logs = Arc::clone(&self.logs);
        // Its thread may hang at a disk that does; it does not hold up the end for long.
        let _ = tokio::task::spawn_blocking(move || logs.close()).await;
    }

    /// What the page of `tidegate dev` shows.
    pub(crate) fn set_demo(&self, demo: Value) {
        self.admin.set_demo(demo);
    }

    /// Serves the example pages in place of the usual one of `dev`.
    pub(crate) fn set_examples(&self, demo: Arc<Demo>) {
        self.admin.set_examples(demo, self.addresses.public);
    }

    /// Writes the addresses as JSON, at once and completely.
    pub(crate) fn write_addresses(&self, path: &Path, mut extra: Map<String, Value>) -> anyhow::Result<()> {
        extra.insert("public".to_owned(), self.addresses.public.to_string().into());
        extra.insert("admin".to_owned(), self.addresses.admin.to_string().into());
        if let Some(tls) = self.addresses.tls {
            extra.insert("tls".to_owned(), tls.to_string().into());
        }
        if let Some(proxy) = self.addresses.proxy {
            extra.insert("proxy".to_owned(), proxy.to_string().into());
        }
        extra.insert("pid".to_owned(), std::process::id().into());
        let unfinished = path.with_extension("unfinished");
        std::fs::write(&unfinished, Value::Object(extra).to_string())
            .and_then(|()| std::fs::rename(&unfinished, path))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Serves until SIGTERM or SIGINT, then drains; until SIGUSR2 if whoever stops it starts it again. A second signal ends at
    /// once.
    pub(crate) async fn serve_until_stopped(mut self) -> anyhow::Result<ExitCode> {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let mut restart = signal(SignalKind::user_defined2()).context("listen for SIGUSR2")?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = restart.recv() => self.gateway.note_restart(),
        }
        let n_connections = self.gateway.n_connections();
        tracing::info!(n_connections, timeout_s = self.shutdown_timeout.as_secs(), "stopping");
        control_notice(&self.gateway, "drain", Facts::none().with("connections", n_connections));
        let n_unfinished = tokio::select! {
            n_unfinished = self.gateway.drain(self.shutdown_timeout) => n_unfinished,
            _ = terminate.recv() => return Ok(self.end_at_once().await),
            _ = interrupt.recv() => return Ok(self.end_at_once().await),
            _ = restart.recv() => return Ok(self.end_at_once().await),
        };
        for app in self.gateway.apps() {
            if tokio::time::timeout(APP_END, app.stopped()).await.is_err() {
                let diag = Diagnosis::STORE_UNAVAILABLE.as_str();
                tracing::warn!(
                    app = app.name(),
                    diag,
                    "an application did not put its things in order in time"
                );
            }
        }
        self.end_functions().await;
        // A change that is being stored is stored.
        self.control.close().await;
        self.close_journal(n_unfinished).await;
        self.close_logs().await;
        self.tasks.shutdown().await;
        if n_unfinished > 0 {
            let diag = Diagnosis::CLEANUP_DISCONNECT_LOST.as_str();
            tracing::warn!(n_unfinished, diag, "stopped before the last events were delivered");
            return Ok(ExitCode::FAILURE);
        }
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    }
}

/// Where definitions go that are live: to the data plane, and to the metrics, which have series for them.
#[derive(Debug)]
struct Published {
    gateway: Arc<Gateway>,
    metrics: Arc<Metrics>,
}

impl DefinitionSink for Published {
    fn publish(&self, live: Live) {
        // First the series: what is counted of a new stage finds them.
        self.metrics.set_stages(&live);
        self.gateway.publish(live);
    }
}

/// The journal, and what answers questions to it where there is none.
struct Kept {
    journal: Option<Arc<Journal>>,
    store: Arc<dyn JournalStore>,
}

/// A node without a journal serves all the same, and says once why it has none.
fn keep(opened: Result<OpenJournal, NoJournal>, config: &Config) -> Kept {
    let OpenJournal { store, address_key } = match opened {
        Ok(opened) => opened,
        Err(none) => {
            if !none.is_off {
                let diag = Diagnosis::STORE_UNAVAILABLE.as_str();
                tracing::warn!(reason = none.reason, diag, "no journal: nothing is kept of what happens");
            }
            return Kept { journal: None, store: Arc::new(none) };
        }
    };
    let settings = &config.journal;
    let longest = config.settings_by_api.values().chain([&config.settings]);
    let longest = longest.map(|settings| settings.data_plane.max_duration).max().unwrap_or(0);
    let journal_config = JournalConfig {
        node: 0,
        client_address: ClientAddress::find(&settings.client_address).unwrap_or_default(),
        address_key,
        kept: Duration::from_secs(settings.retention_days.saturating_mul(24 * 3600)),
        max_bytes: settings.max_bytes,
        max_entries: settings.max_entries,
        sample_handshakes: settings.sample_handshakes,
        sample_posts: settings.sample_posts,
        longest_connection: Duration::from_secs(longest),
    };
    let journal = Arc::new(Journal::new(Arc::new(store), journal_config, now_micros));
    Kept { store: Arc::clone(&journal) as Arc<dyn JournalStore>, journal: Some(journal) }
}

fn now_micros() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default()
}

/// What whoever starts a node should be reminded of: quotas of the service, and times that pass faster.
pub(crate) fn unusual(config: &Config) -> Option<String> {
    let limits = &config.settings.limits;
    let quotas = (limits.profile == Profile::Aws).then(|| {
        format!(
            "quotas of AWS: {} connects/s, {} requests/s, 10 calls/s of the control plane",
            limits.connects_per_second, limits.requests_per_second
        )
    });
    let data_plane = &config.settings.data_plane;
    let limit =
        |limit: Option<Duration>| limit.map_or_else(|| "never".to_owned(), |time| format!("{time:?}"));
    let scale = (data_plane.time_scale > 1).then(|| {
        let (idle, age) = (limit(data_plane.idle()), limit(data_plane.age()));
        format!("time scale {}: idle limit {idle}, longest connection {age}", data_plane.time_scale)
    });
    match (quotas, scale) {
        (None, None) => None,
        (quotas, scale) => Some([quotas, scale].into_iter().flatten().collect::<Vec<_>>().join("; ")),
    }
}

/// A process that ended well wrote a `stop` as the last thing it did. One that did not gets an entry at the time of the
/// last one that it wrote.
async fn note_unclean_end(journal: &dyn JournalStore) {
    let newest = |kinds: Vec<Kind>| EntryQuery { kinds, limit: 1, ..EntryQuery::default() };
    let control = journal.query(newest(vec![Kind::Control])).await.unwrap_or_default().pop();
    let is_unclean = control.is_some_and(|entry| entry.text("what") != Some("stop"));
    let last = journal.query(newest(Vec::new())).await.unwrap_or_default().pop();
    let Some(last) = last.filter(|_| is_unclean) else { return };
    let mut crash = Entry::new(last.ts, Kind::Control, Some(Diagnosis::NODE_CRASH));
    crash.node = last.node;
    crash.facts.insert("what".to_owned(), "crash".into());
    crash.facts.insert("actor".to_owned(), "gateway".into());
    crash.facts.insert("foundAt".to_owned(), now_micros().into());
    let diag = Diagnosis::NODE_CRASH.as_str();
    tracing::warn!(diag, "the process before did not stop in order: its connections were lost");
    // What cannot be written is reported by the journal.
    let _ = journal.append(vec![crash]).await;
}

fn control_notice(gateway: &Gateway, what: &'static str, facts: Facts) {
    let actor = "gateway".to_owned();
    gateway.notice(Notice::Controlled { place: Place::default(), what, actor, refused: None, facts });
}

/// With how much faster the node's times pass, for those who read the journal without it.
fn scaled(facts: Facts, gateway: &Gateway) -> Facts {
    match gateway.time_scale() {
        1 => facts,
        scale => facts.with(TIME_SCALE, scale),
    }
}

/// What the node began with: names of settings, never values.
fn note_start(gateway: &Gateway, config: &Config, addresses: &Addresses) {
    let set = config.shown.iter().filter(|(_, (_, origin))| *origin != "default");
    let set: Vec<String> = set.map(|(path, (_, origin))| format!("{path} ({origin})")).collect();
    control_notice(gateway, "configuration", Facts::none().with("counts", set.len()).with("keys", set));
    if let Some(tls) = &config.tls {
        let certificate = tls.certificate.as_ref().map(|path| path.display().to_string());
        let facts = Facts::none().with("object", certificate.unwrap_or_else(|| "local CA".to_owned()));
        control_notice(gateway, "certificate", facts);
    }
    let facts = Facts::none()
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("process", std::process::id())
        .with("public", addresses.public.to_string())
        .with("admin", addresses.admin.to_string());
    control_notice(gateway, "start", scaled(facts, gateway));
}

/// Repeats the cheap checks of all APIs, and counts what they find.
async fn watch(api: AdminApi, interval: Duration, metrics: Arc<Metrics>) {
    let mut pause = interval.min(FIRST_LOOK);
    loop {
        tokio::time::sleep(pause).await;
        api.watch().await;
        metrics.set_problems(&api.watched_counts());
        pause = interval;
    }
}

/// What `doctor` may know of the node beside its definitions.
fn surroundings(config: &Config, addresses: &Addresses) -> Surroundings {
    let local_ca = config.tls.as_ref().is_some_and(|tls| tls.local_ca);
    let folder = config.data_dir.join("certs");
    let file = match &config.tls {
        Some(tls) if tls.local_ca => Some(folder.join("tidegate.pem")),
        Some(tls) => tls.certificate.clone(),
        None => None,
    };
    let chain = file.and_then(|file| certs::read_chain(&file).ok()).unwrap_or_default();
    let own = [Some(addresses.public), addresses.tls, addresses.proxy];
    let has_own_tls = addresses.tls.is_some();
    // On loopback, or with a trusted proxy, somebody else may end TLS.
    let may_be_elsewhere = addresses.public.ip().is_loopback() || !config.trusted_proxies.is_empty();
    Surroundings {
        has_tls: match has_own_tls {
            true => Some(true),
            false if may_be_elsewhere => None,
            false => Some(false),
        },
        has_own_tls,
        certificates: chain
            .first()
            .and_then(|der| tidegate_doctor::inspect::certificate::read(der))
            .into_iter()
            .collect(),
        addresses: own
            .into_iter()
            .flatten()
            .map(|address| address.ip())
            .filter(|ip| !ip.is_unspecified())
            .collect(),
        ca: local_ca.then(|| folder.join("ca.pem").display().to_string()),
        proxy: addresses.proxy.map(|address| address.to_string()),
        admin: format!("http://{}", addresses.admin),
        log: Some(crate::observe::recent_log()),
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bind = || {
        let socket = if address.is_ipv4() {
            tokio::net::TcpSocket::new_v4()
        } else {
            tokio::net::TcpSocket::new_v6()
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().with_context(|| format!("listen on {address}"))
}

/// Verifies signatures on the admin listener.
fn control_verifier(config: &Config, is_loopback: bool) -> Verifier {
    let mut verifier = Verifier::new(config.region.clone(), "apigateway");
    verifier.clock_skew = Duration::from_secs(config.sigv4.clock_skew);
    verifier.explain_mismatch = config.sigv4.explain_mismatch.unwrap_or(is_loopback);
    verifier.allowed_hosts.clone_from(&config.sigv4.allowed_hosts);
    verifier
}

/// Signatures of control-plane callers.
fn authenticate(config: &Config, is_loopback: bool) -> Authenticate {
    let verifier = control_verifier(config, is_loopback);
    let credentials = config.credentials.clone();
    Arc::new(move |head: &http::request::Parts, body: &[u8]| {
        let parts = RequestParts {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query(),
            headers: &head.headers,
        };
        let keys = |id: &str| {
            let known = credentials.iter().find(|known| known.access_key_id == id)?;
            Some(CredentialKeys::permanent(known.secret.clone()))
        };
        let failure = |error_type: &str, message: String, because: Option<Because>| AuthFailure {
            status: http::StatusCode::FORBIDDEN,
            error_type: error_type.to_owned(),
            message,
            because: because.map(Box::new),
        };
        let verified = verifier.verify(&parts, Some(body), &keys, SystemTime::now()).map_err(|error| {
            let because = not_let_in(error.diagnosis(), head, &verifier.region, &credentials);
            failure(error.error_type(), error.message(), because)
        })?;
        let action = format!("apigateway:{}", head.method);
        let resource = format!("arn:aws:apigateway:{}::{}", verifier.region, head.uri.path());
        let caller = credentials.iter().find(|known| known.access_key_id == verified.access_key_id);
        match caller.is_some_and(|caller| caller.allows(&action, &resource)) {
            true => Ok(()),
            false => {
                let user = verified.access_key_id;
                let facts = Facts::none()
                    .with("caller", user.as_str())
                    .with("action", action.as_str())
                    .with("resource", resource.as_str());
                let because = Because { diagnosis: Diagnosis::PROVISION_DENIED, facts };
                Err(failure(
                    "AccessDeniedException",
                    format!("User: {user} is not authorized to perform: {action} on resource: {resource}"),
                    Some(because),
                ))
            }
        }
    })
}

/// Why a caller of the control plane was not let in. What the signature proves has its id there; three causes are
/// mistakes of tools, and have ids of their own.
fn not_let_in(
    diagnosis: &str,
    head: &http::request::Parts,
    region: &str,
    credentials: &[tidegate_auth::Credential],
) -> Option<Because> {
    let scope = admin::credential_scope(head);
    let part = |idx: usize| {
        let part = scope.as_ref()?.split('/').nth(idx)?;
        let is_plain = part.len() <= 128 && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        is_plain.then(|| part.to_owned())
    };
    let mut facts = Facts::none();
    facts.add_some("caller", part(0));
    let diagnosis = match diagnosis {
        "management.unsigned" => Diagnosis::PROVISION_NO_CREDENTIALS,
        "management.wrong-region" => {
            facts.add_some("region", part(2));
            facts.add("expected", region);
            Diagnosis::PROVISION_WRONG_REGION
        }
        "management.unknown-key" => {
            let known = credentials.iter().take(MAX_SHOWN_KEYS).map(|known| known.access_key_id.as_str());
            facts.add("expected", known.collect::<Vec<_>>());
            Diagnosis::COMMAND_WRONG_PROFILE
        }
        other => Diagnosis::find(other)?,
    };
    Some(Because { diagnosis, facts })
}
