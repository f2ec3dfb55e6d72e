//! All definitions as one value in memory.
//!
//! A state is immutable once it is served. A change clones it (pointers only), works on the clone, and the clone
//! becomes the served state after the store has taken the difference.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tidegate_core::definition::{
    Api, ApiDefinition, ApiMapping, Authorizer, Deployment, DomainName, Integration, IntegrationResponse,
    Live, LiveApi, Model, Route, RouteResponse, Stage, VpcLink,
};
use tidegate_core::policy::Policy;
use tidegate_core::port::Document;

use crate::error::ApiError;
use crate::plane::{ControlSettings, LoadError};
use crate::table::{GivenName, Object, Table};

/// Kind of an API's own document.
pub(crate) const API: &str = "api";
/// Kind of a domain name's own document.
pub(crate) const DOMAIN_NAME: &str = "domain-name";
/// Kind of what a deployment froze.
pub(crate) const DEPLOYMENT_CONTENT: &str = "deployment-content";
/// Kind of a stage's policy; the id is the stage's name.
pub(crate) const POLICY: &str = "policy";

/// Parent of the API mappings of a domain name. The colon keeps it apart from every API id.
pub(crate) fn mapping_parent(domain_name: &str) -> String {
    format!("domain:{domain_name}")
}

/// Everything that is defined.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) apis: Table<ApiState>,
    pub(crate) domains: Table<DomainState>,
    pub(crate) vpc_links: Table<VpcLink>,
    next_sequence: u64,
}

/// One API and all below it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ApiState {
    pub(crate) api: Api,
    pub(crate) routes: Table<Route>,
    /// By route id.
    pub(crate) route_responses: BTreeMap<String, Table<RouteResponse>>,
    pub(crate) integrations: Table<Integration>,
    /// By integration id.
    pub(crate) integration_responses: BTreeMap<String, Table<IntegrationResponse>>,
    pub(crate) models: Table<Model>,
    pub(crate) authorizers: Table<Authorizer>,
    pub(crate) deployments: Table<Deployment>,
    /// By deployment id: its sequence in the store, and what it froze. Never changes, except while changes that follow each
    /// other closely share the deployment of `autoDeploy`.
    pub(crate) contents: BTreeMap<String, (u64, Arc<ApiDefinition>)>,
    pub(crate) stages: Table<Stage>,
    /// The latest deployment of `autoDeploy` of this process, and when it was made.
    pub(crate) auto_deployed: Option<(String, Timestamp)>,
    /// By stage name: its sequence in the store, and the policy. The same pointer as long as it does not change.
    pub(crate) policies: BTreeMap<String, (u64, Arc<Policy>)>,
    /// Names that the declarative form gave to integrations and authorizers, by the object's id.
    pub(crate) names: Table<GivenName>,
    /// What the data plane has of this API; the same pointer as long as nothing of it changes.
    pub(crate) live: Arc<LiveApi>,
}

/// One domain name and its mappings.
#[derive(Debug, Clone, Default)]
pub(crate) struct DomainState {
    pub(crate) domain: DomainName,
    pub(crate) mappings: Table<ApiMapping>,
}

impl State {
    /// A new place in creation order.
    pub(crate) fn sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence
    }

    pub(crate) fn api(&self, api_id: &str) -> Result<&Arc<ApiState>, ApiError> {
        self.apis.get(api_id).ok_or_else(|| ApiError::unknown("API", api_id))
    }

    pub(crate) fn api_mut(&mut self, api_id: &str) -> Result<&mut ApiState, ApiError> {
        self.apis.get_mut(api_id).ok_or_else(|| ApiError::unknown("API", api_id))
    }

    pub(crate) fn domain(&self, name: &str) -> Result<&Arc<DomainState>, ApiError> {
        self.domains.get(name).ok_or_else(unknown_domain)
    }

    pub(crate) fn domain_mut(&mut self, name: &str) -> Result<&mut DomainState, ApiError> {
        self.domains.get_mut(name).ok_or_else(unknown_domain)
    }

    /// What the data plane runs on.
    pub(crate) fn live(&self) -> Live {
        Live {
            apis: self.apis.iter().map(|api| Arc::clone(&api.live)).collect(),
            domains: self
                .domains
                .iter()
                .map(|d| (d.domain.clone(), d.mappings.iter().map(|m| (**m).clone()).collect()))
                .collect(),
        }
    }

    /// Builds the state that `documents` describe.
    ///
    /// Addresses that follow from the settings are derived again, so that a changed setting shows.
    pub(crate) fn from_documents(
        documents: Vec<Document>,
        settings: &ControlSettings,
    ) -> Result<Self, LoadError> {
        let mut state = Self::default();
        // Parents first: a parent always has the smaller sequence, but files may have been edited by hand.
        let (tops, rest): (Vec<_>, Vec<_>) = documents.into_iter().partition(|d| d.parent.is_empty());
        for document in tops.iter().chain(&rest) {
            state.next_sequence = state.next_sequence.max(document.sequence);
            state.place(document, settings)?;
        }
        state.refuse_orphaned_policies()?;
        for api_id in state.apis.ids() {
            if let Some(api) = state.apis.get_mut(&api_id) {
                api.refresh_live();
            }
        }
        Ok(state)
    }

    /// Addresses that follow from other settings; what does not change stays the same pointer.
    pub(crate) fn derive(&mut self, settings: &ControlSettings) {
        for api_id in self.apis.ids() {
            let endpoint = settings.api_endpoint(&api_id);
            if self.apis.get(&api_id).is_some_and(|api| api.api.api_endpoint == endpoint) {
                continue;
            }
            if let Some(api) = self.apis.get_mut(&api_id) {
                api.api.api_endpoint = endpoint;
                api.refresh_live();
            }
        }
        for name in self.domains.ids() {
            let is_here = |domain: &DomainState| {
                let mut configurations = domain.domain.domain_name_configurations.iter();
                configurations.all(|known| known.api_gateway_domain_name == settings.public_hostname)
            };
            if self.domains.get(&name).is_some_and(|domain| is_here(domain)) {
                continue;
            }
            let Some(domain) = self.domains.get_mut(&name) else { continue };
            for configuration in &mut domain.domain.domain_name_configurations {
                configuration.api_gateway_domain_name.clone_from(&settings.public_hostname);
            }
        }
    }

    /// A policy without its stage would come to life with the next stage of that name.
    fn refuse_orphaned_policies(&self) -> Result<(), LoadError> {
        for api in self.apis.iter() {
            if let Some(stage) = api.policies.keys().find(|stage| !api.stages.contains(stage)) {
                return Err(LoadError::Orphan {
                    kind: POLICY.to_owned(),
                    id: stage.clone(),
                    parent: format!("{}/{stage}", api.api.api_id),
                });
            }
        }
        Ok(())
    }

    fn place(&mut self, document: &Document, settings: &ControlSettings) -> Result<(), LoadError> {
        let Document { kind, parent, id, sequence, .. } = document;
        match (kind.as_str(), parent.as_str()) {
            (API, "") => {
                let mut api: Api = parse(document)?;
                api.api_endpoint = settings.api_endpoint(id);
                self.apis.insert(id, *sequence, ApiState { api, ..ApiState::default() });
            }
            (DOMAIN_NAME, "") => {
                let mut domain: DomainName = parse(document)?;
                for configuration in &mut domain.domain_name_configurations {
                    configuration.api_gateway_domain_name.clone_from(&settings.public_hostname);
                }
                self.domains.insert(id, *sequence, DomainState { domain, mappings: Table::default() });
            }
            (VpcLink::KIND, "") => self.vpc_links.insert(id, *sequence, parse(document)?),
            (ApiMapping::KIND, parent) => {
                let name = parent.strip_prefix("domain:").unwrap_or(parent);
                let domain = self.domains.get_mut(name).ok_or_else(|| orphan(document))?;
                domain.mappings.insert(id, *sequence, parse(document)?);
            }
            _ => self.place_below_api(document)?,
        }
        Ok(())
    }

    fn place_below_api(&mut self, document: &Document) -> Result<(), LoadError> {
        let Document { kind, parent, id, sequence, .. } = document;
        let sequence = *sequence;
        let (api_id, owner) = parent.split_once('/').unwrap_or((parent, ""));
        let api = self.apis.get_mut(api_id).ok_or_else(|| orphan(document))?;
        match kind.as_str() {
            Route::KIND => api.routes.insert(id, sequence, parse(document)?),
            RouteResponse::KIND => {
                let table = api.route_responses.entry(owner.to_owned()).or_default();
                table.insert(id, sequence, parse(document)?);
            }
            Integration::KIND => api.integrations.insert(id, sequence, parse(document)?),
            IntegrationResponse::KIND => {
                let table = api.integration_responses.entry(owner.to_owned()).or_default();
                table.insert(id, sequence, parse(document)?);
            }
            Model::KIND => api.models.insert(id, sequence, parse(document)?),
            Authorizer::KIND => api.authorizers.insert(id, sequence, parse(document)?),
            Deployment::KIND => api.deployments.insert(id, sequence, parse(document)?),
            Stage::KIND => api.stages.insert(id, sequence, parse(document)?),
            DEPLOYMENT_CONTENT => {
                let content: ApiDefinition = parse(document)?;
                api.contents.insert(id.clone(), (sequence, Arc::new(content)));
            }
            POLICY => {
                api.policies.insert(id.clone(), (sequence, Arc::new(parse(document)?)));
            }
            GivenName::KIND => api.names.insert(id, sequence, parse(document)?),
            _ => return Err(LoadError::UnknownKind { kind: kind.clone() }),
        }
        Ok(())
    }
}

impl ApiState {
    /// An id that no object below the API has: children are stored under `{apiId}/{id}`.
    pub(crate) fn fresh_id(&self) -> Result<String, ApiError> {
        crate::id::fresh(crate::id::SHORT, |id| {
            self.routes.contains(id)
                || self.integrations.contains(id)
                || self.models.contains(id)
                || self.authorizers.contains(id)
                || self.deployments.contains(id)
                || self.route_responses.values().any(|t| t.contains(id))
                || self.integration_responses.values().any(|t| t.contains(id))
        })
    }

    pub(crate) fn route(&self, id: &str) -> Result<&Arc<Route>, ApiError> {
        self.routes.get(id).ok_or_else(|| ApiError::unknown("Route", id))
    }

    pub(crate) fn integration(&self, id: &str) -> Result<&Arc<Integration>, ApiError> {
        self.integrations.get(id).ok_or_else(|| ApiError::unknown("Integration", id))
    }

    pub(crate) fn stage_mut(&mut self, name: &str) -> Result<&mut Stage, ApiError> {
        self.stages.get_mut(name).ok_or_else(ApiError::unknown_stage)
    }
}

fn unknown_domain() -> ApiError {
    ApiError::not_found("The domain name resource specified in the request was not found.")
}

fn parse<T: DeserializeOwned>(document: &Document) -> Result<T, LoadError> {
    serde_json::from_str(&document.body).map_err(|source| LoadError::Document {
        kind: document.kind.clone(),
        id: document.id.clone(),
        source,
    })
}

fn orphan(document: &Document) -> LoadError {
    LoadError::Orphan {
        kind: document.kind.clone(),
        id: document.id.clone(),
        parent: document.parent.clone(),
    }
}
