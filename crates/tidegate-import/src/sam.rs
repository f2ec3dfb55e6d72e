//! Resources of the Serverless Application Model become those of CloudFormation that it makes of them.

use crate::error::ImportError;
use crate::node::{Content, Node};
use crate::report::{Part, Report};
use crate::template::{Resource, Template, plain};

/// The stage of a WebSocket API that names none.
const DEFAULT_STAGE: &str = "default";

/// Writes SAM's resources out.
///
/// # Errors
/// A WebSocket API without routes, or a route without a function.
pub(crate) fn expand(template: &mut Template, report: &mut Report) -> Result<(), ImportError> {
    let resources = std::mem::take(&mut template.resources);
    let globals = std::mem::replace(&mut template.globals, Node::map(0, []));
    for (name, node) in globals.entries() {
        if !matches!(
            name.as_str(),
            "Function" | "WebSocketApi" | "Api" | "HttpApi" | "SimpleTable" | "StateMachine"
        ) {
            let what = format!("Globals.{}", plain(name));
            report.add(Part::Beside, &what, node.line, "is for no resource that is imported", "");
        }
    }
    for mut resource in resources {
        match resource.kind.as_str() {
            "AWS::Serverless::Function" => {
                if let Some(global) = globals.get("Function") {
                    resource.properties = merged(global, &resource.properties);
                }
                function(&mut resource, report);
                template.resources.push(resource);
            }
            "AWS::Serverless::WebSocketApi" => {
                if let Some(global) = globals.get("WebSocketApi") {
                    resource.properties = merged(global, &resource.properties);
                }
                web_socket_api(&resource, template, report)?;
            }
            _ => template.resources.push(resource),
        }
    }
    Ok(())
}

/// Maps are put together key by key, lists one after the other, of everything else the resource's own counts.
fn merged(global: &Node, own: &Node) -> Node {
    let content = match (&global.content, &own.content) {
        (Content::Map(_), Content::Map(_)) if is_function(global) || is_function(own) => return own.clone(),
        (Content::Map(globals), Content::Map(_)) => {
            let mut made = own.clone();
            for (key, node) in globals {
                let node = own.get(key).map(|own| merged(node, own)).unwrap_or_else(|| node.clone());
                made.put(key, node);
            }
            return made;
        }
        (Content::List(globals), Content::List(items)) => Content::List([globals.as_slice(), items].concat()),
        _ => return own.clone(),
    };
    Node { line: own.line, content }
}

fn is_function(node: &Node) -> bool {
    matches!(node.entries(), [(name, _)] if name == "Ref" || name.starts_with("Fn::"))
}

fn function(resource: &mut Resource, report: &mut Report) {
    resource.kind = "AWS::Lambda::Function".to_owned();
    for (name, event) in resource.properties.get("Events").map(Node::entries).unwrap_or_default() {
        let what = format!("{}.Events.{}", resource.path(), plain(name));
        let kind = plain(event.text_at(&["Type"]).unwrap_or("an event"));
        let why = format!("{kind} is no event of a WebSocket API");
        report.add(
            Part::Beside,
            &what,
            event.line,
            why,
            "what called the function has to call it in another way",
        );
    }
}

fn web_socket_api(api: &Resource, template: &mut Template, report: &mut Report) -> Result<(), ImportError> {
    const ALONE: &[&str] = &[
        "AccessLogSettings",
        "Auth",
        "DefaultRouteSettings",
        "Domain",
        "PropagateTags",
        "Routes",
        "RouteSettings",
        "StageName",
        "StageVariables",
        "FailOnWarnings",
    ];
    let line = api.line;
    let id = || Node::reference(line, &api.id);
    let mut properties = Node::map(line, []);
    for (name, node) in api.properties.entries().iter().filter(|(name, _)| !ALONE.contains(&name.as_str())) {
        properties.put(name, node.clone());
    }
    if properties.get("Name").is_none() {
        properties.put("Name", Node::text(line, &api.id));
    }
    properties.put("ProtocolType", Node::text(line, "WEBSOCKET"));
    let tags = properties.get("Tags").cloned();
    let condition = || api.condition.clone();
    template.push(api.id.clone(), "AWS::ApiGatewayV2::Api", line, condition(), properties);

    let Some(routes) = api.properties.get("Routes").filter(|routes| !routes.entries().is_empty()) else {
        return Err(ImportError::at(line, format!("the WebSocket API {} has no routes", plain(&api.id))));
    };
    for (key, route) in routes.entries() {
        let Some(function) = route.get("FunctionArn") else {
            return Err(ImportError::at(route.line, format!("the route {} has no FunctionArn", plain(key))));
        };
        let line = route.line;
        let base = format!("{}{}", api.id, key.trim_start_matches('$'));
        let mut integration = Node::map(
            line,
            [
                ("ApiId", id()),
                ("IntegrationType", Node::text(line, "AWS_PROXY")),
                ("IntegrationUri", call_of(function)),
            ],
        );
        let mut made = Node::map(
            line,
            [
                ("ApiId", id()),
                ("RouteKey", Node::text(line, key)),
                (
                    "Target",
                    Node::joined(
                        line,
                        vec![
                            Node::text(line, "integrations/"),
                            Node::reference(line, &format!("{base}Integration")),
                        ],
                    ),
                ),
            ],
        );
        for (name, node) in route.entries() {
            match name.as_str() {
                "FunctionArn" => {}
                "IntegrationTimeout" => integration.put("TimeoutInMillis", node.clone()),
                _ => made.put(name, node.clone()),
            }
        }
        if key == "$connect"
            && let Some(auth) = api.properties.get("Auth")
        {
            authorization(api, auth, &mut made, template);
        }
        template.push(
            format!("{base}Integration"),
            "AWS::ApiGatewayV2::Integration",
            line,
            condition(),
            integration,
        );
        template.push(format!("{base}Route"), "AWS::ApiGatewayV2::Route", line, condition(), made);
    }
    if let Some(auth) = api.properties.get("Auth").filter(|_| routes.get("$connect").is_none()) {
        let what = format!("{}.Auth", api.path());
        report.add(
            Part::Api,
            &what,
            auth.line,
            "applies to $connect, which the API does not have",
            "add that route",
        );
    }

    let mut stage = Node::map(line, [("ApiId", id()), ("AutoDeploy", Node::plain(line, "true"))]);
    let name = api.properties.get("StageName").cloned();
    stage.put("StageName", name.unwrap_or_else(|| Node::text(line, DEFAULT_STAGE)));
    for name in ["AccessLogSettings", "DefaultRouteSettings", "RouteSettings", "StageVariables"] {
        if let Some(node) = api.properties.get(name) {
            stage.put(name, node.clone());
        }
    }
    let is_tagged = api.properties.get("PropagateTags").and_then(Node::as_flag) == Some(true);
    let tags = tags.filter(|_| is_tagged);
    if let Some(tags) = &tags {
        stage.put("Tags", tags.clone());
    }
    // `!Ref MyApi.Stage` names it.
    template.push(format!("{}.Stage", api.id), "AWS::ApiGatewayV2::Stage", line, condition(), stage);
    if let Some(domain) = api.properties.get("Domain") {
        custom_domain(api, domain, tags, template, report);
    }
    Ok(())
}

/// The address that API Gateway calls for a function.
pub(crate) fn call_of(function: &Node) -> Node {
    let line = function.line;
    let begin = "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/";
    let begin = Node::map(line, [("Fn::Sub", Node::text(line, begin))]);
    Node::joined(line, vec![begin, function.clone(), Node::text(line, "/invocations")])
}

fn authorization(api: &Resource, auth: &Node, route: &mut Node, template: &mut Template) {
    let line = auth.line;
    let kind = auth.text_at(&["AuthType"]).unwrap_or("NONE").to_ascii_uppercase();
    route.put("AuthorizationType", Node::text(line, &kind));
    let Some(function) = auth.get("AuthArn").filter(|_| kind == "CUSTOM") else { return };
    let name = format!("{}ConnectAuthorizer", api.id);
    let mut authorizer = Node::map(
        line,
        [
            ("ApiId", Node::reference(line, &api.id)),
            ("AuthorizerType", Node::text(line, "REQUEST")),
            ("AuthorizerUri", call_of(function)),
            ("Name", auth.get("Name").cloned().unwrap_or_else(|| Node::text(line, &name))),
        ],
    );
    for (own, theirs) in [("IdentitySource", "IdentitySource"), ("InvokeRole", "AuthorizerCredentialsArn")] {
        if let Some(node) = auth.get(own) {
            authorizer.put(theirs, node.clone());
        }
    }
    route.put("AuthorizerId", Node::reference(line, &name));
    template.push(name, "AWS::ApiGatewayV2::Authorizer", line, api.condition.clone(), authorizer);
}

fn custom_domain(
    api: &Resource,
    domain: &Node,
    tags: Option<Node>,
    template: &mut Template,
    report: &mut Report,
) {
    let line = domain.line;
    let Some(name) = domain.get("DomainName") else { return };
    let has_domain = |other: &Resource| {
        other.kind == "AWS::ApiGatewayV2::DomainName"
            && other.properties.get("DomainName").is_some_and(|node| node.to_json() == name.to_json())
    };
    if !template.resources.iter().any(has_domain) {
        let mut configuration = Node::map(line, []);
        for (own, theirs) in [
            ("CertificateArn", "CertificateArn"),
            ("EndpointConfiguration", "EndpointType"),
            ("SecurityPolicy", "SecurityPolicy"),
        ] {
            if let Some(node) = domain.get(own) {
                configuration.put(theirs, node.clone());
            }
        }
        let mut made = Node::map(
            line,
            [
                ("DomainName", name.clone()),
                ("DomainNameConfigurations", Node::list(line, vec![configuration])),
            ],
        );
        if let Some(tags) = tags {
            made.put("Tags", tags);
        }
        template.push(
            format!("{}Domain", api.id),
            "AWS::ApiGatewayV2::DomainName",
            line,
            api.condition.clone(),
            made,
        );
    }
    let root = [Node::text(line, "/")];
    let paths = domain.get("BasePath").and_then(Node::as_list).unwrap_or(&root);
    for (path_idx, path) in paths.iter().enumerate() {
        let mut mapping = Node::map(
            line,
            [
                ("DomainName", name.clone()),
                ("ApiId", Node::reference(line, &api.id)),
                ("Stage", Node::reference(line, &format!("{}.Stage", api.id))),
            ],
        );
        match path.as_text().map(|text| text.trim_matches('/')) {
            Some("") => {}
            Some(text) => mapping.put("ApiMappingKey", Node::text(line, text)),
            None => mapping.put("ApiMappingKey", path.clone()),
        }
        let id = format!("{}Mapping{path_idx}", api.id);
        template.push(id, "AWS::ApiGatewayV2::ApiMapping", line, api.condition.clone(), mapping);
    }
    if let Some(node) = domain.get("Route53") {
        let what = format!("{}.Domain.Route53", api.path());
        report.add(
            Part::Beside,
            &what,
            node.line,
            "DNS is not the gateway's",
            "let the name lead to Tidegate",
        );
    }
}
