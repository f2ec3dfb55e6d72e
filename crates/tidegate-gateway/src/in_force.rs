//! Settings of the node that may change while it runs, and how they do.
//!
//! They stand behind one pointer: whoever needs some of them loads it once and keeps what was loaded to the end of its
//! event. Settings of APIs travel with the snapshot, so [`Gateway::change_settings`] is followed by
//! [`DefinitionSink::publish`](tidegate_core::port::DefinitionSink::publish).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_auth::{ApiKey, Credential, Verifier};
use tidegate_core::log::StageLogs;
use tidegate_core::network::Network;
use tidegate_core::policy::Policy;
use tidegate_core::port::{Record, RecordKind, StoreError};
use tidegate_core::settings::Settings;

use crate::api_keys::UsagePlans;
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::integration::aws::AwsConfig;

/// What of a node's configuration may change while it runs.
#[derive(Debug, Clone, Default)]
pub struct NodeSettings {
    /// Who may call the management API.
    pub credentials: Vec<Credential>,
    /// Bearer keys that may do everything, as hashes.
    pub api_keys: Vec<ApiKey>,
    /// Peers whose forwarded headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// Settings of an API, by its id.
    pub settings: SettingsOf,
    /// Shows callers with a wrong signature what should have been signed.
    pub explain_mismatch: bool,
    /// Clock difference that signatures may have.
    pub clock_skew: Duration,
    /// Hosts that a proxy may name in `X-Forwarded-Host` for signatures.
    pub signature_hosts: Vec<String>,
    /// Connections this node may hold. Those above a new, lower number stay.
    pub max_connections: usize,
    /// Clients whose refusals name the diagnosis.
    pub debug_clients: Vec<Network>,
    /// The probe endpoint answers.
    pub probe: bool,
    /// How functions elsewhere, and other services, are reached.
    pub aws: AwsConfig,
    /// Names of query parameters whose values facts may hold, beside `channel` and `v`.
    pub shown_query_values: Arc<[Box<str>]>,
    /// Longest time over which the closes of a drain are spread, so that clients do not all come back at once.
    pub drain_spread: Duration,
}

/// Settings by API id: those of all APIs, or of one where the configuration names it.
#[derive(Debug, Default, Clone)]
pub struct SettingsOf {
    /// For every API that is not named.
    pub all: Arc<Settings>,
    /// By API id.
    pub by_api: HashMap<String, Arc<Settings>>,
}

impl SettingsOf {
    pub(crate) fn get(&self, api_id: &str) -> Arc<Settings> {
        Arc::clone(self.by_api.get(api_id).unwrap_or(&self.all))
    }
}

/// [`NodeSettings`], and what is made of them once.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) node: NodeSettings,
    /// Verifies signatures of the management API and of handshakes.
    pub(crate) verifier: Verifier,
    /// Where refusals of no stage are logged.
    pub(crate) unmatched: Option<Arc<StageLogs>>,
}

impl InForce {
    /// `region` is the one that signatures must name.
    pub(crate) fn new(node: NodeSettings, region: &str) -> Self {
        let mut verifier = Verifier::new(region.to_owned(), "execute-api");
        verifier.clock_skew = node.clock_skew;
        verifier.explain_mismatch = node.explain_mismatch;
        verifier.allowed_hosts.clone_from(&node.signature_hosts);
        let unmatched = node.settings.all.logs.unmatched.as_deref().map(StageLogs::of_unmatched);
        Self { node, verifier, unmatched }
    }
}

/// What is to change. What stays as it is need not be named.
#[derive(Debug, Default)]
pub struct Changes {
    /// All of them, also those that stay.
    pub node: Option<NodeSettings>,
    /// TLS towards backends. Idle connections, which were made by the old one, are closed.
    pub backend_tls: Option<rustls::ClientConfig>,
    /// API keys of clients, and what they are good for, with [`Gateway::usage_records`]. What was used of a plan stays used.
    pub usage_plans: Option<(UsagePlans, Vec<Record>)>,
    /// Applications whose stage changes.
    pub mounts: Vec<MountChange>,
}

/// What changes at the stage of an application.
#[derive(Debug)]
pub struct MountChange {
    /// Id of its API.
    pub api_id: String,
    /// What the gateway demands and offers.
    pub policy: Policy,
    /// Settings of the stage.
    pub settings: Arc<Settings>,
    /// Files that the policy names are read again, even if it says the same as before.
    pub reads_files: bool,
}

impl Gateway {
    /// Settings as they are now. Load them once for each event.
    pub(crate) fn in_force(&self) -> arc_swap::Guard<Arc<InForce>> {
        self.in_force.load()
    }

    /// What was used of usage plans, as the store has it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn usage_records(&self) -> Result<Vec<Record>, StoreError> {
        self.records.load(RecordKind::Usage).await
    }

    /// Replaces settings. Connections stay; what begins from now on sees the new ones. Settings of APIs and policies of
    /// applications take effect with the next publication of definitions, which the caller asks for.
    pub fn change_settings(&self, changes: Changes) {
        let Changes { node, backend_tls, usage_plans, mounts } = changes;
        if let Some((plans, records)) = usage_plans {
            self.api_keys.replace(plans, records);
        }
        if let Some(tls) = backend_tls {
            self.backends.set_tls(tls);
        }
        for mount in mounts {
            self.apps.change(mount);
        }
        if let Some(node) = node {
            let all = &node.settings.all;
            self.backends.set_idle_timeout(Duration::from_millis(all.integration.pool_idle_ms));
            self.account.change(&all.limits, now_millis());
            self.in_force.store(Arc::new(InForce::new(node, &self.config.region)));
        }
    }
}
