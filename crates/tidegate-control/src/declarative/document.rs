//! The form that people write, in TOML or in JSON: names in place of ids, and only what they may decide.
//!
//! Everything that is not required may be absent and then has its default. What a value may be is decided where the
//! operations of the API decide it, not here.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidegate_core::definition::Map;
use tidegate_core::policy::Policy;

use super::Problem;
use super::locate::locate;

/// Longest text of a document, in bytes. Tidegate's bound.
pub const MAX_DOCUMENT: usize = 16 * 1024 * 1024;

/// APIs, domain names and VPC links as they shall be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Document {
    /// `[[vpc_links]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vpc_links: Vec<VpcLinkForm>,
    /// `[[apis]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub apis: Vec<ApiForm>,
    /// `[[domains]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<DomainForm>,
}

impl Document {
    /// Reads TOML of at most [`MAX_DOCUMENT`] bytes.
    ///
    /// # Errors
    /// Every unknown key and every value of the wrong type, each with its path.
    pub fn from_toml(text: &str) -> Result<Self, Vec<Problem>> {
        Self::from_value(value_of_toml(text)?)
    }

    /// Reads JSON that has already been parsed.
    ///
    /// # Errors
    /// As [`Self::from_toml`].
    pub fn from_value(value: serde_json::Value) -> Result<Self, Vec<Problem>> {
        // Parsed from a reference first: only a document with problems is taken apart to find them.
        match Self::deserialize(&value) {
            Ok(document) => Ok(document),
            Err(error) => Err(locate::<Self>(&value, &error)),
        }
    }
}

/// The value of a TOML text of at most [`MAX_DOCUMENT`] bytes.
///
/// # Errors
/// The line that is no TOML; a number that JSON does not have.
pub(super) fn value_of_toml(text: &str) -> Result<serde_json::Value, Vec<Problem>> {
    let refuse = |message: String| vec![Problem::new(String::new(), message)];
    if text.len() > MAX_DOCUMENT {
        return Err(refuse(format!("the document has more than {MAX_DOCUMENT} bytes")));
    }
    let value = toml::from_str::<serde_json::Value>(text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        refuse(format!("{line}{}", error.message()))
    })?;
    // TOML has no null: it stands for a number that JSON does not have.
    match null(&value, String::new()) {
        Some(path) => Err(vec![Problem::new(path, "neither nan nor inf is permitted".to_owned())]),
        None => Ok(value),
    }
}

/// Path of the first null.
fn null(value: &serde_json::Value, path: String) -> Option<String> {
    use serde_json::Value;
    match value {
        Value::Null => Some(path),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(idx, item)| null(item, format!("{path}[{idx}]")))
        }
        Value::Object(members) => {
            let dot = if path.is_empty() { "" } else { "." };
            members.iter().find_map(|(key, item)| null(item, format!("{path}{dot}{}", super::quote(key))))
        }
        _ => None,
    }
}

/// One VPC link.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VpcLinkForm {
    /// Its id. Without one, the link is found by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Required.
    pub name: String,
    /// Stored.
    pub subnet_ids: Vec<String>,
    /// Stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_group_ids: Vec<String>,
    /// At most 50.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub tags: Map,
}

/// One API with everything below it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiForm {
    /// Its id, a lower-case DNS label; a new API gets it. Without one, the API is found by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Required.
    pub name: String,
    /// Required: `$request.body.action`.
    pub route_selection_expression: String,
    /// `""` counts as set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `$request.header.x-api-key` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_selection_expression: Option<String>,
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_schema_validation: Option<bool>,
    /// Refuses the generated address.
    #[serde(skip_serializing_if = "is_false")]
    pub disable_execute_api_endpoint: bool,
    /// `ipv4` unless given, or `dualstack`; stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_address_type: Option<String>,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// At most 50.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub tags: Map,
    /// By name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub models: Map<ModelForm>,
    /// By the name that routes use.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub authorizers: Map<AuthorizerForm>,
    /// By the name that routes use.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub integrations: Map<IntegrationForm>,
    /// By route key.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub routes: Map<RouteForm>,
    /// By name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub stages: Map<StageForm>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelForm {
    /// Required: JSON Schema draft-04 as text.
    pub schema: String,
    /// `application/json` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `""` counts as set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// One authorizer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthorizerForm {
    /// Its name in the API, when that is not the key of this table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Required, except with `jwt`: the ARN of the call, or an address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// Makes it one of type `JWT`, where `control_plane.allow_jwt_authorizer` permits that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtForm>,
    /// What must be present before it is asked.
    pub identity_source: Vec<String>,
    /// Role of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_arn: Option<String>,
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_validation_expression: Option<String>,
}

/// Whose tokens an authorizer takes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtForm {
    /// Required: address of the issuer.
    pub issuer: String,
    /// Required: whom the tokens must be for, one of these.
    pub audience: Vec<String>,
}

/// One integration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntegrationForm {
    /// `HTTP_PROXY` unless given, `HTTP`, `AWS_PROXY`, `AWS` or `MOCK`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Required unless the type is `MOCK`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// `POST` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `INTERNET` unless given, or `VPC_LINK`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_type: Option<String>,
    /// Id of a VPC link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<String>,
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_arn: Option<String>,
    /// `CONVERT_TO_BINARY` or `CONVERT_TO_TEXT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_handling: Option<String>,
    /// `""` counts as set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `WHEN_NO_MATCH` unless given, `WHEN_NO_TEMPLATES` or `NEVER`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passthrough: Option<String>,
    /// `1.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_format_version: Option<String>,
    /// Chooses the request template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_selection_expression: Option<String>,
    /// Milliseconds; the longest permitted, 29000, unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
    /// Verification name towards the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    /// `integration.request.header.X` to a mapping expression.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub request_parameters: Map,
    /// Template key to template.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub request_templates: Map,
    /// Integration responses by their key, `$default` or `/pattern/`: these and no others.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub responses: Map<IntegrationResponseForm>,
}

impl Default for IntegrationForm {
    fn default() -> Self {
        Self {
            kind: "HTTP_PROXY".to_owned(),
            uri: None,
            method: None,
            connection_type: None,
            connection_id: None,
            credentials_arn: None,
            content_handling: None,
            description: None,
            passthrough: None,
            payload_format_version: None,
            template_selection_expression: None,
            timeout_ms: None,
            tls_server_name: None,
            request_parameters: Map::new(),
            request_templates: Map::new(),
            responses: Map::new(),
        }
    }
}

/// One integration response.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntegrationResponseForm {
    /// Template key to template.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub templates: Map,
    /// Stored.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub parameters: Map,
    /// Chooses the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_selection_expression: Option<String>,
    /// `CONVERT_TO_BINARY` or `CONVERT_TO_TEXT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_handling: Option<String>,
}

/// One route: a table, or only the name of its integration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RouteForm {
    /// Name of an integration. Without one, the route answers as misconfigured.
    pub integration: Option<String>,
    /// The answer of the backend goes back to the client: sets the response selection and the response `$default`.
    pub two_way: bool,
    /// `NONE` unless given, `AWS_IAM` or `CUSTOM`; with a setting also `JWT`.
    pub authorization: Option<String>,
    /// Name of an authorizer; goes with `CUSTOM` and `JWT`.
    pub authorizer: Option<String>,
    /// With `JWT`: a token must have one of them.
    pub authorization_scopes: Vec<String>,
    /// Meaningful on `$connect`.
    pub api_key_required: bool,
    /// Free text of 1 to 64 characters.
    pub operation_name: Option<String>,
    /// Chooses the request model.
    pub model_selection_expression: Option<String>,
    /// Model key to name of a model.
    pub request_models: Map,
    /// `route.request.querystring.X` or `route.request.header.X`; whether it is required.
    pub request_parameters: Map<bool>,
    /// `$default`; `two_way` sets it.
    pub response_selection_expression: Option<String>,
    /// The route response `$default`; `two_way` makes one.
    pub response: Option<RouteResponseForm>,
}

/// [`RouteForm`] as a table.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RouteTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    integration: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    two_way: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizer: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_scopes: Vec<String>,
    #[serde(skip_serializing_if = "is_false")]
    api_key_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_selection_expression: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_selection_expression: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    request_models: Map,
    #[serde(skip_serializing_if = "Map::is_empty")]
    request_parameters: Map<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<RouteResponseForm>,
}

impl Serialize for RouteForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_name_alone = *self == Self { integration: self.integration.clone(), ..Self::default() };
        if let (Some(integration), true) = (&self.integration, is_name_alone) {
            return integration.serialize(serializer);
        }
        let route = self.clone();
        RouteTable {
            integration: route.integration,
            two_way: route.two_way,
            authorization: route.authorization,
            authorizer: route.authorizer,
            authorization_scopes: route.authorization_scopes,
            api_key_required: route.api_key_required,
            operation_name: route.operation_name,
            model_selection_expression: route.model_selection_expression,
            response_selection_expression: route.response_selection_expression,
            request_models: route.request_models,
            request_parameters: route.request_parameters,
            response: route.response,
        }
        .serialize(serializer)
    }
}

/// By hand, because an untagged enum would not say which key is wrong.
impl<'de> Deserialize<'de> for RouteForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrTable;

        impl<'de> Visitor<'de> for TextOrTable {
            type Value = RouteForm;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an integration or a table")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RouteForm, E> {
                Ok(RouteForm { integration: Some(text.to_owned()), ..RouteForm::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RouteForm, A::Error> {
                let table = RouteTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RouteForm {
                    integration: table.integration,
                    two_way: table.two_way,
                    authorization: table.authorization,
                    authorizer: table.authorizer,
                    authorization_scopes: table.authorization_scopes,
                    api_key_required: table.api_key_required,
                    operation_name: table.operation_name,
                    model_selection_expression: table.model_selection_expression,
                    request_models: table.request_models,
                    request_parameters: table.request_parameters,
                    response_selection_expression: table.response_selection_expression,
                    response: table.response,
                })
            }
        }
        deserializer.deserialize_any(TextOrTable)
    }
}

/// What a route response holds beside its key.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteResponseForm {
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_selection_expression: Option<String>,
    /// Stored.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub models: Map,
    /// Stored; whether it is required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Map<bool>>,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StageForm {
    /// `""` counts as set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Every change of the API deploys, whoever makes it.
    #[serde(skip_serializing_if = "is_false")]
    pub auto_deploy: bool,
    /// The stage serves the API as it is described here. Otherwise its deployment is left as it is.
    #[serde(skip_serializing_if = "is_true")]
    pub deploy: bool,
    /// Description of the deployment that the stage serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_description: Option<String>,
    /// `OFF` unless given, `ERROR` or `INFO`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging_level: Option<String>,
    /// Payloads in execution logs.
    #[serde(skip_serializing_if = "is_false")]
    pub data_trace: bool,
    /// Metrics with a route label.
    #[serde(skip_serializing_if = "is_false")]
    pub detailed_metrics: bool,
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_id: Option<String>,
    /// For every route without settings of its own.
    #[serde(skip_serializing_if = "Throttle::is_empty")]
    pub throttle: Throttle,
    /// Stage variables.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub variables: Map,
    /// At most 50.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub tags: Map,
    /// By route key.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub route_settings: Map<RouteSettingsForm>,
    /// Unset: no access log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLogForm>,
    /// What Tidegate demands and offers beyond API Gateway. Absent: a policy that is there stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

impl Default for StageForm {
    fn default() -> Self {
        Self {
            description: None,
            auto_deploy: false,
            deploy: true,
            deployment_description: None,
            logging_level: None,
            data_trace: false,
            detailed_metrics: false,
            client_certificate_id: None,
            throttle: Throttle::default(),
            variables: Map::new(),
            tags: Map::new(),
            route_settings: Map::new(),
            access_log: None,
            policy: None,
        }
    }
}

/// Token bucket; unset: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Throttle {
    /// Tokens a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Tokens the bucket holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

impl Throttle {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Settings of one route in a stage; what is unset is the stage's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteSettingsForm {
    /// Payloads in execution logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_trace: Option<bool>,
    /// Metrics with a route label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detailed_metrics: Option<bool>,
    /// `INFO`, `ERROR` or `OFF`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging_level: Option<String>,
    /// The route's bucket.
    #[serde(skip_serializing_if = "Throttle::is_empty")]
    pub throttle: Throttle,
}

/// Where access logs go, and their form; both are required.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogForm {
    /// `...:log-group:{name}`.
    pub destination_arn: String,
    /// One line with `$context` variables, `$context.requestId` among them.
    pub format: String,
}

/// One custom domain name with its mappings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DomainForm {
    /// Required: exact, or `*.example.com`.
    pub name: String,
    /// At most 50.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub tags: Map,
    /// Stored; usually one. Absent: one without a certificate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configurations: Vec<ConfigurationForm>,
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutual_tls: Option<MutualTlsForm>,
    /// Paths of the domain name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<MappingForm>,
}

/// Endpoint and certificate of a domain name; certificates that are served come from the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigurationForm {
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_arn: Option<String>,
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_name: Option<String>,
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosted_zone_id: Option<String>,
    /// `ipv4` or `dualstack`; stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_address_type: Option<String>,
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ownership_verification_certificate_arn: Option<String>,
}

/// Trust store of a domain name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MutualTlsForm {
    /// Required.
    pub truststore_uri: String,
    /// Stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truststore_version: Option<String>,
}

/// One path of a domain name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MappingForm {
    /// First segment of the path; empty: the root.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Required: id or name of an API.
    pub api: String,
    /// Required.
    pub stage: String,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_true(flag: &bool) -> bool {
    *flag
}
