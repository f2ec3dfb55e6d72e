//! What is wrong with an API as it is defined, deployed and configured, without asking anybody.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::digest;
use serde_json::{Value, json};
use tidegate_core::authorizer::AuthorizerTarget;
use tidegate_core::compile::{Cache, ECHO_URI, compile};
use tidegate_core::definition::{
    ApiDefinition, ApiMapping, DomainName, Live, LiveApi, LiveStage, Map, Route,
};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::policy::{IdentityCheck, Policy};
use tidegate_core::select::Expression;
use tidegate_core::settings::Settings;
use tidegate_core::snapshot::{
    ApiKeySource, Authorization, Deployment, IntegrationKind, Route as CompiledRoute,
};

use super::target::Target;
use super::{differences, facts};
use crate::report::{Confidence, Finding, Probe, ProbeResult, Severity};

/// Names that are listed in one observation.
const MAX_NAMED: usize = 20;

/// An API, its stages and what stands around it.
#[derive(Debug, Clone, Copy)]
pub struct ApiView<'a> {
    /// As it is defined now.
    pub current: &'a ApiDefinition,
    /// What is live.
    pub stages: &'a [LiveStage],
    /// All domain names with their mappings.
    pub domains: &'a [(DomainName, Vec<ApiMapping>)],
    /// Settings of this API.
    pub settings: &'a Settings,
    /// Region of the installation.
    pub region: &'a str,
}

/// A definition with its compiled form, and the stages that serve it; none: it is not deployed.
struct Version<'a> {
    definition: &'a ApiDefinition,
    deployment: Arc<Deployment>,
    variables: &'a Map,
    stage: Option<&'a str>,
}

/// Compiles one definition, as the data plane does it.
pub fn compiled(
    definition: &ApiDefinition,
    policy: Option<&Arc<Policy>>,
) -> Option<Arc<tidegate_core::snapshot::Stage>> {
    let stage = LiveStage {
        stage: tidegate_core::definition::Stage { stage_name: "x".to_owned(), ..Default::default() },
        deployment: Some(Arc::new(definition.clone())),
        policy: policy.cloned(),
    };
    let api = LiveApi { api: definition.api.clone(), stages: vec![stage] };
    let live = Live { apis: vec![Arc::new(api)], domains: Vec::new() };
    let snapshot = compile(&live, &|_| Arc::new(Settings::default()), &mut Cache::default());
    snapshot.apis.values().next().and_then(|api| api.stages.get("x").cloned())
}

/// What a deployment holds, as 16 hexadecimal digits.
pub fn content_hash(definition: &ApiDefinition) -> String {
    let text = serde_json::to_vec(definition).unwrap_or_default();
    digest::digest(&digest::SHA256, &text).as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All findings about an API and what was looked at.
pub fn check(view: &ApiView<'_>) -> (Vec<Probe>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut probes = Vec::new();
    let mut probe = |name: &str, findings: &mut Vec<Finding>, mut found: Vec<Finding>| {
        for finding in &mut found {
            finding.api_id = Some(view.current.api.api_id.clone());
        }
        probes.push(Probe {
            name: name.to_owned(),
            result: worst(&found),
            measurements: facts([("findings", found.len().into())]),
        });
        findings.append(&mut found);
    };
    probe("deployment", &mut findings, deployments(view));
    let mut found: Vec<Finding> = Vec::new();
    for version in versions(view) {
        for mut finding in check_version(&version, view.settings) {
            finding.stage = version.stage.map(str::to_owned);
            if version.stage.is_none() {
                // What is not deployed hurts nobody yet.
                finding.severity = finding.severity.max(Severity::Warning);
                finding = finding
                    .seen("this is so in the definition, which no stage serves yet", Default::default());
            }
            let is_known = |known: &Finding| known.id == finding.id && known.route_key == finding.route_key;
            if !found.iter().any(is_known) {
                found.push(finding);
            }
        }
    }
    probe("routes", &mut findings, found);
    probe(
        "policy",
        &mut findings,
        view.stages.iter().flat_map(|stage| check_policy(stage, view.settings)).collect(),
    );
    probe("domains", &mut findings, check_domains(view));
    (probes, findings)
}

/// The result of a probe that found these.
pub fn worst(findings: &[Finding]) -> ProbeResult {
    match findings.iter().map(|finding| finding.severity).min() {
        Some(Severity::Problem) => ProbeResult::Problem,
        Some(Severity::Warning) => ProbeResult::Warning,
        _ => ProbeResult::Ok,
    }
}

fn versions<'a>(view: &ApiView<'a>) -> Vec<Version<'a>> {
    static NONE: Map = Map::new();
    let mut versions: Vec<Version<'a>> = Vec::new();
    for LiveStage { stage, deployment, .. } in view.stages {
        let Some(definition) = deployment else { continue };
        let Some(compiled) = compiled(definition, None).and_then(|stage| stage.deployment.clone()) else {
            continue;
        };
        let stage_name = Some(stage.stage_name.as_str());
        versions.push(Version {
            definition,
            deployment: compiled,
            variables: &stage.stage_variables,
            stage: stage_name,
        });
    }
    let is_deployed =
        versions.iter().any(|version| differences::between(version.definition, view.current).1 == 0);
    if !is_deployed
        && let Some(compiled) = compiled(view.current, None).and_then(|stage| stage.deployment.clone())
    {
        let variables = view.stages.first().map_or(&NONE, |stage| &stage.stage.stage_variables);
        versions.push(Version { definition: view.current, deployment: compiled, variables, stage: None });
    }
    versions
}

/// Stages and their deployments.
fn deployments(view: &ApiView<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let current = view.current;
    let mut missing: Vec<&str> = Vec::new();
    if current.integrations.is_empty() {
        missing.push("integrations");
    }
    if current.routes.is_empty() {
        missing.push("routes");
    }
    if view.stages.is_empty() {
        missing.push("a stage");
    }
    if !view.stages.iter().any(|stage| stage.deployment.is_some()) {
        missing.push("a deployment");
    }
    if !missing.is_empty() {
        let text = format!("the API {} lacks {}", current.api.name, missing.join(", "));
        findings.push(
            Finding::problem(Diagnosis::PROVISION_INCOMPLETE)
                .seen(text, facts([("missing", json!(missing))])),
        );
    }
    for LiveStage { stage, deployment, .. } in view.stages {
        let of_stage = |mut finding: Finding| {
            finding.stage = Some(stage.stage_name.clone());
            finding
        };
        let Some(deployed) = deployment else {
            let text = format!("stage {} has no deployment", stage.stage_name);
            findings.push(of_stage(
                Finding::problem(Diagnosis::STAGE_NOT_DEPLOYED).seen(text, Default::default()),
            ));
            continue;
        };
        let (listed, n_all) = differences::between(deployed, current);
        if n_all > 0 {
            let mut finding = Finding::warning(Diagnosis::STAGE_REDEPLOY_NEEDED).seen(
                format!(
                    "stage {} serves another content than is defined: {n_all} differences",
                    stage.stage_name
                ),
                facts([
                    ("snapshotHash", content_hash(deployed).into()),
                    ("currentHash", content_hash(current).into()),
                    ("count", n_all.into()),
                    ("differences", json!(listed)),
                ]),
            );
            for difference in listed {
                finding = finding.seen(difference.sentence, Default::default());
            }
            findings.push(of_stage(finding));
        }
        if deployed.api.disable_execute_api_endpoint && !is_mapped(view, &stage.stage_name) {
            let text = format!(
                "the generated address is off, and no domain name leads to stage {}",
                stage.stage_name
            );
            findings.push(of_stage(
                Finding::problem(Diagnosis::API_DEFAULT_ENDPOINT_DISABLED)
                    .seen(text, facts([("disableExecuteApiEndpoint", true.into())])),
            ));
        }
    }
    findings
}

fn is_mapped(view: &ApiView<'_>, stage: &str) -> bool {
    let api_id = &view.current.api.api_id;
    view.domains.iter().flat_map(|(_, mappings)| mappings).any(|m| m.api_id == *api_id && m.stage == stage)
}

/// Routes, integrations, authorizers of one version.
fn check_version(version: &Version<'_>, settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let definition = version.definition;
    if definition.routes.is_empty() {
        let text = "the route table is empty: every message is answered Forbidden";
        return vec![Finding::problem(Diagnosis::ROUTE_NONE).seen(text, Default::default())];
    }
    let has = |key: &str| definition.routes.iter().any(|route| route.route_key == key);
    let calls_http = version
        .deployment
        .routes
        .values()
        .any(|route| matches!(route.integration.kind, IntegrationKind::Http(_)));
    // A backend that is never told of a connection cannot push to it; echo and mock need not be told.
    if calls_http && !has("$connect") {
        let text = "no $connect route: no backend is asked or told when a client connects";
        findings.push(Finding::warning(Diagnosis::ROUTE_CONNECT_MISSING).seen(text, routes_fact(definition)));
    }
    if calls_http && has("$connect") && !has("$disconnect") {
        let text = "no $disconnect route: no backend is told when a client leaves, so its records of connections stay";
        let finding = Finding::new(Diagnosis::CLEANUP_DISCONNECT_LOST, Severity::Warning, Confidence::Likely);
        findings.push(finding.seen(text, routes_fact(definition)));
    }
    if !has("$default") {
        let text = "no $default route: a message that selects no route is answered Forbidden";
        let finding = Finding::new(Diagnosis::ROUTE_NO_MATCH, Severity::Warning, Confidence::Possible);
        findings.push(finding.seen(text, routes_fact(definition)));
    }
    findings.extend(check_selection(definition));
    for route in &definition.routes {
        for mut finding in check_route(route, version, settings) {
            finding.route_key = Some(route.route_key.clone());
            findings.push(finding);
        }
    }
    findings.extend(check_authorizers(definition));
    let has_unused = |route: &Route| {
        !route.route_key.starts_with('$') && route.request_models.as_ref().is_none_or(Map::is_empty)
    };
    if !definition.models.is_empty()
        && definition.routes.iter().all(|route| route.request_models.as_ref().is_none_or(Map::is_empty))
    {
        let text = "the API has models, and no route uses them to check messages";
        let keys: Vec<&str> =
            definition.routes.iter().filter(|r| has_unused(r)).map(|r| r.route_key.as_str()).collect();
        let finding = Finding::new(Diagnosis::SECURITY_UNTRUSTED_INPUT, Severity::Info, Confidence::Possible);
        findings.push(finding.seen(text, facts([("routeKeys", json!(keys))])));
    }
    findings
}

fn routes_fact(definition: &ApiDefinition) -> serde_json::Map<String, Value> {
    let keys: Vec<&str> =
        definition.routes.iter().map(|route| route.route_key.as_str()).take(MAX_NAMED).collect();
    facts([("routeKeys", json!(keys))])
}

/// The selection expression, and routes that it never gives.
fn check_selection(definition: &ApiDefinition) -> Vec<Finding> {
    let mut findings = Vec::new();
    let text = &definition.api.route_selection_expression;
    let expression = match Expression::parse(text) {
        Ok(expression) => expression,
        Err(error) => {
            let finding = Finding::problem(Diagnosis::HANDLER_SELECTION_MISMATCH);
            return vec![finding.seen(
                format!("the route selection expression cannot be read: {error}"),
                facts([("selection", text.as_str().into())]),
            )];
        }
    };
    let custom =
        || definition.routes.iter().map(|route| route.route_key.as_str()).filter(|key| !key.starts_with('$'));
    for key in custom() {
        let reason = if key.starts_with("tidegate.") {
            Some("keys that begin with `tidegate.` are the gateway's own".to_owned())
        } else if !expression.can_give(key) {
            Some(format!("no message makes `{text}` give it"))
        } else {
            None
        };
        if let Some(reason) = reason {
            let mut finding = Finding::warning(Diagnosis::HANDLER_SELECTION_MISMATCH).seen(
                format!("the route `{key}` can never be selected: {reason}"),
                facts([("selection", text.as_str().into())]),
            );
            finding.route_key = Some(key.to_owned());
            findings.push(finding);
        }
    }
    for key in custom() {
        let folded = |key: &str| key.trim().to_lowercase();
        let twin = custom().find(|other| *other != key && folded(other) == folded(key));
        let text = match twin {
            // Once for each pair.
            Some(twin) if key < twin => {
                format!("the routes `{key}` and `{twin}` differ only in case or blanks")
            }
            None if key.trim() != key => format!("the route key `{key}` begins or ends with a blank"),
            _ => continue,
        };
        let finding = Finding::new(Diagnosis::ROUTE_KEY_MISMATCH, Severity::Warning, Confidence::Likely);
        let mut finding = finding.seen(text, facts([("nearest", twin.unwrap_or(key.trim()).into())]));
        finding.route_key = Some(key.to_owned());
        findings.push(finding);
    }
    findings
}

fn check_route(route: &Route, version: &Version<'_>, settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(compiled) = version.deployment.routes.get(&route.route_key) else { return findings };
    if route.route_key == "$connect" {
        findings.extend(check_authorization(route, compiled));
    }
    let is_authorized =
        !matches!(route.authorization_type.as_str(), "" | "NONE") || route.authorizer_id.is_some();
    if is_authorized && route.route_key != "$connect" {
        let text = format!("the route `{}` names an authorizer; only $connect asks one", route.route_key);
        let authorizer = route.authorizer_id.clone().unwrap_or_default();
        findings.push(
            Finding::warning(Diagnosis::AUTHORIZER_WRONG_ROUTE)
                .seen(text, facts([("authorizerId", authorizer.into())])),
        );
    }
    let target = route.target.as_deref().unwrap_or_default();
    match &compiled.integration.kind {
        IntegrationKind::Broken(reason) => {
            let text = match target {
                "" => "the route has no target".to_owned(),
                _ if compiled.integration.integration_id.is_empty() => {
                    format!("the target {target} does not exist (any more)")
                }
                _ => format!("{target} cannot work: {reason}"),
            };
            findings.push(
                Finding::problem(Diagnosis::INTEGRATION_MISSING)
                    .seen(text, facts([("target", target.into())])),
            );
        }
        IntegrationKind::Http(http) => {
            // What a path parameter will be is not known before there is a message.
            match http.uri.resolve(version.variables, &|_| Some("x".to_owned())) {
                Err(error) => {
                    let text = format!("the address of {target} cannot be made: {error}");
                    findings.push(
                        Finding::problem(Diagnosis::INTEGRATION_MISSING)
                            .seen(text, facts([("target", target.into())])),
                    );
                }
                Ok(uri) => findings.extend(check_address(&uri.to_string(), settings)),
            }
        }
        IntegrationKind::Echo
        | IntegrationKind::Transformed(_)
        | IntegrationKind::App(_)
        | IntegrationKind::Lambda(_) => {}
    }
    if compiled.lacks_route_response && !answers_nobody(version.definition) {
        let selects = route.route_response_selection_expression.is_some();
        let text = match selects {
            true => {
                "the route has a response selection expression and no route response: what the backend answers goes to nobody"
            }
            false => {
                "the route has a route response and no response selection expression: what the backend answers goes to nobody"
            }
        };
        // Without a response the author may have meant one way; with one, an answer was wanted.
        let (severity, confidence) = match selects {
            true => (Severity::Info, Confidence::Possible),
            false => (Severity::Warning, Confidence::Likely),
        };
        findings.push(
            Finding::new(Diagnosis::REPLY_NO_ROUTE_RESPONSE, severity, confidence)
                .seen(text, Default::default()),
        );
    }
    findings
}

/// Is the backend one that answers by pushing? The Django package sets the expression and never a route response: its
/// view answers `{}` and pushes what it has to say.
fn answers_nobody(definition: &ApiDefinition) -> bool {
    is_package(definition)
}

/// Does the API look as the Django package makes it: three or more routes that call `BASE` and a word, with the connection
/// id in a header?
pub fn is_package(definition: &ApiDefinition) -> bool {
    let of_route = |key: &str| {
        let route = definition.routes.iter().find(|route| route.route_key == key)?;
        let id = route.target.as_deref()?.strip_prefix("integrations/")?;
        definition.integrations.iter().find(|integration| integration.integration_id == id)
    };
    ["connect", "disconnect", "default"].into_iter().all(|word| {
        of_route(&format!("${word}")).is_some_and(|integration| {
            let maps_id = integration.request_parameters.as_ref().is_some_and(|parameters| {
                parameters.iter().any(|(name, value)| {
                    name.eq_ignore_ascii_case("integration.request.header.connectionId")
                        && value == "context.connectionId"
                })
            });
            maps_id && integration.integration_uri.as_deref().is_some_and(|uri| uri.ends_with(word))
        })
    })
}

fn check_address(address: &str, settings: &Settings) -> Vec<Finding> {
    let Some(target) = Target::parse(address) else {
        let finding = Finding::problem(Diagnosis::PROVISION_INVALID_TARGET);
        return vec![
            finding.seen(format!("{} is no address", super::shown_url(address)), Default::default()),
        ];
    };
    let remarks = target.remarks(&settings.integration.allowed_hosts);
    let finding = |(diagnosis, text): (Diagnosis, String)| {
        let (severity, confidence) = match diagnosis {
            Diagnosis::INTEGRATION_HOST_NOT_ALLOWED => (Severity::Problem, Confidence::Proven),
            Diagnosis::INTEGRATION_NOT_HTTPS => (Severity::Warning, Confidence::Proven),
            _ => (Severity::Warning, Confidence::Likely),
        };
        Finding::new(diagnosis, severity, confidence).seen(text, facts([("target", target.shown().into())]))
    };
    remarks.into_iter().map(finding).collect()
}

/// What lets nobody in, whatever they send.
fn check_authorization(route: &Route, compiled: &CompiledRoute) -> Option<Finding> {
    let broken = |reason: &str| {
        let text = format!("$connect refuses every client: {reason}");
        Finding::problem(Diagnosis::AUTHORIZER_UNSUPPORTED)
            .seen(text, facts([("authorizationType", route.authorization_type.as_str().into())]))
    };
    match &compiled.authorization {
        Authorization::Broken(reason) => return Some(broken(reason)),
        Authorization::Custom(authorizer) => {
            if let AuthorizerTarget::Broken(reason) = &authorizer.target {
                return Some(broken(reason));
            }
        }
        _ if compiled.api_key == Some(ApiKeySource::Authorizer) => {
            let text = "$connect takes the API key from an authorizer's answer, and has no authorizer: every client is refused";
            return Some(
                Finding::problem(Diagnosis::APIKEY_MISSING)
                    .seen(text, facts([("apiKeyRequired", true.into())])),
            );
        }
        Authorization::None | Authorization::Iam | Authorization::Jwt(_) => {}
    }
    None
}

fn check_authorizers(definition: &ApiDefinition) -> Vec<Finding> {
    let mut findings = Vec::new();
    for authorizer in &definition.authorizers {
        let is_source = |source: &str| {
            let known =
                ["route.request.header.", "route.request.querystring.", "context.", "stageVariables."];
            known.iter().any(|prefix| {
                source
                    .strip_prefix(prefix)
                    .is_some_and(|name| !name.is_empty() && !name.contains(char::is_whitespace))
            })
        };
        // Entries may be lists themselves; empty ones ask for nothing.
        let sources = authorizer.identity_source.iter().flat_map(|list| list.split(',')).map(str::trim);
        let bad: Vec<&str> = sources.filter(|source| !source.is_empty() && !is_source(source)).collect();
        if !bad.is_empty() {
            let text = format!(
                "authorizer {}: {} names no header, query parameter, context or stage variable",
                authorizer.name, bad[0]
            );
            let finding = Finding::problem(Diagnosis::AUTHORIZER_IDENTITY_MISSING);
            findings.push(finding.seen(
                text,
                facts([
                    ("identitySource", json!(bad)),
                    ("authorizerId", authorizer.authorizer_id.as_str().into()),
                ]),
            ));
        }
    }
    let dangling = definition.routes.iter().filter(|route| {
        route
            .authorizer_id
            .as_ref()
            .is_some_and(|id| !definition.authorizers.iter().any(|known| known.authorizer_id == *id))
    });
    for route in dangling {
        let text =
            format!("the authorizer {} does not exist", route.authorizer_id.as_deref().unwrap_or_default());
        let mut finding = Finding::problem(Diagnosis::AUTHORIZER_UNSUPPORTED).seen(text, Default::default());
        finding.route_key = Some(route.route_key.clone());
        findings.push(finding);
    }
    findings
}

/// The policy of a stage, and the limits that go with it.
fn check_policy(live: &LiveStage, settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(policy) = &live.policy {
        findings.extend(policy_findings(policy));
    }
    findings.extend(check_timers(settings));
    for finding in &mut findings {
        finding.stage = Some(live.stage.stage_name.clone());
    }
    findings
}

/// What is wrong with a policy.
pub fn policy_findings(policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    for problem in policy.problems() {
        let diagnosis = Diagnosis::find(problem.id).unwrap_or(Diagnosis::CONFIG_INVALID_VALUE);
        let severity = match diagnosis {
            _ if problem.is_error => Severity::Problem,
            // A matter of what else protects the backend and what channels are for.
            Diagnosis::CONFIG_NO_BACKEND_SECRET | Diagnosis::CONFIG_UNLISTED_OPEN => Severity::Info,
            _ => Severity::Warning,
        };
        let text = format!("{}: {}", problem.path, problem.message);
        findings.push(
            Finding::new(diagnosis, severity, Confidence::Proven)
                .seen(text, facts([("path", problem.path.into())])),
        );
    }
    let is_known = |findings: &[Finding], diagnosis: Diagnosis| {
        findings.iter().any(|finding| finding.id == diagnosis.as_str())
    };
    let checks = &policy.admission.checks;
    let wants_jwt = checks.contains(&IdentityCheck::Jwt);
    if wants_jwt && policy.jwt.as_ref().is_none_or(|jwt| jwt.keys.is_empty()) {
        let text = "admission.checks has `jwt`, and jwt.keys is empty: no token can be accepted";
        findings.push(Finding::problem(Diagnosis::AUTH_NOT_CONFIGURED).seen(text, Default::default()));
    }
    if checks.contains(&IdentityCheck::ApiKey) && policy.admission.api_keys.is_empty() {
        let text = "admission.checks has `api_key`, and admission.api_keys is empty: no key can be accepted";
        findings.push(Finding::problem(Diagnosis::AUTH_NOT_CONFIGURED).seen(text, Default::default()));
    }
    if policy.jwt.as_ref().is_some_and(|jwt| !jwt.require_exp)
        && !is_known(&findings, Diagnosis::JWT_NO_EXPIRY)
    {
        let text = "jwt.require_exp is off: tokens without `exp` are good for ever";
        findings.push(
            Finding::warning(Diagnosis::JWT_NO_EXPIRY)
                .seen(text, facts([("setting", "jwt.require_exp".into())])),
        );
    }
    let has_tokens = checks.contains(&IdentityCheck::Token);
    if !has_tokens
        && policy.connect_tokens.endpoint.is_some()
        && !is_known(&findings, Diagnosis::IDENTITY_TOKEN_PROTECTION_OFF)
    {
        let text =
            "connect tokens can be fetched, and admission.checks has no `token`: nobody has to show one";
        findings.push(
            Finding::warning(Diagnosis::IDENTITY_TOKEN_PROTECTION_OFF)
                .seen(text, facts([("setting", "admission.checks".into())])),
        );
    }
    findings
}

/// The gateway's own heartbeat against its own idle limit.
pub fn check_timers(settings: &Settings) -> Vec<Finding> {
    let data_plane = &settings.data_plane;
    let (idle, ping) = (data_plane.idle_timeout, data_plane.server_ping_interval);
    let mut findings = Vec::new();
    if idle > 0 && ping > 0 && ping.saturating_mul(2) > idle {
        let text = format!(
            "data_plane.server_ping_interval is {ping} s, data_plane.idle_timeout {idle} s: at most half of it is safe"
        );
        let finding = Finding::new(Diagnosis::IDLE_HEARTBEAT_RACE, Severity::Warning, Confidence::Likely);
        findings.push(finding.seen(text, facts([("interval", ping.into()), ("limit", idle.into())])));
    }
    findings
}

/// Domain names that lead to this API.
fn check_domains(view: &ApiView<'_>) -> Vec<Finding> {
    let api_id = &view.current.api.api_id;
    let stages: BTreeSet<&str> = view.stages.iter().map(|stage| stage.stage.stage_name.as_str()).collect();
    let mut findings = Vec::new();
    for (domain, mappings) in view.domains {
        for mapping in mappings.iter().filter(|mapping| mapping.api_id == *api_id) {
            if !stages.contains(mapping.stage.as_str()) {
                let text = format!(
                    "{}/{} leads to stage {}, which does not exist",
                    domain.domain_name, mapping.api_mapping_key, mapping.stage
                );
                let mut finding = Finding::problem(Diagnosis::DOMAIN_MAPPING_WRONG_STAGE).seen(
                    text,
                    facts([
                        ("domain", domain.domain_name.as_str().into()),
                        ("mappingKey", mapping.api_mapping_key.as_str().into()),
                    ]),
                );
                finding.stage = Some(mapping.stage.clone());
                findings.push(finding);
            }
        }
        if mappings.iter().any(|mapping| mapping.api_id == *api_id) {
            findings.extend(super::domain::region_finding(domain, view.region));
        }
    }
    findings
}

/// Addresses of HTTP backends, with the route keys that call them, for everything that is deployed.
pub fn http_routes(definition: &ApiDefinition) -> Vec<(&Route, &tidegate_core::definition::Integration)> {
    let mut found = Vec::new();
    for route in &definition.routes {
        let id = route.target.as_deref().and_then(|target| target.strip_prefix("integrations/"));
        let integration =
            id.and_then(|id| definition.integrations.iter().find(|known| known.integration_id == id));
        if let Some(integration) = integration
            && integration.integration_type == "HTTP_PROXY"
            && integration.integration_uri.as_deref().is_some_and(|uri| uri != ECHO_URI)
        {
            found.push((route, integration));
        }
    }
    found
}
