//! The control plane's objects as the `apigatewayv2` API shows them, and what one deployment freezes.
//!
//! These are wire types: member names, defaults and the absence of unset members are those of the AWS model
//! (API version 2018-11-29). They hold what was stored; what the data plane runs on is compiled from them by
//! [`crate::compile`] into a [`crate::snapshot::Snapshot`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A map with text keys in a stable order, as the wire shows it.
pub type Map<T = String> = BTreeMap<String, T>;

/// One WebSocket API.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Api {
    /// 10 characters `[a-z0-9]`.
    pub api_id: String,
    /// 1 to 128 characters, not unique.
    pub name: String,
    /// Always `WEBSOCKET`.
    pub protocol_type: String,
    /// Selects the route of a message, for example `$request.body.action`.
    pub route_selection_expression: String,
    /// `$request.header.x-api-key` unless set.
    pub api_key_selection_expression: String,
    /// `wss://{apiId}.execute-api...`, without stage.
    pub api_endpoint: String,
    /// `""` counts as set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Shown only when it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_schema_validation: Option<bool>,
    /// Refuses the generated address; takes effect with a deployment.
    pub disable_execute_api_endpoint: bool,
    /// `ipv4` or `dualstack`; stored only.
    pub ip_address_type: String,
    /// Free text of the owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// At most 50.
    pub tags: Map,
    /// ISO 8601 text.
    pub created_date: String,
}

/// One route of an API.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Route {
    /// 7 characters `[a-z0-9]`.
    pub route_id: String,
    /// `$connect`, `$disconnect`, `$default` or any text that does not start with `$`; unique per API.
    pub route_key: String,
    /// `integrations/{integrationId}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// `NONE`, `AWS_IAM` or `CUSTOM`; with a setting of Tidegate also `JWT`.
    pub authorization_type: String,
    /// Required with `CUSTOM` and `JWT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorizer_id: Option<String>,
    /// With `JWT` only: a token must have one of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorization_scopes: Vec<String>,
    /// Meaningful on `$connect`.
    pub api_key_required: bool,
    /// 1 to 64 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_name: Option<String>,
    /// Chooses the request model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_selection_expression: Option<String>,
    /// Model key to model name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_models: Option<Map>,
    /// `route.request.querystring.X` or `route.request.header.X`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_parameters: Option<Map<ParameterConstraints>>,
    /// Only `$default`; a route is two-way when it also has a route response of that key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_response_selection_expression: Option<String>,
}

/// Whether a declared request parameter must be present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParameterConstraints {
    /// A handshake without it is refused.
    pub required: bool,
}

/// One integration of an API.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Integration {
    /// 7 characters `[a-z0-9]`.
    pub integration_id: String,
    /// `AWS_PROXY`, `AWS`, `HTTP_PROXY`, `HTTP` or `MOCK`.
    pub integration_type: String,
    /// Absolute URL, Lambda ARN or `tidegate://` name of a built-in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integration_uri: Option<String>,
    /// HTTP method towards the backend; `POST` when a URI is set and nothing was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integration_method: Option<String>,
    /// `INTERNET` or `VPC_LINK`.
    pub connection_type: String,
    /// Id of a VPC link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<String>,
    /// Stored; selects a credential profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_arn: Option<String>,
    /// `CONVERT_TO_BINARY` or `CONVERT_TO_TEXT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_handling_strategy: Option<String>,
    /// 0 to 1024 characters; `""` counts as set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Read-only, follows from the type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integration_response_selection_expression: Option<String>,
    /// `WHEN_NO_MATCH`, `WHEN_NO_TEMPLATES` or `NEVER`.
    pub passthrough_behavior: String,
    /// `1.0` when a URI is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_format_version: Option<String>,
    /// `integration.request.header.X` and the like to a mapping expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_parameters: Option<Map>,
    /// Template key to template text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_templates: Option<Map>,
    /// Chooses the request template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_selection_expression: Option<String>,
    /// Milliseconds, 50 to 29000.
    pub timeout_in_millis: u32,
    /// Verification name towards the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<TlsConfig>,
}

/// TLS towards a backend.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsConfig {
    /// SNI and verification name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name_to_verify: Option<String>,
}

/// What a non-proxy integration's answer becomes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IntegrationResponse {
    /// 7 characters `[a-z0-9]`.
    pub integration_response_id: String,
    /// `$default` or `/regex/`.
    pub integration_response_key: String,
    /// Template key to template text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_templates: Option<Map>,
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_parameters: Option<Map>,
    /// Chooses the response template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_selection_expression: Option<String>,
    /// `CONVERT_TO_BINARY` or `CONVERT_TO_TEXT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_handling_strategy: Option<String>,
}

/// Makes a route two-way.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteResponse {
    /// 7 characters `[a-z0-9]`.
    pub route_response_id: String,
    /// Only `$default`.
    pub route_response_key: String,
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_selection_expression: Option<String>,
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_models: Option<Map>,
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_parameters: Option<Map<ParameterConstraints>>,
}

/// JSON schema of a message.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Model {
    /// 7 characters `[a-z0-9]`.
    pub model_id: String,
    /// Alphanumeric, unique per API.
    pub name: String,
    /// `application/json` unless set.
    pub content_type: String,
    /// JSON Schema draft-04 text.
    pub schema: String,
    /// `""` counts as set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Who decides about a handshake.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authorizer {
    /// 7 characters `[a-z0-9]`.
    pub authorizer_id: String,
    /// Required.
    pub name: String,
    /// `REQUEST`, or with a setting of Tidegate `JWT`.
    pub authorizer_type: String,
    /// Lambda invocation URI, or the address of a service that is asked in the same form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorizer_uri: Option<String>,
    /// Role of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorizer_credentials_arn: Option<String>,
    /// What must be present before the authorizer is asked.
    pub identity_source: Vec<String>,
    /// Stored, never applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_validation_expression: Option<String>,
    /// With type `JWT` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_configuration: Option<JwtConfiguration>,
}

/// Whose tokens an authorizer of type `JWT` takes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JwtConfiguration {
    /// One of them must be in the token's `aud`.
    pub audience: Vec<String>,
    /// Must be the token's `iss`; its keys are found below `/.well-known/openid-configuration`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

/// A frozen state of an API; the frozen content itself is [`ApiDefinition`], kept beside it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Deployment {
    /// 7 characters `[a-z0-9]`.
    pub deployment_id: String,
    /// ISO 8601 text.
    pub created_date: String,
    /// Always `DEPLOYED`: deployments are synchronous here.
    pub deployment_status: String,
    /// `""` counts as set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Made by a change of a stage with `autoDeploy`.
    pub auto_deployed: bool,
}

/// Throttling, logging and metrics of a route or a stage.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteSettings {
    /// Payloads in execution logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_trace_enabled: Option<bool>,
    /// Metrics with a route label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detailed_metrics_enabled: Option<bool>,
    /// `INFO`, `ERROR` or `OFF`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging_level: Option<String>,
    /// Tokens the bucket holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttling_burst_limit: Option<u32>,
    /// Tokens a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttling_rate_limit: Option<f64>,
}

/// Where access logs go, and their form.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessLogSettings {
    /// `...:log-group:{name}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_arn: Option<String>,
    /// One line with `$context` variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// A named, live entry to one deployment of an API.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stage {
    /// `[A-Za-z0-9_-]`, 1 to 128 characters.
    pub stage_name: String,
    /// A stage without one answers 403.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// Every change of the API deploys.
    pub auto_deploy: bool,
    /// `${stageVariables.name}` in integrations.
    pub stage_variables: Map,
    /// For every route without an entry of its own.
    pub default_route_settings: RouteSettings,
    /// By route key.
    pub route_settings: Map<RouteSettings>,
    /// Unset: no access log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log_settings: Option<AccessLogSettings>,
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_id: Option<String>,
    /// `""` counts as set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// At most 50.
    pub tags: Map,
    /// ISO 8601 text.
    pub created_date: String,
    /// ISO 8601 text.
    pub last_updated_date: String,
    /// Auto-deploy only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_deployment_status_message: Option<String>,
}

/// A host name of the operator's own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DomainName {
    /// Exact, or `*.example.com`.
    pub domain_name: String,
    /// `arn:aws:apigateway:{region}::/domainnames/{domainName}`.
    pub domain_name_arn: String,
    /// Always `$request.basepath`.
    pub api_mapping_selection_expression: String,
    /// Usually one.
    pub domain_name_configurations: Vec<DomainNameConfiguration>,
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutual_tls_authentication: Option<serde_json::Value>,
    /// `API_MAPPING_ONLY` unless set.
    pub routing_mode: String,
    /// At most 50.
    pub tags: Map,
}

/// Endpoint and certificate of a domain name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DomainNameConfiguration {
    /// The DNS target that clients store.
    pub api_gateway_domain_name: String,
    /// Opaque: certificates come from the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_arn: Option<String>,
    /// Opaque.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_name: Option<String>,
    /// ISO 8601 text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_upload_date: Option<String>,
    /// Always `AVAILABLE`.
    pub domain_name_status: String,
    /// `REGIONAL`.
    pub endpoint_type: String,
    /// Opaque.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosted_zone_id: Option<String>,
    /// `ipv4` or `dualstack`; stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_address_type: Option<String>,
    /// Opaque.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ownership_verification_certificate_arn: Option<String>,
    /// `TLS_1_2`.
    pub security_policy: String,
}

/// Maps a path of a domain name to an API's stage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiMapping {
    /// 7 characters `[a-z0-9]`.
    pub api_mapping_id: String,
    /// The API.
    pub api_id: String,
    /// `""` is the root mapping.
    pub api_mapping_key: String,
    /// The stage.
    pub stage: String,
}

/// A private link; stored and echoed, its targets are called directly.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VpcLink {
    /// 10 characters `[a-z0-9]`.
    pub vpc_link_id: String,
    /// Required.
    pub name: String,
    /// Required.
    pub subnet_ids: Vec<String>,
    /// May be empty.
    pub security_group_ids: Vec<String>,
    /// At most 50.
    pub tags: Map,
    /// ISO 8601 text.
    pub created_date: String,
    /// Always `AVAILABLE`.
    pub vpc_link_status: String,
    /// Always `V2`.
    pub vpc_link_version: String,
}

/// What a deployment freezes: everything of the API that is not live.
///
/// Ids are those of the moment; order is creation order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiDefinition {
    /// The API with its expressions.
    pub api: Api,
    /// All routes.
    pub routes: Vec<Route>,
    /// Route id to its route responses.
    pub route_responses: Map<Vec<RouteResponse>>,
    /// All integrations.
    pub integrations: Vec<Integration>,
    /// Integration id to its integration responses.
    pub integration_responses: Map<Vec<IntegrationResponse>>,
    /// All models.
    pub models: Vec<Model>,
    /// All authorizers.
    pub authorizers: Vec<Authorizer>,
}

/// Everything the data plane needs to know, as one value: what control plane or configuration file hand to
/// [`crate::compile`] after each change.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// All APIs.
    pub apis: Vec<std::sync::Arc<LiveApi>>,
    /// All domain names with their mappings.
    pub domains: Vec<(DomainName, Vec<ApiMapping>)>,
}

/// One API with its stages.
#[derive(Debug, Clone, Default)]
pub struct LiveApi {
    /// Current members; only those that need no deployment are read from here.
    pub api: Api,
    /// All stages.
    pub stages: Vec<LiveStage>,
}

/// One stage and the content of the deployment that it points to.
#[derive(Debug, Clone, Default)]
pub struct LiveStage {
    /// Current members: variables, throttling and logging are live.
    pub stage: Stage,
    /// The frozen definition; shared, so that compiling can recognise it.
    pub deployment: Option<std::sync::Arc<ApiDefinition>>,
    /// What Tidegate demands and offers beyond API Gateway; live.
    pub policy: Option<std::sync::Arc<crate::policy::Policy>>,
}
