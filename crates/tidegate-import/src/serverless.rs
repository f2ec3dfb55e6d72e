//! `serverless.yml` of the Serverless Framework becomes the template that the framework makes of it.
//!
//! Variables are resolved first (`serverless/variables.rs`). The logical names are those of the framework, because
//! resources of the file may refer to them: `WebsocketsApi`, `ConnectLambdaFunction`, `SconnectWebsocketsRoute`.

mod variables;

use crate::error::ImportError;
use crate::node::{Content, Node};
use crate::report::{Part, Report};
use crate::sam::call_of;
use crate::template::{Options, Template, plain};

/// The API of a service.
const API: &str = "WebsocketsApi";
const STAGE: &str = "WebsocketsDeploymentStage";
const DEPLOYMENT: &str = "WebsocketsDeployment";
const LOG_GROUP: &str = "WebsocketsLogGroup";

/// What an authorizer looks for unless it says so.
const IDENTITY_SOURCE: &str = "route.request.header.Auth";

/// What the framework writes for each access.
const ACCESS_LOG: &str = "$context.identity.sourceIp $context.identity.caller $context.identity.user [$context.requestTime] \
\"$context.eventType $context.routeKey $context.connectionId\" $context.requestId";

/// Keys of the provider that say something about the API or its functions.
const PROVIDER: &[&str] = &[
    "apiGateway",
    "environment",
    "logs",
    "name",
    "region",
    "runtime",
    "stackName",
    "stage",
    "tags",
    "timeout",
    "websocket",
    "websocketsApiName",
    "websocketsApiRouteSelectionExpression",
    "websocketsDescription",
];

/// Sections without an effect on what is deployed, or that are read elsewhere.
const SECTIONS: &[&str] = &[
    "configValidationMode",
    "custom",
    "deprecationNotificationMode",
    "disabledDeprecations",
    "frameworkVersion",
    "functions",
    "package",
    "params",
    "provider",
    "resources",
    "service",
    "stages",
    "useDotenv",
    "variablesResolutionMode",
    "app",
    "org",
];

struct Service<'a> {
    name: String,
    stage: String,
    provider: Node,
    template: Template,
    report: &'a mut Report,
}

/// # Errors
/// Variables that cannot be resolved in bounds, no functions with a `websocket` event.
pub(crate) fn template(root: &Node, options: &Options, report: &mut Report) -> Result<Template, ImportError> {
    if root.as_map().is_none() {
        return Err(ImportError::at(root.line, "a `serverless.yml` with `service` and `functions` expected"));
    }
    let root = variables::resolve(root, options)?;
    let empty = || Node::map(0, []);
    let provider = root.get("provider").cloned().unwrap_or_else(empty);
    let text = |node: &Node, path: &[&str]| node.text_at(path).map(str::to_owned);
    let name = text(&root, &["service"]).or_else(|| text(&root, &["service", "name"])).unwrap_or_default();
    let stage =
        options.stage.clone().or_else(|| text(&provider, &["stage"])).unwrap_or_else(|| "dev".to_owned());
    for (section, node) in root.entries() {
        match section.as_str() {
            "plugins" => {
                let listed = node.as_list().or_else(|| node.get("modules")?.as_list()).unwrap_or_default();
                let names: Vec<String> = listed.iter().filter_map(Node::as_text).map(plain).collect();
                let why = format!("plugins may change what is deployed: {}", names.join(", "));
                report.add(
                    Part::Beside,
                    "plugins",
                    node.line,
                    why,
                    "compare with `serverless package`, whose template can be imported",
                );
            }
            "layers" | "outputs" | "build" | "state" => {
                let why = "is for the framework or for AWS Lambda alone";
                report.add(Part::Beside, section, node.line, why, "");
            }
            section if SECTIONS.contains(&section) => {}
            section => {
                report.add(Part::Beside, &plain(section), node.line, "is no section that is known", "")
            }
        }
    }
    let rest = provider.entries().iter().map(|(key, _)| key.as_str());
    let rest: Vec<String> = rest.filter(|key| !PROVIDER.contains(key)).map(plain).collect();
    if !rest.is_empty() {
        let why = format!("{} concern AWS Lambda, rights or other kinds of APIs", rest.join(", "));
        report.add(Part::Beside, "provider", provider.line, why, "");
    }

    let mut template = Template {
        parameters: empty(),
        mappings: empty(),
        conditions: empty(),
        globals: empty(),
        resources: Vec::new(),
        region: text(&provider, &["region"]),
        stack_name: text(&provider, &["stackName"]).or_else(|| Some(format!("{name}-{stage}"))),
    };
    let alone = root.get("resources").cloned().unwrap_or_else(empty);
    let parts = match alone.content {
        Content::List(items) => items,
        _ => vec![alone],
    };
    for part in &parts {
        resources(part, &mut template, report)?;
    }
    let mut service = Service { name, stage, provider, template, report };
    service.functions(root.get("functions"))?;
    Ok(service.template)
}

/// What the file has in the form of CloudFormation.
fn resources(part: &Node, template: &mut Template, report: &mut Report) -> Result<(), ImportError> {
    for (name, node) in part.entries() {
        match name.as_str() {
            "Resources" => {
                let whole = Node::map(node.line, [("Resources", node.clone())]);
                template.resources.extend(Template::new(&whole, report)?.resources);
            }
            "Parameters" => add(&mut template.parameters, node),
            "Mappings" => add(&mut template.mappings, node),
            "Conditions" => add(&mut template.conditions, node),
            "Outputs" | "Description" | "Metadata" => {}
            "extensions" => {
                let why = "changes resources that the framework makes";
                report.add(
                    Part::Api,
                    "resources.extensions",
                    node.line,
                    why,
                    "make the same change in the document",
                );
            }
            other => {
                let what = format!("resources.{}", plain(other));
                report.add(Part::Api, &what, node.line, "is no section that is known", "");
            }
        }
    }
    Ok(())
}

fn add(section: &mut Node, node: &Node) {
    for (key, node) in node.entries() {
        section.put(key, node.clone());
    }
}

impl Service<'_> {
    fn functions(&mut self, functions: Option<&Node>) -> Result<(), ImportError> {
        // A list of maps stands for one map.
        let maps: Vec<&Node> = match functions.map(|node| (node, node.as_list())) {
            Some((_, Some(items))) => items.iter().collect(),
            Some((node, None)) => vec![node],
            None => Vec::new(),
        };
        let all: Vec<&(String, Node)> = maps.iter().flat_map(|map| map.entries()).collect();
        let mut n_routes = 0;
        for (name, function) in &all {
            self.function(name, function);
            for (event_idx, event) in
                function.get("events").and_then(Node::as_list).unwrap_or_default().iter().enumerate()
            {
                let what = format!("functions.{}.events[{event_idx}]", plain(name));
                match event.get("websocket") {
                    Some(event) => {
                        n_routes += 1;
                        self.route(name, event, &what)?;
                    }
                    None => {
                        let kind = event.entries().first().map(|(key, _)| plain(key)).unwrap_or_default();
                        let why = format!("{kind} is no event of a WebSocket API");
                        let to_do = "what called the function has to call it in another way";
                        self.report.add(Part::Beside, &what, event.line, why, to_do);
                    }
                }
            }
        }
        let has_own =
            self.template.resources.iter().any(|resource| resource.kind == "AWS::ApiGatewayV2::Api");
        match (n_routes, has_own) {
            (0, false) => Err(ImportError::whole("no function has a `websocket` event")),
            (0, true) => Ok(()),
            _ => {
                self.api();
                Ok(())
            }
        }
    }

    fn function(&mut self, name: &str, function: &Node) {
        let line = function.line;
        let own = function.get("name").cloned();
        let own = own.unwrap_or_else(|| Node::text(line, format!("{}-{}-{name}", self.name, self.stage)));
        let mut properties = Node::map(line, [("FunctionName", own)]);
        // The folder of the service is the folder of its functions.
        properties.put("CodeUri", Node::text(line, "."));
        if let Some(node) = function.get("handler") {
            properties.put("Handler", node.clone());
        }
        if let Some(node) = function.get("runtime").or_else(|| self.provider.get("runtime")) {
            properties.put("Runtime", node.clone());
        }
        // The framework's default is not that of AWS Lambda.
        let timeout = function.get("timeout").or_else(|| self.provider.get("timeout")).cloned();
        properties.put("Timeout", timeout.unwrap_or_else(|| Node::text(line, "6")));
        if function.get("image").is_some() {
            properties.put("PackageType", Node::text(line, "Image"));
        }
        let mut variables = self.provider.get("environment").cloned().unwrap_or_else(|| Node::map(line, []));
        for (key, node) in function.get("environment").map(Node::entries).unwrap_or_default() {
            variables.put(key, node.clone());
        }
        properties.put("Environment", Node::map(line, [("Variables", variables)]));
        for (key, node) in function.entries() {
            if !matches!(
                key.as_str(),
                "name"
                    | "handler"
                    | "runtime"
                    | "timeout"
                    | "image"
                    | "environment"
                    | "events"
                    | "description"
            ) {
                properties.put(key, node.clone());
            }
        }
        self.push(format!("{}LambdaFunction", normal(name)), "AWS::Lambda::Function", line, properties);
    }

    fn route(&mut self, function: &str, event: &Node, what: &str) -> Result<(), ImportError> {
        let line = event.line;
        let Some(key) = event.as_text().or_else(|| event.text_at(&["route"])) else {
            return Err(ImportError::at(
                line,
                format!("the websocket event of {} has no route", plain(function)),
            ));
        };
        let integration = format!("{}WebsocketsIntegration", normal(function));
        if self.template.resource(&integration).is_none() {
            let function = Node::attribute(line, &format!("{}LambdaFunction", normal(function)), "Arn");
            let properties = Node::map(
                line,
                [
                    ("ApiId", api(line)),
                    ("IntegrationType", Node::text(line, "AWS_PROXY")),
                    ("IntegrationUri", call_of(&function)),
                ],
            );
            self.push(integration.clone(), "AWS::ApiGatewayV2::Integration", line, properties);
        }
        let route = route_name(key);
        let target = vec![Node::text(line, "integrations/"), Node::reference(line, &integration)];
        let mut properties = Node::map(
            line,
            [
                ("ApiId", api(line)),
                ("RouteKey", Node::text(line, key)),
                ("Target", Node::joined(line, target)),
            ],
        );
        for (name, node) in event.entries() {
            match name.as_str() {
                "route" => {}
                "authorizer" => {
                    if let Some(authorizer) = self.authorizer(node)? {
                        properties.put("AuthorizationType", Node::text(line, "CUSTOM"));
                        properties.put("AuthorizerId", Node::reference(line, &authorizer));
                    }
                }
                "routeResponseSelectionExpression" => {
                    properties.put("RouteResponseSelectionExpression", node.clone());
                    let response = Node::map(
                        line,
                        [
                            ("ApiId", api(line)),
                            ("RouteId", Node::reference(line, &format!("{route}WebsocketsRoute"))),
                            ("RouteResponseKey", Node::text(line, "$default")),
                        ],
                    );
                    let id = format!("{route}WebsocketsRouteResponse");
                    self.push(id, "AWS::ApiGatewayV2::RouteResponse", line, response);
                }
                other => {
                    let what = format!("{what}.websocket.{}", plain(other));
                    self.report.add(Part::Api, &what, node.line, "is no key of a websocket event", "");
                }
            }
        }
        self.push(format!("{route}WebsocketsRoute"), "AWS::ApiGatewayV2::Route", line, properties);
        Ok(())
    }

    /// Its logical name.
    fn authorizer(&mut self, node: &Node) -> Result<Option<String>, ImportError> {
        let line = node.line;
        let named = node.text_at(&["name"]);
        let (name, function) = match (node.as_text(), node.get("arn")) {
            (Some(text), _) if text.contains(':') => (last(text), node.clone()),
            (Some(text), _) => (text.to_owned(), self.function_arn(text, line)),
            (None, Some(arn)) => match (arn.as_text(), named) {
                (Some(text), _) => (last(text), arn.clone()),
                (None, Some(name)) => (name.to_owned(), arn.clone()),
                (None, None) => {
                    return Err(ImportError::at(line, "an authorizer whose `arn` is no text needs a `name`"));
                }
            },
            (None, None) => match named {
                Some(name) => (name.to_owned(), self.function_arn(name, line)),
                None => return Err(ImportError::at(line, "an authorizer with a name or an ARN expected")),
            },
        };
        let source = node.get("identitySource").cloned();
        let source = source.unwrap_or_else(|| Node::list(line, vec![Node::text(line, IDENTITY_SOURCE)]));
        let id = format!("{}WebsocketsAuthorizer", normal(&name));
        if self.template.resource(&id).is_none() {
            let properties = Node::map(
                line,
                [
                    ("ApiId", api(line)),
                    ("Name", Node::text(line, &name)),
                    ("AuthorizerType", Node::text(line, "REQUEST")),
                    ("AuthorizerUri", call_of(&function)),
                    ("IdentitySource", source),
                ],
            );
            self.push(id.clone(), "AWS::ApiGatewayV2::Authorizer", line, properties);
        }
        Ok(Some(id))
    }

    fn function_arn(&self, name: &str, line: usize) -> Node {
        Node::attribute(line, &format!("{}LambdaFunction", normal(name)), "Arn")
    }

    fn api(&mut self) {
        let provider = self.provider.clone();
        let line = provider.line;
        let text = |text: &str| Node::text(line, text);
        let name = format!("{}-{}-websockets", self.stage, self.name);
        let selection = provider
            .get("websocketsApiRouteSelectionExpression")
            .or_else(|| provider.below(&["apiGateway", "websocketsApiRouteSelectionExpression"]));
        let description = provider.get("websocketsDescription").cloned();
        let description = description.unwrap_or_else(|| text("Serverless Websockets"));
        let mut properties = Node::map(
            line,
            [
                ("Name", provider.get("websocketsApiName").cloned().unwrap_or_else(|| text(&name))),
                (
                    "RouteSelectionExpression",
                    selection.cloned().unwrap_or_else(|| text("$request.body.action")),
                ),
                ("Description", description.clone()),
                ("ProtocolType", text("WEBSOCKET")),
            ],
        );
        if let Some(node) = provider.below(&["apiGateway", "websocketsApiKeySelectionExpression"]) {
            properties.put("ApiKeySelectionExpression", node.clone());
        }
        let is_tagged =
            provider.below(&["websocket", "useProviderTags"]).and_then(Node::as_flag) == Some(true);
        if let Some(tags) = provider.get("tags").filter(|_| is_tagged) {
            properties.put("Tags", tags.clone());
        }
        if let Some(node) = provider.below(&["apiGateway", "websocketApiId"]) {
            let why = "the service adds its routes to an API that is made elsewhere";
            let to_do = "the document has an API of its own: give it the name of that one, and import the other services too";
            self.report.add(Part::Api, "provider.apiGateway.websocketApiId", node.line, why, to_do);
        }
        self.push(API.to_owned(), "AWS::ApiGatewayV2::Api", line, properties);
        let deployment =
            Node::map(line, [("ApiId", api(line)), ("Description", text("Serverless Websockets"))]);
        self.push(DEPLOYMENT.to_owned(), "AWS::ApiGatewayV2::Deployment", line, deployment);
        let mut stage = Node::map(
            line,
            [
                ("ApiId", api(line)),
                ("DeploymentId", Node::reference(line, DEPLOYMENT)),
                ("StageName", text(&self.stage)),
                ("Description", description),
            ],
        );
        if let Some(logs) =
            provider.below(&["logs", "websocket"]).filter(|logs| logs.as_flag() != Some(false))
        {
            self.logs(logs, &mut stage);
        }
        self.push(STAGE.to_owned(), "AWS::ApiGatewayV2::Stage", line, stage);
    }

    fn logs(&mut self, logs: &Node, stage: &mut Node) {
        let line = logs.line;
        let is_on = |key: &str| logs.get(key).and_then(Node::as_flag) != Some(false);
        if is_on("accessLogging") {
            let group = Node::text(line, format!("/aws/websocket/{}-{}", self.name, self.stage));
            self.push(
                LOG_GROUP.to_owned(),
                "AWS::Logs::LogGroup",
                line,
                Node::map(line, [("LogGroupName", group)]),
            );
            let format = logs.get("format").cloned().unwrap_or_else(|| Node::text(line, ACCESS_LOG));
            let settings = Node::map(
                line,
                [("DestinationArn", Node::attribute(line, LOG_GROUP, "Arn")), ("Format", format)],
            );
            stage.put("AccessLogSettings", settings);
        }
        if is_on("executionLogging") {
            let level = logs.get("level").cloned().unwrap_or_else(|| Node::text(line, "INFO"));
            let is_full = Node::plain(line, is_on("fullExecutionData").to_string());
            stage.put(
                "DefaultRouteSettings",
                Node::map(line, [("DataTraceEnabled", is_full), ("LoggingLevel", level)]),
            );
        }
    }

    /// A resource of the file keeps its own properties over those that the framework makes.
    fn push(&mut self, id: String, kind: &str, line: usize, properties: Node) {
        match self.template.resources.iter_mut().find(|resource| resource.id == id) {
            Some(own) => {
                for (key, node) in properties.entries() {
                    if own.properties.get(key).is_none() {
                        own.properties.put(key, node.clone());
                    }
                }
            }
            None => self.template.push(id, kind, line, None, properties),
        }
    }
}

fn api(line: usize) -> Node {
    Node::reference(line, API)
}

/// What follows the last colon of an ARN.
fn last(arn: &str) -> String {
    arn.rsplit(':').next().unwrap_or(arn).to_owned()
}

/// `ConnectDashHandler` of `connect-handler`.
fn normal(name: &str) -> String {
    let name = name.replace('-', "Dash").replace('_', "Underscore");
    let mut chars = name.chars();
    chars.next().map(|first| first.to_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

/// `Sconnect` of `$connect`.
fn route_name(key: &str) -> String {
    let mut made = String::new();
    for c in normal(&key.replace('$', "S")).chars() {
        match c {
            '/' => made.push_str("Slash"),
            '.' => made.push_str("Period"),
            c if c.is_ascii_alphanumeric() => made.push(c),
            // Keys that differ stay apart.
            c => made.push_str(&format!("U{:X}", u32::from(c))),
        }
    }
    made
}
