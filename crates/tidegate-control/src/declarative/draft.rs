//! A document onto a draft of the state: the same checks as the operations of the API, all problems at once.
//!
//! What a document says of an object is the whole of it: a member that is absent gets its default, an entry of a map
//! that is absent goes. Objects that a document does not mention stay, unless it prunes. An object is only touched
//! when it differs, so that a second apply finds nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_core::definition::{Api, Integration, IntegrationResponse, Map, RouteResponse};
use tidegate_core::nearest::nearest;

use super::document::{
    ApiForm, AuthorizerForm, DomainForm, IntegrationForm, MappingForm, ModelForm, RouteForm,
    RouteSettingsForm, StageForm, VpcLinkForm,
};
use super::form::{self, Secrets};
use super::names::Names;
use super::steps::{Key, Kind};
use super::{Document, Options, Problem, quote, secret};
use crate::error::ApiError;
use crate::members::Members;
use crate::plane::Context;
use crate::rest;
use crate::state::{ApiState, DomainState, State};
use crate::table::{GivenName, Table};
use crate::{deploy, id, limits, policy};

/// What a document named, after it was put onto the state without a problem.
pub(super) struct Named {
    pub(super) keys: BTreeSet<Key>,
    /// What an operator should know.
    pub(super) warnings: Vec<Problem>,
}

impl Named {
    pub(super) fn names_api(&self, api_id: &str) -> bool {
        self.keys.contains(&Key::new(Kind::Api, "", api_id))
    }
}

/// Puts `document` onto `state`.
///
/// # Errors
/// All problems; the state is then half-way and must be thrown away.
pub(super) fn draft(
    document: &Document,
    options: Options,
    state: &mut State,
    context: &Context<'_>,
) -> Result<Named, Vec<Problem>> {
    let mut draft = Draft {
        state,
        context,
        options,
        problems: Vec::new(),
        named: Named { keys: BTreeSet::new(), warnings: Vec::new() },
    };
    for (idx, form) in document.vpc_links.iter().enumerate() {
        draft.vpc_link(&path_of("vpc_links", &form.name, idx), form);
    }
    let mut apis = Vec::new();
    let mut broken = BTreeSet::new();
    for (idx, form) in document.apis.iter().enumerate() {
        let before = draft.problems.len();
        let api_id = draft.api(&path_of("apis", &form.name, idx), form);
        if draft.problems.len() > before {
            broken.extend([Some(form.name.as_str()), form.id.as_deref(), api_id.as_deref()].map(owned));
        }
        apis.extend(api_id);
    }
    let mut domains = Vec::new();
    for (idx, form) in document.domains.iter().enumerate() {
        domains.extend(draft.domain(&path_of("domains", &form.name, idx), form, &broken));
    }
    if options.prune && draft.problems.is_empty() {
        draft.prune_mappings(&domains);
        draft.prune_stages(&apis);
    }
    if draft.problems.is_empty() { Ok(draft.named) } else { Err(draft.problems) }
}

fn owned(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

fn path_of(list: &str, name: &str, idx: usize) -> String {
    if name.is_empty() { format!("{list}[{idx}]") } else { format!("{list}.{}", quote(name)) }
}

struct Draft<'a> {
    state: &'a mut State,
    context: &'a Context<'a>,
    options: Options,
    problems: Vec<Problem>,
    named: Named,
}

impl Draft<'_> {
    fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(path.into(), message.into()));
    }

    fn refused(&mut self, path: &str, error: ApiError) {
        self.problems.push(Problem {
            path: path.to_owned(),
            message: error.message,
            diagnosis: error.diagnosis.map(str::to_owned),
        });
    }

    /// Notes the problem, if it is one.
    fn checked<T>(&mut self, path: &str, result: Result<T, ApiError>) -> Option<T> {
        result.map_err(|error| self.refused(path, error)).ok()
    }

    /// Notes that the document names the object. False, with a problem, when it has done so already.
    fn claim(&mut self, path: &str, kind: Kind, parent: &str, id: &str) -> bool {
        let is_new = self.named.keys.insert(Key::new(kind, parent, id));
        if !is_new {
            self.problem(path, "describes the same object as another entry of the document");
        }
        is_new
    }

    fn vpc_link(&mut self, path: &str, form: &VpcLinkForm) {
        let found: Vec<String> = match &form.id {
            Some(id) => self.state.vpc_links.get(id).map(|l| l.vpc_link_id.clone()).into_iter().collect(),
            None => {
                let links = self.state.vpc_links.iter();
                links.filter(|l| l.name == form.name).map(|l| l.vpc_link_id.clone()).collect()
            }
        };
        let body = members(json!({"name": form.name, "subnetIds": form.subnet_ids,
            "securityGroupIds": form.security_group_ids, "tags": form.tags}));
        let id = match found.as_slice() {
            [] => {
                let made = rest::vpc_link::insert(self.state, form.id.as_deref(), &body, self.context);
                self.checked(path, made).map(|link| link.vpc_link_id)
            }
            [id] => {
                let built = rest::vpc_link::build(id.clone(), &body, self.context);
                if let (Some(mut built), Some(link)) =
                    (self.checked(path, built), self.state.vpc_links.get(id).cloned())
                {
                    built.created_date.clone_from(&link.created_date);
                    built.vpc_link_version.clone_from(&link.vpc_link_version);
                    replace_row(&mut self.state.vpc_links, id, built);
                }
                Some(id.clone())
            }
            several => {
                self.problem(
                    path,
                    format!("several VPC links have this name; give one of the ids {}", several.join(", ")),
                );
                None
            }
        };
        if let Some(id) = id {
            self.claim(path, Kind::VpcLink, "", &id);
        }
    }

    /// Answers the API's id, unless it is not clear which API is meant.
    fn api(&mut self, path: &str, form: &ApiForm) -> Option<String> {
        let found: Vec<String> = match &form.id {
            Some(id) => self.state.apis.get(id).map(|api| api.api.api_id.clone()).into_iter().collect(),
            None => {
                let apis = self.state.apis.iter();
                apis.filter(|api| api.api.name == form.name).map(|api| api.api.api_id.clone()).collect()
            }
        };
        let body = members(json!({
            "name": form.name,
            "routeSelectionExpression": form.route_selection_expression,
            "description": form.description,
            "apiKeySelectionExpression": form.api_key_selection_expression,
            "disableSchemaValidation": form.disable_schema_validation,
            "disableExecuteApiEndpoint": form.disable_execute_api_endpoint,
            "ipAddressType": form.ip_address_type,
            "version": form.version,
            "tags": form.tags,
        }));
        let built = rest::api::build(&body, self.context);
        let built = self.checked(path, built);
        let api_id = match found.as_slice() {
            [] => {
                let made = built
                    .and_then(|api| {
                        let made = rest::api::insert(self.state, form.id.as_deref(), api, self.context);
                        self.checked(path, made)
                    })
                    .map(|api| api.api_id);
                // What is below it is checked all the same, under an API that is thrown away with the draft.
                made.or_else(|| self.stand_in(path))?
            }
            [api_id] => {
                if let (Some(mut built), Ok(api)) = (built, self.state.api(api_id)) {
                    built.api_id.clone_from(&api.api.api_id);
                    built.api_endpoint.clone_from(&api.api.api_endpoint);
                    built.created_date.clone_from(&api.api.created_date);
                    if built != api.api {
                        self.edit_api(api_id, |api| api.api = built);
                    }
                }
                api_id.clone()
            }
            several => {
                let ids = several.join(", ");
                self.problem(path, format!("several APIs have this name; give one of the ids {ids}"));
                return None;
            }
        };
        if self.claim(path, Kind::Api, "", &api_id) {
            self.below_api(path, &api_id, form);
        }
        Some(api_id)
    }

    fn stand_in(&mut self, path: &str) -> Option<String> {
        let fresh = id::fresh(id::LONG, |id| self.state.apis.contains(id));
        let api_id = self.checked(path, fresh)?;
        let api = Api { api_id: api_id.clone(), ..Api::default() };
        let sequence = self.state.sequence();
        self.state.apis.insert(&api_id, sequence, ApiState { api, ..ApiState::default() });
        Some(api_id)
    }

    fn below_api(&mut self, path: &str, api_id: &str, form: &ApiForm) {
        let before = self.problems.len();
        for (name, model) in &form.models {
            self.model(&format!("{path}.models.{}", quote(name)), api_id, name, model);
        }
        for (name, authorizer) in &form.authorizers {
            self.authorizer(&format!("{path}.authorizers.{}", quote(name)), api_id, name, authorizer);
        }
        let mut found = self.find_integrations(api_id, form);
        for (name, integration) in &form.integrations {
            let path = format!("{path}.integrations.{}", quote(name));
            let id = found.remove(name.as_str());
            self.integration(&path, api_id, name, id.as_deref(), integration);
        }
        for (key, route) in &form.routes {
            self.route(&format!("{path}.routes.{}", quote(key)), api_id, key, route, form);
        }
        if self.options.prune && self.problems.len() == before {
            self.prune_below(path, api_id);
        }
        for (name, stage) in &form.stages {
            self.stage(&format!("{path}.stages.{}", quote(name)), api_id, name, stage);
        }
        if self.problems.len() == before {
            self.deploy(path, api_id, form);
        }
    }

    fn model(&mut self, path: &str, api_id: &str, name: &str, form: &ModelForm) {
        let body = members(json!({"name": name, "schema": form.schema, "contentType": form.content_type,
            "description": form.description}));
        let Ok(api) = self.state.api(api_id) else { return };
        let existing = api.models.iter().find(|m| m.name == name).cloned();
        let id = match existing {
            None => {
                let made = rest::model::insert(self.state, api_id, &body);
                self.checked(path, made).map(|model| model.model_id)
            }
            Some(model) => {
                let built = rest::model::build(model.model_id.clone(), &body, api);
                if let Some(built) = self.checked(path, built) {
                    self.edit_api(api_id, |api| replace_row(&mut api.models, &model.model_id, built));
                }
                Some(model.model_id.clone())
            }
        };
        if let Some(id) = id {
            self.claim(path, Kind::Model, api_id, &id);
        }
    }

    fn authorizer(&mut self, path: &str, api_id: &str, name: &str, form: &AuthorizerForm) {
        let kind = if form.jwt.is_some() { "JWT" } else { "REQUEST" };
        let body = members(json!({"name": form.name.as_deref().unwrap_or(name), "authorizerType": kind,
            "authorizerUri": form.uri, "jwtConfiguration": form.jwt, "identitySource": form.identity_source,
            "authorizerCredentialsArn": form.credentials_arn,
            "identityValidationExpression": form.identity_validation_expression}));
        let Ok(api) = self.state.api(api_id) else { return };
        let id = match Names::of_authorizers(api).id(name).map(str::to_owned) {
            None => {
                let made = rest::authorizer::insert(self.state, api_id, &body, self.context);
                self.checked(path, made).map(|authorizer| authorizer.authorizer_id)
            }
            Some(id) => {
                let built = rest::authorizer::build(id.clone(), &body, self.context);
                if let Some(built) = self.checked(path, built) {
                    self.edit_api(api_id, |api| replace_row(&mut api.authorizers, &id, built));
                }
                Some(id)
            }
        };
        if let Some(id) = id {
            self.give_name(api_id, &id, name, Names::of_authorizers);
            self.claim(path, Kind::Authorizer, api_id, &id);
        }
    }

    /// Which of the integrations that are there a document means, by its name for them.
    ///
    /// One that has the name. Otherwise the one that a route of the document leads to now, if no document has named
    /// it or it is equal; otherwise one that is equal. So names can be given to what an SDK made, and changed.
    fn find_integrations(&self, api_id: &str, form: &ApiForm) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let Ok(api) = self.state.api(api_id) else { return found };
        let names = Names::of_integrations(api);
        let mut taken = BTreeSet::new();
        for name in form.integrations.keys() {
            if let Some(id) = names.id(name) {
                taken.insert(id.to_owned());
                found.insert(name.clone(), id.to_owned());
            }
        }
        for (name, wanted) in &form.integrations {
            if found.contains_key(name) {
                continue;
            }
            let is_equal = |i: &Integration| {
                form::integration(i, api, Secrets::Shown) == *wanted
                    || form::integration(i, api, Secrets::Masked) == *wanted
            };
            let routes = form.routes.iter().filter(|(_, r)| r.integration.as_ref() == Some(name));
            let mut targets = routes.filter_map(|(key, _)| {
                let target = api.routes.iter().find(|r| r.route_key == *key)?.target.as_deref()?;
                api.integrations.get(target.strip_prefix("integrations/")?)
            });
            let is_free = |i: &&Arc<Integration>| !taken.contains(&i.integration_id);
            let adopted = targets
                .find(|i| is_free(i) && (!api.names.contains(&i.integration_id) || is_equal(i)))
                .or_else(|| api.integrations.iter().find(|i| is_free(i) && is_equal(i)));
            if let Some(id) = adopted.map(|i| i.integration_id.clone()) {
                taken.insert(id.clone());
                found.insert(name.clone(), id);
            }
        }
        found
    }

    fn integration(
        &mut self,
        path: &str,
        api_id: &str,
        name: &str,
        id: Option<&str>,
        form: &IntegrationForm,
    ) {
        let Ok(api) = self.state.api(api_id) else { return };
        let stored = id.and_then(|id| api.integrations.get(id)).cloned();
        let mut form = form.clone();
        let unknown = secret::unmask_integration(&mut form, stored.as_deref());
        if !unknown.is_empty() {
            for member in unknown {
                self.problem(format!("{path}.{member}"), NOTHING_STORED);
            }
            return;
        }
        // What is there may be older than the limits of now: it is not refused as long as it stays.
        let is_unchanged = stored.as_ref().is_some_and(|i| form::integration(i, api, Secrets::Shown) == form);
        let body = members(integration_body(&form));
        let id = match &stored {
            Some(integration) if is_unchanged => Some(integration.integration_id.clone()),
            Some(integration) => {
                let id = integration.integration_id.clone();
                let built = rest::integration::build(id.clone(), &body, self.context);
                if let Some(built) = self.checked(path, built) {
                    self.edit_api(api_id, |api| replace_row(&mut api.integrations, &id, built));
                }
                Some(id)
            }
            None => {
                let made = rest::integration::insert(self.state, api_id, &body, self.context);
                self.checked(path, made).map(|integration| integration.integration_id)
            }
        };
        let Some(id) = id else { return };
        self.give_name(api_id, &id, name, Names::of_integrations);
        self.claim(path, Kind::Integration, api_id, &id);
        if !is_unchanged {
            self.integration_responses(path, api_id, &id, &form);
        }
    }

    fn integration_responses(&mut self, path: &str, api_id: &str, owner: &str, form: &IntegrationForm) {
        if form.responses.len() > limits::INTEGRATION_RESPONSES_PER_INTEGRATION {
            let most = limits::INTEGRATION_RESPONSES_PER_INTEGRATION;
            return self.problem(format!("{path}.responses"), format!("at most {most} are permitted"));
        }
        for (key, response) in &form.responses {
            let body =
                members(json!({"integrationResponseKey": key, "responseTemplates": response.templates,
                "responseParameters": response.parameters,
                "templateSelectionExpression": response.template_selection_expression,
                "contentHandlingStrategy": response.content_handling}));
            let Ok(api) = self.state.api(api_id) else { return };
            let table = api.integration_responses.get(owner);
            let before = table.and_then(|t| t.iter().find(|r| r.integration_response_key == *key)).cloned();
            let fresh =
                before.as_ref().map_or_else(|| api.fresh_id(), |r| Ok(r.integration_response_id.clone()));
            let built = fresh.and_then(|id| {
                let mut built =
                    IntegrationResponse { integration_response_id: id, ..IntegrationResponse::default() };
                rest::integration_response::edit(&mut built, &body, &Table::default()).map(|()| built)
            });
            let Some(built) = self.checked(&format!("{path}.responses.{}", quote(key)), built) else {
                continue;
            };
            let id = built.integration_response_id.clone();
            let sequence = self.state.sequence();
            self.edit_api(api_id, |api| {
                let table = api.integration_responses.entry(owner.to_owned()).or_default();
                match before {
                    Some(_) => replace_row(table, &id, built),
                    None => table.insert(&id, sequence, built),
                }
            });
        }
        self.edit_api(api_id, |api| {
            if let Some(table) = api.integration_responses.get_mut(owner) {
                let surplus =
                    table.iter().filter(|r| !form.responses.contains_key(&r.integration_response_key));
                let surplus: Vec<String> = surplus.map(|r| r.integration_response_id.clone()).collect();
                for id in surplus {
                    table.remove(&id);
                }
            }
        });
    }

    fn route(&mut self, path: &str, api_id: &str, key: &str, form: &RouteForm, api_form: &ApiForm) {
        let Ok(api) = self.state.api(api_id) else { return };
        let integrations = Names::of_integrations(api);
        let authorizers = Names::of_authorizers(api);
        let mut target = None;
        if let Some(name) = &form.integration {
            target = integrations.id(name).map(|id| format!("integrations/{id}"));
            // If the document has it, what is wrong with it has been said.
            if target.is_none() && !api_form.integrations.contains_key(name) {
                let hint = hint(name, api_form.integrations.keys());
                self.problem(
                    format!("{path}.integration"),
                    format!("no integration has the name {name}{hint}"),
                );
                return;
            }
        }
        let mut authorizer = None;
        if let Some(name) = &form.authorizer {
            authorizer = authorizers.id(name);
            if authorizer.is_none() {
                if !api_form.authorizers.contains_key(name) {
                    let hint = hint(name, api_form.authorizers.keys());
                    self.problem(
                        format!("{path}.authorizer"),
                        format!("no authorizer has the name {name}{hint}"),
                    );
                }
                return;
            }
        }
        let constraints = |parameters: &Map<bool>| -> Value {
            parameters.iter().map(|(name, required)| (name.clone(), json!({"required": required}))).collect()
        };
        let selection =
            if form.two_way { Some("$default") } else { form.response_selection_expression.as_deref() };
        let body = members(json!({
            "routeKey": key,
            "target": target,
            "authorizationType": form.authorization,
            "authorizerId": authorizer,
            "authorizationScopes": form.authorization_scopes,
            "apiKeyRequired": form.api_key_required,
            "operationName": form.operation_name,
            "modelSelectionExpression": form.model_selection_expression,
            "requestModels": form.request_models,
            "requestParameters": constraints(&form.request_parameters),
            "routeResponseSelectionExpression": selection,
        }));
        let Ok(api) = self.state.api(api_id) else { return };
        let existing = api.routes.iter().find(|r| r.route_key == key).map(|r| r.route_id.clone());
        let id = match existing {
            None => {
                let made = rest::route::insert(self.state, api_id, &body, self.context);
                self.checked(path, made).map(|route| route.route_id)
            }
            Some(id) => {
                let built = rest::route::build(id.clone(), &body, api, self.context);
                if let Some(built) = self.checked(path, built) {
                    self.edit_api(api_id, |api| replace_row(&mut api.routes, &id, built));
                }
                Some(id)
            }
        };
        let Some(id) = id else { return };
        self.claim(path, Kind::Route, api_id, &id);
        let response = form.response.clone().or_else(|| form.two_way.then(Default::default));
        let response = response.map(|r| {
            members(json!({"routeResponseKey": "$default", "responseModels": r.models,
                "modelSelectionExpression": r.model_selection_expression,
                "responseParameters": r.parameters.as_ref().map(constraints)}))
        });
        self.route_response(path, api_id, &id, response.as_ref());
    }

    fn route_response(&mut self, path: &str, api_id: &str, owner: &str, body: Option<&Members>) {
        let Ok(api) = self.state.api(api_id) else { return };
        let before = api.route_responses.get(owner).and_then(|t| t.iter().next()).cloned();
        let Some(body) = body else {
            if let Some(before) = before {
                self.edit_api(api_id, |api| {
                    if let Some(table) = api.route_responses.get_mut(owner) {
                        table.remove(&before.route_response_id);
                    }
                });
            }
            return;
        };
        let fresh = before.as_ref().map_or_else(|| api.fresh_id(), |r| Ok(r.route_response_id.clone()));
        let built = fresh.and_then(|id| {
            let mut built = RouteResponse { route_response_id: id, ..RouteResponse::default() };
            rest::route_response::edit(&mut built, body, &Table::default()).map(|()| built)
        });
        let Some(built) = self.checked(&format!("{path}.response"), built) else { return };
        let id = built.route_response_id.clone();
        let sequence = self.state.sequence();
        self.edit_api(api_id, |api| {
            let table = api.route_responses.entry(owner.to_owned()).or_default();
            match before {
                Some(_) => replace_row(table, &id, built),
                None => table.insert(&id, sequence, built),
            }
        });
    }

    fn stage(&mut self, path: &str, api_id: &str, name: &str, form: &StageForm) {
        let body = members(stage_body(name, form));
        let Ok(api) = self.state.api(api_id) else { return };
        let is_there = match api.stages.get(name).cloned() {
            None => {
                let made = rest::stage::insert(self.state, api_id, &body, self.context);
                self.checked(path, made).is_some()
            }
            Some(stage) => {
                let built = rest::stage::build(&body, api, self.context);
                if let Some(mut built) = self.checked(path, built) {
                    let now =
                        std::mem::replace(&mut built.last_updated_date, stage.last_updated_date.clone());
                    built.created_date.clone_from(&stage.created_date);
                    built.deployment_id.clone_from(&stage.deployment_id);
                    built.last_deployment_status_message.clone_from(&stage.last_deployment_status_message);
                    if built != *stage {
                        built.last_updated_date = now;
                        self.edit_api(api_id, |api| replace_row(&mut api.stages, name, built));
                    }
                }
                true
            }
        };
        if !is_there {
            return;
        }
        self.claim(path, Kind::Stage, api_id, name);
        if let Some(policy) = &form.policy {
            self.claim(path, Kind::Policy, api_id, name);
            match policy::put(self.state, api_id, name, policy) {
                Ok(warnings) => {
                    self.named.warnings.extend(warnings.into_iter().map(|p| policy::problem(path, p)));
                }
                Err(policy::Refused::Problems(problems)) => {
                    self.problems.extend(problems.into_iter().map(|p| policy::problem(path, p)));
                }
                Err(policy::Refused::Api(error)) => self.refused(path, error),
            }
        } else if self.options.prune {
            self.edit_api(api_id, |api| {
                api.policies.remove(name);
            });
        }
    }

    /// One deployment for all stages that need one, or one for each description.
    fn deploy(&mut self, path: &str, api_id: &str, form: &ApiForm) {
        let mut made: BTreeMap<Option<&str>, String> = BTreeMap::new();
        for (name, stage_form) in form.stages.iter().filter(|(_, s)| s.deploy && !s.auto_deploy) {
            let Ok(api) = self.state.api(api_id) else { return };
            let Some(stage) = api.stages.get(name) else { continue };
            let (is_current, description) = form::deployment(stage, api);
            let wanted = stage_form.deployment_description.as_deref();
            if is_current && (wanted.is_none() || wanted == description.as_deref()) {
                continue;
            }
            let path = format!("{path}.stages.{}", quote(name));
            let id = match made.get(&wanted) {
                Some(id) => id.clone(),
                None if api.routes.is_empty() => {
                    self.problem(path, "an API without routes cannot be deployed; set deploy = false");
                    continue;
                }
                None => {
                    let description = wanted.map(str::to_owned);
                    let too_long = wanted.is_some_and(|text| text.chars().count() > limits::DESCRIPTION);
                    if too_long {
                        let longest = limits::DESCRIPTION;
                        self.problem(
                            format!("{path}.deployment_description"),
                            format!("at most {longest} characters are permitted"),
                        );
                        continue;
                    }
                    let deployed = deploy::deploy(self.state, api_id, description, false, self.context);
                    let Some(deployment) = self.checked(&path, deployed) else { continue };
                    made.insert(wanted, deployment.deployment_id.clone());
                    deployment.deployment_id
                }
            };
            let now = self.context.timestamp();
            self.edit_api(api_id, |api| {
                if let Ok(stage) = api.stage_mut(name) {
                    stage.deployment_id = Some(id);
                    stage.last_updated_date = now;
                }
            });
        }
    }

    fn domain(&mut self, path: &str, form: &DomainForm, broken: &BTreeSet<String>) -> Option<String> {
        let has_name = |d: &&Arc<DomainState>| d.domain.domain_name.eq_ignore_ascii_case(&form.name);
        let existing = self.state.domains.iter().find(has_name).cloned();
        let configurations: Vec<Value> = form
            .configurations
            .iter()
            .map(|c| {
                json!({"certificateArn": c.certificate_arn, "certificateName": c.certificate_name,
                    "hostedZoneId": c.hosted_zone_id, "ipAddressType": c.ip_address_type,
                    "ownershipVerificationCertificateArn": c.ownership_verification_certificate_arn})
            })
            .collect();
        let mutual_tls = form.mutual_tls.as_ref().map(|tls| {
            let mut members = serde_json::Map::new();
            members.insert("truststoreUri".to_owned(), json!(tls.truststore_uri));
            members.extend(tls.truststore_version.iter().map(|v| ("truststoreVersion".to_owned(), json!(v))));
            members
        });
        let name = existing.as_ref().map_or(&form.name, |d| &d.domain.domain_name).clone();
        let body = members(json!({"domainName": name, "domainNameConfigurations": configurations,
            "mutualTlsAuthentication": mutual_tls, "tags": form.tags}));
        if let Some(existing) = &existing {
            let mut wanted = form.clone();
            wanted.mappings.clear();
            wanted.name.clone_from(&name);
            if form::domain(&existing.domain) != wanted {
                let built = rest::domain_name::build(&body, self.context);
                if let Some(mut built) = self.checked(path, built) {
                    let pairs = built.domain_name_configurations.iter_mut();
                    for (new, old) in pairs.zip(&existing.domain.domain_name_configurations) {
                        if new.certificate_arn == old.certificate_arn {
                            new.certificate_upload_date.clone_from(&old.certificate_upload_date);
                        }
                    }
                    if let Ok(domain) = self.state.domain_mut(&name) {
                        domain.domain = built;
                    }
                }
            }
        } else {
            let made = rest::domain_name::insert(self.state, &body, self.context);
            self.checked(path, made)?;
        }
        if !self.claim(path, Kind::DomainName, "", &name) {
            return None;
        }
        for (idx, mapping) in form.mappings.iter().enumerate() {
            if !broken.contains(&mapping.api) {
                self.mapping(&format!("{path}.mappings[{idx}]"), &name, mapping);
            }
        }
        Some(name)
    }

    fn mapping(&mut self, path: &str, domain_name: &str, form: &MappingForm) {
        let Some(api_id) = self.api_reference(path, &form.api) else { return };
        let body = members(json!({"apiId": api_id, "stage": form.stage, "apiMappingKey": form.key}));
        let Ok(domain) = self.state.domain(domain_name) else { return };
        let existing = domain.mappings.iter().find(|m| m.api_mapping_key == form.key).cloned();
        let id = match existing {
            None => {
                let made = rest::api_mapping::insert(self.state, domain_name, &body, self.context);
                self.checked(path, made).map(|mapping| mapping.api_mapping_id)
            }
            Some(mapping) => {
                let id = mapping.api_mapping_id.clone();
                let built = rest::api_mapping::build(id.clone(), domain_name, &body, self.state);
                if let (Some(built), Ok(domain)) =
                    (self.checked(path, built), self.state.domain_mut(domain_name))
                {
                    replace_row(&mut domain.mappings, &id, built);
                }
                Some(id)
            }
        };
        if let Some(id) = id {
            self.claim(path, Kind::ApiMapping, domain_name, &id);
        }
    }

    /// The API that a mapping names, by id or by name.
    fn api_reference(&mut self, path: &str, reference: &str) -> Option<String> {
        if self.state.apis.contains(reference) {
            return Some(reference.to_owned());
        }
        let apis = self.state.apis.iter().filter(|api| api.api.name == reference);
        let ids: Vec<String> = apis.map(|api| api.api.api_id.clone()).collect();
        match ids.as_slice() {
            [id] => Some(id.clone()),
            [] => {
                let names: Vec<String> = self.state.apis.iter().map(|api| api.api.name.clone()).collect();
                let hint = hint(reference, names.iter());
                self.problem(format!("{path}.api"), format!("no API has the id or name {reference}{hint}"));
                None
            }
            several => {
                let ids = several.join(", ");
                self.problem(
                    format!("{path}.api"),
                    format!("several APIs have this name; give one of the ids {ids}"),
                );
                None
            }
        }
    }

    /// Removes what the API has and the document does not, apart from stages.
    fn prune_below(&mut self, path: &str, api_id: &str) {
        let Ok(api) = self.state.api(api_id) else { return };
        let keys = &self.named.keys;
        let is_surplus = |kind: Kind, id: &str| !keys.contains(&Key::new(kind, api_id, id));
        let routes = surplus(&api.routes, |id| is_surplus(Kind::Route, id));
        let integrations = surplus(&api.integrations, |id| is_surplus(Kind::Integration, id));
        let authorizers = surplus(&api.authorizers, |id| is_surplus(Kind::Authorizer, id));
        let models = surplus(&api.models, |id| is_surplus(Kind::Model, id));
        let mut removed = Vec::new();
        self.edit_api(api_id, |api| {
            for id in routes {
                api.routes.remove(&id);
                api.route_responses.remove(&id);
            }
            removed.extend(integrations.iter().map(|id| rest::integration::remove(api, id)));
            removed.extend(authorizers.iter().map(|id| rest::authorizer::remove(api, id)));
            removed.extend(models.iter().map(|id| rest::model::remove(api, id)));
        });
        for result in removed {
            self.checked(path, result);
        }
    }

    fn prune_mappings(&mut self, domains: &[String]) {
        for name in domains {
            let Ok(domain) = self.state.domain(name) else { continue };
            let keys = &self.named.keys;
            let ids = surplus(&domain.mappings, |id| !keys.contains(&Key::new(Kind::ApiMapping, name, id)));
            if let (false, Ok(domain)) = (ids.is_empty(), self.state.domain_mut(name)) {
                for id in ids {
                    domain.mappings.remove(&id);
                }
            }
        }
    }

    /// Last, because a stage cannot go while a domain name maps to it.
    fn prune_stages(&mut self, apis: &[String]) {
        for api_id in apis {
            let Ok(api) = self.state.api(api_id) else { continue };
            let keys = &self.named.keys;
            let names = surplus(&api.stages, |name| !keys.contains(&Key::new(Kind::Stage, api_id, name)));
            let path = format!("apis.{}.stages", quote(&api.api.name));
            for name in names {
                let removed = rest::stage::remove(self.state, api_id, &name);
                self.checked(&path, removed);
            }
        }
    }

    /// The API is there: it has been found or made before.
    fn edit_api(&mut self, api_id: &str, edit: impl FnOnce(&mut ApiState)) {
        if let Ok(api) = self.state.api_mut(api_id) {
            edit(api);
        }
    }

    /// Stores `name` for the object, unless it has this name anyway.
    fn give_name(&mut self, api_id: &str, id: &str, name: &str, names: fn(&ApiState) -> Names) {
        let Ok(api) = self.state.api(api_id) else { return };
        if names(api).name(id) == Some(name) {
            return;
        }
        let given = GivenName { id: id.to_owned(), name: name.to_owned() };
        let sequence = self.state.sequence();
        self.edit_api(api_id, |api| match api.names.get_mut(id) {
            Some(place) => *place = given,
            None => api.names.insert(id, sequence, given),
        });
    }
}

/// Said of a mask in a new object.
const NOTHING_STORED: &str = "**** keeps a secret that is stored, and none is; write it out";

/// Replaces a row, unless it is equal already: rows that are not touched are not stored again.
fn replace_row<T: Clone + PartialEq>(table: &mut Table<T>, id: &str, row: T) {
    if table.get(id).is_none_or(|before| **before == row) {
        return;
    }
    if let Some(place) = table.get_mut(id) {
        *place = row;
    }
}

fn surplus<T: Clone>(table: &Table<T>, is_surplus: impl Fn(&str) -> bool) -> Vec<String> {
    table.ids().into_iter().filter(|id| is_surplus(id)).collect()
}

fn hint<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    nearest(name, known.map(String::as_str))
        .map(|known| format!("; did you mean {known}?"))
        .unwrap_or_default()
}

/// `null` members count as absent.
fn members(body: Value) -> Members {
    Members::new(body).unwrap_or_default()
}

fn integration_body(form: &IntegrationForm) -> Value {
    json!({
        "integrationType": form.kind,
        "integrationUri": form.uri,
        "integrationMethod": form.method,
        "connectionType": form.connection_type,
        "connectionId": form.connection_id,
        "credentialsArn": form.credentials_arn,
        "contentHandlingStrategy": form.content_handling,
        "description": form.description,
        "passthroughBehavior": form.passthrough,
        "payloadFormatVersion": form.payload_format_version,
        "templateSelectionExpression": form.template_selection_expression,
        "timeoutInMillis": form.timeout_ms,
        "tlsConfig": form.tls_server_name.as_ref().map(|name| json!({"serverNameToVerify": name})),
        "requestParameters": form.request_parameters,
        "requestTemplates": form.request_templates,
    })
}

fn stage_body(name: &str, form: &StageForm) -> Value {
    let settings = |form: &RouteSettingsForm| {
        json!({"dataTraceEnabled": form.data_trace, "detailedMetricsEnabled": form.detailed_metrics,
            "loggingLevel": form.logging_level, "throttlingRateLimit": form.throttle.rate,
            "throttlingBurstLimit": form.throttle.burst})
    };
    let default_settings = RouteSettingsForm {
        data_trace: Some(form.data_trace),
        detailed_metrics: Some(form.detailed_metrics),
        logging_level: form.logging_level.clone(),
        throttle: form.throttle,
    };
    let route_settings: Value =
        form.route_settings.iter().map(|(key, s)| (key.clone(), settings(s))).collect();
    json!({
        "stageName": name,
        "description": form.description,
        "autoDeploy": form.auto_deploy,
        "stageVariables": form.variables,
        "defaultRouteSettings": settings(&default_settings),
        "routeSettings": route_settings,
        "accessLogSettings": form.access_log.as_ref().map(|log| {
            json!({"destinationArn": log.destination_arn, "format": log.format})
        }),
        "clientCertificateId": form.client_certificate_id,
        "tags": form.tags,
    })
}
