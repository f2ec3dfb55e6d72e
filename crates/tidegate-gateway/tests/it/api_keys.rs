//! API keys of clients and usage plans (AG-3).

use std::sync::Arc;

use serde_json::json;
use tidegate_auth::{ApiKey, Secret};
use tidegate_core::definition::{Authorizer, Integration};
use tidegate_core::port::RecordStore;
use tidegate_core::quota::{Period, Quota};
use tidegate_core::snapshot::Throttle;
use tidegate_gateway::{Changes, UsageKey, UsagePlan, UsagePlans};
use tidegate_store::SqliteRecords;

use crate::backend::{After, Answer, Backend};
use crate::client::{PATH, request};
use crate::harness::{API_ID, Deployed, Plane, STAGE, Setup};
use crate::told::{Told, upgrade};

const VALUE: &str = "key-of-the-partner-0001";
const OFF: &str = "key-of-the-partner-0002";
const ELSEWHERE: &str = "key-of-the-partner-0003";
const FREE: &str = "key-of-the-partner-0004";

fn key(id: &str, value: &str) -> UsageKey {
    UsageKey { id: id.to_owned(), hash: ApiKey::of(&Secret::new(value)), is_enabled: value != OFF }
}

fn plans(throttle: Option<Throttle>, quota: Option<Quota>) -> UsagePlans {
    let plan = |name: &str, keys: &[&str], stage: &str| UsagePlan {
        name: name.to_owned(),
        keys: keys.iter().map(|&id| id.to_owned()).collect(),
        stages: vec![(API_ID.to_owned(), stage.to_owned())],
        throttle,
        quota,
    };
    UsagePlans {
        keys: vec![key("k1", VALUE), key("k2", OFF), key("k3", ELSEWHERE), key("k4", FREE)],
        plans: vec![plan("gold", &["k1", "k2", "k4"], STAGE), plan("other", &["k3"], "dev")],
    }
}

fn deployed() -> Deployed {
    let mapped = [("x-key", "context.identity.apiKey"), ("x-key-id", "context.identity.apiKeyId")];
    let headers = mapped.map(|(name, source)| (name.to_owned(), source.to_owned())).to_vec();
    let changed = Deployed::changed(|definition| definition.routes[0].api_key_required = true);
    Deployed { headers, ..changed }
}

async fn start(setup: Setup) -> Plane {
    let plane = Plane::start_from(setup).await;
    plane.deploy(&deployed());
    plane
}

async fn refused(plane: &Plane, query: &str, lines: &str) -> Told {
    plane.told(&upgrade(&format!("{PATH}{query}"), "localhost", lines)).await
}

fn line(value: &str) -> String {
    format!("X-Api-Key: {value}\r\n")
}

fn check(told: &Told, status: u16, id: &str, message: &str) {
    assert_eq!((told.status, told.id), (status, id));
    let (connection_id, request_id) = (told.place.connection_id.unwrap(), told.place.request_id.unwrap());
    let body = format!(
        r#"{{"message": "{message}", "connectionId":"{connection_id}", "requestId":"{request_id}"}}"#
    );
    assert_eq!(told.reply.body, body);
    let facts = json!(told.facts).to_string();
    assert!(!facts.contains("key-of-the-partner"), "{facts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_keys_of_the_stage_open_connections() {
    // AG-3, apikey.missing, apikey.unknown
    let plane = start(Setup { usage_plans: plans(None, None), ..Setup::default() }).await;
    let missing = refused(&plane, &format!("?api_key={VALUE}"), "").await;
    check(&missing, 403, "apikey.missing", "Forbidden");
    assert_eq!(missing.facts["lookedFor"], "header x-api-key");
    check(&refused(&plane, "", "x-api-key: \r\n").await, 403, "apikey.missing", "Forbidden");
    for (value, id) in [("key-of-the-partner-9999", None), (OFF, Some("k2")), (ELSEWHERE, Some("k3"))] {
        let told = refused(&plane, "", &line(value)).await;
        check(&told, 403, "apikey.unknown", "Forbidden");
        assert_eq!(told.facts.get("apiKeyId").and_then(|id| id.as_str()), id);
    }
    assert_eq!(plane.backend.requests.all().len(), 0);
    let mut client = plane.connect_as("", &line(VALUE)).await;
    let id = plane.id_of(&client).await;
    client.send("hello").await;
    client.close(1000, "").await;
    plane.disconnect_of(&id).await;
    for event in ["CONNECT", "MESSAGE", "DISCONNECT"] {
        let request = &plane.backend.events(event, 1).await[0];
        assert_eq!((request.value("x-key"), request.value("x-key-id")), (VALUE, "k1"), "{event}");
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_parameter_is_a_setting() {
    let mut setup = Setup { usage_plans: plans(None, None), ..Setup::default() };
    setup.settings.api.api_key_query_parameter = Some("api_key".to_owned());
    let plane = start(setup).await;
    assert_eq!(plane.knock(&format!("?api_key={VALUE}"), "").await, 101);
    check(&refused(&plane, "?Api_key=x", "").await, 403, "apikey.missing", "Forbidden");
    // The header counts where there are both.
    let told = refused(&plane, &format!("?api_key={VALUE}"), &line("key-of-the-partner-9999")).await;
    check(&told, 403, "apikey.unknown", "Forbidden");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rates_and_quotas_are_those_of_a_key() {
    // AG-3, apikey.over-limit
    let slow = Throttle { rate: 0.001, burst: 2.0 };
    let quota = Quota { limit: 1, period: Period::Month, offset: 0 };
    let rated = start(Setup { usage_plans: plans(Some(slow), None), ..Setup::default() }).await;
    for _ in 0..2 {
        assert_eq!(rated.knock("", &line(VALUE)).await, 101);
    }
    let told = refused(&rated, "", &line(VALUE)).await;
    check(&told, 429, "apikey.over-limit", "Too Many Requests");
    assert_eq!(told.reply.value("x-amzn-errortype"), "TooManyRequestsException");
    assert_eq!((&told.facts["usagePlan"], &told.facts["apiKeyId"]), (&json!("gold"), &json!("k1")));
    assert_eq!(rated.knock("", &line(FREE)).await, 101, "another key");
    rated.end().await;
    let counted = start(Setup { usage_plans: plans(None, Some(quota)), ..Setup::default() }).await;
    assert_eq!(counted.knock("", &line(VALUE)).await, 101);
    let told = refused(&counted, "", &line(VALUE)).await;
    check(&told, 429, "apikey.over-limit", "Limit Exceeded");
    assert_eq!(told.reply.value("x-amzn-errortype"), "LimitExceededException");
    assert_eq!((&told.facts["limit"], &told.facts["count"]), (&json!(1), &json!(1)));
    assert_eq!(counted.knock("", &line(FREE)).await, 101, "another key");
    counted.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_outlive_the_process() {
    let quota = Quota { limit: 3, period: Period::Month, offset: 0 };
    let store: Arc<dyn RecordStore> = Arc::new(SqliteRecords::open_in_memory().unwrap());
    for (n_before, n_admitted) in [(0, 2), (2, 1)] {
        let records = Arc::clone(&store);
        let setup = Setup { usage_plans: plans(None, Some(quota)), records, ..Setup::default() };
        let plane = start(setup).await;
        plane.gateway.restore().await.unwrap();
        for _ in 0..n_admitted {
            assert_eq!(plane.knock("", &line(VALUE)).await, 101, "after {n_before}");
        }
        if n_before > 0 {
            let told = refused(&plane, "", &line(VALUE)).await;
            check(&told, 429, "apikey.over-limit", "Limit Exceeded");
        }
        // Writes down what was used.
        plane.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authorizer_may_name_the_key() {
    // AG-18
    let authorizer = Backend::start().await;
    let uri = format!("http://{}/", authorizer.address);
    let plane = Plane::start_from(Setup { usage_plans: plans(None, None), ..Setup::default() }).await;
    let changed = Deployed::changed(move |definition| {
        definition.api.api_key_selection_expression = "$context.authorizer.usageIdentifierKey".to_owned();
        definition.authorizers.push(Authorizer {
            authorizer_id: "auth001".to_owned(),
            name: "people".to_owned(),
            authorizer_uri: Some(uri.clone()),
            ..Authorizer::default()
        });
        let connect = &mut definition.routes[0];
        connect.api_key_required = true;
        connect.authorization_type = "CUSTOM".to_owned();
        connect.authorizer_id = Some("auth001".to_owned());
    });
    let headers = vec![("x-key-id".to_owned(), "context.identity.apiKeyId".to_owned())];
    plane.deploy(&Deployed { headers, ..changed });
    let answers = |usage: Option<&str>| {
        let mut answer = json!({
            "principalId": "a",
            "policyDocument": { "Statement": { "Effect": "Allow", "Action": "*", "Resource": "*" } },
        });
        if let Some(usage) = usage {
            answer["usageIdentifierKey"] = usage.into();
        }
        let body = answer.to_string();
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        authorizer.plan(move |_| Answer::Wire(text.clone(), After::Keep));
    };
    answers(None);
    // The header does not count then.
    check(&refused(&plane, "", &line(VALUE)).await, 403, "apikey.missing", "Forbidden");
    answers(Some("key-of-the-partner-9999"));
    check(&refused(&plane, "", "").await, 403, "apikey.unknown", "Forbidden");
    answers(Some(VALUE));
    assert_eq!(plane.knock("", "").await, 101);
    assert_eq!(plane.backend.events("CONNECT", 1).await[0].value("x-key-id"), "k1");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_have_the_order_of_the_service() {
    // AG-3: authorization, key, parameters, integration.
    let plane = Plane::start_from(Setup { usage_plans: plans(None, None), ..Setup::default() }).await;
    plane.deploy(&Deployed::changed(|definition| {
        let connect = &mut definition.routes[0];
        connect.api_key_required = true;
        let required = tidegate_core::definition::ParameterConstraints { required: true };
        let parameters = [("route.request.querystring.room".to_owned(), required)];
        connect.request_parameters = Some(parameters.into_iter().collect());
        definition.integrations.push(Integration::default());
    }));
    check(&refused(&plane, "", "").await, 403, "apikey.missing", "Forbidden");
    let told = refused(&plane, "", &line(VALUE)).await;
    check(&told, 400, "handshake.malformed", "Missing required request parameters: [room]");
    assert_eq!(plane.backend.requests.all().len(), 0);
    assert_eq!(plane.knock("?room=a", &line(VALUE)).await, 101);
    plane.deploy(&Deployed::changed(|definition| {
        definition.routes[0].api_key_required = true;
        definition.routes[0].authorization_type = "AWS_IAM".to_owned();
    }));
    assert_eq!(refused(&plane, "", "").await.id, "iam.connect-unsigned");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_looks_at_key_and_parameters_and_counts_nothing() {
    let quota = Quota { limit: 1, period: Period::Month, offset: 0 };
    let throttle = Throttle { rate: 0.001, burst: 1.0 };
    for plans in [plans(None, Some(quota)), plans(Some(throttle), None)] {
        let plane = Plane::start_from(Setup { usage_plans: plans, ..Setup::default() }).await;
        plane.deploy(&Deployed::changed(|definition| {
            definition.routes[0].api_key_required = true;
            let required = tidegate_core::definition::ParameterConstraints { required: true };
            let room = ("route.request.querystring.room".to_owned(), required);
            definition.routes[0].request_parameters = Some([room].into());
        }));
        let ask = async |query: &str, lines: &str| {
            let lines = format!("Tidegate-Check: 1\r\n{lines}");
            request(plane.address, "GET", &format!("{PATH}{query}"), &lines, "").await
        };
        let key = line(VALUE);
        for (query, lines, status, id) in [
            ("?room=a", "", 403, "apikey.missing"),
            ("?room=a", "X-Api-Key: key-of-the-partner-9999\r\n", 403, "apikey.unknown"),
            ("", &key, 400, "handshake.malformed"),
        ] {
            let reply = ask(query, lines).await;
            assert_eq!((reply.status, &reply.json()["id"]), (status, &json!(id)));
        }
        for _ in 0..3 {
            let reply = ask("?room=a", &key).await;
            assert_eq!((reply.status, reply.json()), (200, json!({ "ok": true })));
        }
        assert_eq!(plane.backend.requests.all().len(), 0);
        // The one that the plan permits is still there, and then it is not.
        assert_eq!(plane.knock("?room=a", &key).await, 101);
        let reply = ask("?room=a", &key).await;
        assert_eq!((reply.status, &reply.json()["id"]), (429, &json!("apikey.over-limit")));
        plane.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_used_stays_used_when_plans_change() {
    let quota = |limit: u64| Some(Quota { limit, period: Period::Month, offset: 0 });
    let plane = start(Setup { usage_plans: plans(None, quota(1)), ..Setup::default() }).await;
    assert_eq!(plane.knock("", &line(VALUE)).await, 101);
    let change = async |plans: UsagePlans| {
        let records = plane.gateway.usage_records().await.unwrap();
        let usage_plans = Some((plans, records));
        plane.gateway.change_settings(Changes { usage_plans, ..Changes::default() });
    };
    // Without the key and with it again: it is no new one.
    let mut without = plans(None, quota(2));
    without.keys.remove(0);
    change(without).await;
    let told = refused(&plane, "", &line(VALUE)).await;
    check(&told, 403, "apikey.unknown", "Forbidden");
    change(plans(None, quota(2))).await;
    assert_eq!(plane.knock("", &line(VALUE)).await, 101);
    let told = refused(&plane, "", &line(VALUE)).await;
    check(&told, 429, "apikey.over-limit", "Limit Exceeded");
    assert_eq!(told.facts["count"], json!(2));
    plane.end().await;
}
