//! Wiring: store, control plane, data plane, listeners, signals.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use serde_json::{Map, Value};
use tidegate_admin::{AdminApi, Callers, Parts};
use tidegate_auth::{CredentialKeys, RequestParts, Verifier};
use tidegate_control::{AuthFailure, Authenticate, ControlPlane, ControlSettings, RestApi};
use tidegate_core::port::DefinitionSink;
use tidegate_gateway::{Gateway, GatewayConfig, ReadFile, SettingsOf, edge};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::admin::{self, Admin};
use crate::certs;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::observe::Observer;
use crate::stores::Stores;

/// Connections that the kernel holds for a listener that is busy.
const BACKLOG: u32 = 4096;

/// A running node.
pub(crate) struct App {
    pub(crate) control: ControlPlane,
    gateway: Arc<Gateway>,
    admin: Arc<Admin>,
    addresses: Addresses,
    tasks: JoinSet<()>,
    shutdown_timeout: Duration,
}

#[derive(Debug, Clone)]
struct Addresses {
    public: SocketAddr,
    admin: SocketAddr,
    tls: Option<SocketAddr>,
    proxy: Option<SocketAddr>,
}

impl App {
    /// Binds everything and serves. Nothing is bound before the configuration, the certificates and the store
    /// are known to be good.
    pub(crate) async fn start(config: Config, stores: Stores) -> anyhow::Result<Self> {
        let Stores { definitions: store, records, token_keys } = stores;
        // The first provider wins; a second start in one process finds it there.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // Every client is a file; a limit that cannot be raised stays what it is.
        let _ = rlimit::increase_nofile_limit(u64::MAX);

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

        let metrics = Arc::new(Metrics::new());
        let is_loopback = addresses.public.ip().is_loopback();
        let gateway_config = GatewayConfig {
            node: 0,
            region: config.region.clone(),
            account_id: config.account_id.clone(),
            credentials: config.credentials.clone(),
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
        };
        let observer = Arc::new(Observer::new(Arc::clone(&metrics)));
        let gateway = Gateway::new(gateway_config, observer).context("start the data plane")?;
        gateway.restore().await.context("read tokens and bans")?;
        let settings = ControlSettings {
            region: config.region.clone(),
            account_id: config.account_id.clone(),
            public_base: format!(
                "ws://{}",
                config.public_hostname.clone().unwrap_or(addresses.public.to_string())
            ),
            public_hostname: config
                .public_hostname
                .clone()
                .unwrap_or_else(|| addresses.public.ip().to_string()),
            max_timeout_ms: config.settings.integration.max_timeout_ms,
            allow_integration_hosts: config.settings.integration.allowed_hosts.clone(),
            ..ControlSettings::default()
        };
        let sink = Arc::clone(&gateway) as Arc<dyn DefinitionSink>;
        let clock: tidegate_control::Clock = Arc::new(jiff::Timestamp::now);
        let control =
            ControlPlane::load(store, sink, settings, clock).await.context("load the definitions")?;

        let rest = RestApi::new(control.clone(), authenticate(&config, is_loopback));
        let api = AdminApi::new(Parts {
            gateway: Arc::clone(&gateway),
            control: control.clone(),
            records,
            callers: Callers {
                keys: config.admin_keys.clone(),
                credentials: config.credentials.clone(),
                verifier: control_verifier(&config, is_loopback),
            },
            version: env!("CARGO_PKG_VERSION"),
        });
        let admin = Arc::new(Admin::new(rest, api, Arc::clone(&gateway), metrics, config.is_dev));
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&gateway).run_timers());
        tasks.spawn(Arc::clone(&gateway).run_session_layer());
        let n_left_over = gateway.deliver_left_over().await.context("read the events that were left over")?;
        if n_left_over > 0 {
            tracing::info!(
                n_left_over,
                "sending disconnect events of connections that ended with the process before"
            );
        }
        tasks.spawn(edge::listener::serve(Arc::clone(&gateway), public, None));
        if let (Some(listener), Some(acceptor)) = (tls_listener, &acceptor) {
            tasks.spawn(edge::listener::serve(Arc::clone(&gateway), listener, Some(acceptor.clone())));
        }
        if let (Some(listener), Some(acceptor)) = (proxy_listener, &acceptor) {
            tasks.spawn(edge::proxy::serve(Arc::clone(&gateway), listener, acceptor.clone()));
        }
        tasks.spawn(admin::serve(Arc::clone(&admin), admin_listener));
        tracing::info!(public = %addresses.public, admin = %addresses.admin, "ready");
        Ok(Self { control, gateway, admin, addresses, tasks, shutdown_timeout: config.shutdown_timeout })
    }

    pub(crate) fn public_address(&self) -> SocketAddr {
        self.addresses.public
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// What the page of `tidegate dev` shows.
    pub(crate) fn set_demo(&self, demo: Value) {
        self.admin.set_demo(demo);
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

    /// Serves until SIGTERM or SIGINT, then drains. A second signal ends at once.
    pub(crate) async fn serve_until_stopped(mut self) -> anyhow::Result<ExitCode> {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let n_connections = self.gateway.n_connections();
        tracing::info!(n_connections, timeout_s = self.shutdown_timeout.as_secs(), "stopping");
        let n_unfinished = tokio::select! {
            n_unfinished = self.gateway.drain(self.shutdown_timeout) => n_unfinished,
            _ = terminate.recv() => return Ok(ExitCode::FAILURE),
            _ = interrupt.recv() => return Ok(ExitCode::FAILURE),
        };
        // A change that is being stored is stored.
        self.control.close().await;
        self.tasks.shutdown().await;
        if n_unfinished > 0 {
            tracing::warn!(n_unfinished, "stopped before the last events were delivered");
            return Ok(ExitCode::FAILURE);
        }
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
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
        let failure = |error_type: &str, message: String| AuthFailure {
            status: http::StatusCode::FORBIDDEN,
            error_type: error_type.to_owned(),
            message,
        };
        let verified = verifier
            .verify(&parts, Some(body), &keys, SystemTime::now())
            .map_err(|error| failure(error.error_type(), error.message()))?;
        let action = format!("apigateway:{}", head.method);
        let resource = format!("arn:aws:apigateway:{}::{}", verifier.region, head.uri.path());
        let caller = credentials.iter().find(|known| known.access_key_id == verified.access_key_id);
        match caller.is_some_and(|caller| caller.allows(&action, &resource)) {
            true => Ok(()),
            false => {
                let user = verified.access_key_id;
                Err(failure(
                    "AccessDeniedException",
                    format!("User: {user} is not authorized to perform: {action} on resource: {resource}"),
                ))
            }
        }
    })
}
