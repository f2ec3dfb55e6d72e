//! From definitions to a [`Snapshot`].
//!
//! Never fails: a definition that cannot work becomes an integration that answers as misconfigured and says
//! why, because refusing the whole API for one bad route would take the others down with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::definition::{self, ApiDefinition, Live, LiveApi, LiveStage};
use crate::mapping::Mapping;
use crate::select::Expression;
use crate::settings::Settings;
use crate::snapshot::{
    Api, Authorization, Deployment, Domain, HttpIntegration, Integration, IntegrationKind, MockIntegration,
    Passthrough, ResponseKey, Route, Snapshot, Stage, Throttle, UriTemplate,
};
use crate::template::Template;

/// Address of the gateway's own echo, as an integration URI.
pub const ECHO_URI: &str = "tidegate://echo";

/// Compiles everything. Deployments that `previous` has already compiled are recognised by `cache`.
pub fn compile(live: &Live, settings: &dyn Fn(&str) -> Arc<Settings>, cache: &mut Cache) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut used = Vec::new();
    for api in &live.apis {
        let compiled = compile_api(api, settings(&api.api.api_id), cache, &mut used);
        snapshot.apis.insert(Arc::clone(&compiled.api_id), Arc::new(compiled));
    }
    cache.entries.retain(|(source, _)| used.iter().any(|used| Arc::ptr_eq(used, source)));
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

/// Compiled deployments by the identity of their definition.
#[derive(Debug, Default)]
pub struct Cache {
    entries: Vec<(Arc<ApiDefinition>, Arc<Deployment>)>,
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
}

fn compile_api(
    live: &LiveApi,
    settings: Arc<Settings>,
    cache: &mut Cache,
    used: &mut Vec<Arc<ApiDefinition>>,
) -> Api {
    let api_id: Arc<str> = live.api.api_id.as_str().into();
    let stages = live
        .stages
        .iter()
        .map(|LiveStage { stage, deployment, .. }| {
            let name: Arc<str> = stage.stage_name.as_str().into();
            used.extend(deployment.iter().cloned());
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

fn compile_deployment(definition: &ApiDefinition) -> Deployment {
    let integrations: HashMap<&str, Arc<Integration>> = definition
        .integrations
        .iter()
        .map(|integration| {
            (integration.integration_id.as_str(), Arc::new(compile_integration(integration, definition)))
        })
        .collect();
    let routes = definition
        .routes
        .iter()
        .map(|route| (route.route_key.clone(), Arc::new(compile_route(route, definition, &integrations))))
        .collect();
    Deployment {
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
        authorization: match route.authorization_type.as_str() {
            "" | "NONE" if route.api_key_required => Authorization::ApiKey,
            "" | "NONE" => Authorization::None,
            _ => Authorization::Unsupported,
        },
        required_headers: required("route.request.header."),
        required_query: required("route.request.querystring."),
    }
}

fn compile_integration(integration: &definition::Integration, definition: &ApiDefinition) -> Integration {
    let kind = match integration.integration_type.as_str() {
        "HTTP_PROXY" if integration.integration_uri.as_deref() == Some(ECHO_URI) => Ok(IntegrationKind::Echo),
        "HTTP_PROXY" => compile_http(integration),
        "MOCK" => compile_mock(integration, definition),
        other => Err(format!("integrations of type {other} are not supported yet")),
    };
    let millis = if integration.timeout_in_millis == 0 { 29_000 } else { integration.timeout_in_millis };
    Integration {
        integration_id: integration.integration_id.clone(),
        timeout: Duration::from_millis(u64::from(millis)),
        kind: kind.unwrap_or_else(IntegrationKind::Broken),
    }
}

fn compile_http(integration: &definition::Integration) -> Result<IntegrationKind, String> {
    let uri = integration.integration_uri.as_deref().ok_or("the integration has no URI")?;
    let method = match integration.integration_method.as_deref() {
        None | Some("ANY" | "") => http::Method::POST,
        Some(method) => method.parse().map_err(|_| format!("`{method}` is no HTTP method"))?,
    };
    let mappings = integration
        .request_parameters
        .iter()
        .flatten()
        .map(|(key, value)| Mapping::parse(key, value).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    Ok(IntegrationKind::Http(Box::new(HttpIntegration {
        uri: UriTemplate::parse(uri).map_err(|error| error.to_string())?,
        method,
        mappings,
        server_name: integration.tls_config.as_ref().and_then(|tls| tls.server_name_to_verify.clone()),
    })))
}

fn compile_mock(
    integration: &definition::Integration,
    definition: &ApiDefinition,
) -> Result<IntegrationKind, String> {
    let parse = |text: &String| Template::parse(text).map_err(|error| error.to_string());
    let request_templates = integration
        .request_templates
        .iter()
        .flatten()
        .map(|(key, text)| Ok((key.clone(), parse(text)?)))
        .collect::<Result<_, String>>()?;
    let template_selection = integration
        .template_selection_expression
        .as_deref()
        .map(|text| Expression::parse(text).map_err(|error| error.to_string()))
        .transpose()?;
    let mut responses = Vec::new();
    for response in definition.integration_responses.get(&integration.integration_id).into_iter().flatten() {
        let key = match response.integration_response_key.as_str() {
            "$default" => ResponseKey::Default,
            key => {
                let pattern = key.strip_prefix('/').and_then(|key| key.strip_suffix('/'));
                ResponseKey::Status(pattern.unwrap_or(key).to_owned())
            }
        };
        let templates = response.response_templates.as_ref();
        let text = templates.and_then(|templates| {
            templates
                .get("application/json")
                .or_else(|| templates.get("$default"))
                .or_else(|| templates.values().next())
        });
        responses.push((key, text.map(parse).transpose()?));
    }
    Ok(IntegrationKind::Mock(Box::new(MockIntegration {
        request_templates,
        template_selection,
        passthrough: match integration.passthrough_behavior.as_str() {
            "NEVER" => Passthrough::Never,
            "WHEN_NO_TEMPLATES" => Passthrough::WhenNoTemplates,
            _ => Passthrough::WhenNoMatch,
        },
        responses,
    })))
}
