//! Routes and what they lead to: integrations with their responses, routes with theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_core::definition::{Integration, IntegrationResponse, Map, RouteResponse};

use super::{Draft, hint, members, replace_row};
use crate::declarative::document::{ApiForm, IntegrationForm, RouteForm};
use crate::declarative::form::Secrets;
use crate::declarative::names::Names;
use crate::declarative::steps::Kind;
use crate::declarative::{form, quote, secret};
use crate::members::Members;
use crate::table::Table;
use crate::{limits, rest};

impl Draft<'_> {
    /// Which of the integrations that are there a document means, by its name for them.
    ///
    /// One that has the name. Otherwise the one that a route of the document leads to now, if no document has named
    /// it or it is equal; otherwise one that is equal. So names can be given to what an SDK made, and changed.
    pub(super) fn find_integrations(&self, api_id: &str, form: &ApiForm) -> BTreeMap<String, String> {
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

    pub(super) fn integration(
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

    pub(super) fn integration_responses(
        &mut self,
        path: &str,
        api_id: &str,
        owner: &str,
        form: &IntegrationForm,
    ) {
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

    pub(super) fn route(
        &mut self,
        path: &str,
        api_id: &str,
        key: &str,
        form: &RouteForm,
        api_form: &ApiForm,
    ) {
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

    pub(super) fn route_response(&mut self, path: &str, api_id: &str, owner: &str, body: Option<&Members>) {
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
}

/// Said of a mask in a new object.
const NOTHING_STORED: &str = "**** keeps a secret that is stored, and none is; write it out";

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
