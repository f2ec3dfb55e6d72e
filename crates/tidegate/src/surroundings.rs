//! Where the node stands: its addresses, and what follows from them and the configuration for those who describe it.

use std::net::SocketAddr;

use tidegate_admin::Surroundings;
use tidegate_control::ControlSettings;
use tidegate_control::limits::Quotas;
use tidegate_core::settings::Profile;

use crate::certificates::Certificates;
use crate::config::Config;

/// Where the node can be reached.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
    pub(crate) proxy: Option<SocketAddr>,
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

/// What the control plane shows and permits.
pub(crate) fn control_settings(config: &Config, addresses: &Addresses) -> ControlSettings {
    ControlSettings {
        region: config.region.clone(),
        account_id: config.account_id.clone(),
        public_base: public_base(config, addresses),
        public_hostname: config.public_hostname.clone().unwrap_or_else(|| addresses.public.ip().to_string()),
        max_timeout_ms: config.settings.integration.max_timeout_ms,
        allow_integration_hosts: config.settings.integration.allowed_hosts.clone(),
        allow_jwt_authorizer: config.settings.control_plane.allow_jwt_authorizer,
        quotas: match config.settings.limits.profile {
            Profile::Tidegate => Quotas::TIDEGATE,
            Profile::Aws => Quotas::AWS,
        },
        ..ControlSettings::default()
    }
}

/// What `doctor` may know of the node beside its definitions.
pub(crate) fn surroundings(
    config: &Config,
    addresses: &Addresses,
    certificates: Option<&Certificates>,
) -> Surroundings {
    let local_ca = config.tls.as_ref().is_some_and(|tls| tls.local_ca);
    let folder = config.data_dir.join("certs");
    // Those of functions are the node's own affair.
    let shown = certificates.filter(|_| config.tls.is_some());
    let chain = shown.map(Certificates::chain).unwrap_or_default();
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
        unusable_certificate: shown.and_then(Certificates::problem),
        ca: local_ca.then(|| folder.join("ca.pem").display().to_string()),
        proxy: addresses.proxy.map(|address| address.to_string()),
        admin: format!("http://{}", addresses.admin),
        log: Some(crate::observe::recent_log()),
    }
}
