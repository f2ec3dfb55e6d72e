//! Wiring: store, control plane, data plane, listeners, signals.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use serde_json::{Map, Value};
use tidegate_admin::{AdminApi, Configured, Parts};
use tidegate_control::{ControlPlane, RestApi};
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
use tidegate_gateway::{Gateway, GatewayConfig, ReadFile, SignatureClock, edge};
use tidegate_lambda::Runner;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::access;
use crate::admin::{self, Admin, Observed};
use crate::apps::Apps;
use crate::certificates::{Certificates, Source};
use crate::certs;
use crate::config::Config;
use crate::demo::Demo;
use crate::functions::Functions;
use crate::invoke_api::{InvokeApi, InvokeCallers};
use crate::log_targets::LogTargets;
use crate::metrics::Metrics;
use crate::observe::Observer;
use crate::reload::{self, Reloader, Reread, node_settings};
use crate::stores::{OpenJournal, Stores};
use crate::surroundings::{Addresses, control_settings, surroundings};

/// Connections that the kernel holds for a listener that is busy.
const BACKLOG: u32 = 4096;

/// From the start to the first of the repeated checks: backends that start with the node are there by then.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// How long the end of the process waits for the journal.
const JOURNAL_END: Duration = Duration::from_secs(5);

/// How long it waits for an application to put its things in order.
const APP_END: Duration = Duration::from_secs(2);

/// A running node.
pub(crate) struct App {
    pub(crate) control: ControlPlane,
    gateway: Arc<Gateway>,
    admin: Arc<Admin>,
    addresses: Addresses,
    tasks: JoinSet<()>,
    reloader: Reloader,
    journal: Option<Arc<Journal>>,
    logs: Arc<LogTargets>,
    functions: Option<Arc<Runner>>,
}

impl App {
    /// Binds everything and serves. Nothing is bound before the configuration, the certificates and the store
    /// are known to be good.
    pub(crate) async fn start(config: Config, stores: Stores, reread: Reread) -> anyhow::Result<Self> {
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
        let certificates = Source::of(&config).map(Source::load).transpose()?.map(Certificates::new);
        let acceptor = certificates.as_ref().map(Certificates::acceptor);
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

        let functions = Functions::open(&config)?;
        let apps = Apps::open(&config).await?;
        let outside = apps.outside();
        let mounted = apps.mounts.iter().map(|mount| (mount.api_id.clone(), mount.stage.clone()));
        let metrics = Arc::new(Metrics::new(mounted.collect()));
        let logs = LogTargets::start(&config.logs, &config.data_dir, config.is_dev);
        let logs = Arc::new(logs.context("start the thread that writes logs")?);
        let is_loopback = addresses.public.ip().is_loopback();
        let of_functions = functions.as_ref().map(|functions| functions.credential.clone());
        let gateway_config = GatewayConfig {
            node: 0,
            region: config.region.clone(),
            account_id: config.account_id.clone(),
            node_settings: node_settings(&config, is_loopback, of_functions.as_ref()),
            backend_tls,
            records: Arc::clone(&records),
            token_keys,
            read_file: ReadFile(Arc::new(|path| std::fs::read(path))),
            logs: Arc::clone(&logs) as Arc<dyn LogSink>,
            functions: functions
                .as_ref()
                .map(|functions| Arc::clone(&functions.runner) as Arc<dyn FunctionRunner>),
            usage_plans: config.usage_plans.clone(),
            signature_clock: SignatureClock::default(),
            mounts: apps.mounts,
        };
        let Kept { journal, store: journal_store } = keep(journal, &config);
        let observer = Arc::new(Observer::new(Arc::clone(&metrics), journal.clone()));
        let gateway = Gateway::new(gateway_config, observer).context("start the data plane")?;
        Apps::connect(&outside, &gateway);
        gateway.restore().await.context("read tokens and bans")?;
        let settings = control_settings(&config, &addresses);
        let sink = Arc::new(Published { gateway: Arc::clone(&gateway), metrics: Arc::clone(&metrics) });
        let clock: tidegate_control::Clock = Arc::new(jiff::Timestamp::now);
        let control =
            ControlPlane::load(store, sink, settings, clock).await.context("load the definitions")?;

        let configured = Arc::new(ArcSwap::from_pointee(Configured {
            settings: crate::config::as_json(&config.shown),
            callers: access::callers(&config, is_loopback),
            surroundings: surroundings(&config, &addresses, certificates.as_deref()),
        }));
        let callers = Arc::new(ArcSwap::from_pointee(InvokeCallers::new(&config, is_loopback)));
        let invoke = functions.as_ref().map(|functions| {
            InvokeApi::new(Arc::clone(&functions.runner), Arc::clone(&callers), config.account_id.clone())
        });
        let (doctor_interval, interval) = watch::channel(config.doctor_interval);
        let parts = reload::Parts {
            gateway: Arc::clone(&gateway),
            control: control.clone(),
            configured: Arc::clone(&configured),
            invoke: functions.as_ref().map(|_| callers),
            certificates: certificates.clone(),
            addresses: addresses.clone(),
            of_functions,
            apps: apps.counted.clone(),
            journal: journal.clone(),
            doctor_interval,
        };
        let takes_signals = !config.is_dev;
        let reloader = Reloader::new(reread, parts, config.clone());
        let rest = RestApi::new(control.clone(), access::authenticate(Arc::clone(&configured)));
        let api = AdminApi::new(Parts {
            gateway: Arc::clone(&gateway),
            control: control.clone(),
            records,
            journal: Arc::clone(&journal_store),
            version: env!("CARGO_PKG_VERSION"),
            configured,
            reload: Arc::new(reloader.clone()),
        });
        let watching = repeat_checks(api.clone(), interval, Arc::clone(&metrics));
        let observed = Observed {
            metrics,
            journal: journal.clone(),
            logs: Arc::clone(&logs),
            apps: apps.counted,
            certificates: certificates.clone(),
        };
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
        tasks.spawn(watching);
        tasks.spawn(reloader.clone().watch_certificate());
        // Whoever closes the terminal of `dev` means its end.
        if takes_signals {
            let hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
            tasks.spawn(reloader.clone().run_signals(hangup));
        }
        let n_left_over = gateway.deliver_left_over().await.context("read the events that were left over")?;
        if n_left_over > 0 {
            tracing::info!(
                n_left_over,
                "sending disconnect events of connections that ended with the process before"
            );
        }
        match acceptor.clone().filter(|_| functions.is_some()) {
            // Functions make `https://` addresses of what events say.
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
        let functions = functions.map(|functions| functions.runner);
        Ok(Self { control, gateway, admin, addresses, tasks, reloader, journal, logs, functions })
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
        let shutdown_timeout = self.reloader.in_force().shutdown_timeout;
        tracing::info!(n_connections, timeout_s = shutdown_timeout.as_secs(), "stopping");
        control_notice(&self.gateway, "drain", Facts::none().with("connections", n_connections));
        let n_unfinished = tokio::select! {
            n_unfinished = self.gateway.drain(shutdown_timeout) => n_unfinished,
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
    let journal_config = JournalConfig {
        node: 0,
        client_address: ClientAddress::find(&settings.client_address).unwrap_or_default(),
        address_key,
        kept: Duration::from_secs(settings.retention_days.saturating_mul(24 * 3600)),
        max_bytes: settings.max_bytes,
        max_entries: settings.max_entries,
        sample_handshakes: settings.sample_handshakes,
        sample_posts: settings.sample_posts,
        longest_connection: config.longest_connection(),
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
async fn repeat_checks(
    api: AdminApi,
    mut interval: watch::Receiver<Option<Duration>>,
    metrics: Arc<Metrics>,
) {
    let mut is_first = true;
    loop {
        let pause = *interval.borrow_and_update();
        let pause = pause.map(|pause| if is_first { pause.min(FIRST_LOOK) } else { pause });
        let is_time = match pause {
            None => interval.changed().await.map(|()| false),
            Some(pause) => match tokio::time::timeout(pause, interval.changed()).await {
                Err(_) => Ok(true),
                Ok(changed) => changed.map(|()| false),
            },
        };
        match is_time {
            Ok(true) => {
                api.watch().await;
                metrics.set_problems(&api.watched_counts());
                is_first = false;
            }
            // Another pause begins.
            Ok(false) => {}
            // Nobody is left who could change it; the process ends.
            Err(_) => return,
        }
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
