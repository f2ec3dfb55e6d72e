//! Stages and their deployments.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Draft, members, replace_row};
use crate::declarative::document::{ApiForm, RouteSettingsForm, StageForm};
use crate::declarative::steps::Kind;
use crate::declarative::{form, quote};
use crate::{deploy, limits, policy, rest};

impl Draft<'_> {
    pub(super) fn stage(&mut self, path: &str, api_id: &str, name: &str, form: &StageForm) {
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
    pub(super) fn deploy(&mut self, path: &str, api_id: &str, form: &ApiForm) {
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
