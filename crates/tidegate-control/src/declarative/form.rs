//! Objects as a document shows them.
//!
//! The opposite of `draft.rs`: members that have their default are left out, so that equal objects have equal forms.

use serde_json::Value;
use tidegate_core::definition::{
    ApiMapping, Authorizer, DomainName, Integration, IntegrationResponse, Map, Model, ParameterConstraints,
    Route, RouteResponse, RouteSettings, Stage, VpcLink,
};
use tidegate_core::policy::Policy;

use super::document::{
    AccessLogForm, ApiForm, AuthorizerForm, ConfigurationForm, DomainForm, IntegrationForm,
    IntegrationResponseForm, JwtForm, MappingForm, ModelForm, MutualTlsForm, RouteForm, RouteResponseForm,
    RouteSettingsForm, StageForm, Throttle, VpcLinkForm,
};
use super::names::Names;
use super::secret;
use crate::limits;
use crate::rest::api::DEFAULT_API_KEY_EXPRESSION;
use crate::rest::domain_name::HOSTED_ZONE_ID;
use crate::state::{ApiState, State};

/// Whether secrets are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// As `****`; applied again, what is stored stays.
    Masked,
    /// As they are: for moving to another installation.
    Shown,
}

fn unless(value: &str, default: &str) -> Option<String> {
    (value != default).then(|| value.to_owned())
}

fn required(parameters: &Map<ParameterConstraints>) -> Map<bool> {
    parameters.iter().map(|(name, constraints)| (name.clone(), constraints.required)).collect()
}

pub(super) fn vpc_link(link: &VpcLink) -> VpcLinkForm {
    VpcLinkForm {
        id: Some(link.vpc_link_id.clone()),
        name: link.name.clone(),
        subnet_ids: link.subnet_ids.clone(),
        security_group_ids: link.security_group_ids.clone(),
        tags: link.tags.clone(),
    }
}

/// The API itself, without what is below it.
pub(super) fn api_alone(api: &tidegate_core::definition::Api) -> ApiForm {
    ApiForm {
        id: Some(api.api_id.clone()),
        name: api.name.clone(),
        route_selection_expression: api.route_selection_expression.clone(),
        description: api.description.clone(),
        api_key_selection_expression: unless(&api.api_key_selection_expression, DEFAULT_API_KEY_EXPRESSION),
        disable_schema_validation: api.disable_schema_validation,
        disable_execute_api_endpoint: api.disable_execute_api_endpoint,
        ip_address_type: unless(&api.ip_address_type, "ipv4"),
        version: api.version.clone(),
        tags: api.tags.clone(),
        ..ApiForm::default()
    }
}

/// The API with everything below it.
pub(super) fn api(state: &ApiState, secrets: Secrets) -> ApiForm {
    let mut form = api_alone(&state.api);
    let integrations = Names::of_integrations(state);
    let authorizers = Names::of_authorizers(state);
    form.models = state.models.iter().map(|m| (m.name.clone(), model(m))).collect();
    for it in state.authorizers.iter() {
        let name = authorizers.name(&it.authorizer_id).unwrap_or(&it.authorizer_id);
        form.authorizers.insert(name.to_owned(), authorizer(it, name));
    }
    for it in state.integrations.iter() {
        let name = integrations.name(&it.integration_id).unwrap_or(&it.integration_id);
        form.integrations.insert(name.to_owned(), integration(it, state, secrets));
    }
    for it in state.routes.iter() {
        form.routes.insert(it.route_key.clone(), route(it, state, &integrations, &authorizers));
    }
    for it in state.stages.iter() {
        let mut shown = stage(it);
        shown.policy = state.policies.get(&it.stage_name).map(|(_, p)| policy(p, secrets));
        (shown.deploy, shown.deployment_description) = deployment(it, state);
        form.stages.insert(it.stage_name.clone(), shown);
    }
    form
}

pub(super) fn policy(policy: &Policy, secrets: Secrets) -> Policy {
    match secrets {
        Secrets::Masked => policy.redacted(),
        Secrets::Shown => policy.clone(),
    }
}

/// Whether the stage serves what the API is now, and the description of what it serves.
pub(super) fn deployment(stage: &Stage, api: &ApiState) -> (bool, Option<String>) {
    let id = stage.deployment_id.as_deref().unwrap_or_default();
    let is_current = api.contents.get(id).is_some_and(|(_, content)| !crate::deploy::is_behind(content, api));
    // Without routes nothing can be deployed; with `autoDeploy` it happens by itself.
    let deploy = is_current || stage.auto_deploy;
    let description = api.deployments.get(id).and_then(|d| d.description.clone());
    (deploy, description.filter(|_| is_current && !stage.auto_deploy))
}

pub(super) fn model(model: &Model) -> ModelForm {
    ModelForm {
        schema: model.schema.clone(),
        content_type: unless(&model.content_type, "application/json"),
        description: model.description.clone(),
    }
}

pub(super) fn authorizer(authorizer: &Authorizer, name: &str) -> AuthorizerForm {
    AuthorizerForm {
        name: unless(&authorizer.name, name),
        uri: authorizer.authorizer_uri.clone().unwrap_or_default(),
        jwt: authorizer.jwt_configuration.as_ref().map(|jwt| JwtForm {
            issuer: jwt.issuer.clone().unwrap_or_default(),
            audience: jwt.audience.clone(),
        }),
        identity_source: authorizer.identity_source.clone(),
        credentials_arn: authorizer.authorizer_credentials_arn.clone(),
        identity_validation_expression: authorizer.identity_validation_expression.clone(),
    }
}

pub(super) fn integration(integration: &Integration, api: &ApiState, secrets: Secrets) -> IntegrationForm {
    let has_uri = integration.integration_uri.is_some();
    let derived =
        |value: &Option<String>, default: &str| value.clone().filter(|value| !has_uri || value != default);
    let mut form = IntegrationForm {
        kind: integration.integration_type.clone(),
        uri: integration.integration_uri.clone(),
        method: derived(&integration.integration_method, "POST"),
        connection_type: unless(&integration.connection_type, "INTERNET"),
        connection_id: integration.connection_id.clone(),
        credentials_arn: integration.credentials_arn.clone(),
        content_handling: integration.content_handling_strategy.clone(),
        description: integration.description.clone(),
        passthrough: unless(&integration.passthrough_behavior, "WHEN_NO_MATCH"),
        payload_format_version: derived(&integration.payload_format_version, "1.0"),
        template_selection_expression: integration.template_selection_expression.clone(),
        timeout_ms: Some(integration.timeout_in_millis).filter(|ms| *ms != limits::MAX_TIMEOUT_MS),
        tls_server_name: integration.tls_config.as_ref().and_then(|tls| tls.server_name_to_verify.clone()),
        request_parameters: integration.request_parameters.clone().unwrap_or_default(),
        request_templates: integration.request_templates.clone().unwrap_or_default(),
        responses: api
            .integration_responses
            .get(&integration.integration_id)
            .into_iter()
            .flat_map(|table| table.iter())
            .map(|r| (r.integration_response_key.clone(), integration_response(r)))
            .collect(),
    };
    if secrets == Secrets::Masked {
        secret::mask_integration(&mut form);
    }
    form
}

pub(super) fn integration_response(response: &IntegrationResponse) -> IntegrationResponseForm {
    IntegrationResponseForm {
        templates: response.response_templates.clone().unwrap_or_default(),
        parameters: response.response_parameters.clone().unwrap_or_default(),
        template_selection_expression: response.template_selection_expression.clone(),
        content_handling: response.content_handling_strategy.clone(),
    }
}

pub(super) fn route(route: &Route, api: &ApiState, integrations: &Names, authorizers: &Names) -> RouteForm {
    let target = route.target.as_deref().and_then(|target| target.strip_prefix("integrations/"));
    let response = api.route_responses.get(&route.route_id).and_then(|t| t.iter().next());
    let response = response.map(|r| route_response(r));
    let selection = route.route_response_selection_expression.clone();
    let two_way = response.is_some() && selection.as_deref() == Some("$default");
    RouteForm {
        integration: target.map(|id| integrations.name(id).unwrap_or(id).to_owned()),
        two_way,
        authorization: unless(&route.authorization_type, "NONE"),
        authorizer: route.authorizer_id.as_deref().map(|id| authorizers.name(id).unwrap_or(id).to_owned()),
        authorization_scopes: route.authorization_scopes.clone(),
        api_key_required: route.api_key_required,
        operation_name: route.operation_name.clone(),
        model_selection_expression: route.model_selection_expression.clone(),
        request_models: route.request_models.clone().unwrap_or_default(),
        request_parameters: route.request_parameters.as_ref().map(required).unwrap_or_default(),
        response_selection_expression: selection.filter(|_| !two_way),
        response: response.filter(|r| !two_way || *r != RouteResponseForm::default()),
    }
}

pub(super) fn route_response(response: &RouteResponse) -> RouteResponseForm {
    RouteResponseForm {
        model_selection_expression: response.model_selection_expression.clone(),
        models: response.response_models.clone().unwrap_or_default(),
        parameters: response.response_parameters.as_ref().map(required),
    }
}

/// The stage without its policy and its deployment.
pub(super) fn stage(stage: &Stage) -> StageForm {
    let settings = &stage.default_route_settings;
    StageForm {
        description: stage.description.clone(),
        auto_deploy: stage.auto_deploy,
        logging_level: unless(settings.logging_level.as_deref().unwrap_or_default(), "OFF"),
        data_trace: settings.data_trace_enabled.unwrap_or_default(),
        detailed_metrics: settings.detailed_metrics_enabled.unwrap_or_default(),
        client_certificate_id: stage.client_certificate_id.clone(),
        throttle: throttle(settings),
        variables: stage.stage_variables.clone(),
        tags: stage.tags.clone(),
        route_settings: stage.route_settings.iter().map(|(k, s)| (k.clone(), route_settings(s))).collect(),
        access_log: stage.access_log_settings.as_ref().map(|log| AccessLogForm {
            destination_arn: log.destination_arn.clone().unwrap_or_default(),
            format: log.format.clone().unwrap_or_default(),
        }),
        ..StageForm::default()
    }
}

fn throttle(settings: &RouteSettings) -> Throttle {
    Throttle { rate: settings.throttling_rate_limit, burst: settings.throttling_burst_limit }
}

fn route_settings(settings: &RouteSettings) -> RouteSettingsForm {
    RouteSettingsForm {
        data_trace: settings.data_trace_enabled,
        detailed_metrics: settings.detailed_metrics_enabled,
        logging_level: settings.logging_level.clone(),
        throttle: throttle(settings),
    }
}

/// The domain name without its mappings.
pub(super) fn domain(domain: &DomainName) -> DomainForm {
    let mut configurations: Vec<ConfigurationForm> = domain
        .domain_name_configurations
        .iter()
        .map(|c| ConfigurationForm {
            certificate_arn: c.certificate_arn.clone(),
            certificate_name: c.certificate_name.clone(),
            hosted_zone_id: c.hosted_zone_id.clone().filter(|id| id != HOSTED_ZONE_ID),
            ip_address_type: c.ip_address_type.clone(),
            ownership_verification_certificate_arn: c.ownership_verification_certificate_arn.clone(),
        })
        .collect();
    if configurations == [ConfigurationForm::default()] {
        configurations.clear();
    }
    let member = |name: &str| {
        let value = domain.mutual_tls_authentication.as_ref()?.get(name)?;
        Some(value.as_str()?.to_owned())
    };
    DomainForm {
        name: domain.domain_name.clone(),
        tags: domain.tags.clone(),
        configurations,
        mutual_tls: member("truststoreUri").map(|truststore_uri| MutualTlsForm {
            truststore_uri,
            truststore_version: member("truststoreVersion"),
        }),
        mappings: Vec::new(),
    }
}

/// Members of a stored trust store that the form does not have.
pub(super) fn has_more_mutual_tls(domain: &DomainName) -> bool {
    let known = ["truststoreUri", "truststoreVersion"];
    let members = domain.mutual_tls_authentication.as_ref().and_then(Value::as_object);
    members.is_some_and(|members| members.keys().any(|name| !known.contains(&name.as_str())))
}

pub(super) fn mapping(mapping: &ApiMapping, state: &State) -> MappingForm {
    MappingForm {
        key: mapping.api_mapping_key.clone(),
        api: api_reference(&mapping.api_id, state),
        stage: mapping.stage.clone(),
    }
}

/// How a document names an API: by its name if that is enough, otherwise by its id.
pub(super) fn api_reference(api_id: &str, state: &State) -> String {
    let Some(api) = state.apis.get(api_id) else { return api_id.to_owned() };
    let name = &api.api.name;
    let is_enough =
        !state.apis.contains(name) && state.apis.iter().filter(|other| other.api.name == *name).count() == 1;
    if is_enough { name.clone() } else { api_id.to_owned() }
}
