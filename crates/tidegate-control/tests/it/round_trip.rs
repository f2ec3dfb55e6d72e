//! An export, applied to an empty control plane, makes what it was taken from: S0-15, S0-16.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_control::ControlSettings;
use tidegate_control::declarative::{
    self, ApiForm, AuthorizerForm, Document, DomainForm, IntegrationForm, IntegrationResponseForm,
    MappingForm, ModelForm, Options, RouteForm, RouteResponseForm, RouteSettingsForm, Secrets, StageForm,
    Throttle, VpcLinkForm,
};
use tidegate_core::definition::{ApiDefinition, Live};
use tidegate_core::port::DefinitionStore;
use tidegate_core::template::Template;
use tidegate_store::SqliteStore;

use crate::harness::Harness;
use crate::policy::policy;

const KEEP: Options = Options { prune: false };

/// What is live, with content in place of ids that are made up, and in an order that does not depend on them.
fn shape(live: &Live) -> Value {
    let sorted = |mut items: Vec<Value>| {
        items.sort_by_key(Value::to_string);
        Value::from(items)
    };
    let without = |item: Value, id: &str| {
        let mut item = item;
        item.as_object_mut().expect("an object").remove(id);
        item
    };
    let json = |item: &dyn erased::Json| item.json();
    let definition = |d: &ApiDefinition| {
        let mut contents = BTreeMap::new();
        for i in &d.integrations {
            let responses = d.integration_responses.get(&i.integration_id).cloned().unwrap_or_default();
            let responses: Vec<Value> =
                responses.iter().map(|r| without(json(r), "integrationResponseId")).collect();
            let content = json!([without(json(i), "integrationId"), sorted(responses)]);
            contents.insert(format!("integrations/{}", i.integration_id), content);
        }
        for a in &d.authorizers {
            contents.insert(a.authorizer_id.clone(), without(json(a), "authorizerId"));
        }
        let routes = d.routes.iter().map(|r| {
            let mut route = without(json(r), "routeId");
            for reference in ["target", "authorizerId"] {
                if let Some(id) = route[reference].as_str().map(str::to_owned) {
                    route[reference] = contents[&id].clone();
                }
            }
            let responses = d.route_responses.get(&r.route_id).cloned().unwrap_or_default();
            let responses: Vec<Value> =
                responses.iter().map(|r| without(json(r), "routeResponseId")).collect();
            json!([route, responses])
        });
        let models = d.models.iter().map(|m| without(json(m), "modelId")).collect();
        json!([d.api, sorted(routes.collect()), sorted(contents.values().cloned().collect()), sorted(models)])
    };
    let apis = live.apis.iter().map(|api| {
        let stages = api.stages.iter().map(|s| {
            let mut stage = without(json(&s.stage), "deploymentId");
            stage.as_object_mut().expect("an object").remove("lastDeploymentStatusMessage");
            json!([stage, s.deployment.as_deref().map(definition), s.policy])
        });
        json!([api.api, sorted(stages.collect())])
    });
    let domains = live.domains.iter().map(|(domain, mappings)| {
        let mappings = mappings.iter().map(|m| without(json(m), "apiMappingId")).collect();
        json!([domain, sorted(mappings)])
    });
    json!([apis.collect::<Vec<_>>(), domains.collect::<Vec<_>>()])
}

/// Any object as JSON.
mod erased {
    pub trait Json {
        fn json(&self) -> serde_json::Value;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> serde_json::Value {
            serde_json::to_value(self).expect("JSON")
        }
    }
}

/// Exports `h`, checks that this changes nothing in `h`, and that it makes the same in an empty control plane.
async fn check(h: &Harness, store: &SqliteStore) {
    let stored = store.load().await.expect("load");
    for secrets in [Secrets::Masked, Secrets::Shown] {
        let text = declarative::export(&h.plane, secrets).to_toml().expect("TOML");
        let document = Document::from_toml(&text).unwrap_or_else(|p| panic!("{p:?}\n{text}"));
        let json = serde_json::to_value(&document).expect("JSON");
        assert_eq!(Document::from_value(json).expect("a document"), document, "JSON is as good as TOML");
        for prune in [false, true] {
            let again = declarative::apply(&h.plane, &document, Options { prune }).await.expect("applied");
            assert_eq!((again.steps, again.left_alone), (Vec::new(), Vec::new()), "{text}");
        }
    }
    assert_eq!(store.load().await.expect("load"), stored);

    let export = declarative::export(&h.plane, Secrets::Shown);
    let copy = Harness::new().await;
    let made = declarative::apply(&copy.plane, &export.document, KEEP).await;
    made.unwrap_or_else(|error| panic!("{error:?}\n{:?}", export.to_toml()));
    assert_eq!(declarative::export(&copy.plane, Secrets::Shown).document, export.document);
    assert_eq!(shape(&copy.plane.live()), shape(&h.plane.live()));
}

async fn store_and_harness() -> (Arc<SqliteStore>, Harness) {
    let store = Arc::new(SqliteStore::open_in_memory().expect("open"));
    let h = Harness::over(Arc::clone(&store) as _, ControlSettings::default()).await;
    (store, h)
}

/// Made by the operations of the API, with every member that the form has a place for.
#[tokio::test]
async fn what_an_sdk_made_is_exported_faithfully() {
    let (store, h) = store_and_harness().await;
    let link = h
        .create("/vpclinks", "vpcLinkId", json!({"name": "l", "subnetIds": ["s"], "tags": {"a": "b"}}))
        .await;
    let api = h
        .create(
            "/apis",
            "apiId",
            json!({"name": "chat", "protocolType": "WEBSOCKET", "description": "", "version": "1 \"x\"",
                   "routeSelectionExpression": "${request.body.a}", "disableSchemaValidation": false,
                   "disableExecuteApiEndpoint": true, "ipAddressType": "dualstack", "tags": {"k": "é\n"},
                   "apiKeySelectionExpression": "$context.authorizer.usageIdentifierKey"}),
        )
        .await;
    let base = format!("/apis/{api}");
    h.post(
        &format!("{base}/models"),
        json!({"name": "M", "schema": "{ \"x\": 1.0e0 }\n", "description": ""}),
    )
    .await;
    h.post(
        &format!("{base}/models"),
        json!({"name": "T", "schema": "'''\\\"\"\"", "contentType": "text/plain"}),
    )
    .await;
    let mut authorizer = String::new();
    for _ in 0..2 {
        let body = json!({"name": "same", "authorizerType": "REQUEST", "authorizerUri": "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/f/invocations",
                          "identitySource": ["route.request.header.A"], "authorizerCredentialsArn": "arn:c",
                          "identityValidationExpression": "^x$"});
        authorizer = h.create(&format!("{base}/authorizers"), "authorizerId", body).await;
    }
    let http = json!({"integrationType": "HTTP", "integrationUri": "https://user:pw@b/?x=%7e", "integrationMethod": "PUT",
                      "connectionType": "VPC_LINK", "connectionId": link, "passthroughBehavior": "NEVER",
                      "timeoutInMillis": 50, "credentialsArn": "arn:c", "contentHandlingStrategy": "CONVERT_TO_TEXT",
                      "description": "", "tlsConfig": {"serverNameToVerify": "b"},
                      "templateSelectionExpression": "\\$default", "requestTemplates": {"$default": "#set($a = 1)\r\n\t"},
                      "requestParameters": {"integration.request.header.X-Secret": "'s'"}});
    let mut integration = String::new();
    for body in [http.clone(), http, json!({"integrationType": "MOCK"})] {
        integration = h.create(&format!("{base}/integrations"), "integrationId", body).await;
        for key in ["$default", "/2\\d\\d/"] {
            let body = json!({"integrationResponseKey": key, "responseTemplates": {"application/json": "{}"},
                              "responseParameters": {"a": "b"}, "contentHandlingStrategy": "CONVERT_TO_BINARY",
                              "templateSelectionExpression": "\\$default"});
            h.post(&format!("{base}/integrations/{integration}/integrationresponses"), body).await;
        }
    }
    let target = format!("integrations/{integration}");
    for (n, (selection, response)) in
        [(None, false), (Some("$default"), false), (None, true), (Some("$default"), true)]
            .into_iter()
            .enumerate()
    {
        let body = json!({"routeKey": format!("r {n}"), "target": target, "operationName": "O",
                          "modelSelectionExpression": "$request.body.a", "requestModels": {"$default": "M"},
                          "requestParameters": {"route.request.header.A": {"required": n == 0}},
                          "routeResponseSelectionExpression": selection});
        let route = h.create(&format!("{base}/routes"), "routeId", body).await;
        if response {
            let body = json!({"routeResponseKey": "$default", "responseModels": {"$default": "M"},
                              "modelSelectionExpression": "x", "responseParameters": {"a": {"required": true}}});
            h.post(&format!("{base}/routes/{route}/routeresponses"), body).await;
        }
    }
    let body = json!({"routeKey": "$connect", "authorizationType": "CUSTOM", "authorizerId": authorizer,
                      "apiKeyRequired": true});
    h.post(&format!("{base}/routes"), body).await;
    let body = json!({"stageName": "prod", "description": "", "stageVariables": {"a": "b.c"}, "tags": {"x": ""},
                      "clientCertificateId": "c", "accessLogSettings": {"destinationArn": "arn:l", "format": "$context.requestId"},
                      "defaultRouteSettings": {"dataTraceEnabled": true, "loggingLevel": "INFO", "throttlingRateLimit": 0.5},
                      "routeSettings": {"r 0": {"throttlingBurstLimit": 3}, "none": {}}});
    h.post(&format!("{base}/stages"), body).await;
    h.patch(&format!("{base}/stages/prod"), json!({"defaultRouteSettings": {"loggingLevel": ""}})).await;
    h.deploy(&api, json!({"stageName": "prod", "description": "first"})).await;
    h.post(&format!("{base}/stages"), json!({"stageName": "auto", "autoDeploy": true})).await;
    h.post(&format!("{base}/stages"), json!({"stageName": "bare"})).await;
    let secret = "0123456789abcdef0123456789abcdef";
    let wanted = policy(json!({"backend": {"secrets": [secret, format!("{secret}x")]},
                               "admission": {"origins": ["https://a.example"]},
                               "messages": {"rate": 2.5, "burst": 4.0},
                               "channels": {"default_by_domain": {"ws.example.com": "vip"},
                                            "rules": [{"match": "room_*", "join": {"any": [["role:a"], ["user:b"]]},
                                                       "history": {"count": 5, "age": 60}}]}}));
    h.plane.put_policy(&api, "prod", wanted).await.expect("taken");
    let body = json!({"domainName": "*.example.com", "tags": {"a": "b"},
                      "mutualTlsAuthentication": {"truststoreUri": "s3://x", "truststoreVersion": "1"},
                      "domainNameConfigurations": [{"certificateArn": "arn:a", "hostedZoneId": "Z", "certificateName": "n",
                                                    "ipAddressType": "dualstack",
                                                    "ownershipVerificationCertificateArn": "arn:o"}, {}]});
    h.post("/domainnames", body).await;
    h.post("/domainnames", json!({"domainName": "ws.example.com"})).await;
    for (key, stage) in [("", "prod"), ("b", "bare"), ("a", "auto")] {
        let body = json!({"apiId": api, "stage": stage, "apiMappingKey": key});
        h.post("/domainnames/ws.example.com/apimappings", body).await;
    }
    check(&h, &store).await;
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,6}", "[ -~]{1,12}", "\\PC{1,6}", Just("'''\n\"\"\"\\ \t\r\n".to_owned())]
}

/// Texts that are templates: not each one is, `$a[b` has no end.
fn template() -> impl Strategy<Value = String> {
    text().prop_filter("a template", |text| Template::parse(text).is_ok())
}

fn uri() -> impl Strategy<Value = String> {
    prop_oneof![
        "http://[a-z]{1,5}:80[0-9]{2}/[a-z]{0,4}",
        "https://u:[a-z]{1,3}@[a-z]{1,5}/",
        Just("tidegate://echo".to_owned())
    ]
}

fn integration() -> impl Strategy<Value = IntegrationForm> {
    let parameters = btree_map(
        "integration\\.request\\.header\\.(X-[A-Z][a-z]|Secret)",
        prop_oneof![Just("context.connectionId".to_owned()), Just("'a b'".to_owned())],
        0..3,
    );
    let responses = btree_map(
        prop_oneof![Just("$default".to_owned()), "/[0-9]{1,3}/"],
        btree_map("[a-z]{1,4}/[a-z]{1,4}", template(), 0..2).prop_map(|templates| IntegrationResponseForm {
            templates,
            ..IntegrationResponseForm::default()
        }),
        0..3,
    );
    (option::of(uri()), option::of(text()), option::of(50_u32..29_000), parameters, responses).prop_map(
        |(uri, description, timeout_ms, request_parameters, responses)| IntegrationForm {
            kind: if uri.is_some() { "HTTP_PROXY" } else { "MOCK" }.to_owned(),
            uri,
            description,
            timeout_ms,
            request_parameters,
            responses,
            ..IntegrationForm::default()
        },
    )
}

fn stage() -> impl Strategy<Value = StageForm> {
    let settings = (option::of(0_u32..1000), option::of(0_u32..1000), option::of(any::<bool>())).prop_map(
        |(rate, burst, data_trace)| RouteSettingsForm {
            data_trace,
            throttle: Throttle { rate: rate.map(|r| f64::from(r) / 4.0), burst },
            ..RouteSettingsForm::default()
        },
    );
    let wanted = prop_oneof![
        Just(json!({})),
        Just(json!({"channels": {"default": "lobby", "default_by_domain": {"a.example": "vip"}}})),
        Just(
            json!({"backend": {"secrets": ["0123456789abcdef0123456789abcdef"]}, "messages": {"rate": 0.25}})
        ),
    ]
    .prop_map(policy);
    let variables = btree_map("[a-zA-Z_]{1,5}", "[a-z.:/]{1,8}", 0..3);
    let tags = btree_map("[b-z]{1,3}", text(), 0..3);
    let settings = btree_map(text(), settings, 0..3);
    (any::<bool>(), any::<bool>(), option::of(text()), variables, tags, settings, option::of(wanted))
        .prop_map(|(auto_deploy, deploy, description, variables, tags, route_settings, policy)| StageForm {
            auto_deploy,
            deploy,
            deployment_description: description.clone().filter(|_| deploy && !auto_deploy),
            description,
            variables,
            tags,
            route_settings,
            policy,
            ..StageForm::default()
        })
}

fn route(integrations: Vec<String>) -> impl Strategy<Value = RouteForm> {
    let name = if integrations.is_empty() {
        Just(None).boxed()
    } else {
        option::of(proptest::sample::select(integrations)).boxed()
    };
    let response = option::of(option::of(text()).prop_map(|model_selection_expression| RouteResponseForm {
        model_selection_expression,
        ..RouteResponseForm::default()
    }));
    (name, any::<bool>(), any::<bool>(), response).prop_map(
        |(integration, two_way, api_key_required, response)| RouteForm {
            integration,
            two_way,
            api_key_required,
            response,
            ..RouteForm::default()
        },
    )
}

fn api(n: usize) -> impl Strategy<Value = ApiForm> {
    let integrations = btree_map(text(), integration(), 0..4);
    let authorizers = btree_map(
        text(),
        option::of("[a-c]").prop_map(|name| AuthorizerForm {
            name,
            uri: "arn:x".to_owned(),
            ..AuthorizerForm::default()
        }),
        0..3,
    );
    let models = btree_map(
        "[A-Z]{1,3}",
        option::of(text()).prop_map(|description| ModelForm {
            schema: "{}".to_owned(),
            description,
            ..ModelForm::default()
        }),
        0..3,
    );
    (integrations, authorizers, models, btree_map("s[a-z]{0,3}", stage(), 0..3), option::of(text()))
        .prop_flat_map(move |(integrations, authorizers, models, stages, description)| {
            let names: Vec<String> = integrations.keys().cloned().collect();
            let key =
                prop_oneof![Just("$connect".to_owned()), Just("$default".to_owned()), "[a-z][ -~]{0,5}"];
            btree_map(key, route(names), 1..5).prop_map(move |routes| ApiForm {
                id: Some(format!("api{n}")),
                // Two APIs may have the same name.
                name: format!("name{}", n % 2),
                route_selection_expression: "$request.body.a".to_owned(),
                description: description.clone(),
                models: models.clone(),
                authorizers: authorizers.clone(),
                integrations: integrations.clone(),
                routes,
                stages: stages.clone(),
                ..ApiForm::default()
            })
        })
}

fn documents() -> impl Strategy<Value = Document> {
    let apis = prop_oneof![
        api(0).prop_map(|a| vec![a]),
        (api(0), api(1)).prop_map(|(a, b)| vec![a, b]),
        (api(0), api(2)).prop_map(|(a, b)| vec![a, b]),
    ];
    let link = "[a-z]{1,3}".prop_map(|name| VpcLinkForm { name, ..VpcLinkForm::default() });
    (apis, option::of(link), vec("[a-z]{1,3}", 0..3)).prop_map(|(apis, link, keys)| {
        let mut mappings = BTreeMap::new();
        for (key, api) in keys.into_iter().zip(apis.iter().cycle()) {
            if let (Some(stage), Some(id)) = (api.stages.keys().next(), &api.id) {
                let mapping = MappingForm { key: key.clone(), api: id.clone(), stage: stage.clone() };
                mappings.insert(key, mapping);
            }
        }
        let domain = DomainForm {
            name: "ws.example.com".to_owned(),
            mappings: mappings.into_values().collect(),
            ..DomainForm::default()
        };
        Document { vpc_links: link.into_iter().collect(), apis, domains: vec![domain] }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_document_survives_apply_export_and_apply(document in documents()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (store, h) = store_and_harness().await;
            let applied = declarative::apply(&h.plane, &document, KEEP).await;
            let applied = applied.unwrap_or_else(|error| panic!("{error:?}"));
            assert!(!applied.steps.is_empty());
            let stored = store.load().await.expect("load");
            let again = declarative::apply(&h.plane, &document, KEEP).await.expect("applied");
            assert_eq!(again.steps, Vec::new());
            assert_eq!(store.load().await.expect("load"), stored);
            check(&h, &store).await;
        });
    }
}
