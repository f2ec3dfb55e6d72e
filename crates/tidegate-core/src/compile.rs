//! From definitions to a [`Snapshot`].
//!
//! Never fails: a definition that cannot work becomes an integration that answers as misconfigured and says
//! why, because refusing the whole API for one bad route would take the others down with it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::authorizer::{Authorizer, JwtAuthorizer};
use crate::channel::ChannelRules;
use crate::definition::{self, ApiDefinition, Live, LiveApi, LiveStage};
use crate::log::StageLogs;
use crate::mapping::Mapping;
use crate::model::RouteModels;
use crate::origin::OriginList;
use crate::policy::Policy;
use crate::select::Expression;
use crate::settings::Settings;
use crate::snapshot::{
    Api, ApiKeySource, Authorization, Deployment, Domain, FunctionUri, HttpIntegration, Integration,
    IntegrationKind, LambdaIntegration, Route, RouteSeen, Snapshot, Stage, StagePolicy, Throttle,
    UriTemplate,
};
use crate::transformed;

/// Address of the gateway's own echo, as an integration URI.
pub const ECHO_URI: &str = "tidegate://echo";

/// Begin of the address of an application in the gateway's process; its name follows.
pub const APP_SCHEME: &str = "tidegate://";

/// Compiles everything. Deployments and policies that were compiled before are recognised by `cache`.
pub fn compile(live: &Live, settings: &dyn Fn(&str) -> Arc<Settings>, cache: &mut Cache) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut used = Used::default();
    for api in &live.apis {
        let compiled = compile_api(api, settings(&api.api.api_id), cache, &mut used);
        snapshot.apis.insert(Arc::clone(&compiled.api_id), Arc::new(compiled));
    }
    cache.entries.retain(|(source, _)| used.definitions.iter().any(|used| Arc::ptr_eq(used, source)));
    cache.policies.retain(|(source, _)| used.policies.iter().any(|used| Arc::ptr_eq(used, source)));
    for (domain, mappings) in &live.domains {
        let mut mappings: Vec<(String, Arc<str>, Arc<str>)> = mappings
            .iter()
            .map(|mapping| {
                (
                    mapping.api_mapping_key.clone(),
                    mapping.api_id.as_str().into(),
                    mapping.stage.as_str().into(),
                )
            })
            .collect();
        mappings.sort_by_key(|(key, ..)| std::cmp::Reverse(key.len()));
        let name = domain.domain_name.to_ascii_lowercase();
        match name.strip_prefix("*.") {
            Some(suffix) => snapshot.wildcard_domains.insert(suffix.to_owned(), Domain { mappings }),
            None => snapshot.domains.insert(name, Domain { mappings }),
        };
    }
    snapshot
}

/// Compiled deployments by the identity of their definition, and policies likewise.
#[derive(Debug, Default)]
pub struct Cache {
    entries: Vec<(Arc<ApiDefinition>, Arc<Deployment>)>,
    policies: Vec<(Arc<Policy>, Arc<StagePolicy>)>,
}

/// What one run of [`compile`] met; everything else leaves the cache.
#[derive(Default)]
struct Used {
    definitions: Vec<Arc<ApiDefinition>>,
    policies: Vec<Arc<Policy>>,
}

impl Cache {
    fn deployment(&mut self, definition: &Arc<ApiDefinition>) -> Arc<Deployment> {
        if let Some((_, compiled)) = self.entries.iter().find(|(source, _)| Arc::ptr_eq(source, definition)) {
            return Arc::clone(compiled);
        }
        let compiled = Arc::new(compile_deployment(definition));
        self.entries.push((Arc::clone(definition), Arc::clone(&compiled)));
        compiled
    }

    fn policy(&mut self, policy: &Arc<Policy>) -> Arc<StagePolicy> {
        if let Some((_, compiled)) = self.policies.iter().find(|(source, _)| Arc::ptr_eq(source, policy)) {
            return Arc::clone(compiled);
        }
        let compiled = Arc::new(compile_policy(policy));
        self.policies.push((Arc::clone(policy), Arc::clone(&compiled)));
        compiled
    }
}

fn compile_api(live: &LiveApi, settings: Arc<Settings>, cache: &mut Cache, used: &mut Used) -> Api {
    let api_id: Arc<str> = live.api.api_id.as_str().into();
    let stages = live
        .stages
        .iter()
        .map(|LiveStage { stage, deployment, policy }| {
            let name: Arc<str> = stage.stage_name.as_str().into();
            used.definitions.extend(deployment.iter().cloned());
            used.policies.extend(policy.iter().cloned());
            let compiled = Stage {
                api_id: Arc::clone(&api_id),
                name: Arc::clone(&name),
                variables: Arc::new(stage.stage_variables.clone()),
                default_throttle: throttle(&stage.default_route_settings),
                throttles: stage
                    .route_settings
                    .iter()
                    .filter_map(|(key, settings)| Some((key.clone(), throttle(settings)?)))
                    .collect(),
                deployment: deployment.as_ref().map(|definition| cache.deployment(definition)),
                settings: Arc::clone(&settings),
                policy: policy.as_ref().map(|policy| cache.policy(policy)),
                logs: StageLogs::compile(stage),
            };
            (name, Arc::new(compiled))
        })
        .collect();
    Api { api_id, stages, settings }
}

/// A rate without a burst holds one second's worth, a burst without a rate never refills: both as documented
/// for token buckets of the service.
fn throttle(settings: &definition::RouteSettings) -> Option<Throttle> {
    match (settings.throttling_rate_limit, settings.throttling_burst_limit) {
        (None, None) => None,
        (Some(rate), None) => Some(Throttle { rate, burst: rate.max(1.0) }),
        (rate, Some(burst)) => Some(Throttle { rate: rate.unwrap_or(0.0), burst: f64::from(burst) }),
    }
}

/// Compiles a policy. One with errors becomes one that admits nobody, because without its rules everybody would be
/// let in.
pub fn compile_policy(policy: &Arc<Policy>) -> StagePolicy {
    let parts = policy_parts(policy);
    let errors: Vec<String> = policy
        .problems()
        .into_iter()
        .filter(|problem| problem.is_error)
        .map(|problem| format!("{}: {}", problem.path, problem.message))
        .collect();
    match (parts, errors.first()) {
        (Some(parts), None) => parts,
        (_, first) => StagePolicy {
            policy: Arc::clone(policy),
            broken: Some(match first {
                Some(first) if errors.len() > 1 => format!("{first}, and {} more", errors.len() - 1),
                Some(first) => first.clone(),
                None => "the policy does not compile".to_owned(),
            }),
            channels: ChannelRules::default(),
            origins: OriginList::default(),
            token_origins: OriginList::default(),
            exempt: Vec::new(),
            select: Vec::new(),
            allowed_handlers: HashSet::new(),
        },
    }
}

fn policy_parts(policy: &Arc<Policy>) -> Option<StagePolicy> {
    let endpoint = policy.connect_tokens.endpoint.as_ref();
    let token_origins = endpoint.map_or(&[][..], |endpoint| &endpoint.origins);
    Some(StagePolicy {
        policy: Arc::clone(policy),
        broken: None,
        channels: ChannelRules::compile(&policy.channels).ok()?,
        origins: OriginList::parse(&policy.admission.origins).ok()?,
        token_origins: OriginList::parse(token_origins).ok()?,
        exempt: policy.attempts.exempt.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?,
        select: policy
            .handlers
            .select
            .iter()
            .map(|text| Expression::parse(text).ok())
            .collect::<Option<_>>()?,
        allowed_handlers: policy.handlers.allowed.iter().map(|name| name.as_str().into()).collect(),
    })
}

fn compile_deployment(definition: &ApiDefinition) -> Deployment {
    let integrations: HashMap<&str, Arc<Integration>> = definition
        .integrations
        .iter()
        .map(|integration| {
            (integration.integration_id.as_str(), Arc::new(compile_integration(integration, definition)))
        })
        .collect();
    let routes: HashMap<String, Arc<Route>> = definition
        .routes
        .iter()
        .map(|route| (route.route_key.clone(), Arc::new(compile_route(route, definition, &integrations))))
        .collect();
    let app = routes.get("$connect").and_then(|route| match &route.integration.kind {
        IntegrationKind::App(name) => Some(Arc::clone(name)),
        _ => None,
    });
    Deployment {
        app,
        // The control plane has checked it; an expression that slipped through selects nothing.
        route_selection: Expression::parse(&definition.api.route_selection_expression)
            .unwrap_or_else(|_| Expression::empty()),
        routes,
        disable_execute_api_endpoint: definition.api.disable_execute_api_endpoint,
    }
}

fn compile_route(
    route: &definition::Route,
    definition: &ApiDefinition,
    integrations: &HashMap<&str, Arc<Integration>>,
) -> Route {
    let integration = route
        .target
        .as_deref()
        .and_then(|target| target.strip_prefix("integrations/"))
        .and_then(|id| integrations.get(id))
        .cloned()
        .unwrap_or_else(|| {
            Arc::new(Integration {
                integration_id: String::new(),
                timeout: crate::limits::INTEGRATION_TIMEOUT,
                kind: IntegrationKind::Broken("the route has no integration".to_owned()),
            })
        });
    let selects_response = route.route_response_selection_expression.as_deref() == Some("$default");
    let has_response = definition
        .route_responses
        .get(&route.route_id)
        .is_some_and(|responses| responses.iter().any(|response| response.route_response_key == "$default"));
    let required = |prefix: &str| {
        let parameters = route.request_parameters.iter().flatten();
        parameters
            .filter(|(_, constraints)| constraints.required)
            .filter_map(|(name, _)| name.strip_prefix(prefix).map(str::to_owned))
            .collect()
    };
    Route {
        key: route.route_key.as_str().into(),
        integration,
        is_two_way: selects_response && has_response,
        lacks_route_response: selects_response != has_response,
        authorization: compile_authorization(route, definition),
        api_key: route.api_key_required.then_some(
            match definition.api.api_key_selection_expression.as_str() {
                "$context.authorizer.usageIdentifierKey" => ApiKeySource::Authorizer,
                _ => ApiKeySource::Header,
            },
        ),
        required_headers: required("route.request.header."),
        required_query: required("route.request.querystring."),
        models: RouteModels::of(route, definition),
        seen: RouteSeen::default(),
    }
}

/// A check that does not exist refuses everybody instead of letting everybody in.
fn compile_authorization(route: &definition::Route, definition: &ApiDefinition) -> Authorization {
    let authorizer = || {
        let id = route.authorizer_id.as_deref().unwrap_or_default();
        let known = definition.authorizers.iter().find(|known| known.authorizer_id == id);
        known.ok_or_else(|| format!("there is no authorizer `{id}`"))
    };
    match route.authorization_type.as_str() {
        "" | "NONE" => Authorization::None,
        "AWS_IAM" => Authorization::Iam,
        "CUSTOM" => match authorizer() {
            Ok(authorizer) => Authorization::Custom(Arc::new(Authorizer::compile(authorizer))),
            Err(reason) => Authorization::Broken(reason),
        },
        "JWT" => {
            let scopes = route.authorization_scopes.as_slice();
            match authorizer().and_then(|authorizer| JwtAuthorizer::compile(authorizer, scopes)) {
                Ok(authorizer) => Authorization::Jwt(Arc::new(authorizer)),
                Err(reason) => Authorization::Broken(reason),
            }
        }
        other => Authorization::Broken(format!("authorization of type {other} is not supported")),
    }
}

fn compile_integration(integration: &definition::Integration, definition: &ApiDefinition) -> Integration {
    let kind = match integration.integration_type.as_str() {
        "HTTP_PROXY" if integration.integration_uri.as_deref() == Some(ECHO_URI) => Ok(IntegrationKind::Echo),
        "HTTP_PROXY" => {
            match integration.integration_uri.as_deref().and_then(|uri| uri.strip_prefix(APP_SCHEME)) {
                Some(name) => Ok(IntegrationKind::App(name.into())),
                None => compile_http(integration).map(Box::new).map(IntegrationKind::Http),
            }
        }
        "MOCK" => compile_transformed(Ok(transformed::Backend::Mock), integration, definition),
        "HTTP" => {
            let backend = compile_http(integration).map(Box::new).map(transformed::Backend::Http);
            compile_transformed(backend, integration, definition)
        }
        "AWS" => compile_transformed(compile_aws(integration), integration, definition),
        "AWS_PROXY" => compile_lambda(integration),
        other => Err(format!("integrations of type {other} are not supported yet")),
    };
    let millis = if integration.timeout_in_millis == 0 { 29_000 } else { integration.timeout_in_millis };
    Integration {
        integration_id: integration.integration_id.clone(),
        timeout: Duration::from_millis(u64::from(millis)),
        kind: kind.unwrap_or_else(IntegrationKind::Broken),
    }
}

fn compile_transformed(
    backend: Result<transformed::Backend, String>,
    integration: &definition::Integration,
    definition: &ApiDefinition,
) -> Result<IntegrationKind, String> {
    let compiled = transformed::compile(backend?, integration, definition)?;
    Ok(IntegrationKind::Transformed(Box::new(compiled)))
}

fn compile_method(integration: &definition::Integration) -> Result<http::Method, String> {
    match integration.integration_method.as_deref() {
        None | Some("ANY" | "") => Ok(http::Method::POST),
        Some(method) => method.parse().map_err(|_| format!("`{method}` is no HTTP method")),
    }
}

fn compile_mappings(integration: &definition::Integration) -> Result<Vec<Mapping>, String> {
    let parameters = integration.request_parameters.iter().flatten();
    parameters
        .map(|(key, value)| Mapping::parse(key, value).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()
}

fn compile_http(integration: &definition::Integration) -> Result<HttpIntegration, String> {
    let uri = integration.integration_uri.as_deref().ok_or("the integration has no URI")?;
    Ok(HttpIntegration {
        uri: UriTemplate::parse(uri).map_err(|error| error.to_string())?,
        method: compile_method(integration)?,
        mappings: compile_mappings(integration)?,
        server_name: integration.tls_config.as_ref().and_then(|tls| tls.server_name_to_verify.clone()),
    })
}

fn compile_lambda(integration: &definition::Integration) -> Result<IntegrationKind, String> {
    let uri = integration.integration_uri.as_deref().ok_or("the integration has no URI")?;
    Ok(IntegrationKind::Lambda(Box::new(LambdaIntegration {
        function: FunctionUri::parse(uri).map_err(|error| error.to_string())?,
        credentials_arn: integration.credentials_arn.clone(),
    })))
}

/// The backend of an integration of type `AWS`: a function, or an action of another service.
fn compile_aws(integration: &definition::Integration) -> Result<transformed::Backend, String> {
    let uri = integration.integration_uri.as_deref().ok_or("the integration has no URI")?;
    let mappings = compile_mappings(integration)?;
    let credentials_arn = integration.credentials_arn.clone();
    let is_function = !uri.starts_with("arn:aws:apigateway:") || uri.contains(":lambda:path/");
    if is_function {
        let function = FunctionUri::parse(uri).map_err(|error| error.to_string())?;
        let function = Box::new(LambdaIntegration { function, credentials_arn });
        return Ok(transformed::Backend::Lambda { function, mappings });
    }
    // `arn:aws:apigateway:{region}:{service}:path/{path}` or `...:action/{name}`.
    let form = "expected arn:aws:apigateway:{region}:{service}:path/... or :action/...";
    let mut fields = uri.splitn(6, ':').skip(3);
    let (Some(region), Some(service), Some(call)) = (fields.next(), fields.next(), fields.next()) else {
        return Err(form.to_owned());
    };
    let path = match (call.strip_prefix("path/"), call.strip_prefix("action/")) {
        (Some(path), _) => path.to_owned(),
        (None, Some(action)) => format!("?Action={action}"),
        (None, None) => return Err(form.to_owned()),
    };
    let request = HttpIntegration {
        uri: UriTemplate::parse(&format!("https://{service}/{path}")).map_err(|error| error.to_string())?,
        method: compile_method(integration)?,
        mappings,
        server_name: None,
    };
    let (region, service) = (region.to_owned(), service.to_owned());
    let aws = transformed::AwsIntegration { region, service, request, credentials_arn };
    Ok(transformed::Backend::Aws(Box::new(aws)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::channel::{ChannelName, Decision, Right};
    use crate::diagnosis::Diagnosis;
    use crate::identity::Identity;

    fn policy(json: serde_json::Value) -> Arc<Policy> {
        Arc::new(serde_json::from_value(json).unwrap())
    }

    fn live(policy: Option<&Arc<Policy>>, routes: &[&str]) -> Live {
        let routes = routes
            .iter()
            .map(|key| definition::Route { route_key: (*key).to_owned(), ..definition::Route::default() })
            .collect();
        let mut definition = ApiDefinition { routes, ..ApiDefinition::default() };
        definition.api.route_selection_expression = "$request.body.api".to_owned();
        let mut stage = LiveStage { policy: policy.cloned(), ..LiveStage::default() };
        stage.stage.stage_name = "s".to_owned();
        stage.deployment = Some(Arc::new(definition));
        let mut api = LiveApi { stages: vec![stage], ..LiveApi::default() };
        api.api.api_id = "a".to_owned();
        Live { apis: vec![Arc::new(api)], ..Live::default() }
    }

    fn stage(live: &Live, cache: &mut Cache) -> Arc<Stage> {
        let snapshot = compile(live, &|_| Arc::new(Settings::default()), cache);
        Arc::clone(&snapshot.apis["a"].stages["s"])
    }

    #[test]
    fn policies_are_compiled_once() {
        let mut cache = Cache::default();
        let first = policy(json!({}));
        let compiled = stage(&live(Some(&first), &[]), &mut cache).policy.clone().unwrap();
        let again = stage(&live(Some(&first), &[]), &mut cache).policy.clone().unwrap();
        assert!(Arc::ptr_eq(&compiled, &again));
        // An equal one is another one, and what is not live any more is forgotten.
        let other = stage(&live(Some(&policy(json!({}))), &[]), &mut cache).policy.clone().unwrap();
        assert!(!Arc::ptr_eq(&compiled, &other));
        assert_eq!(cache.policies.len(), 1);
        assert!(stage(&live(None, &[]), &mut cache).policy.is_none());
        assert_eq!(cache.policies.len(), 0);
    }

    #[test]
    fn a_policy_with_errors_admits_nobody() {
        let broken = compile_policy(&policy(json!({
            "admission": { "origins": ["https://a.example"] },
            "attempts": { "window": 0, "exempt": ["10.0.0.0/8"] },
            "channels": { "unlisted": "allow", "rules": [{ "match": "a", "join": "allow" }] },
            "push": { "wait_ms": 30_001 },
        })));
        assert_eq!(broken.broken.as_deref(), Some("attempts.window: 0: 1 to 86400 expected, and 1 more"));
        let name = ChannelName::parse("a").unwrap();
        let denied = Decision::Deny { diagnosis: Diagnosis::CHANNEL_UNLISTED, rule: None };
        assert_eq!(broken.channels.decide(&name, &Identity::default(), Right::Join), denied);
        assert!(!broken.admits_origin(Some("https://a.example")) && !broken.admits_origin(None));
        assert!(!broken.is_exempt("10.0.0.1".parse().unwrap()));
        assert!(!broken.allows_handler("join"));
    }

    #[test]
    fn what_needs_compiling_is_compiled() {
        // S0-42, S0-82
        let compiled = compile_policy(&policy(json!({
            "admission": { "origins": ["https://*.a.example"], "allow_missing_origin": false },
            "attempts": { "exempt": ["10.0.0.0/8"] },
            "connect_tokens": { "endpoint": { "url": "https://b.example/", "origins": ["https://c.example"] } },
        })));
        assert_eq!(compiled.broken, None);
        assert!(compiled.admits_origin(Some("https://x.a.example")));
        assert!(!compiled.admits_origin(Some("https://a.example")) && !compiled.admits_origin(None));
        assert!(compiled.is_exempt("10.1.1.1".parse().unwrap()));
        assert!(!compiled.is_exempt("11.1.1.1".parse().unwrap()));
        assert!(compiled.token_origins.contains("https://c.example"));
        let open = compile_policy(&policy(json!({})));
        assert!(open.admits_origin(None) && open.admits_origin(Some("null")));
        let programs = compile_policy(&policy(json!({ "admission": { "origins": ["https://a.example"] } })));
        assert!(programs.admits_origin(None) && !programs.admits_origin(Some("null")));
    }

    #[test]
    fn handlers_are_chosen_by_several_expressions_and_a_list() {
        // S0-53, D-6
        let select = json!(["$request.body.handler", "$request.body.action"]);
        let listed = json!({ "select": select, "allowed": ["join", "send_message", "gone"] });
        let open = json!({ "select": select });
        let routes = [
            "$connect",
            "$default",
            "join",
            "send_message",
            "secret",
            "tidegate.x",
            "default_x",
            "$disconnect",
        ];
        let check = |handlers: &serde_json::Value, message: &str, key: &str, is_refused: bool| {
            let stage =
                stage(&live(Some(&policy(json!({ "handlers": handlers }))), &routes), &mut Cache::default());
            let deployment = stage.deployment.as_ref().unwrap();
            let choice = deployment.select_route_with(stage.policy.as_deref(), message);
            assert_eq!(choice.route.map(|route| &*route.key), Some(key), "{message}");
            let diagnosis = is_refused.then_some(Diagnosis::HANDLER_NOT_ALLOWED);
            assert_eq!(choice.diagnosis, diagnosis, "{message}");
        };
        check(&listed, r#"{"handler":"join"}"#, "join", false);
        check(&listed, r#"{"action":"join"}"#, "join", false);
        check(&listed, r#"{"handler":"","action":"join"}"#, "join", false);
        check(&listed, r#"{"handler":"join","action":"secret"}"#, "join", false);
        check(&listed, r#"{"handler":"default","action":"join"}"#, "$default", false);
        check(&listed, r#"{"handler":"$default","action":"join"}"#, "$default", false);
        check(&listed, r#"{"handler":"secret","action":"join"}"#, "$default", true);
        check(&listed, r#"{"handler":"nope"}"#, "$default", true);
        // Permitted, and nobody has made a route for it.
        check(&listed, r#"{"handler":"gone"}"#, "$default", false);
        check(&listed, r#"{"other":"join"}"#, "$default", false);
        check(&listed, "join", "$default", false);
        check(&listed, r#"{"handler":"$connect"}"#, "$default", true);
        check(&open, r#"{"action":"secret"}"#, "secret", false);
        check(&open, r#"{"handler":"$connect"}"#, "$default", false);
        check(&open, r#"{"handler":"$disconnect"}"#, "$default", false);
        check(&open, r#"{"handler":"tidegate.x"}"#, "$default", false);
        // Without expressions of its own the list is about the API's.
        check(&json!({ "allowed": ["join"] }), r#"{"api":"secret"}"#, "$default", true);
        check(&json!({ "allowed": ["join"] }), r#"{"api":"join"}"#, "join", false);
        check(&json!({}), r#"{"api":"secret"}"#, "secret", false);
        // A policy that is broken runs nothing by name.
        check(&json!({ "select": ["$"] }), r#"{"api":"secret"}"#, "$default", true);

        let stage =
            stage(&live(Some(&policy(json!({ "handlers": listed }))), &routes), &mut Cache::default());
        let (deployment, policy) = (stage.deployment.as_ref().unwrap(), stage.policy.as_deref().unwrap());
        assert_eq!(deployment.nearest_handler(policy, "sendMessage"), Some("send_message"));
        assert_eq!(deployment.nearest_handler(policy, "secrets"), None);
        assert_eq!(
            deployment.select_route_with(None, r#"{"api":"secret"}"#).route.unwrap().key,
            "secret".into()
        );
        assert_eq!(deployment.select_route(r#"{"api":"tidegate.x"}"#).0.unwrap().key, "$default".into());
    }
}
