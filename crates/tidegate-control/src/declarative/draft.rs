//! A document onto a draft of the state: the same checks as the operations of the API, all problems at once.
//!
//! What a document says of an object is the whole of it: a member that is absent gets its default, an entry of a map
//! that is absent goes. Objects that a document does not mention stay, unless it prunes. An object is only touched
//! when it differs, so that a second apply finds nothing to do.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidegate_core::definition::Api;
use tidegate_core::nearest::nearest;

use super::document::{ApiForm, AuthorizerForm, ModelForm};
use super::names::Names;
use super::steps::{Key, Kind};
use super::{Document, Options, Problem, quote};
use crate::error::ApiError;
use crate::id;
use crate::members::Members;
use crate::plane::Context;
use crate::rest;
use crate::state::{ApiState, State};
use crate::table::{GivenName, Table};

mod domain;
mod prune;
mod routing;
mod stage;

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

/// Replaces a row, unless it is equal already: rows that are not touched are not stored again.
fn replace_row<T: Clone + PartialEq>(table: &mut Table<T>, id: &str, row: T) {
    if table.get(id).is_none_or(|before| **before == row) {
        return;
    }
    if let Some(place) = table.get_mut(id) {
        *place = row;
    }
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
