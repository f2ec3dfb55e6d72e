//! What the data plane runs on: compiled, immutable, shared.
//!
//! An event loads the snapshot once and keeps it to its reply, so no event sees two deployments. Whatever
//! could be prepared at deployment is: expressions are parsed, mappings resolved, routes keyed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use crate::authorizer::{Authorizer, JwtAuthorizer};
use crate::channel::ChannelRules;
use crate::definition::Map;
use crate::diagnosis::Diagnosis;
use crate::log::StageLogs;
use crate::mapping::Mapping;
use crate::model::RouteModels;
use crate::network::Network;
use crate::origin::OriginList;
use crate::policy::Policy;
use crate::select::{Expression, Selected};
use crate::settings::Settings;
use crate::transformed::TransformedIntegration;

/// All APIs and domains of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// By API id.
    pub apis: HashMap<Arc<str>, Arc<Api>>,
    /// By exact host name.
    pub domains: HashMap<String, Domain>,
    /// By what follows the `*.` of a wildcard domain.
    pub wildcard_domains: HashMap<String, Domain>,
}

/// The mappings of a domain name, longest key first.
#[derive(Debug, Default, Clone)]
pub struct Domain {
    /// Key (`""` is the root), API id, stage.
    pub mappings: Vec<(String, Arc<str>, Arc<str>)>,
}

/// One API.
#[derive(Debug)]
pub struct Api {
    /// Its id.
    pub api_id: Arc<str>,
    /// By stage name.
    pub stages: HashMap<Arc<str>, Arc<Stage>>,
    /// Settings of this API.
    pub settings: Arc<Settings>,
}

/// One stage: live settings beside the frozen deployment.
#[derive(Debug)]
pub struct Stage {
    /// The API's id.
    pub api_id: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Live.
    pub variables: Arc<Map>,
    /// For routes without an entry of their own.
    pub default_throttle: Option<Throttle>,
    /// By route key.
    pub throttles: HashMap<String, Throttle>,
    /// Absent: every request is refused.
    pub deployment: Option<Arc<Deployment>>,
    /// Settings of the API.
    pub settings: Arc<Settings>,
    /// What Tidegate demands and offers beyond API Gateway; live. Absent: nothing.
    pub policy: Option<Arc<StagePolicy>>,
    /// What it logs of itself; live. Absent: nothing.
    pub logs: Option<Arc<StageLogs>>,
}

/// The policy of a stage, compiled.
#[derive(Debug)]
pub struct StagePolicy {
    /// As it is written, for values that need no compiling.
    pub policy: Arc<Policy>,
    /// Why the policy cannot be used, for operators. Then every handshake is refused, and everything below admits
    /// nobody: no channels, no origins, no networks, no handlers.
    pub broken: Option<String>,
    /// Who may use which channel.
    pub channels: ChannelRules,
    /// Origins of pages that may connect; empty: any, see [`Self::admits_origin`].
    pub origins: OriginList,
    /// Origins of pages that may ask for a connect token; empty: only that of the gateway's own host.
    pub token_origins: OriginList,
    /// Networks whose attempts are not counted.
    pub exempt: Vec<Network>,
    /// Expressions that choose a route, in order; empty: the API's.
    pub select: Vec<Expression>,
    /// Names that a message may choose; empty: all.
    pub allowed_handlers: HashSet<Box<str>>,
}

impl StagePolicy {
    /// Whether a handshake with this `Origin` may go on. A program sends none.
    pub fn admits_origin(&self, origin: Option<&str>) -> bool {
        if self.broken.is_some() {
            return false;
        }
        match origin {
            _ if self.origins.is_empty() => true,
            None => self.policy.admission.allow_missing_origin,
            Some(origin) => self.origins.contains(origin),
        }
    }

    /// Whether attempts of this address are not counted.
    pub fn is_exempt(&self, address: std::net::IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(address))
    }

    /// Whether a message may choose this name.
    pub fn allows_handler(&self, name: &str) -> bool {
        self.broken.is_none() && (self.allowed_handlers.is_empty() || self.allowed_handlers.contains(name))
    }

    fn select(&self, api_selection: &Expression, message: &str) -> Selected {
        let mut first = None;
        for expression in &self.select {
            let selected = expression.select(message);
            if selected.is_json && !selected.value.is_empty() {
                return selected;
            }
            first.get_or_insert(selected);
        }
        first.unwrap_or_else(|| api_selection.select(message))
    }
}

/// A token bucket's size and speed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throttle {
    /// Tokens a second.
    pub rate: f64,
    /// Tokens the bucket holds.
    pub burst: f64,
}

/// One deployment.
#[derive(Debug)]
pub struct Deployment {
    /// From a message to a route key.
    pub route_selection: Expression,
    /// By route key.
    pub routes: HashMap<String, Arc<Route>>,
    /// The generated address refuses.
    pub disable_execute_api_endpoint: bool,
    /// The application in the process that `$connect` asks, by name: connections belong to it.
    pub app: Option<Arc<str>>,
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// Its key.
    pub key: Arc<str>,
    /// What is called.
    pub integration: Arc<Integration>,
    /// The answer goes to the client.
    pub is_two_way: bool,
    /// A body that nobody gets: selection expression without route response.
    pub lacks_route_response: bool,
    /// `NONE`, or what must be checked before.
    pub authorization: Authorization,
    /// `apiKeyRequired`: where the key is.
    pub api_key: Option<ApiKeySource>,
    /// Handshake parameters that must be present: header names, query names.
    pub required_headers: Vec<String>,
    /// See [`Self::required_headers`].
    pub required_query: Vec<String>,
    /// What its messages must look like.
    pub models: Option<RouteModels>,
    /// What has been seen of it since it was deployed.
    pub seen: RouteSeen,
}

/// What has been seen of a route; what explains the failures of others.
#[derive(Debug, Default)]
pub struct RouteSeen {
    /// Its backend has answered with a status below 400.
    pub has_worked: AtomicBool,
    /// Milliseconds since 1970 when it was last told that the backend's answers have nobody who gets them; 0 = never.
    pub told_unanswered_at: AtomicU64,
    /// Its backend, or that of another route of the deployment, has denied somebody permission. From then on it matters who
    /// passes.
    pub has_denials: AtomicBool,
    /// Hashes of the clients that have passed since, at most [`Self::MAX_PASSED`].
    passed: Mutex<HashSet<u64>>,
}

impl RouteSeen {
    /// Clients that are remembered; with more, everybody knows that people pass.
    pub const MAX_PASSED: usize = 256;

    /// True for the first pass of each client, as long as there is room.
    pub fn is_first_pass(&self, client: u64) -> bool {
        let mut passed = self.passed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        passed.len() < Self::MAX_PASSED && passed.insert(client)
    }
}

/// Who decides about a handshake.
#[derive(Debug, Clone)]
pub enum Authorization {
    /// Everybody may.
    None,
    /// Whoever has signed it with a credential that allows it.
    Iam,
    /// Whom the authorizer lets in.
    Custom(Arc<Authorizer>),
    /// Who brings a token of the authorizer's issuer.
    Jwt(Arc<JwtAuthorizer>),
    /// Nobody: it is defined, but cannot work. The text is for operators.
    Broken(String),
}

/// Where the API key of a handshake is, on routes that demand one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiKeySource {
    /// `$request.header.x-api-key`
    Header,
    /// `$context.authorizer.usageIdentifierKey`
    Authorizer,
}

/// What a route calls.
#[derive(Debug)]
pub struct Integration {
    /// For logs.
    pub integration_id: String,
    /// How long a call may take.
    pub timeout: std::time::Duration,
    /// What is called.
    pub kind: IntegrationKind,
}

/// The closed set of integrations.
#[derive(Debug)]
pub enum IntegrationKind {
    /// An HTTP backend that sees the message as it is.
    Http(Box<HttpIntegration>),
    /// Templates stand between the message, the backend and the client (`HTTP`, `AWS`, `MOCK`).
    Transformed(Box<TransformedIntegration>),
    /// The gateway's own echo: the message comes back.
    Echo,
    /// An application in the gateway's process, by its name.
    App(Arc<str>),
    /// A function that gets the event and answers with status and body (`AWS_PROXY`).
    Lambda(Box<LambdaIntegration>),
    /// Defined, but it cannot work; the text is for operators.
    Broken(String),
}

/// An HTTP backend.
#[derive(Debug)]
pub struct HttpIntegration {
    /// With `${stageVariables.name}` and `{name}`.
    pub uri: UriTemplate,
    /// `ANY` stands for POST.
    pub method: http::Method,
    /// Header, query and path mappings.
    pub mappings: Vec<Mapping>,
    /// Verification name towards the backend.
    pub server_name: Option<String>,
}

/// A function behind an integration or an authorizer.
#[derive(Debug)]
pub struct LambdaIntegration {
    /// With `${stageVariables.name}`.
    pub function: FunctionUri,
    /// Which profile of credentials signs the call, with `${stageVariables.name}`; stored text of `credentialsArn`.
    pub credentials_arn: Option<String>,
}

/// The URI of a function: `arn:aws:apigateway:{region}:lambda:path/2015-03-31/functions/{functionArn}/invocations`,
/// a function ARN, or the name of a function, each with `${stageVariables.name}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionUri {
    parts: Vec<UriPart>,
}

/// A function as one call names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionName {
    /// As written: the ARN, or the bare name.
    pub arn: String,
    /// Without account, region and qualifier.
    pub name: String,
    /// Version or alias.
    pub qualifier: Option<String>,
    /// Region of the ARN.
    pub region: Option<String>,
}

impl FunctionUri {
    /// Parses the URI of a function.
    ///
    /// # Errors
    /// [`UriError`] with a text for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let inner = match text.split_once(":lambda:path/") {
            Some((head, path)) if head.starts_with("arn:") => path
                .split_once("/functions/")
                .and_then(|(_, rest)| rest.strip_suffix("/invocations"))
                .ok_or_else(|| UriError {
                    reason: "expected .../functions/{function}/invocations in the address of a function"
                        .to_owned(),
                })?,
            _ => text,
        };
        let mut parts = Vec::new();
        let mut rest = inner;
        while let Some((literal, after)) = rest.split_once("${") {
            if !literal.is_empty() {
                parts.push(UriPart::Text(literal.to_owned()));
            }
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| UriError { reason: "`${` without closing `}` in the address".to_owned() })?;
            let Some(name) = name.strip_prefix("stageVariables.") else {
                return Err(UriError { reason: format!("unknown variable `{name}` in the address") });
            };
            parts.push(UriPart::StageVariable(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(UriPart::Text(rest.to_owned()));
        }
        let uri = Self { parts };
        if uri.parts.iter().all(|part| matches!(part, UriPart::Text(_))) {
            uri.resolve(&Map::new())?;
        }
        Ok(uri)
    }

    /// As it is written, variables included.
    pub fn to_text(&self) -> String {
        let part = |part: &UriPart| match part {
            UriPart::Text(text) | UriPart::PathParameter(text) => text.clone(),
            UriPart::StageVariable(name) => format!("${{stageVariables.{name}}}"),
        };
        self.parts.iter().map(part).collect()
    }

    /// The function for one event.
    ///
    /// # Errors
    /// [`UriError`] when the variables do not make the name of a function.
    pub fn resolve(&self, variables: &Map) -> Result<FunctionName, UriError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                UriPart::StageVariable(name) => text.push_str(
                    variables
                        .get(name)
                        .ok_or_else(|| UriError { reason: format!("stage variable `{name}` is not set") })?,
                ),
                UriPart::Text(literal) | UriPart::PathParameter(literal) => text.push_str(literal),
            }
        }
        FunctionName::parse(&text)
    }
}

impl FunctionName {
    /// Reads an ARN, a partial ARN (`{account}:function:{name}`) or a name, each with or without qualifier.
    ///
    /// # Errors
    /// [`UriError`] when it is none of them.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let bad = || UriError { reason: format!("`{text}` is no name of a function") };
        let fields: Vec<&str> = text.split(':').collect();
        let (name, qualifier, region) = match fields.as_slice() {
            ["arn", _, "lambda", region, _, "function", name] => (*name, None, Some(*region)),
            ["arn", _, "lambda", region, _, "function", name, qualifier] => {
                (*name, Some(*qualifier), Some(*region))
            }
            [_, "function", name] => (*name, None, None),
            [_, "function", name, qualifier] => (*name, Some(*qualifier), None),
            [name] => (*name, None, None),
            [name, qualifier] => (*name, Some(*qualifier), None),
            _ => return Err(bad()),
        };
        let is_word = |text: &str| {
            !text.is_empty()
                && text.len() <= 140
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'$' | b'.'))
        };
        if !is_word(name) || !qualifier.is_none_or(is_word) {
            return Err(bad());
        }
        Ok(Self {
            arn: text.to_owned(),
            name: name.to_owned(),
            qualifier: qualifier.map(str::to_owned),
            region: region.map(str::to_owned),
        })
    }
}

/// A backend's address with variables in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UriTemplate {
    parts: Vec<UriPart>,
    /// The address when it has no variables.
    fixed: Option<http::Uri>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum UriPart {
    Text(String),
    StageVariable(String),
    PathParameter(String),
}

/// The address cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct UriError {
    /// For whoever wrote it.
    pub reason: String,
}

impl UriTemplate {
    /// Parses `http://` or `https://` addresses with `${stageVariables.name}` and `{name}` in them.
    ///
    /// # Errors
    /// [`UriError`] with a text for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let is_variable = rest[..at].ends_with('$');
            let literal = if is_variable { &rest[..at - 1] } else { &rest[..at] };
            if !literal.is_empty() {
                parts.push(UriPart::Text(literal.to_owned()));
            }
            let (name, after) = rest[at + 1..]
                .split_once('}')
                .ok_or_else(|| UriError { reason: "`{` without closing `}` in the address".to_owned() })?;
            parts.push(match (is_variable, name.strip_prefix("stageVariables.")) {
                (true, Some(name)) => UriPart::StageVariable(name.to_owned()),
                (false, None) => UriPart::PathParameter(name.to_owned()),
                _ => return Err(UriError { reason: format!("unknown variable `{name}` in the address") }),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(UriPart::Text(rest.to_owned()));
        }
        let has_variables = parts.iter().any(|part| !matches!(part, UriPart::Text(_)));
        let fixed = if has_variables { None } else { Some(check_uri(text)?) };
        if has_variables
            && !matches!(&parts[0], UriPart::Text(head) if head.starts_with("http"))
            && !matches!(parts[0], UriPart::StageVariable(_))
        {
            return Err(UriError { reason: "the address must start with http:// or https://".to_owned() });
        }
        Ok(Self { parts, fixed })
    }

    /// The address for one event.
    ///
    /// # Errors
    /// [`UriError`] when the variables do not make an address.
    pub fn resolve(
        &self,
        variables: &Map,
        path: &dyn Fn(&str) -> Option<String>,
    ) -> Result<http::Uri, UriError> {
        if let Some(fixed) = &self.fixed {
            return Ok(fixed.clone());
        }
        let mut text = String::new();
        for part in &self.parts {
            match part {
                UriPart::Text(literal) => text.push_str(literal),
                UriPart::StageVariable(name) => text.push_str(
                    variables
                        .get(name)
                        .ok_or_else(|| UriError { reason: format!("stage variable `{name}` is not set") })?,
                ),
                UriPart::PathParameter(name) => {
                    let value = path(name).unwrap_or_default();
                    text.extend(percent_encoding::utf8_percent_encode(
                        &value,
                        percent_encoding::NON_ALPHANUMERIC,
                    ));
                }
            }
        }
        check_uri(&text)
    }
}

fn check_uri(text: &str) -> Result<http::Uri, UriError> {
    let uri: http::Uri =
        text.parse().map_err(|error| UriError { reason: format!("not a valid address: {error}") })?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(UriError { reason: "the address must start with http:// or https://".to_owned() });
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(UriError { reason: "the address has no host".to_owned() });
    }
    Ok(uri)
}

/// What [`Deployment::select_route_with`] found.
#[derive(Debug)]
pub struct RouteChoice<'a> {
    /// Absent: nothing fits and there is no `$default`.
    pub route: Option<&'a Arc<Route>>,
    /// What the message said.
    pub selected: Selected,
    /// `handler.not-allowed`: the message named a handler that is not on the stage's list, and went to `$default`. For
    /// a hint see [`Deployment::nearest_handler`].
    pub diagnosis: Option<Diagnosis>,
}

/// Routes that no message can choose.
pub(crate) fn is_reserved(route_key: &str) -> bool {
    matches!(route_key, "$connect" | "$disconnect") || route_key.starts_with("tidegate.")
}

impl Deployment {
    /// The route of a message as the stage's policy has it.
    ///
    /// The expressions of the policy are tried in order, and the first that gives a value counts, whatever it is: an
    /// explicit `default` is not overruled by a later expression. `default` means `$default` unless there is a route
    /// of that name, and needs not to be on the list of allowed names; other names that are not go to `$default` too.
    pub fn select_route_with(&self, policy: Option<&StagePolicy>, message: &str) -> RouteChoice<'_> {
        let Some(policy) = policy else {
            let (route, selected) = self.select_route(message);
            return RouteChoice { route, selected, diagnosis: None };
        };
        let selected = policy.select(&self.route_selection, message);
        let name = selected.value.as_str();
        let is_name = selected.is_json && !name.is_empty();
        let is_allowed = is_name && policy.allows_handler(name);
        let is_refused = is_name && !is_allowed && !matches!(name, "default" | "$default");
        let route = match is_allowed && !is_reserved(name) {
            true => self.routes.get(name),
            false => None,
        };
        RouteChoice {
            route: route.or_else(|| self.routes.get("$default")),
            selected,
            diagnosis: is_refused.then_some(Diagnosis::HANDLER_NOT_ALLOWED),
        }
    }

    /// The route that a message could choose and whose key looks most like a name, as a hint for operators. Compares
    /// with all routes: to be asked once for each name, not for each message.
    pub fn nearest_handler(&self, policy: &StagePolicy, name: &str) -> Option<&str> {
        let keys = self.routes.keys().map(String::as_str);
        let can_be_chosen =
            |key: &&str| !is_reserved(key) && !key.starts_with('$') && policy.allows_handler(key);
        crate::nearest::nearest(name, keys.filter(can_be_chosen))
    }

    /// The route of a message, and whether the message was JSON.
    ///
    /// `$connect`, `$disconnect` and everything that starts with `tidegate.` are never chosen by a message.
    pub fn select_route(&self, message: &str) -> (Option<&Arc<Route>>, Selected) {
        let selected = self.route_selection.select(message);
        let route = match selected.is_json && !is_reserved(&selected.value) {
            true => self.routes.get(&selected.value),
            false => None,
        };
        (route.or_else(|| self.routes.get("$default")), selected)
    }
}

impl Stage {
    /// The throttle of a route, if it has one.
    pub fn throttle(&self, route_key: &str) -> Option<Throttle> {
        self.throttles.get(route_key).copied().or(self.default_throttle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_variables() {
        // AG-22
        let variables = [("host".to_owned(), "b.example:8000".to_owned())].into();
        let resolve = |text: &str| {
            UriTemplate::parse(text)
                .and_then(|uri| uri.resolve(&variables, &|name| (name == "id").then(|| "a/b".to_owned())))
                .map(|uri| uri.to_string())
        };
        assert_eq!(
            resolve("http://127.0.0.1:8000/ws/connect").as_deref(),
            Ok("http://127.0.0.1:8000/ws/connect")
        );
        assert_eq!(resolve("http://${stageVariables.host}/x").as_deref(), Ok("http://b.example:8000/x"));
        assert_eq!(resolve("https://h/{id}/x").as_deref(), Ok("https://h/a%2Fb/x"));
        for bad in [
            "",
            "ftp://h/",
            "/path",
            "http://",
            "http://h/${stageVariables.none}",
            "http://h/{x",
            "http://h/${x}",
        ] {
            assert!(resolve(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn functions_have_names() {
        let arn = "arn:aws:lambda:eu-west-1:000000000000:function:chat:live";
        let whole =
            format!("arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/{arn}/invocations");
        let name = FunctionUri::parse(&whole).and_then(|uri| uri.resolve(&Map::new())).unwrap();
        assert_eq!((name.arn.as_str(), name.name.as_str()), (arn, "chat"));
        assert_eq!((name.qualifier.as_deref(), name.region.as_deref()), (Some("live"), Some("eu-west-1")));
        let variables = [("fn".to_owned(), "blue".to_owned())].into();
        let resolve = |text: &str| {
            FunctionUri::parse(text).and_then(|uri| uri.resolve(&variables)).map(|name| name.name)
        };
        assert_eq!(resolve("${stageVariables.fn}").as_deref(), Ok("blue"));
        assert_eq!(
            resolve("arn:aws:lambda:us-east-1:1:function:x-${stageVariables.fn}").as_deref(),
            Ok("x-blue")
        );
        for bad in ["", "a b", "arn:aws:s3:::x", "${stageVariables.none}", "${x}", "a:b:c:d:e"] {
            assert!(resolve(bad).is_err(), "{bad}");
        }
    }
}
