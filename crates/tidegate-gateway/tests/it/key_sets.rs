//! JSON Web Key Sets by address and by file.

use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tidegate_core::notice::Notice;

use crate::backend::{After, Answer};
use crate::harness::{Deployed, Plane};
use crate::record::{DEADLINE, eventually};
use crate::session_layer::jwt_policy;

/// An issuer's key.
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    kid: &'static str,
}

impl Key {
    pub(crate) fn new(kid: &'static str) -> Self {
        Self { pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), kid }
    }

    pub(crate) fn public(&self) -> Value {
        // RFC 5480: 0x04, then both coordinates.
        let point = self.pair.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..65]].map(|part| URL_SAFE_NO_PAD.encode(part));
        json!({ "kty": "EC", "crv": "P-256", "kid": self.kid, "use": "sig", "x": x, "y": y })
    }

    /// `?token=...` for a user.
    fn query(&self, user: &str) -> String {
        format!("?token={}", self.token(&json!({ "sub": user })))
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = encode(&json!({ "alg": "ES256", "kid": self.kid }));
        let signed = format!("{header}.{}", encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn serve(plane: &Plane, status: u16, keys: &[&Key]) {
    let keys: Vec<Value> = keys.iter().map(|key| key.public()).collect();
    let body = json!({ "keys": keys }).to_string();
    let answer = format!("HTTP/1.1 {status} Planned\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    plane.backend.plan(move |request| match request.target.starts_with("/jwks") {
        true => Answer::Wire(answer.clone(), After::Keep),
        false => Answer::Status(200),
    });
}

fn by_url(plane: &Plane, more: Value) -> Deployed {
    let url = format!("http://{}/jwks.json", plane.backend.address);
    let mut options = json!({ "keys": [{ "jwks_url": url, "algorithms": ["ES256"] }] });
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Deployed::with_policy(jwt_policy(options))
}

fn n_fetches(plane: &Plane) -> usize {
    plane.backend.requests.count(|request| request.target.starts_with("/jwks"))
}

fn n_failures(plane: &Plane) -> usize {
    let is_one = |notice: &Notice| matches!(notice, Notice::KeySetNotFetched { diagnosis, .. } if diagnosis.as_str() == "jwt.jwks-unreachable");
    plane.notices.record.count(is_one)
}

/// Knocks until a key is taken.
async fn taken(plane: &Plane, key: &Key) {
    let query = key.query("ada");
    let look = async {
        while plane.knock(&query, "").await != 101 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(2 * DEADLINE, look).await.expect("the key in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetched_when_a_policy_names_it_and_not_for_every_unknown_key() {
    // S3-10, S3-11
    let plane = Plane::start().await;
    let (known, unknown) = (Key::new("known"), Key::new("unknown"));
    serve(&plane, 200, &[&known]);
    let running = plane.run_session_layer();
    plane.deploy(&by_url(&plane, json!({})));
    taken(&plane, &known).await;
    assert_eq!(n_fetches(&plane), 1);
    let fetch = plane.backend.requests.all().into_iter().find(|request| request.target.starts_with("/jwks"));
    let fetch = fetch.unwrap();
    assert_eq!((fetch.target.as_str(), fetch.value("content-length")), ("/jwks.json", ""));
    // At most every 30 s, whatever strangers present.
    for _ in 0..20 {
        plane.refused(&unknown.query("eve"), "", "jwt.unknown-key").await;
    }
    taken(&plane, &known).await;
    assert_eq!(n_fetches(&plane), 1);
    // The issuer has a new key: the first token that names it has the set fetched, as soon as that may be. The old set
    // verifies meanwhile, and an unknown key does not have it fetched twice.
    serve(&plane, 200, &[&known, &unknown]);
    let started = Instant::now();
    taken(&plane, &unknown).await;
    assert!(started.elapsed() > Duration::from_secs(20), "{:?}", started.elapsed());
    taken(&plane, &known).await;
    assert_eq!(n_fetches(&plane), 2);
    drop(running);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_was_never_fetched_is_the_gateways_fault() {
    // S3-11: 503, not 403.
    let plane = Plane::start().await;
    let key = Key::new("a");
    serve(&plane, 500, &[&key]);
    let running = plane.run_session_layer();
    plane.deploy(&by_url(&plane, json!({})));
    eventually("a notice of the failure", || n_failures(&plane) == 1).await;
    let refusal = plane.refused(&key.query("ada"), "", "jwt.jwks-unreachable").await;
    assert_eq!(refusal.status, 503);
    assert_eq!(plane.backend.events("CONNECT", 0).await.len(), 0);
    drop(running);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_refresh_keeps_the_last_good_set() {
    // S3-11
    let plane = Plane::start().await;
    let key = Key::new("a");
    serve(&plane, 200, &[&key]);
    let running = plane.run_session_layer();
    plane.deploy(&by_url(&plane, json!({})));
    taken(&plane, &key).await;
    // Another policy with the same address: what was fetched stays in use, whatever becomes of the new fetch.
    for status in [500, 200] {
        serve(&plane, status, &[]);
        if status == 200 {
            plane.backend.plan(|request| match request.target.starts_with("/jwks") {
                true => Answer::Wire(
                    "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno JSON at".to_owned(),
                    After::Close,
                ),
                false => Answer::Status(200),
            });
        }
        let before = (n_fetches(&plane), n_failures(&plane));
        plane.deploy(&by_url(&plane, json!({ "leeway": 60 })));
        assert_eq!(plane.knock(&key.query("ada"), "").await, 101);
        eventually("a notice of the failure", || n_failures(&plane) == before.1 + 1).await;
        assert_eq!(n_fetches(&plane), before.0 + 1);
        assert_eq!(plane.knock(&key.query("ada"), "").await, 101);
    }
    // An empty set is no good one either: nobody can be verified, and that is not their fault.
    serve(&plane, 200, &[]);
    let before = n_fetches(&plane);
    plane.deploy(&by_url(&plane, json!({ "leeway": 61 })));
    eventually("a fetch", || n_fetches(&plane) == before + 1).await;
    let mut status = 101;
    while status == 101 {
        status = plane.knock(&key.query("ada"), "").await;
    }
    assert_eq!((status, plane.last_refusal().diagnosis), (503, "jwt.jwks-unreachable"));
    drop(running);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_that_does_not_answer_keeps_no_other_waiting() {
    let plane = Plane::start().await;
    let key = Key::new("a");
    let body = json!({ "keys": [key.public()] }).to_string();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let gate = crate::backend::Gate::new();
    let held = gate.clone();
    plane.backend.plan(move |request| match request.target.as_str() {
        "/jwks.json" => Answer::Wire(answer.clone(), After::Keep),
        "/slow.json" => Answer::Gated(200, held.clone()),
        _ => Answer::Status(200),
    });
    let running = plane.run_session_layer();
    let address = plane.backend.address;
    let url = |name: &str| json!({ "jwks_url": format!("http://{address}/{name}"), "algorithms": ["ES256"] });
    let keys = json!({ "keys": [url("slow.json"), url("jwks.json")] });
    let started = Instant::now();
    plane.deploy(&Deployed::with_policy(jwt_policy(keys)));
    taken(&plane, &key).await;
    // A fetch is given up after 10 s.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    gate.open();
    drop(running);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_may_have_a_query_and_no_path() {
    let plane = Plane::start().await;
    let key = Key::new("a");
    let body = json!({ "keys": [key.public()] }).to_string();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    plane.backend.plan(move |request| match request.target.as_str() {
        "/?set=1" => Answer::Wire(answer.clone(), After::Keep),
        _ => Answer::Status(200),
    });
    let running = plane.run_session_layer();
    let url = format!("http://{}?set=1", plane.backend.address);
    let keys = json!({ "keys": [{ "jwks_url": url, "algorithms": ["ES256"] }] });
    plane.deploy(&Deployed::with_policy(jwt_policy(keys)));
    taken(&plane, &key).await;
    drop(running);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_may_be_in_a_file() {
    // S3-10
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let (key, other) = (Key::new("a"), Key::new("a"));
    std::fs::write(&file, json!({ "keys": [key.public()] }).to_string()).unwrap();
    let plane = Plane::start().await;
    let deployed = || {
        let options = json!({ "keys": [{ "jwks_file": file, "algorithms": ["ES256"] }] });
        Deployed::with_policy(jwt_policy(options))
    };
    plane.deploy(&deployed());
    assert_eq!(plane.knock(&key.query("ada"), "").await, 101);
    plane.refused(&other.query("eve"), "", "jwt.signature").await;
    // Read again with the policy.
    std::fs::write(&file, json!({ "keys": [other.public()] }).to_string()).unwrap();
    plane.deploy(&deployed());
    assert_eq!(plane.knock(&other.query("eve"), "").await, 101);
    plane.refused(&key.query("ada"), "", "jwt.signature").await;
    plane.end().await;
}
