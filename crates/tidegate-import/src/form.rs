//! Objects become the document that `tidegate plan` and `tidegate apply` take.
//!
//! Members that have their default are left out, as an export leaves them out, so that both look the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::object::{Kind, Object};
use crate::report::{Part, Report};
use crate::template::plain;

/// What a member has unless it is given.
const DEFAULTS: &[(&str, &str)] = &[
    ("api_key_selection_expression", "$request.header.x-api-key"),
    ("ip_address_type", "ipv4"),
    ("content_type", "application/json"),
    ("method", "POST"),
    ("connection_type", "INTERNET"),
    ("passthrough", "WHEN_NO_MATCH"),
    ("payload_format_version", "1.0"),
    ("authorization", "NONE"),
    ("logging_level", "OFF"),
    ("type", "HTTP_PROXY"),
];

/// Longest timeout of an integration, in milliseconds, which is the default too.
const DEFAULT_TIMEOUT_MS: u64 = 29_000;

/// All objects of an import.
pub(crate) struct Objects<'a> {
    pub(crate) all: &'a [Object],
    /// Ids that APIs of a template shall get, by their logical names.
    pub(crate) api_ids: &'a BTreeMap<String, String>,
    /// Whether ids are those of a running API: then the API and its VPC links keep theirs, and integrations get names.
    pub(crate) is_live: bool,
}

impl Objects<'_> {
    fn of<'s>(&'s self, kind: Kind, api: &'s str) -> impl Iterator<Item = &'s Object> {
        self.all.iter().filter(move |object| object.kind == kind && object.api() == api)
    }

    fn every(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.all.iter().filter(move |object| object.kind == kind)
    }

    /// The document as a value.
    pub(crate) fn document(&self, report: &mut Report) -> Value {
        let known: BTreeSet<&str> = self.every(Kind::Api).map(|api| api.id.as_str()).collect();
        for object in self.all {
            let has_api = !matches!(object.kind, Kind::Api | Kind::DomainName | Kind::VpcLink);
            if has_api && !known.contains(object.api()) {
                let why = match object.api() {
                    "" => "names no API".to_owned(),
                    api => format!(
                        "belongs to the API {}, which is not in the template or is no WebSocket API",
                        plain(api)
                    ),
                };
                report.add(Part::Api, &object.path, object.line, why, "import that API too");
            }
        }
        let vpc_links: Vec<Value> = self.every(Kind::VpcLink).map(|link| self.vpc_link(link)).collect();
        let apis: Vec<Value> = self.every(Kind::Api).map(|api| self.api(api, report)).collect();
        let domains: Vec<Value> =
            self.every(Kind::DomainName).map(|domain| self.domain(domain, &known, report)).collect();
        self.lost_mappings(report);
        let mut document = Map::new();
        for (name, list) in [("vpc_links", vpc_links), ("apis", apis), ("domains", domains)] {
            if !list.is_empty() {
                document.insert(name.to_owned(), Value::Array(list));
            }
        }
        Value::Object(document)
    }

    /// The id of a VPC link in the document.
    fn vpc_link_id(&self, id: &str) -> String {
        match self.is_live {
            true => id.to_owned(),
            false => label(id),
        }
    }

    fn vpc_link(&self, link: &Object) -> Value {
        let mut form = Form::new(link);
        form.put("id", Some(json!(self.vpc_link_id(&link.id))));
        form.text("name", "name").any("subnet_ids", "subnetIds");
        form.any("security_group_ids", "securityGroupIds").any("tags", "tags");
        if !form.made.contains_key("subnet_ids") {
            form.put("subnet_ids", Some(json!([])));
        }
        form.done()
    }

    fn api(&self, api: &Object, report: &mut Report) -> Value {
        let mut form = Form::new(api);
        let id = match self.is_live {
            true => Some(api.id.clone()),
            false => self.api_ids.get(&api.id).cloned(),
        };
        form.put("id", id.map(Value::from));
        form.text("name", "name").text("route_selection_expression", "routeSelectionExpression");
        form.text("description", "description").text("version", "version");
        form.text("api_key_selection_expression", "apiKeySelectionExpression");
        form.any("disable_schema_validation", "disableSchemaValidation");
        form.when_true("disable_execute_api_endpoint", "disableExecuteApiEndpoint");
        form.text("ip_address_type", "ipAddressType").any("tags", "tags");

        let integrations = self.integration_names(&api.id);
        let authorizers = self.authorizer_names(&api.id);
        let models = self.of(Kind::Model, &api.id);
        let models: Map<String, Value> = models
            .map(|model| {
                let mut form = Form::new(model);
                form.text("schema", "schema").text("content_type", "contentType");
                form.text("description", "description");
                (model.text("name").unwrap_or(&model.id).to_owned(), form.done())
            })
            .collect();
        let mut authorizer_forms = Map::new();
        for it in self.of(Kind::Authorizer, &api.id) {
            if let Some(name) = authorizers.get(it.id.as_str()) {
                authorizer_forms.insert(name.clone(), authorizer(it, name, report));
            }
        }
        let mut integration_forms = Map::new();
        for it in self.of(Kind::Integration, &api.id) {
            if let Some(name) = integrations.get(it.id.as_str()) {
                integration_forms.insert(name.clone(), self.integration(it, report));
            }
        }
        let mut routes = Map::new();
        for it in self.of(Kind::Route, &api.id) {
            let key = it.text("routeKey").unwrap_or_default().to_owned();
            let value = self.route(it, &integrations, &authorizers, report);
            if key.is_empty() {
                report.add(Part::Api, &it.path, it.line, "has no RouteKey", "");
            } else if routes.insert(key.clone(), value).is_some() {
                let why = format!("is a second route with the key {}", plain(&key));
                report.add(Part::Api, &it.path, it.line, why, "keep one of them");
            }
        }
        let stages = self.stages(api, report);
        for (name, table) in [
            ("models", models),
            ("authorizers", authorizer_forms),
            ("integrations", integration_forms),
            ("routes", routes),
            ("stages", stages),
        ] {
            form.put(name, Some(Value::Object(table)).filter(|table| *table != json!({})));
        }
        for name in ["name", "route_selection_expression"] {
            if !form.made.contains_key(name) {
                let what = format!("{}.{name}", api.path);
                report.add(Part::Api, &what, api.line, "is required", "write it into the document");
            }
        }
        form.done()
    }

    /// Integration id to its name in the document.
    fn integration_names(&self, api: &str) -> BTreeMap<&str, String> {
        let mut names = BTreeMap::new();
        let mut taken = BTreeSet::new();
        let routes = self.of(Kind::Route, api);
        let mut routes: Vec<(&str, &str)> =
            routes.filter_map(|route| Some((route.text("routeKey")?, route.text("target")?))).collect();
        routes.sort_unstable();
        for integration in self.all.iter().filter(|o| o.kind == Kind::Integration && o.api() == api) {
            let first = routes.iter().find(|(_, target)| *target == integration.id).map(|(key, _)| *key);
            let mut name = match (self.is_live, first) {
                (true, Some(key)) => word(key),
                // The Serverless Framework's names are those of functions, with an end.
                _ => integration.id.trim_end_matches("WebsocketsIntegration").to_owned(),
            };
            if name.is_empty() || taken.contains(&name) {
                name = integration.id.clone();
            }
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            names.insert(integration.id.as_str(), name);
        }
        names
    }

    /// Authorizer id to its name in the document.
    fn authorizer_names(&self, api: &str) -> BTreeMap<&str, String> {
        let mut names = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for it in self.all.iter().filter(|o| o.kind == Kind::Authorizer && o.api() == api) {
            let own = it.text("name").filter(|name| !taken.contains(*name)).map(str::to_owned);
            let mut name = own.unwrap_or_else(|| it.id.clone());
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            names.insert(it.id.as_str(), name);
        }
        names
    }

    fn integration(&self, it: &Object, report: &mut Report) -> Value {
        let mut form = Form::new(it);
        form.text("type", "integrationType").text("uri", "integrationUri");
        form.text("method", "integrationMethod").text("connection_type", "connectionType");
        form.text("payload_format_version", "payloadFormatVersion");
        if !form.made.contains_key("uri") {
            // They follow from a URI: without one they are only there when they were given.
            for (name, wire) in
                [("method", "integrationMethod"), ("payload_format_version", "payloadFormatVersion")]
            {
                form.put(name, it.members.get(wire).cloned());
            }
        }
        let is_mock = it.text("integrationType") == Some("MOCK");
        if !form.made.contains_key("uri") && !is_mock {
            let what = format!("{}.IntegrationUri", it.path);
            report.add(Part::Api, &what, it.line, "is required", "write it into the document");
        }
        form.put("connection_id", it.text("connectionId").map(|id| self.vpc_link_id(id)).map(Value::from));
        form.text("credentials_arn", "credentialsArn").text("content_handling", "contentHandlingStrategy");
        form.text("description", "description").text("passthrough", "passthroughBehavior");
        form.text("template_selection_expression", "templateSelectionExpression");
        let timeout = it.members.get("timeoutInMillis").and_then(Value::as_u64);
        form.put("timeout_ms", timeout.filter(|ms| *ms != DEFAULT_TIMEOUT_MS).map(Value::from));
        form.put(
            "tls_server_name",
            it.members.get("tlsConfig").and_then(|tls| tls.get("serverNameToVerify")).cloned(),
        );
        form.any("request_parameters", "requestParameters").any("request_templates", "requestTemplates");
        let mut responses = Map::new();
        for response in self.of(Kind::IntegrationResponse, it.api()) {
            if response.text("integrationId") != Some(it.id.as_str()) {
                continue;
            }
            let mut form = Form::new(response);
            form.any("templates", "responseTemplates").any("parameters", "responseParameters");
            form.text("template_selection_expression", "templateSelectionExpression");
            form.text("content_handling", "contentHandlingStrategy");
            let key = response.text("integrationResponseKey").unwrap_or("$default").to_owned();
            if responses.insert(key, form.done()).is_some() {
                report.add(
                    Part::Api,
                    &response.path,
                    response.line,
                    "is a second response of that key",
                    "keep one of them",
                );
            }
        }
        form.put("responses", Some(Value::Object(responses)).filter(|r| *r != json!({})));
        form.done()
    }

    fn route(
        &self,
        it: &Object,
        integrations: &BTreeMap<&str, String>,
        authorizers: &BTreeMap<&str, String>,
        report: &mut Report,
    ) -> Value {
        let mut form = Form::new(it);
        if let Some(target) = it.text("target") {
            match integrations.get(target) {
                Some(name) => form.put("integration", Some(json!(name))),
                None => {
                    let what = format!("{}.Target", it.path);
                    let why = format!("the integration {} is not there", plain(target));
                    report.add(Part::Api, &what, it.line, why, "write one into the document");
                }
            }
        }
        form.text("authorization", "authorizationType");
        if let Some(id) = it.text("authorizerId") {
            match authorizers.get(id) {
                Some(name) => form.put("authorizer", Some(json!(name))),
                None => {
                    let what = format!("{}.AuthorizerId", it.path);
                    let why = format!("the authorizer {} is not there", plain(id));
                    report.add(Part::Api, &what, it.line, why, "write one into the document");
                }
            }
        }
        form.when_true("api_key_required", "apiKeyRequired").text("operation_name", "operationName");
        form.text("model_selection_expression", "modelSelectionExpression")
            .any("request_models", "requestModels");
        form.put(
            "request_parameters",
            required(it.members.get("requestParameters")).filter(|p| *p != json!({})),
        );
        let mut responses =
            self.of(Kind::RouteResponse, it.api()).filter(|r| r.text("routeId") == Some(it.id.as_str()));
        let response = responses.find(|r| r.text("routeResponseKey") == Some("$default"));
        for other in
            self.of(Kind::RouteResponse, it.api()).filter(|r| r.text("routeId") == Some(it.id.as_str()))
        {
            if response.is_none_or(|response| !std::ptr::eq(response, other)) {
                report.add(
                    Part::Api,
                    &other.path,
                    other.line,
                    "only one response, of the key $default, is used",
                    "",
                );
            }
        }
        let selection = it.text("routeResponseSelectionExpression");
        let is_two_way = response.is_some() && selection == Some("$default");
        let response = response.map(|response| {
            let mut form = Form::new(response);
            form.text("model_selection_expression", "modelSelectionExpression")
                .any("models", "responseModels");
            form.put("parameters", required(response.members.get("responseParameters")));
            form.done()
        });
        if is_two_way {
            form.put("two_way", Some(json!(true)));
        } else {
            form.put("response_selection_expression", selection.map(Value::from));
        }
        form.put("response", response.filter(|response| !is_two_way || *response != json!({})));
        let is_name_alone = form.made.len() == 1;
        match form.made.get("integration") {
            Some(name) if is_name_alone => name.clone(),
            _ => form.done(),
        }
    }

    fn stages(&self, api: &Object, report: &mut Report) -> Map<String, Value> {
        let mut stages = Map::new();
        let deployments: Vec<&Object> = self.of(Kind::Deployment, &api.id).collect();
        let newest = deployments.iter().filter_map(|d| d.text("createdDate")).max();
        for it in self.of(Kind::Stage, &api.id) {
            let mut form = Form::new(it);
            let name = it.text("stageName").unwrap_or(&it.id).to_owned();
            let is_auto = it.flag("autoDeploy") == Some(true);
            form.text("description", "description").when_true("auto_deploy", "autoDeploy");
            let deployment = it.text("deploymentId").and_then(|id| deployments.iter().find(|d| d.id == id));
            let deployment = deployment
                .or_else(|| deployments.iter().find(|d| d.text("stageName") == Some(name.as_str())));
            match deployment {
                Some(deployment) if !is_auto => {
                    form.put("deployment_description", deployment.text("description").map(Value::from));
                    let date = deployment.text("createdDate");
                    if date < newest {
                        let what = format!("{}.deploymentId", it.path);
                        let why = "the stage serves a deployment that is not the newest; its content cannot be read";
                        report.add(
                            Part::Api,
                            &what,
                            it.line,
                            why,
                            "the document has the API as it is now: check it before applying",
                        );
                    }
                }
                // Without a deployment, a stage refuses whoever comes.
                None if !is_auto && it.text("deploymentId").is_none() => {
                    form.put("deploy", Some(json!(false)))
                }
                _ => {}
            }
            settings(&mut form, it.members.get("defaultRouteSettings"), true);
            form.text("client_certificate_id", "clientCertificateId").any("variables", "stageVariables");
            form.any("tags", "tags");
            let routes = it.members.get("routeSettings").and_then(Value::as_object).into_iter().flatten();
            let routes: Map<String, Value> = routes
                .map(|(key, value)| {
                    let mut form = Form::new(it);
                    settings(&mut form, Some(value), false);
                    (key.clone(), form.done())
                })
                .collect();
            form.put("route_settings", Some(Value::Object(routes)).filter(|r| *r != json!({})));
            access_log(&mut form, it, report);
            if stages.insert(name, form.done()).is_some() {
                report.add(
                    Part::Api,
                    &it.path,
                    it.line,
                    "is a second stage of that name",
                    "keep one of them",
                );
            }
        }
        for deployment in deployments {
            if let Some(name) = deployment.text("stageName").filter(|name| !stages.contains_key(*name)) {
                let mut form = Form::new(deployment);
                form.text("deployment_description", "description");
                stages.insert(name.to_owned(), form.done());
            }
        }
        stages
    }

    fn domain(&self, domain: &Object, apis: &BTreeSet<&str>, report: &mut Report) -> Value {
        let mut form = Form::new(domain);
        form.text("name", "domainName").any("tags", "tags");
        let configurations = domain.members.get("domainNameConfigurations").and_then(Value::as_array);
        let mut made = Vec::new();
        for value in configurations.into_iter().flatten() {
            for (member, only) in [("endpointType", "REGIONAL"), ("securityPolicy", "TLS_1_2")] {
                if let Some(text) = value[member].as_str().filter(|text| *text != only) {
                    let what = format!("{}.{member}", domain.path);
                    let why = format!("{} is not what WebSocket APIs have: {only} is", plain(text));
                    report.add(Part::Api, &what, domain.line, why, "");
                }
            }
            let mut form = Map::new();
            for (name, wire) in [
                ("certificate_arn", "certificateArn"),
                ("certificate_name", "certificateName"),
                ("ip_address_type", "ipAddressType"),
                ("ownership_verification_certificate_arn", "ownershipVerificationCertificateArn"),
            ] {
                if let Some(value) = value.get(wire) {
                    form.insert(name.to_owned(), value.clone());
                }
            }
            made.push(Value::Object(form));
        }
        if made != [json!({})] {
            form.put("configurations", Some(Value::Array(made)).filter(|c| *c != json!([])));
        }
        if let Some(text) = domain.text("routingMode").filter(|mode| *mode != "API_MAPPING_ONLY") {
            let what = format!("{}.RoutingMode", domain.path);
            report.add(
                Part::Api,
                &what,
                domain.line,
                format!("{} is left out", plain(text)),
                "routing rules have no counterpart",
            );
        }
        form.put(
            "mutual_tls",
            domain.members.get("mutualTlsAuthentication").and_then(Value::as_object).map(|tls| {
                let names =
                    [("truststore_uri", "truststoreUri"), ("truststore_version", "truststoreVersion")];
                let names = names
                    .into_iter()
                    .filter_map(|(name, wire)| Some((name.to_owned(), tls.get(wire)?.clone())));
                Value::Object(names.collect())
            }),
        );
        let name = domain.text("domainName").unwrap_or_default();
        let mut mappings: Vec<(String, Value)> = Vec::new();
        for it in self.every(Kind::ApiMapping).filter(|m| m.text("domainName") == Some(name)) {
            if !apis.contains(it.api()) {
                continue;
            }
            let mut form = Form::new(it);
            let key = it.text("apiMappingKey").filter(|key| !key.is_empty() && *key != "(none)");
            form.put("key", key.map(Value::from));
            form.put("api", Some(json!(self.api_reference(it.api()))));
            form.text("stage", "stage");
            mappings.push((key.unwrap_or_default().to_owned(), form.done()));
        }
        mappings.sort_by(|a, b| a.0.cmp(&b.0));
        let mappings: Vec<Value> = mappings.into_iter().map(|(_, form)| form).collect();
        form.put("mappings", Some(Value::Array(mappings)).filter(|m| *m != json!([])));
        form.done()
    }

    /// Its name, or its id where several have that name.
    fn api_reference(&self, api: &str) -> String {
        let name = self.every(Kind::Api).find(|it| it.id == api).and_then(|it| it.text("name"));
        let name = name.unwrap_or(api);
        let is_alone = self.every(Kind::Api).filter(|it| it.text("name") == Some(name)).count() == 1;
        match (is_alone, self.is_live) {
            (false, true) => api.to_owned(),
            (false, false) => self.api_ids.get(api).cloned().unwrap_or_else(|| name.to_owned()),
            (true, _) => name.to_owned(),
        }
    }

    /// Mappings of domain names that are made elsewhere.
    fn lost_mappings(&self, report: &mut Report) {
        let domains: BTreeSet<&str> =
            self.every(Kind::DomainName).filter_map(|d| d.text("domainName")).collect();
        for it in self.every(Kind::ApiMapping) {
            let domain = it.text("domainName").unwrap_or_default();
            if !domains.contains(domain) {
                let why = format!("the domain name {} is not in the template", plain(domain));
                report.add(
                    Part::Api,
                    &it.path,
                    it.line,
                    why,
                    "write a [[domains]] with this mapping into the document",
                );
            }
        }
    }
}

fn authorizer(it: &Object, name: &str, report: &mut Report) -> Value {
    let mut form = Form::new(it);
    form.put("name", it.text("name").filter(|own| *own != name).map(Value::from));
    form.text("uri", "authorizerUri").any("identity_source", "identitySource");
    form.text("credentials_arn", "authorizerCredentialsArn");
    form.text("identity_validation_expression", "identityValidationExpression");
    for name in ["uri", "identity_source"] {
        if !form.made.contains_key(name) {
            form.put(name, Some(if name == "uri" { json!("") } else { json!([]) }));
        }
    }
    if let Some(kind) = it.text("authorizerType").filter(|kind| *kind != "REQUEST") {
        let what = format!("{}.AuthorizerType", it.path);
        let why = format!("{} is not possible for WebSocket APIs", plain(kind));
        report.add(Part::Api, &what, it.line, why, "");
    }
    form.done()
}

fn access_log(form: &mut Form<'_>, stage: &Object, report: &mut Report) {
    let Some(log) = stage.members.get("accessLogSettings") else { return };
    match (log["destinationArn"].as_str(), log["format"].as_str()) {
        (Some(arn), Some(format)) => {
            // A format of several lines ends with a line end that says nothing.
            let format = format.trim_end_matches(['\r', '\n']);
            // The ARN of a log group ends with `:*` in CloudFormation, and API Gateway takes it without.
            let arn = arn.strip_suffix(":*").unwrap_or(arn);
            form.put("access_log", Some(json!({"destination_arn": arn, "format": format})));
        }
        (None, None) => {}
        _ => {
            let what = format!("{}.AccessLogSettings", stage.path);
            report.add(
                Part::Api,
                &what,
                stage.line,
                "has no destination or no format",
                "write both into the document",
            );
        }
    }
}

fn settings(form: &mut Form<'_>, value: Option<&Value>, is_stage: bool) {
    let Some(value) = value else { return };
    let flag = |name: &str| value[name].as_bool().filter(|flag| *flag || !is_stage).map(Value::from);
    form.put("data_trace", flag("dataTraceEnabled"));
    form.put("detailed_metrics", flag("detailedMetricsEnabled"));
    let level = value["loggingLevel"].as_str().filter(|level| !is_stage || *level != "OFF");
    form.put("logging_level", level.map(Value::from));
    let mut throttle = Map::new();
    for (name, wire) in [("rate", "throttlingRateLimit"), ("burst", "throttlingBurstLimit")] {
        if let Some(value) = value.get(wire) {
            throttle.insert(name.to_owned(), value.clone());
        }
    }
    form.put("throttle", Some(Value::Object(throttle)).filter(|t| *t != json!({})));
}

fn required(parameters: Option<&Value>) -> Option<Value> {
    let members = parameters?.as_object()?;
    let flags = members.iter().map(|(name, value)| (name.clone(), value["required"].clone()));
    Some(Value::Object(flags.collect()))
}

/// A table of the document, made of an object's members.
struct Form<'a> {
    from: &'a Object,
    made: Map<String, Value>,
}

impl<'a> Form<'a> {
    fn new(from: &'a Object) -> Self {
        Self { from, made: Map::new() }
    }

    fn put(&mut self, name: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.made.insert(name.to_owned(), value);
        }
    }

    /// A text that differs from the default.
    fn text(&mut self, name: &str, wire: &str) -> &mut Self {
        let default = DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, default)| *default);
        let text = self.from.text(wire).filter(|text| Some(*text) != default);
        self.put(name, text.map(Value::from));
        self
    }

    fn when_true(&mut self, name: &str, wire: &str) -> &mut Self {
        self.put(name, self.from.flag(wire).filter(|flag| *flag).map(Value::from));
        self
    }

    /// What is not empty.
    fn any(&mut self, name: &str, wire: &str) -> &mut Self {
        let value = self.from.members.get(wire).filter(|value| **value != json!({}) && **value != json!([]));
        self.put(name, value.cloned());
        self
    }

    fn done(self) -> Value {
        Value::Object(self.made)
    }
}

/// A name of letters, digits, `-` and `_` for a route key.
fn word(key: &str) -> String {
    let word: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    word.trim_matches('-').to_owned()
}

/// A lower-case DNS label of at most 32 characters.
fn label(id: &str) -> String {
    let label: String = id.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    label.to_ascii_lowercase()
}
