//! Documents: S0-15 to S0-17, S0-98, S0-109.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_control::ControlSettings;
use tidegate_control::declarative::{
    self, Action, Applied, ApplyError, Document, Options, Problem, Secrets, provisioning,
};
use tidegate_core::port::DefinitionStore;
use tidegate_store::SqliteStore;

use crate::harness::Harness;

const CHAT: &str = r#"
[[apis]]
id = "chatprod"
name = "chat"
route_selection_expression = "$request.body.action"
[apis.integrations.backend]
uri = "http://127.0.0.1:8000/ws/?a=%20b&c=é"
[apis.integrations.backend.request_parameters]
"integration.request.header.connectionId" = "context.connectionId"
"integration.request.header.X-Gateway-Secret" = "'s3cret'"
[apis.routes]
"$connect" = "backend"
"$disconnect" = "backend"
"$default" = { integration = "backend", two_way = true }
[apis.stages.production]
throttle = { rate = 100, burst = 50 }
[apis.stages.production.policy.channels]
default = "lobby"
default_by_domain = { "ws.example.com" = "vip" }

[[domains]]
name = "ws.example.com"
mappings = [{ api = "chat", stage = "production" }]
"#;

const KEEP: Options = Options { prune: false };
const PRUNE: Options = Options { prune: true };

fn document(text: &str) -> Document {
    Document::from_toml(text).expect("a document")
}

async fn apply(h: &Harness, text: &str, options: Options) -> Applied {
    let document = document(text);
    let planned = declarative::plan(&h.plane, &document, options).expect("a plan");
    let applied = declarative::apply(&h.plane, &document, options).await.expect("applied");
    assert_eq!(sentences(&planned), sentences(&applied), "what was planned is what happened");
    let again = declarative::apply(&h.plane, &document, options).await.expect("applied");
    assert_eq!(sentences(&again), [""; 0], "S0-16: nothing is left to do");
    applied
}

fn sentences(plan: &Applied) -> Vec<&str> {
    plan.steps.iter().map(|step| step.sentence.as_str()).collect()
}

async fn problems(h: &Harness, text: &str) -> Vec<String> {
    let document = document(text);
    let planned = declarative::plan(&h.plane, &document, KEEP);
    let applied = declarative::apply(&h.plane, &document, KEEP).await;
    assert_eq!(planned.as_ref().err(), applied.as_ref().err(), "plan and apply refuse the same");
    match applied {
        Err(ApplyError::Problems(problems)) => problems.iter().map(Problem::to_string).collect(),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn one_apply_reaches_the_state_of_the_provisioning_calls_and_the_second_does_nothing() {
    let store = Arc::new(SqliteStore::open_in_memory().expect("open"));
    let h = Harness::over(Arc::clone(&store) as _, ControlSettings::default()).await;
    assert_eq!(provisioning(&h.plane, "chatprod"), "pending");
    let published = h.sink.count();
    let applied = apply(&h, CHAT, KEEP).await;
    // S0-17
    assert_eq!(
        sentences(&applied),
        [
            "create API chat",
            "create integration backend of API chat: HTTP_PROXY http://127.0.0.1:8000/ws/?a=%20b&c=é",
            "create route $connect of API chat -> backend",
            "create route $default of API chat -> backend",
            "create route $disconnect of API chat -> backend",
            "create stage production of API chat",
            "create policy of stage production of API chat",
            "create domain name ws.example.com",
            "create root mapping of domain name ws.example.com -> stage production of API chat",
            "deploy API chat to stage production",
        ]
    );
    // S0-15
    assert_eq!(h.sink.count(), published + 1, "one write, one publication");
    let progress = (applied.apis[0].before, applied.apis[0].after, provisioning(&h.plane, "chatprod"));
    assert_eq!(progress, ("pending", "mapped", "mapped"));
    // S0-16, S0-109
    let integrations = h.get("/apis/chatprod/integrations").await;
    let integration = &integrations["items"][0];
    assert_eq!(integration["integrationUri"], "http://127.0.0.1:8000/ws/?a=%20b&c=é");
    assert_eq!(
        integration["requestParameters"],
        json!({"integration.request.header.connectionId": "context.connectionId",
               "integration.request.header.X-Gateway-Secret": "'s3cret'"})
    );
    // S0-71
    let live = h.sink.last();
    let stage = &live.apis[0].stages[0];
    let policy = stage.policy.as_ref().expect("a policy");
    assert_eq!(policy.channels.default_by_domain["ws.example.com"], "vip");
    assert_eq!(stage.deployment.as_ref().map(|d| d.routes.len()), Some(3));
    assert_eq!(stage.stage.default_route_settings.throttling_rate_limit, Some(100.0));

    let stored = store.load().await.expect("load");
    let again = apply(&h, CHAT, PRUNE).await;
    assert_eq!((again.steps.len(), again.unchanged, again.left_alone.len()), (0, 9, 0));
    assert_eq!(store.load().await.expect("load"), stored, "byte for byte");
    assert_eq!(h.sink.count(), published + 1);
}

#[tokio::test]
async fn changes_are_named_and_secrets_are_not() {
    let h = Harness::new().await;
    apply(&h, CHAT, KEEP).await;
    let text = CHAT
        .replace("http://127.0.0.1:8000/ws/?a=%20b&c=é", "https://user:pw@b.example/")
        .replace("s3cret", "other")
        .replace(
            "\"$disconnect\" = \"backend\"",
            "\"$disconnect\" = { api_key_required = false }\njoin = \"backend\"",
        )
        .replace("lobby", "hall")
        .replace("rate = 100, ", "");
    let changed = apply(&h, &text, KEEP).await;
    assert_eq!(
        sentences(&changed),
        [
            "change integration backend of API chat: request_parameters.\"integration.request.header.X-Gateway-Secret\" \
             (another value), uri http://127.0.0.1:8000/ws/?a=%20b&c=é -> https://****@b.example/",
            "change route $disconnect of API chat: integration backend -> none",
            "create route join of API chat -> backend",
            "change stage production of API chat: throttle.rate 100.0 -> none",
            "change policy of stage production of API chat: channels.default lobby -> hall",
            "deploy API chat to stage production",
        ]
    );
    let shown = serde_json::to_string(&changed).expect("JSON");
    assert!(!shown.contains("pw@") && !shown.contains("s3cret") && !shown.contains("'other'"), "{shown}");

    // Masks keep what is stored; in a new object they are refused.
    let export = declarative::export(&h.plane, Secrets::Masked);
    let toml = export.to_toml().expect("TOML");
    assert!(toml.contains("https://****@b.example/") && !toml.contains("'other'"), "{toml}");
    assert_eq!(sentences(&apply(&h, &toml, PRUNE).await), [""; 0]);
    let integration = &h.get("/apis/chatprod/integrations").await["items"][0];
    assert_eq!(integration["integrationUri"], "https://user:pw@b.example/");
    assert_eq!(
        problems(&Harness::new().await, &toml).await,
        [
            "apis.chat.integrations.backend.uri: **** keeps a secret that is stored, and none is; write it out",
            "apis.chat.integrations.backend.request_parameters.\"integration.request.header.X-Gateway-Secret\": **** \
             keeps a secret that is stored, and none is; write it out",
        ]
    );
}

#[tokio::test]
async fn only_pruning_removes() {
    let h = Harness::new().await;
    apply(&h, CHAT, KEEP).await;
    h.post("/apis/chatprod/stages", json!({"stageName": "old"})).await;
    h.post(
        "/domainnames/ws.example.com/apimappings",
        json!({"apiId": "chatprod", "stage": "old", "apiMappingKey": "o"}),
    )
    .await;
    h.post("/apis/chatprod/models", json!({"name": "M", "schema": "{}"})).await;
    h.post(
        "/apis/chatprod/authorizers",
        json!({"name": "a", "authorizerType": "REQUEST", "authorizerUri": "arn:x", "identitySource": []}),
    )
    .await;
    let integration = h.integration("chatprod").await;
    let body = json!({"routeKey": "x", "target": format!("integrations/{integration}")});
    h.post("/apis/chatprod/routes", body).await;
    let other = h.api().await;
    let text = CHAT.split("[apis.stages.production.policy").next().expect("a part");
    let text = format!(
        "{text}\n[[domains]]\nname = \"WS.example.com\"\nmappings = [{{ api = \"chatprod\", stage = \"production\" }}]"
    );

    let kept = apply(&h, &text, KEEP).await;
    assert_eq!(sentences(&kept), ["deploy API chat to stage production"]);
    assert_eq!(
        kept.left_alone,
        [
            "model M of API chat",
            "authorizer a of API chat",
            &format!("integration {integration} of API chat"),
            "route x of API chat",
            "policy of stage production of API chat",
            "stage old of API chat",
            "mapping o of domain name ws.example.com",
        ]
    );
    let pruned = apply(&h, &text, PRUNE).await;
    assert!(pruned.left_alone.is_empty());
    assert_eq!(
        sentences(&pruned),
        [
            "remove model M of API chat",
            "remove authorizer a of API chat",
            &format!("remove integration {integration} of API chat"),
            "remove route x of API chat",
            "remove policy of stage production of API chat",
            "remove stage old of API chat",
            "remove mapping o of domain name ws.example.com",
            "deploy API chat to stage production",
        ]
    );
    assert_eq!(h.get(&format!("/apis/{other}")).await["name"], "n", "what is not named is not touched");
}

#[tokio::test]
async fn names_can_be_given_and_changed() {
    let h = Harness::new().await;
    // What an SDK made has no names: three equal integrations, as provisioning clients make them.
    let api = h.api().await;
    for key in ["$connect", "$disconnect", "$default"] {
        let integration = h.integration(&api).await;
        let body = json!({"routeKey": key, "target": format!("integrations/{integration}")});
        h.post(&format!("/apis/{api}/routes"), body).await;
    }
    let before = h.get(&format!("/apis/{api}/routes")).await;
    let text = r#"
        [[apis]]
        name = "n"
        route_selection_expression = "$request.body.action"
        [apis.integrations]
        connect = { uri = "http://127.0.0.1:8000/connect" }
        default = { uri = "http://127.0.0.1:8000/ws/" }
        disconnect = { uri = "http://127.0.0.1:8000/ws/" }
        [apis.routes]
        "$connect" = "connect"
        "$default" = "default"
        "$disconnect" = "disconnect"
    "#;
    let named = apply(&h, text, PRUNE).await;
    assert_eq!(named.steps.iter().filter(|s| s.action == Action::Rename).count(), 3, "{named:?}");
    let changes: Vec<&str> =
        named.steps.iter().filter(|s| s.action != Action::Rename).map(|s| s.sentence.as_str()).collect();
    assert_eq!(
        changes[0],
        "change integration connect of API n: uri http://127.0.0.1:8000/ws/ -> http://127.0.0.1:8000/connect"
    );
    assert_eq!(h.get(&format!("/apis/{api}/routes")).await, before, "the integrations kept their ids");

    // An integration that is called differently is still the same one, and so is an API with an id.
    let text = text.replace("default =", "main =").replace("\"default\"", "\"main\"");
    let text = text.replace("name = \"n\"", &format!("id = \"{api}\"\nname = \"chat\""));
    let renamed = apply(&h, &text, PRUNE).await;
    assert!(sentences(&renamed).contains(&"change API n: name n -> chat"), "{renamed:?}");
    assert!(sentences(&renamed).contains(&"rename integration default of API n to main"), "{renamed:?}");
    assert_eq!(h.get(&format!("/apis/{api}/routes")).await, before);

    // Without an id, another name is another API.
    let text = text.replace(&format!("id = \"{api}\""), "").replace("\"chat\"", "\"chat2\"");
    apply(&h, &text, PRUNE).await;
    assert_eq!(h.get("/apis").await["items"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_broken_document_changes_nothing_and_all_its_problems_are_told() {
    let store = Arc::new(SqliteStore::open_in_memory().expect("open"));
    let settings = ControlSettings {
        allow_integration_hosts: vec!["127.0.0.1".to_owned()],
        ..ControlSettings::default()
    };
    let h = Harness::over(Arc::clone(&store) as _, settings).await;
    apply(&h, CHAT, KEEP).await;
    let (stored, published) = (store.load().await.expect("load"), h.sink.count());
    let text = r#"
        [[apis]]
        name = "new"
        route_selection_expression = "$request.header.x"
        [apis.integrations]
        evil = { uri = "http://evil.example/" }
        slow = { uri = "http://127.0.0.1/", timeout_ms = 30000 }
        [apis.routes]
        a = "evli"
        "$b" = "slow"
        [apis.stages."no good"]
        [apis.stages.s.policy.connect_tokens]
        lifetime = 1
        [[apis]]
        name = "empty"
        route_selection_expression = "$request.body.a"
        [apis.stages.s]
        [[apis]]
        id = "chatprod"
        name = "chat"
        route_selection_expression = "$request.body.action"
        description = "never stored"
        [[domains]]
        name = "d.example.com"
        mappings = [{ api = "chta", stage = "production" }, { api = "chat", stage = "gone" }]
    "#;
    let found = problems(&h, text).await;
    let wanted = [
        "apis.new: Invalid expression specified for routeSelectionExpression: $request.header.x (only $request.body can \
         be read)",
        // S0-98
        "apis.new.integrations.evil: Invalid integration URI specified: the host evil.example is not permitted here",
        "apis.new.integrations.slow: Timeout should be between 50 ms and 29000 ms",
        "apis.new.routes.\"$b\": Invalid route key specified: $b. Only $connect, $disconnect and $default may begin \
         with $",
        "apis.new.routes.a.integration: no integration has the name evli; did you mean evil?",
        "apis.new.stages.\"no good\": Stage name only allows a-zA-Z0-9_- characters on WEBSOCKET protocol Apis.",
        "apis.empty.stages.s: an API without routes cannot be deployed; set deploy = false",
        "domains.\"d.example.com\".mappings[0].api: no API has the id or name chta; did you mean chat?",
        "domains.\"d.example.com\".mappings[1]: Invalid stage identifier specified",
    ];
    for problem in wanted {
        assert!(found.iter().any(|found| found == problem), "{problem}\nis missing in {found:#?}");
    }
    let lifetime = "apis.new.stages.s.policy.connect_tokens.lifetime";
    assert!(found.iter().any(|found| found.starts_with(lifetime)), "{found:#?}");
    assert_eq!(found.len(), wanted.len() + 1, "{found:#?}");
    let ApplyError::Problems(found) =
        declarative::apply(&h.plane, &document(text), KEEP).await.expect_err("refused")
    else {
        panic!("not problems")
    };
    assert!(found.iter().any(|p| p.diagnosis.as_deref() == Some("integration.host-not-allowed")));
    assert_eq!((store.load().await.expect("load"), h.sink.count()), (stored, published));
}

#[test]
fn keys_and_types_are_all_checked_before_anything_else() {
    let text = r#"
        vpc_link = []
        [[apis]]
        nmae = "chat"
        [apis.integrations.backend]
        timeout = 5
        uri = 7
        request_parameters = { a = 1, b = "x", c = true }
        [apis.routes]
        a = "backend"
        b = { integration = "backend", two_ways = true }
        c = 5
        [[apis]]
        stages.prod.policy.channels.rules = [
            { match = "a", jion = "allow" },
            { join = "allow" },
            { match = "b", join = "maybe" },
        ]
        stages.prod.throttle.rate = "fast"
    "#;
    let problems = Document::from_toml(text).expect_err("refused");
    let found: Vec<String> = problems.iter().map(Problem::to_string).collect();
    let wanted = [
        "apis[0].integrations.backend.request_parameters.a: invalid type: integer `1`, expected a string",
        "apis[0].integrations.backend.request_parameters.c: invalid type: boolean `true`, expected a string",
        "apis[0].integrations.backend.timeout: unknown key; did you mean `timeout_ms`?",
        "apis[0].integrations.backend.uri: invalid type: integer `7`, expected a string",
        "apis[0].nmae: unknown key; did you mean `name`?",
        "apis[0].routes.b.two_ways: unknown key; did you mean `two_way`?",
        "apis[0].routes.c: invalid type: integer `5`, expected the name of an integration or a table",
        "apis[1].stages.prod.policy.channels.rules[0].jion: unknown key; did you mean `join`?",
        "apis[1].stages.prod.policy.channels.rules[1]: missing field `match`",
        "apis[1].stages.prod.policy.channels.rules[2].join: `maybe`: deny, allow, authenticated, a table with any or one \
         with ask expected",
        "apis[1].stages.prod.throttle.rate: invalid type: string \"fast\", expected f64",
        "vpc_link: unknown key; did you mean `vpc_links`?",
    ];
    assert_eq!(found, wanted);
    for (text, wanted) in [
        ("[[apis]]\nname = ", "line 2: "),
        (
            "[[apis]]\n[apis.stages.s.throttle]\nrate = nan",
            "apis[0].stages.s.throttle.rate: neither nan nor inf",
        ),
        (
            "[[apis]]\n[[apis.stages.s.policy.channels.rules]]\njoin = \"allow\"",
            "apis[0].stages.s.policy.channels.rules[0]: missing field `match`",
        ),
        ("apis = 5", "apis: invalid type: integer `5`, expected a sequence"),
    ] {
        let problems = Document::from_toml(text).expect_err("refused");
        assert!(problems[0].to_string().starts_with(wanted), "{problems:?}");
    }
}

#[tokio::test]
async fn an_api_must_be_meant_clearly() {
    let h = Harness::new().await;
    let ids = [h.api().await, h.api().await];
    let api = "[[apis]]\nname = \"n\"\nroute_selection_expression = \"$request.body.a\"\n";
    let found = problems(&h, api).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("apis.n: several APIs have this name; give one of the ids "), "{found:?}");
    assert!(ids.iter().all(|id| found[0].contains(id.as_str())), "{found:?}");
    let twice = format!("{api}id = \"{}\"\n", ids[0]).repeat(2);
    assert_eq!(
        problems(&h, &twice).await,
        ["apis.n: describes the same object as another entry of the document"]
    );
    let refused = problems(&h, &format!("{api}id = \"Not_A_Label\"\n")).await;
    assert!(refused[0].contains("must be a lower-case DNS label"), "{refused:?}");
}

/// A stage that serves an earlier deployment, or none, is left as it is by its own export.
#[tokio::test]
async fn stages_that_are_behind_stay_behind_when_asked_to() {
    let h = Harness::new().await;
    apply(&h, CHAT, KEEP).await;
    h.post("/apis/chatprod/stages", json!({"stageName": "bare"})).await;
    h.post("/apis/chatprod/routes", json!({"routeKey": "new"})).await;
    let before = h.get("/apis/chatprod/stages").await;
    let export = declarative::export(&h.plane, Secrets::Masked);
    let note = "stage production serves an earlier deployment";
    assert!(export.notes.iter().any(|n| n.contains(note)), "{:?}", export.notes);
    let text = export.to_toml().expect("TOML");
    assert_eq!(sentences(&apply(&h, &text, PRUNE).await), [""; 0]);
    assert_eq!(h.get("/apis/chatprod/stages").await, before);
    let text = text.replace("deploy = false", "deployment_description = \"both\"");
    let deployed = apply(&h, &text, PRUNE).await;
    let wanted = ["deploy API chat to stage production", "deploy API chat to stage bare"];
    assert_eq!(sentences(&deployed), wanted);
    let stages = h.get("/apis/chatprod/stages").await;
    assert_eq!(stages["items"][0]["deploymentId"], stages["items"][1]["deploymentId"]);
    let id = stages["items"][0]["deploymentId"].as_str().expect("an id");
    assert_eq!(h.get(&format!("/apis/chatprod/deployments/{id}")).await["description"], "both");
}

#[tokio::test]
async fn auto_deploy_deploys_once() {
    let h = Harness::new().await;
    let text = CHAT.replace("throttle =", "auto_deploy = true\nthrottle =");
    let applied = apply(&h, &text, KEEP).await;
    assert_eq!(
        applied.steps.last().map(|s| s.sentence.as_str()),
        Some("deploy API chat to stage production")
    );
    let changed = apply(&h, &text.replace("s3cret", "other"), KEEP).await;
    assert_eq!(changed.steps.len(), 2, "{changed:?}");
    h.later(200);
    let changed = apply(&h, &text, KEEP).await;
    assert_eq!(changed.steps.len(), 2, "{changed:?}");
    assert_eq!(h.get("/apis/chatprod/deployments").await["items"].as_array().map(Vec::len), Some(2));
}

/// S0-15: an apply is one change among others; none gets between its parts, and none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applies_and_operations_do_not_interleave() {
    let h = Arc::new(Harness::new().await);
    apply(&h, CHAT, KEEP).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let h = Arc::clone(&h);
        tasks.spawn(async move {
            if n % 2 == 0 {
                let text = CHAT.replace("8000", &format!("80{n:02}")).replace("lobby", &format!("room{n}"));
                let result = declarative::apply(&h.plane, &document(&text), KEEP).await;
                assert!(result.is_ok(), "{result:?}");
            } else {
                h.post("/apis/chatprod/routes", json!({"routeKey": format!("r{n}")})).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    let keys = h.get("/apis/chatprod/routes").await["items"].as_array().map(Vec::len);
    assert_eq!(keys, Some(13), "no operation was lost");
    // In everything that was ever live, the policy belongs to the integration that came with it.
    for live in h.sink.0.lock().iter().filter(|live| !live.apis.is_empty()) {
        let stage = &live.apis[0].stages[0];
        let deployment = stage.deployment.as_ref().expect("a deployment");
        let uri = deployment.integrations[0].integration_uri.as_deref().expect("a URI");
        let room = &stage.policy.as_ref().expect("a policy").channels.default;
        let port = room.strip_prefix("room").map_or("8000".to_owned(), |n| format!("80{:0>2}", n));
        assert!(uri.contains(&port), "{uri} {room}");
    }
}

#[tokio::test]
async fn provisioning_has_the_stages_of_the_package() {
    let h = Harness::new().await;
    let api = h.api().await;
    let is = |wanted: &str| assert_eq!(provisioning(&h.plane, &api), wanted);
    is("api_created");
    let integration = h.integration(&api).await;
    let body = json!({"routeKey": "$default", "target": format!("integrations/{integration}")});
    h.post(&format!("/apis/{api}/routes"), body).await;
    is("routes_created");
    h.post(&format!("/apis/{api}/stages"), json!({"stageName": "production"})).await;
    h.deploy(&api, json!({"stageName": "production"})).await;
    is("deployed");
    h.post("/domainnames", json!({"domainName": "ws.example.com"})).await;
    is("domain_created");
    let body: Value = json!({"apiId": api, "stage": "production"});
    h.post("/domainnames/ws.example.com/apimappings", body).await;
    is("mapped");
}
