//! The objects of an API as the wire of `apigatewayv2` shows them, whether they come from a template or from a
//! running API, and the table of their members.
//!
//! A template has the same members in CamelCase. What is in neither column of the table is told, never dropped.

use serde_json::{Map, Value};

use crate::intrinsic::{unmark, without_marks};
use crate::node::Node;
use crate::report::{Part, Report};
use crate::template::plain;
use crate::yaml::{UNKNOWN_BEGIN, UNKNOWN_END};

/// What a member is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Text,
    Flag,
    Integer,
    Decimal,
    /// A list; one text, separated by commas, stands for a list too.
    Texts,
    /// Free names to texts.
    TextMap,
    /// JSON as text, or as a value.
    Schema,
    /// Free names to `{required}`, or to a boolean.
    Required,
    /// The id of another object.
    Id,
    Members(&'static [Member]),
    ListOf(&'static [Member]),
    /// Free names to objects.
    MapOf(&'static [Member]),
}

/// One member: its name on the wire, and what it is.
pub(crate) type Member = (&'static str, Shape);

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Api,
    Route,
    RouteResponse,
    Integration,
    IntegrationResponse,
    Model,
    Authorizer,
    Deployment,
    Stage,
    DomainName,
    ApiMapping,
    VpcLink,
}

use Shape::{Decimal, Flag, Id, Integer, ListOf, MapOf, Members, Required, Schema, Text, TextMap, Texts};

const ROUTE_SETTINGS: &[Member] = &[
    ("dataTraceEnabled", Flag),
    ("detailedMetricsEnabled", Flag),
    ("loggingLevel", Text),
    ("throttlingBurstLimit", Integer),
    ("throttlingRateLimit", Decimal),
];

impl Kind {
    /// The kind of `AWS::ApiGatewayV2::{name}`.
    pub(crate) fn of_resource(kind: &str) -> Option<Self> {
        Some(match kind.strip_prefix("AWS::ApiGatewayV2::")? {
            "Api" => Self::Api,
            "Route" => Self::Route,
            "RouteResponse" => Self::RouteResponse,
            "Integration" => Self::Integration,
            "IntegrationResponse" => Self::IntegrationResponse,
            "Model" => Self::Model,
            "Authorizer" => Self::Authorizer,
            "Deployment" => Self::Deployment,
            "Stage" => Self::Stage,
            "DomainName" => Self::DomainName,
            "ApiMapping" => Self::ApiMapping,
            "VpcLink" => Self::VpcLink,
            _ => return None,
        })
    }

    fn members(self) -> &'static [Member] {
        match self {
            Self::Api => &[
                ("name", Text),
                ("protocolType", Text),
                ("routeSelectionExpression", Text),
                ("apiKeySelectionExpression", Text),
                ("description", Text),
                ("disableExecuteApiEndpoint", Flag),
                ("disableSchemaValidation", Flag),
                ("ipAddressType", Text),
                ("version", Text),
                ("tags", TextMap),
            ],
            Self::Route => &[
                ("apiId", Id),
                ("routeKey", Text),
                ("target", Id),
                ("authorizationType", Text),
                ("authorizerId", Id),
                ("apiKeyRequired", Flag),
                ("operationName", Text),
                ("modelSelectionExpression", Text),
                ("requestModels", TextMap),
                ("requestParameters", Required),
                ("routeResponseSelectionExpression", Text),
            ],
            Self::RouteResponse => &[
                ("apiId", Id),
                ("routeId", Id),
                ("routeResponseKey", Text),
                ("modelSelectionExpression", Text),
                ("responseModels", TextMap),
                ("responseParameters", Required),
            ],
            Self::Integration => &[
                ("apiId", Id),
                ("integrationType", Text),
                ("integrationUri", Text),
                ("integrationMethod", Text),
                ("connectionType", Text),
                ("connectionId", Id),
                ("credentialsArn", Text),
                ("contentHandlingStrategy", Text),
                ("description", Text),
                ("passthroughBehavior", Text),
                ("payloadFormatVersion", Text),
                ("requestParameters", TextMap),
                ("requestTemplates", TextMap),
                ("templateSelectionExpression", Text),
                ("timeoutInMillis", Integer),
                ("tlsConfig", Members(&[("serverNameToVerify", Text)])),
            ],
            Self::IntegrationResponse => &[
                ("apiId", Id),
                ("integrationId", Id),
                ("integrationResponseKey", Text),
                ("responseTemplates", TextMap),
                ("responseParameters", TextMap),
                ("templateSelectionExpression", Text),
                ("contentHandlingStrategy", Text),
            ],
            Self::Model => &[
                ("apiId", Id),
                ("name", Text),
                ("schema", Schema),
                ("contentType", Text),
                ("description", Text),
            ],
            Self::Authorizer => &[
                ("apiId", Id),
                ("name", Text),
                ("authorizerType", Text),
                ("authorizerUri", Text),
                ("identitySource", Texts),
                ("authorizerCredentialsArn", Text),
                ("identityValidationExpression", Text),
            ],
            Self::Deployment => &[("apiId", Id), ("description", Text), ("stageName", Text)],
            Self::Stage => &[
                ("apiId", Id),
                ("stageName", Text),
                ("deploymentId", Id),
                ("autoDeploy", Flag),
                ("stageVariables", TextMap),
                ("defaultRouteSettings", Members(ROUTE_SETTINGS)),
                ("routeSettings", MapOf(ROUTE_SETTINGS)),
                ("accessLogSettings", Members(&[("destinationArn", Text), ("format", Text)])),
                ("clientCertificateId", Text),
                ("description", Text),
                ("tags", TextMap),
            ],
            Self::DomainName => &[
                ("domainName", Text),
                (
                    "domainNameConfigurations",
                    ListOf(&[
                        ("certificateArn", Text),
                        ("certificateName", Text),
                        ("endpointType", Text),
                        ("ipAddressType", Text),
                        ("ownershipVerificationCertificateArn", Text),
                        ("securityPolicy", Text),
                    ]),
                ),
                ("mutualTlsAuthentication", Members(&[("truststoreUri", Text), ("truststoreVersion", Text)])),
                ("routingMode", Text),
                ("tags", TextMap),
            ],
            Self::ApiMapping => {
                &[("domainName", Text), ("apiId", Id), ("stage", Text), ("apiMappingKey", Text)]
            }
            Self::VpcLink => {
                &[("name", Text), ("subnetIds", Texts), ("securityGroupIds", Texts), ("tags", TextMap)]
            }
        }
    }

    /// Members of a running API that say what the service made of it, and nothing that can be set.
    fn answered(self) -> &'static [&'static str] {
        match self {
            Self::Api => {
                &["apiId", "apiEndpoint", "apiGatewayManaged", "createdDate", "importInfo", "warnings"]
            }
            Self::Route => &["routeId", "apiGatewayManaged"],
            Self::RouteResponse => &["routeResponseId"],
            Self::Integration => {
                &["integrationId", "apiGatewayManaged", "integrationResponseSelectionExpression"]
            }
            Self::IntegrationResponse => &["integrationResponseId"],
            Self::Model => &["modelId"],
            Self::Authorizer => &["authorizerId"],
            Self::Deployment => &[
                "deploymentId",
                "createdDate",
                "deploymentStatus",
                "deploymentStatusMessage",
                "autoDeployed",
            ],
            Self::Stage => {
                &["createdDate", "lastUpdatedDate", "lastDeploymentStatusMessage", "apiGatewayManaged"]
            }
            Self::DomainName => &["domainNameArn", "apiMappingSelectionExpression"],
            Self::ApiMapping => &["apiMappingId"],
            Self::VpcLink => {
                &["vpcLinkId", "createdDate", "vpcLinkStatus", "vpcLinkStatusMessage", "vpcLinkVersion"]
            }
        }
    }

    /// The member that a running API names the object by.
    pub(crate) fn id_member(self) -> &'static str {
        match self {
            Self::Api => "apiId",
            Self::Route => "routeId",
            Self::RouteResponse => "routeResponseId",
            Self::Integration => "integrationId",
            Self::IntegrationResponse => "integrationResponseId",
            Self::Model => "modelId",
            Self::Authorizer => "authorizerId",
            Self::Deployment => "deploymentId",
            Self::Stage => "stageName",
            Self::DomainName => "domainName",
            Self::ApiMapping => "apiMappingId",
            Self::VpcLink => "vpcLinkId",
        }
    }
}

/// Members of the configurations of a domain name that only the service sets.
const ANSWERED_BELOW: &[&str] = &[
    "apiGatewayDomainName",
    "certificateUploadDate",
    "domainNameStatus",
    "domainNameStatusMessage",
    "hostedZoneId",
];

/// Members that exist for other kinds of APIs.
const OF_HTTP_APIS: &[&str] = &[
    "authorizationScopes",
    "authorizerPayloadFormatVersion",
    "authorizerResultTtlInSeconds",
    "basePath",
    "body",
    "bodyS3Location",
    "corsConfiguration",
    "enableSimpleResponses",
    "failOnWarnings",
    "integrationSubtype",
    "jwtConfiguration",
];

/// One object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    /// Where it comes from: `Resources.ChatApi`, or `apis/a1b2c3/routes/x1`.
    pub(crate) path: String,
    pub(crate) line: usize,
    /// What other objects name it by.
    pub(crate) id: String,
    /// By the names of the wire, in the types of the table.
    pub(crate) members: Map<String, Value>,
}

impl Object {
    /// From the properties of a resource, without functions. `known` says what some marks are.
    pub(crate) fn from_properties(
        kind: Kind,
        path: String,
        line: usize,
        id: &str,
        properties: &Node,
        known: &dyn Fn(&str) -> Option<String>,
        report: &mut Report,
    ) -> Self {
        let mut reading = Reading { known, report };
        let members = reading.members(kind.members(), &path, properties);
        Self { kind, path, line, id: id.to_owned(), members }
    }

    /// From what the service answers.
    pub(crate) fn from_wire(kind: Kind, path: String, value: &Value, report: &mut Report) -> Self {
        let node = Node::from_json(value);
        let mut reading = Reading { known: &|_| None, report };
        let mut members = reading.wire_members(kind, &path, &node);
        // What a stage serves is told by comparing dates.
        if let Some(date) = value.get("createdDate").filter(|_| kind == Kind::Deployment) {
            members.insert("createdDate".to_owned(), date.clone());
        }
        let id = value[kind.id_member()].as_str().unwrap_or_default().to_owned();
        Self { kind, path, line: 0, id, members }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.as_str()
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.members.get(name)?.as_bool()
    }

    /// The API that it belongs to.
    pub(crate) fn api(&self) -> &str {
        self.text("apiId").unwrap_or_default()
    }
}

/// `RouteKey` of `routeKey`.
fn camel(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

/// `routeKey` of `RouteKey`.
fn wire(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
}

struct Reading<'a> {
    known: &'a dyn Fn(&str) -> Option<String>,
    report: &'a mut Report,
}

impl Reading<'_> {
    fn members(&mut self, table: &[Member], path: &str, node: &Node) -> Map<String, Value> {
        let mut made = Map::new();
        for (name, node) in node.entries() {
            let path = format!("{path}.{}", plain(name));
            match table.iter().find(|(member, _)| camel(member) == *name) {
                Some((member, shape)) => {
                    if let Some(value) = self.value(*shape, &path, node) {
                        made.insert((*member).to_owned(), value);
                    }
                }
                None => self.unknown(&path, &wire(name), node.line),
            }
        }
        made
    }

    /// As [`Self::members`], with the names of the wire all the way down.
    fn wire_members(&mut self, kind: Kind, path: &str, node: &Node) -> Map<String, Value> {
        let mut made = Map::new();
        for (name, node) in node.entries() {
            if kind.answered().contains(&name.as_str()) || is_empty(node) {
                continue;
            }
            let path = format!("{path}.{}", plain(name));
            match kind.members().iter().find(|(member, _)| member == name) {
                Some((member, shape)) => {
                    if let Some(value) = self.value(*shape, &path, &camel_members(*shape, node)) {
                        made.insert((*member).to_owned(), value);
                    }
                }
                None => self.unknown(&path, name, node.line),
            }
        }
        made
    }

    fn unknown(&mut self, path: &str, wire_name: &str, line: usize) {
        let (why, to_do) = match wire_name {
            name if OF_HTTP_APIS.contains(&name) => {
                ("belongs to HTTP APIs; WebSocket APIs do not have it", "")
            }
            "hostedZoneId" => ("is set by the service", ""),
            "accessPolicyId" => ("is not supported by the service", ""),
            _ => ("is no property that Tidegate knows", "check whether the API needs it"),
        };
        self.report.add(Part::Api, path, line, why, to_do);
    }

    fn wrong(&mut self, path: &str, node: &Node, expected: &str) {
        self.report.add(
            Part::Api,
            path,
            node.line,
            format!("{expected} expected"),
            "write it into the document",
        );
    }

    fn value(&mut self, shape: Shape, path: &str, node: &Node) -> Option<Value> {
        if node.is_null() {
            return None;
        }
        let value = match shape {
            Text => node.as_text().map(|text| Value::from(self.text(path, node.line, text))),
            Flag => node.as_flag().map(Value::from),
            Integer => node.as_text().and_then(|text| text.parse::<u32>().ok()).map(Value::from),
            Decimal => {
                let number = node.as_text().and_then(|text| text.parse::<f64>().ok());
                number.filter(|number| number.is_finite()).map(Value::from)
            }
            Texts => match (node.as_text(), node.as_list()) {
                (Some(text), _) => {
                    let text = self.text(path, node.line, text);
                    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                    Some(parts.map(Value::from).collect())
                }
                (_, Some(items)) => {
                    let texts = items
                        .iter()
                        .map(|item| Some(Value::from(self.text(path, item.line, item.as_text()?))));
                    texts.collect::<Option<Vec<Value>>>().map(Value::from)
                }
                _ => None,
            },
            TextMap => node.as_map().map(|entries| self.text_map(path, entries)),
            Schema => match node.as_text() {
                Some(text) => Some(Value::from(self.text(path, node.line, text))),
                None => Some(Value::from(self.text(path, node.line, &node.to_json().to_string()))),
            },
            Required => node.as_map().map(|entries| {
                let required = |node: &Node| {
                    let inner = node.get("Required").or_else(|| node.get("required"));
                    inner.unwrap_or(node).as_flag().unwrap_or(false)
                };
                let members = entries
                    .iter()
                    .map(|(key, node)| (without_marks(key), serde_json::json!({"required": required(node)})));
                Value::Object(members.collect())
            }),
            Id => node.as_text().map(|text| Value::from(id(text))),
            Members(table) => node.as_map().map(|_| Value::Object(self.members(table, path, node))),
            ListOf(table) => node.as_list().map(|items| {
                let items = items.iter().enumerate();
                items
                    .map(|(idx, item)| Value::Object(self.members(table, &format!("{path}[{idx}]"), item)))
                    .collect()
            }),
            MapOf(table) => match (node.as_map(), node.as_list()) {
                (Some(entries), _) => {
                    let entries = entries.iter().map(|(key, item)| {
                        let path = format!("{path}.{}", plain(key));
                        (key.clone(), Value::Object(self.members(table, &path, item)))
                    });
                    Some(Value::Object(entries.collect()))
                }
                _ => None,
            },
        };
        if value.is_none() {
            let expected = match shape {
                Text | Id => "a text",
                Flag => "true or false",
                Integer | Decimal => "a number",
                Texts | ListOf(_) => "a list",
                TextMap | Required | Members(_) | MapOf(_) => "a map",
                Schema => "a schema",
            };
            self.wrong(path, node, expected);
        }
        value
    }

    fn text_map(&mut self, path: &str, entries: &[(String, Node)]) -> Value {
        let mut made = Map::new();
        for (key, node) in entries {
            let path = format!("{path}.{}", plain(key));
            match node.as_text() {
                Some(text) => {
                    let text = self.text(&path, node.line, text);
                    made.insert(key.clone(), Value::from(text));
                }
                // A template may be written as a map where CloudFormation takes JSON.
                None if node.as_map().is_some() => {
                    let text = self.text(&path, node.line, &node.to_json().to_string());
                    made.insert(key.clone(), Value::from(text));
                }
                None => self.wrong(&path, node, "a text"),
            }
        }
        Value::Object(made)
    }

    /// A text without marks; what stays unknown is told and becomes a name that nobody can mistake.
    fn text(&mut self, path: &str, line: usize, text: &str) -> String {
        let found = unmark(text, self.known);
        if found.names.is_empty() {
            return found.text;
        }
        for name in &found.names {
            let why = format!("{name} is known to AWS alone; the text {} stands for it", placeholder(name));
            let to_do = format!("give it with --parameter '{name}=VALUE', or write it into the document");
            self.report.add(Part::Api, path, line, why, &to_do);
        }
        let known = self.known;
        unmark(text, |name| Some(known(name).unwrap_or_else(|| placeholder(name)))).text
    }
}

/// What stands in a document for what is not known: fits a host name.
pub(crate) fn placeholder(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("unknown-{}", name.trim_matches('-'))
}

/// The name of an object: what is in the only mark of the text, or the end of a target.
fn id(text: &str) -> String {
    let text = text.strip_prefix("integrations/").unwrap_or(text);
    let inner = text.strip_prefix(UNKNOWN_BEGIN).and_then(|text| text.strip_suffix(UNKNOWN_END));
    without_marks(inner.unwrap_or(text))
}

fn is_empty(node: &Node) -> bool {
    node.is_null()
        || node.as_map().is_some_and(<[_]>::is_empty)
        || node.as_list().is_some_and(<[_]>::is_empty)
}

/// The members of objects inside of an answer under the names that a template has.
fn camel_members(shape: Shape, node: &Node) -> Node {
    let mut node = node.clone();
    let rename = |node: &mut Node| {
        if let crate::node::Content::Map(entries) = &mut node.content {
            entries.retain(|(key, _)| !ANSWERED_BELOW.contains(&key.as_str()));
            for (key, _) in entries {
                *key = camel(key);
            }
        }
    };
    match (shape, &mut node.content) {
        (Members(_), _) => rename(&mut node),
        (ListOf(_), crate::node::Content::List(items)) => items.iter_mut().for_each(rename),
        (MapOf(_), crate::node::Content::Map(entries)) => {
            entries.iter_mut().for_each(|(_, item)| rename(item))
        }
        _ => {}
    }
    node
}
