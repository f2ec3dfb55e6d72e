//! Definitions, deployments, policies, domains, settings and messages, as `doctor --api` judges them.

use std::sync::Arc;

use serde_json::json;
use tidegate_core::definition::{
    Api, ApiDefinition, ApiMapping, Authorizer, DomainName, Integration, LiveApi, LiveStage, Model, Route,
    RouteResponse, Stage,
};
use tidegate_core::policy::Policy;
use tidegate_core::settings::{ErrorFrames, Settings};
use tidegate_doctor::inspect::configuration::{self, ConfigurationView, SecretView};
use tidegate_doctor::inspect::definitions::{self, ApiView};
use tidegate_doctor::inspect::domain::{self, DomainView};
use tidegate_doctor::inspect::{certificate, route_test};
use tidegate_doctor::report::{Confidence, Finding, Severity};

fn route(key: &str, target: Option<&str>) -> Route {
    Route {
        route_id: format!("r-{key}"),
        route_key: key.to_owned(),
        target: target.map(|id| format!("integrations/{id}")),
        authorization_type: "NONE".to_owned(),
        ..Route::default()
    }
}

fn integration(id: &str, uri: &str) -> Integration {
    Integration {
        integration_id: id.to_owned(),
        integration_type: "HTTP_PROXY".to_owned(),
        integration_uri: Some(uri.to_owned()),
        ..Integration::default()
    }
}

/// Everything that a backend at `base` needs.
fn healthy(base: &str) -> ApiDefinition {
    let words = ["connect", "disconnect", "default"];
    ApiDefinition {
        api: Api {
            api_id: "api0000001".to_owned(),
            name: "chat".to_owned(),
            route_selection_expression: "$request.body.action".to_owned(),
            ..Api::default()
        },
        routes: words
            .iter()
            .map(|word| route(&format!("${word}"), Some(word)))
            .chain([route("join", Some("default"))])
            .collect(),
        integrations: words.iter().map(|word| integration(word, &format!("{base}{word}"))).collect(),
        ..ApiDefinition::default()
    }
}

fn stage(deployed: Option<&ApiDefinition>, policy: Option<Policy>) -> LiveStage {
    LiveStage {
        stage: Stage { stage_name: "prod".to_owned(), ..Stage::default() },
        deployment: deployed.map(|definition| Arc::new(definition.clone())),
        policy: policy.map(Arc::new),
    }
}

fn findings_of(
    current: &ApiDefinition,
    stages: &[LiveStage],
    domains: &[(DomainName, Vec<ApiMapping>)],
    settings: &Settings,
) -> Vec<Finding> {
    definitions::check(&ApiView { current, stages, domains, settings, region: "us-east-1" }).1
}

/// Findings of a definition that is deployed as it is.
fn deployed(definition: &ApiDefinition) -> Vec<Finding> {
    findings_of(definition, &[stage(Some(definition), None)], &[], &Settings::default())
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.id.as_str()).collect()
}

fn changed(change: impl FnOnce(&mut ApiDefinition)) -> ApiDefinition {
    let mut definition = healthy("https://b.example/ws/");
    change(&mut definition);
    definition
}

#[test]
fn a_healthy_api_has_no_finding() {
    // DX-48 DX-49
    for base in ["https://b.example/ws/", "http://127.0.0.1:8000/ws/", "http://backend:8000/"] {
        assert_eq!(deployed(&healthy(base)), [], "{base}");
    }
    let echo = changed(|api| {
        api.integrations = vec![integration("e", "tidegate://echo")];
        api.routes = vec![route("$default", Some("e"))];
    });
    assert_eq!(deployed(&echo), []);
}

#[test]
fn what_is_not_deployed_is_listed() {
    // stage.redeploy-needed
    let old = healthy("https://b.example/ws/");
    let new = changed(|api| {
        api.integrations[2].integration_uri = Some("https://b.example/new/default?key=hidden".to_owned());
        api.integrations[0].request_parameters =
            Some([("integration.request.header.x".to_owned(), "'a-secret'".to_owned())].into());
        api.routes.push(route("leave", Some("default")));
        api.api.description = Some("live without a deployment".to_owned());
    });
    let findings = findings_of(&new, &[stage(Some(&old), None)], &[], &Settings::default());
    assert_eq!(ids(&findings), ["stage.redeploy-needed"]);
    let finding = &findings[0];
    assert_eq!(
        (finding.severity, finding.confidence, finding.stage.as_deref()),
        (Severity::Warning, Confidence::Proven, Some("prod"))
    );
    let sentences: Vec<&str> =
        finding.evidence.iter().skip(1).map(|evidence| evidence.text.as_str()).collect();
    assert_eq!(
        sentences,
        [
            "route leave is defined and not deployed",
            "integration connect: requestParameters has changed",
            "integration default: integrationUri https://b.example/ws/default -> https://b.example/new/default?key=*",
        ]
    );
    assert_eq!(finding.evidence[0].facts["count"], 3);
    assert_ne!(finding.evidence[0].facts["snapshotHash"], finding.evidence[0].facts["currentHash"]);
    let shown = serde_json::to_string(&findings).unwrap();
    assert!(!shown.contains("hidden") && !shown.contains("a-secret"), "{shown}");
    // Only what needs a deployment counts.
    let described = changed(|api| api.api.description = Some("x".to_owned()));
    assert_eq!(findings_of(&described, &[stage(Some(&old), None)], &[], &Settings::default()), []);
}

#[test]
fn missing_parts_are_named() {
    // stage.not-deployed, provision.incomplete, route.none
    let definition = healthy("https://b.example/ws/");
    let findings = findings_of(&definition, &[stage(None, None)], &[], &Settings::default());
    assert_eq!(ids(&findings), ["provision.incomplete", "stage.not-deployed"]);
    assert_eq!(findings[0].evidence[0].facts["missing"], json!(["a deployment"]));
    let findings = findings_of(&ApiDefinition::default(), &[], &[], &Settings::default());
    assert_eq!(ids(&findings), ["provision.incomplete", "route.none"]);
    assert_eq!(
        findings[0].evidence[0].facts["missing"],
        json!(["integrations", "routes", "a stage", "a deployment"])
    );
}

#[test]
fn routes_that_cannot_work_are_named() {
    // route.connect-missing, integration.missing, route.no-match, cleanup.disconnect-lost, integration.not-https,
    // integration.missing-slash
    let without = |key: &str| changed(|api| api.routes.retain(|route| route.route_key != key));
    assert_eq!(ids(&deployed(&without("$connect"))), ["route.connect-missing"]);
    assert_eq!(ids(&deployed(&without("$disconnect"))), ["cleanup.disconnect-lost"]);
    let findings = deployed(&without("$default"));
    assert_eq!((ids(&findings), findings[0].confidence), (vec!["route.no-match"], Confidence::Possible));
    let dangling = changed(|api| api.routes[3].target = Some("integrations/gone".to_owned()));
    let findings = deployed(&dangling);
    assert_eq!(
        (ids(&findings), findings[0].route_key.as_deref()),
        (vec!["integration.missing"], Some("join"))
    );
    assert_eq!(findings[0].evidence[0].facts["target"], "integrations/gone");
    let untargeted = changed(|api| api.routes[3].target = None);
    assert_eq!(ids(&deployed(&untargeted)), ["integration.missing"]);
    let unset = changed(|api| {
        api.integrations[2].integration_uri = Some("https://${stageVariables.host}/x".to_owned())
    });
    assert!(ids(&deployed(&unset)).contains(&"integration.missing"));
    let glued = deployed(&healthy("https://b.example/ws"));
    assert_eq!(ids(&glued), ["integration.missing-slash"; 4]);
    assert!(glued.iter().all(|finding| finding.confidence == Confidence::Likely));
    assert_eq!(ids(&deployed(&healthy("http://b.example/ws/"))), ["integration.not-https"; 4]);
}

#[test]
fn hosts_that_the_operator_does_not_allow() {
    // integration.host-not-allowed
    let mut settings = Settings::default();
    settings.integration.allowed_hosts = vec!["*.example".to_owned()];
    let definition = healthy("https://b.example/ws/");
    assert_eq!(findings_of(&definition, &[stage(Some(&definition), None)], &[], &settings), []);
    let other = healthy("https://b.test/ws/");
    let findings = findings_of(&other, &[stage(Some(&other), None)], &[], &settings);
    assert_eq!(ids(&findings), ["integration.host-not-allowed"; 4]);
}

#[test]
fn routes_that_no_message_selects() {
    // handler.selection-mismatch, route.key-mismatch
    let composite =
        changed(|api| api.api.route_selection_expression = "${request.body.a}/${request.body.b}".to_owned());
    let findings = deployed(&composite);
    assert_eq!(
        (ids(&findings), findings[0].route_key.as_deref()),
        (vec!["handler.selection-mismatch"], Some("join"))
    );
    let own = changed(|api| api.routes[3].route_key = "tidegate.join".to_owned());
    assert_eq!(ids(&deployed(&own)), ["handler.selection-mismatch"]);
    let broken = changed(|api| api.api.route_selection_expression = "$request.body[".to_owned());
    assert_eq!(ids(&deployed(&broken)), ["handler.selection-mismatch"]);
    let twins = changed(|api| api.routes.push(route("Join", Some("default"))));
    let findings = deployed(&twins);
    assert_eq!((ids(&findings), findings[0].confidence), (vec!["route.key-mismatch"], Confidence::Likely));
    let blank = changed(|api| api.routes[3].route_key = "join ".to_owned());
    assert_eq!(ids(&deployed(&blank)), ["route.key-mismatch"]);
}

#[test]
fn answers_that_nobody_gets() {
    // reply.no-route-response
    let half = changed(|api| api.routes[3].route_response_selection_expression = Some("$default".to_owned()));
    let findings = deployed(&half);
    assert_eq!((ids(&findings), findings[0].severity), (vec!["reply.no-route-response"], Severity::Info));
    let response = RouteResponse { route_response_key: "$default".to_owned(), ..RouteResponse::default() };
    let other_half =
        changed(|api| drop(api.route_responses.insert("r-join".to_owned(), vec![response.clone()])));
    let findings = deployed(&other_half);
    assert_eq!((ids(&findings), findings[0].severity), (vec!["reply.no-route-response"], Severity::Warning));
    let whole = changed(|api| {
        api.routes[3].route_response_selection_expression = Some("$default".to_owned());
        api.route_responses.insert("r-join".to_owned(), vec![response.clone()]);
    });
    assert_eq!(deployed(&whole), []);
    // The Django package makes the one half and pushes its answers.
    let package = changed(|api| {
        api.routes[2].route_response_selection_expression = Some("$default".to_owned());
        for integration in &mut api.integrations {
            let mapped =
                ("integration.request.header.connectionId".to_owned(), "context.connectionId".to_owned());
            integration.request_parameters = Some([mapped].into());
        }
    });
    assert_eq!(deployed(&package), []);
}

#[test]
fn authorizers_and_keys() {
    // authorizer.wrong-route, authorizer.identity-missing, authorizer.failed, apikey.missing, security.untrusted-input
    let authorizer = |source: &str| Authorizer {
        authorizer_id: "a1".to_owned(),
        name: "who".to_owned(),
        identity_source: vec![source.to_owned()],
        ..Authorizer::default()
    };
    let misplaced = changed(|api| {
        api.authorizers = vec![authorizer("route.request.querystring.token")];
        api.routes[3].authorizer_id = Some("a1".to_owned());
    });
    assert_eq!(ids(&deployed(&misplaced)), ["authorizer.wrong-route"]);
    let bad = changed(|api| api.authorizers = vec![authorizer("method.request.header.Auth")]);
    let findings = deployed(&bad);
    assert_eq!(ids(&findings), ["authorizer.identity-missing"]);
    assert_eq!(findings[0].evidence[0].facts["identitySource"], json!(["method.request.header.Auth"]));
    let unknown = changed(|api| {
        api.routes[0].authorization_type = "CUSTOM".to_owned();
        api.routes[0].authorizer_id = Some("gone".to_owned());
    });
    assert_eq!(ids(&deployed(&unknown)), ["authorizer.failed"]);
    let keyed = changed(|api| api.routes[0].api_key_required = true);
    assert_eq!(deployed(&keyed), []);
    // A key that only an authorizer could give, and nobody is one.
    let keyless = changed(|api| {
        api.routes[0].api_key_required = true;
        api.api.api_key_selection_expression = "$context.authorizer.usageIdentifierKey".to_owned();
    });
    assert_eq!(ids(&deployed(&keyless)), ["apikey.missing"]);
    let lists = changed(|api| {
        api.authorizers =
            vec![authorizer("route.request.header.A, route.request.querystring.b"), authorizer("")];
    });
    assert_eq!(deployed(&lists), []);
    let modeled = changed(|api| api.models = vec![Model { name: "m".to_owned(), ..Model::default() }]);
    let findings = deployed(&modeled);
    assert_eq!(
        (ids(&findings), findings[0].confidence),
        (vec!["security.untrusted-input"], Confidence::Possible)
    );
}

#[test]
fn policies_that_admit_nobody_or_everybody() {
    // auth.not-configured, jwt.no-expiry, identity.token-protection-off
    let with = |policy: serde_json::Value| {
        let policy: Policy = serde_json::from_value(policy).unwrap();
        definitions::policy_findings(&policy)
    };
    let secret = "0123456789abcdefghijABCDEFGHIJ!$%&/()";
    let good = json!({
        "admission": { "checks": ["token", "jwt"] },
        "jwt": { "keys": [{ "secret": secret, "algorithms": ["HS256"] }], "require_exp": true },
        "backend": { "secrets": ["0123456789abcdefghijABCDEFGHIJ-_.~"] },
    });
    assert_eq!(with(good.clone()), []);
    let mut endless = good.clone();
    endless["jwt"]["require_exp"] = false.into();
    assert_eq!(ids(&with(endless)), ["jwt.no-expiry"]);
    let none = with(json!({ "admission": { "checks": ["jwt"] } }));
    assert!(ids(&none).contains(&"auth.not-configured"), "{none:?}");
    let unprotected = with(json!({
        "admission": { "checks": ["jwt"] },
        "jwt": { "keys": [{ "secret": secret, "algorithms": ["HS256"] }] },
        "connect_tokens": { "endpoint": { "url": "http://127.0.0.1:8000/who" } },
    }));
    assert!(ids(&unprotected).contains(&"identity.token-protection-off"), "{unprotected:?}");
}

fn domain_name(name: &str, region: &str) -> DomainName {
    DomainName {
        domain_name: name.to_owned(),
        domain_name_arn: format!("arn:aws:apigateway:{region}::/domainnames/{name}"),
        ..DomainName::default()
    }
}

fn mapping(key: &str, stage: &str) -> ApiMapping {
    ApiMapping {
        api_id: "api0000001".to_owned(),
        api_mapping_key: key.to_owned(),
        stage: stage.to_owned(),
        ..ApiMapping::default()
    }
}

#[test]
fn domain_names_are_walked() {
    // domain.no-mapping, domain.mapping-wrong-stage, domain.mapping-path, domain.wrong-region, domain.unknown-host,
    // tls.hostname-mismatch, api.default-endpoint-disabled, dns.wrong-target, dns.no-record
    let definition = healthy("https://b.example/ws/");
    let api = Arc::new(LiveApi { api: definition.api.clone(), stages: vec![stage(Some(&definition), None)] });
    let apis = [api];
    let check = |name: &str, domains: &[(DomainName, Vec<ApiMapping>)], certificate: Option<&[String]>| {
        let view =
            DomainView { name, domains, apis: &apis, region: "us-east-1", certificate_names: certificate };
        domain::check(&view).into_iter().map(|finding| finding.id).collect::<Vec<_>>()
    };
    let good = [(domain_name("ws.example.com", "us-east-1"), vec![mapping("", "prod")])];
    let names = ["*.example.com".to_owned()];
    assert!(check("ws.example.com", &good, Some(&names)).is_empty());
    assert_eq!(check("wss.example.com", &good, Some(&names)), ["domain.unknown-host"]);
    assert_eq!(
        check("ws.example.com", &good, Some(&["other.example".to_owned()])),
        ["tls.hostname-mismatch"]
    );
    let unmapped = [(domain_name("ws.example.com", "eu-west-1"), vec![])];
    assert_eq!(check("ws.example.com", &unmapped, None), ["domain.no-mapping", "domain.wrong-region"]);
    let elsewhere = [(domain_name("ws.example.com", "us-east-1"), vec![mapping("chat", "test")])];
    assert_eq!(
        check("ws.example.com", &elsewhere, None),
        ["domain.mapping-wrong-stage", "domain.mapping-path"]
    );
    let settings = Settings::default();
    let stages = [stage(Some(&definition), None)];
    assert_eq!(
        ids(&findings_of(&definition, &stages, &elsewhere, &settings)),
        ["domain.mapping-wrong-stage"]
    );
    let closed = changed(|api| api.api.disable_execute_api_endpoint = true);
    let stages = [stage(Some(&closed), None)];
    assert_eq!(ids(&findings_of(&closed, &stages, &[], &settings)), ["api.default-endpoint-disabled"]);
    assert_eq!(findings_of(&closed, &stages, &good, &settings), []);
    let listeners = ["192.0.2.1".parse().unwrap()];
    let id = |resolved: &[std::net::IpAddr], is_ours| {
        domain::check_addresses("h", resolved, &listeners, is_ours).map(|f| (f.id, f.confidence))
    };
    assert_eq!(id(&[], None), Some(("dns.no-record".to_owned(), Confidence::Proven)));
    assert_eq!(id(&listeners, None), None);
    let other = ["192.0.2.9".parse().unwrap()];
    assert_eq!(id(&other, Some(true)), None);
    assert_eq!(id(&other, Some(false)), Some(("dns.wrong-target".to_owned(), Confidence::Proven)));
    assert_eq!(id(&other, None), Some(("dns.wrong-target".to_owned(), Confidence::Possible)));
}

#[test]
fn certificates_are_read_and_judged() {
    // tls.expired, tls.not-yet-valid, tls.hostname-mismatch
    let mut params = rcgen::CertificateParams::new(vec![
        "ws.example.com".to_owned(),
        "*.a.example".to_owned(),
        "127.0.0.1".to_owned(),
    ])
    .unwrap();
    params.not_before = rcgen::date_time_ymd(2030, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 12, 31);
    let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let read = certificate::read(made.der()).unwrap();
    assert_eq!(read.names, ["ws.example.com", "*.a.example", "127.0.0.1"]);
    let (begin, end) = (1_893_456_000, 1_924_905_600);
    assert_eq!((read.not_before, read.not_after), (begin, end));
    let check = |host: Option<&str>, now| {
        certificate::check(&read, host, now).into_iter().map(|f| (f.id, f.severity)).collect::<Vec<_>>()
    };
    assert!(check(Some("x.a.example"), begin + 5).is_empty());
    assert_eq!(
        check(Some("y.example"), begin + 5),
        [("tls.hostname-mismatch".to_owned(), Severity::Problem)]
    );
    assert_eq!(check(None, end + 1), [("tls.expired".to_owned(), Severity::Problem)]);
    assert_eq!(check(None, end - 20 * 86_400), [("tls.expired".to_owned(), Severity::Warning)]);
    assert!(check(None, end - 22 * 86_400).is_empty());
    assert_eq!(check(None, begin - 1), [("tls.not-yet-valid".to_owned(), Severity::Problem)]);
    assert_eq!(certificate::read(b"nonsense"), None);
    for end in 0..made.der().len() {
        // Cut anywhere, it is refused or read, and nothing panics.
        let _ = certificate::read(&made.der()[..end]);
    }
}

#[test]
fn values_of_a_configuration_that_do_not_fit() {
    // DX-48, proxy.client-ip-collapsed, limit.file-descriptors, limit.memory, debug.exposed, log.disabled,
    // idle.heartbeat-race
    let settings = Settings::default();
    let all = [(String::new(), &settings)];
    let loopback = [("listen", "127.0.0.1:8080".parse().unwrap(), false)];
    let healthy = ConfigurationView {
        listeners: &loopback,
        n_trusted_proxies: 0,
        public_hostname: None,
        max_connections: Some(10_000),
        open_files: Some(65_536),
        memory: Some(2 << 30),
        settings: &all,
        explains_mismatch: false,
        has_debug_clients: false,
        log_filter: None,
    };
    let ids = |view: ConfigurationView<'_>| {
        configuration::check(&view).into_iter().map(|finding| finding.id).collect::<Vec<_>>()
    };
    assert!(ids(healthy).is_empty());
    assert_eq!(
        ids(ConfigurationView { public_hostname: Some("ws.example.com"), ..healthy }),
        ["proxy.client-ip-collapsed"]
    );
    assert!(
        ids(ConfigurationView { public_hostname: Some("ws.example.com"), n_trusted_proxies: 1, ..healthy })
            .is_empty()
    );
    assert!(ids(ConfigurationView { public_hostname: Some("localhost:8080"), ..healthy }).is_empty());
    assert_eq!(ids(ConfigurationView { open_files: Some(1024), ..healthy }), ["limit.file-descriptors"]);
    assert_eq!(ids(ConfigurationView { memory: Some(32 << 20), ..healthy }), ["limit.memory"]);
    assert_eq!(ids(ConfigurationView { log_filter: Some("off"), ..healthy }), ["log.disabled"]);
    let mut odd = Settings::default();
    odd.data_plane.error_frames = ErrorFrames::Detailed;
    odd.data_plane.idle_timeout = 60;
    odd.data_plane.server_ping_interval = 60;
    let of_api = [("apis.abc.".to_owned(), &odd)];
    assert_eq!(ids(ConfigurationView { settings: &of_api, ..healthy }), ["idle.heartbeat-race"]);
    let public = [("listen", "0.0.0.0:8080".parse().unwrap(), true)];
    assert_eq!(
        ids(ConfigurationView { settings: &of_api, listeners: &public, ..healthy }),
        ["idle.heartbeat-race", "debug.exposed"]
    );
    // DX-75: what some clients are told, on a listener that others reach.
    assert!(ids(ConfigurationView { has_debug_clients: true, ..healthy }).is_empty());
    assert_eq!(
        ids(ConfigurationView { has_debug_clients: true, listeners: &public, ..healthy }),
        ["debug.exposed"]
    );
    let mut open = Settings::default();
    open.integration.hide_backend_errors = false;
    let of_all = [(String::new(), &open)];
    assert!(ids(ConfigurationView { settings: &of_all, ..healthy }).is_empty());
    assert_eq!(
        ids(ConfigurationView { settings: &of_all, listeners: &public, ..healthy }),
        ["debug.exposed"]
    );
}

#[test]
fn secrets_that_are_easy_to_guess() {
    // DX-48, config.weak-secret
    let weak = |value: &str| {
        let findings = configuration::secrets(&[SecretView { path: "api_key", value }]);
        assert!(!serde_json::to_string(&findings).unwrap().contains(value), "{value}");
        ids(&findings) == ["config.weak-secret"]
    };
    for value in [
        "hunter2pass",
        "aaaaaaaabbbbbbbbcccccccc",
        "insert-a-long-key-here-0123",
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    ] {
        assert!(weak(value), "{value}");
    }
    assert!(!weak("f3b1d2c4a5968778695a4b3c2d1e0f00"));
    assert!(!format!("{:?}", SecretView { path: "p", value: "v4lue" }).contains("v4lue"));
}

#[test]
fn a_message_is_followed() {
    // DX-50, route.key-mismatch, handler.selection-mismatch, route.not-created, route.no-match
    let definition = healthy("https://b.example/ws/");
    let test = |definition: &ApiDefinition, message: &str| {
        route_test::test("deployed", definition, None, message).unwrap()
    };
    let found = test(&definition, r#"{"action":"join"}"#);
    assert_eq!(
        (found.route_key.as_deref(), found.diagnosis.as_deref(), found.selected_value.as_str()),
        (Some("join"), None, "join")
    );
    assert_eq!(found.target.as_deref(), Some("https://b.example/ws/default"));
    assert!(!found.has_reply && found.is_json);
    let reasons: Vec<(&str, &str)> =
        found.others.iter().map(|other| (other.route_key.as_str(), other.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            ("$connect", "runs when a client connects"),
            ("$default", "another route fits"),
            ("$disconnect", "runs when a client leaves")
        ]
    );
    for (message, diagnosis, nearest, found_at) in [
        (r#"{"action":"Join "}"#, Some("route.key-mismatch"), Some("join"), None),
        (r#"{"action":"jion"}"#, Some("route.key-mismatch"), Some("join"), None),
        (
            r#"{"data":{"type":"join"}}"#,
            Some("handler.selection-mismatch"),
            None,
            Some("$request.body.data.type"),
        ),
        (r#"{"action":"something-else"}"#, Some("route.not-created"), None, None),
        ("{}", None, None, None),
        ("hello", None, None, None),
    ] {
        let found = test(&definition, message);
        assert_eq!(found.route_key.as_deref(), Some("$default"), "{message}");
        let why = (found.diagnosis.as_deref(), found.nearest.as_deref(), found.found_at.as_deref());
        assert_eq!(why, (diagnosis, nearest, found_at), "{message}");
    }
    let without = changed(|api| api.routes.retain(|route| route.route_key != "$default"));
    let found = test(&without, "{}");
    assert_eq!((found.route_key, found.diagnosis.as_deref()), (None, Some("route.no-match")));
    assert!(test(&without, "{}").text().contains("the client is told Forbidden"));
}
