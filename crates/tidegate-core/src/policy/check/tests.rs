use serde_json::{Value, json};

use super::*;

fn policy(json: Value) -> Policy {
    serde_json::from_value(json).unwrap()
}

/// Paths of the errors.
fn errors(json: Value) -> Vec<String> {
    let problems = policy(json).problems();
    let errors = problems.into_iter().filter(|problem| problem.is_error);
    errors
        .map(|problem| {
            assert_eq!(problem.id, "config.invalid-value");
            problem.path
        })
        .collect()
}

fn warnings(json: Value) -> Vec<&'static str> {
    let problems = policy(json).problems();
    problems.into_iter().filter(|problem| !problem.is_error).map(|problem| problem.id).collect()
}

const LONG: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_policy_that_says_nothing_is_good() {
    assert_eq!(errors(json!({})), [""; 0]);
    assert_eq!(warnings(json!({})), [NO_BACKEND_SECRET]);
}

#[test]
fn values_out_of_range_are_errors_with_their_path() {
    // S0-96
    let hash = "ab".repeat(32);
    let good_and_bad = [
        ("connect_tokens", "lifetime", vec![json!(5), json!(300)], vec![json!(4), json!(301)]),
        ("connect_tokens", "per_minute", vec![json!(1)], vec![json!(0), json!(10_001)]),
        ("connect_tokens", "max_unspent", vec![json!(1)], vec![json!(0), json!(10_001)]),
        (
            "connect_tokens",
            "parameter",
            vec![json!("t.o-k_e~n")],
            vec![json!(""), json!("a b"), json!("a&b")],
        ),
        ("connect_tokens", "cookie", vec![json!(""), json!("sessionid")], vec![json!("a b"), json!("a;b")]),
        ("attempts", "window", vec![json!(1), json!(86_400)], vec![json!(0), json!(86_401)]),
        ("attempts", "per_user", vec![json!(0), json!(10_000)], vec![json!(10_001)]),
        ("attempts", "ipv6_prefix", vec![json!(1), json!(128)], vec![json!(0), json!(129)]),
        ("messages", "rate", vec![json!(0), json!(0.5)], vec![json!(-1), json!(100_001)]),
        ("channels", "max_per_connection", vec![json!(1), json!(1000)], vec![json!(0), json!(1001)]),
        ("channels", "parameter", vec![json!("")], vec![json!("a b")]),
        ("channels", "default", vec![json!(""), json!("lobby")], vec![json!("a b"), json!("lobby\n")]),
        ("push", "wait_ms", vec![json!(0), json!(30_000)], vec![json!(30_001)]),
        ("push", "idempotency_window", vec![json!(1), json!(3600)], vec![json!(0), json!(3601)]),
        ("push", "max_bytes", vec![json!(0)], vec![json!(16 * 1024 * 1024 + 1)]),
        ("control", "key", vec![json!(""), json!("tidegate")], vec![json!("a\u{0}"), json!("k".repeat(129))]),
        (
            "backend",
            "secret_header",
            vec![json!("X-Secret")],
            vec![json!(""), json!("a b"), json!("Host"), json!("tidegate-user")],
        ),
    ];
    for (section, name, good, bad) in good_and_bad {
        for value in good {
            assert_eq!(errors(json!({ section: { name: value } })), [""; 0], "{section}.{name} {value}");
        }
        for value in bad {
            let expected = [format!("{section}.{name}")];
            assert_eq!(errors(json!({ section: { name: value } })), expected, "{section}.{name} {value}");
        }
    }
    let lists = [
        ("admission", "origins", json!("https://*.a.example"), json!("a.example")),
        ("attempts", "exempt", json!("10.0.0.0/8"), json!("10.0.0.0/33")),
        ("handlers", "select", json!("$request.body.handler"), json!("$request.header.x")),
        ("handlers", "select", json!("$request.body.handler"), json!("$nope")),
        ("handlers", "allowed", json!("join"), json!("$connect")),
        ("handlers", "allowed", json!("join"), json!("tidegate.x")),
        ("handlers", "allowed", json!("join"), json!("")),
        ("backend", "secrets", json!(LONG), json!("short")),
        ("backend", "secrets", json!(LONG), json!(format!("{LONG} "))),
    ];
    for (section, name, good, bad) in lists {
        assert_eq!(
            errors(json!({ section: { name: [good, bad] } })),
            [format!("{section}.{name}[1]")],
            "{bad}"
        );
    }
    for (key, path) in [
        (json!({ "user": "a", "sha256": hash }), None),
        (json!({ "user": "", "sha256": hash }), Some("user")),
        (json!({ "user": "a", "sha256": hash.to_uppercase() }), Some("sha256")),
        (json!({ "user": "a", "sha256": &hash[1..] }), Some("sha256")),
    ] {
        let found = errors(json!({ "admission": { "checks": ["api_key"], "api_keys": [key] } }));
        assert_eq!(
            found,
            path.map(|path| format!("admission.api_keys[0].{path}")).into_iter().collect::<Vec<_>>()
        );
    }
    let key = json!({ "user": "a", "sha256": hash });
    assert_eq!(errors(json!({ "admission": { "api_keys": [key, key] } })), ["admission.api_keys[1].sha256"]);
    assert_eq!(errors(json!({ "messages": { "burst": 5 } })), ["messages.burst"]);
    assert_eq!(errors(json!({ "messages": { "rate": 5, "burst": 0.5 } })), ["messages.burst"]);
    assert_eq!(errors(json!({ "backend": { "sign": true } })), ["backend.sign"]);
    let mut not_a_number = Policy::default();
    not_a_number.messages.rate = f64::NAN;
    assert!(not_a_number.problems().iter().any(|problem| problem.path == "messages.rate"));
}

#[test]
fn checks_need_their_section() {
    // S0-96
    assert_eq!(errors(json!({ "admission": { "checks": ["token", "jwt"] } })), ["admission.checks[1]"]);
    assert_eq!(errors(json!({ "admission": { "checks": ["jwt"] }, "jwt": {} })), ["admission.checks[0]"]);
    assert_eq!(errors(json!({ "admission": { "checks": ["api_key"] } })), ["admission.checks[0]"]);
    assert_eq!(errors(json!({ "admission": { "checks": ["token", "token"] } })), ["admission.checks[1]"]);
}

#[test]
fn keys_have_one_source_and_algorithms_that_fit_it() {
    // S3-10
    let check = |key: Value, paths: &[&str]| {
        let paths: Vec<String> = paths.iter().map(|path| format!("jwt.keys[0]{path}")).collect();
        assert_eq!(errors(json!({ "jwt": { "keys": [key] } })), paths, "{key}");
    };
    check(json!({ "secret": LONG, "algorithms": ["HS256", "HS512"] }), &[]);
    check(json!({ "jwks_url": "https://a.example/jwks", "algorithms": ["RS256", "EdDSA"] }), &[]);
    check(json!({ "jwks_file": "/etc/jwks", "algorithms": ["ES256"] }), &[]);
    check(json!({ "algorithms": ["RS256"] }), &[""]);
    check(json!({ "secret": LONG, "secret_file": "/a", "algorithms": ["HS256"] }), &[""]);
    check(json!({ "secret": LONG, "algorithms": [] }), &[".algorithms"]);
    check(json!({ "secret": LONG, "algorithms": ["HS256", "RS256"] }), &[".algorithms[1]"]);
    check(json!({ "jwks_file": "/a", "algorithms": ["HS256"] }), &[".algorithms[0]"]);
    check(json!({ "secret": LONG, "algorithms": ["none"] }), &[".algorithms[0]"]);
    check(json!({ "secret": "short", "algorithms": ["HS256"] }), &[".secret"]);
    check(json!({ "secret": "", "algorithms": ["HS256"] }), &[".secret"]);
    check(json!({ "secret_file": "", "algorithms": ["HS256"] }), &[".secret_file"]);
    for url in ["ftp://a/", "/jwks", "https://u:p@a.example/", "https://", ""] {
        check(json!({ "jwks_url": url, "algorithms": ["RS256"] }), &[".jwks_url"]);
    }
    assert_eq!(errors(json!({ "jwt": { "leeway": 301 } })), ["jwt.leeway"]);
    assert_eq!(errors(json!({ "jwt": { "claims": { "user": "" } } })), ["jwt.claims.user"]);
    assert_eq!(errors(json!({ "jwt": { "parameter": "" } })), ["jwt.parameter"]);
    assert_eq!(errors(json!({ "jwt": { "cookie": "a=b" } })), ["jwt.cookie"]);
}

#[test]
fn rules_of_channels_are_checked_to_the_last_term() {
    // S0-65, S0-66, S0-96
    let check = |rule: Value, path: &str| {
        let found = errors(json!({ "channels": { "rules": [{ "match": "a" }, rule] } }));
        assert_eq!(found, [format!("channels.rules[1].{path}")], "{rule}");
    };
    check(json!({ "match": "a" }), "match");
    check(json!({ "match": "b.c" }), "match");
    check(json!({ "match": "b", "join": { "any": [["role:a", "nobody"]] } }), "join.any[0][1]");
    check(json!({ "match": "b", "publish": { "ask": "b.example" } }), "publish.ask");
    check(
        json!({ "match": "b", "presence": { "ask": "https://b.example/", "cache": 86_401 } }),
        "presence.cache",
    );
    for (count, age, path) in [
        (0, 1, "history.count"),
        (10_001, 1, "history.count"),
        (1, 0, "history.age"),
        (1, 86_401, "history.age"),
    ] {
        check(json!({ "match": "b", "history": { "count": count, "age": age } }), path);
    }
    let many: Vec<Value> = (0..1001).map(|idx| json!({ "match": format!("c{idx}") })).collect();
    assert_eq!(errors(json!({ "channels": { "rules": many } })), ["channels.rules"]);
}

#[test]
fn the_token_endpoint_is_checked() {
    let check = |member: &str, value: Value, path: &str| {
        let mut endpoint = json!({ "url": "https://b.example/whoami" });
        endpoint[member] = value;
        let path = format!("connect_tokens.endpoint.{path}");
        assert_eq!(errors(json!({ "connect_tokens": { "endpoint": endpoint } })), [path]);
    };
    check("url", json!("b.example"), "url");
    check("origins", json!(["https://a.example/"]), "origins[0]");
    check("headers", json!(["x-csrftoken", "content-length"]), "headers[1]");
}

#[test]
fn what_is_dangerous_and_permitted_is_a_warning() {
    // S0-96
    let check = |mut json: Value, ids: &[&str]| {
        json["backend"] = json!({ "secrets": [LONG] });
        assert_eq!(warnings(json), ids);
    };
    check(json!({}), &[]);
    check(json!({ "channels": { "unlisted": "allow" } }), &[UNLISTED_OPEN]);
    check(json!({ "channels": { "rules": [{ "match": "user_{user}*" }] } }), &[OPEN_PREFIX]);
    check(json!({ "channels": { "rules": [{ "match": "user_{user}_*" }] } }), &[]);
    let jwt = |members: Value| {
        let mut jwt = json!({ "keys": [{ "secret": LONG, "algorithms": ["HS256"] }], "require_exp": true });
        jwt.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        jwt
    };
    check(json!({ "jwt": jwt(json!({})) }), &[]);
    check(json!({ "jwt": jwt(json!({ "require_exp": false })) }), &["jwt.no-expiry"]);
    let weak = json!({ "keys": [{ "secret": "s", "algorithms": ["HS256"] }], "allow_weak_secret": true });
    check(json!({ "jwt": jwt(weak) }), &[WEAK_SECRET]);
    let cookie = jwt(json!({ "cookie": "auth" }));
    check(json!({ "jwt": cookie, "admission": { "checks": ["jwt"] } }), &[ORIGINS_OPEN]);
    let origins = json!({ "checks": ["jwt"], "origins": ["https://a.example"] });
    check(json!({ "jwt": cookie, "admission": origins }), &[]);
}

fn with_secrets(jwt: &[&str], backend: &[&str]) -> Policy {
    let mut keys: Vec<Value> =
        jwt.iter().map(|secret| json!({ "secret": secret, "algorithms": ["HS256"] })).collect();
    // Another kind of source between them has no secret.
    keys.insert(keys.len().min(1), json!({ "jwks_file": "/a", "algorithms": ["RS256"] }));
    policy(json!({ "jwt": { "keys": keys }, "backend": { "secrets": backend } }))
}

#[test]
fn secrets_are_never_shown() {
    // S0-97
    let secret = "not-for-anyone.not-for-anyone.not";
    let debug = format!("{:?}", with_secrets(&[secret], &[secret]));
    assert!(!debug.contains("anyone") && debug.matches("****").count() == 2, "{debug}");
    let shown =
        serde_json::to_string(&with_secrets(&[secret, secret], &[secret, secret]).redacted()).unwrap();
    assert!(!shown.contains("anyone"), "{shown}");
    assert_eq!(shown.matches("\"****\"").count(), 4);
    // S0-96: nor in what is said about them.
    let secret = "not for anyone";
    let problems = with_secrets(&[secret], &[secret]).problems();
    assert!(problems.iter().filter(|problem| problem.is_error).count() >= 2);
    assert!(!format!("{problems:?}").contains("anyone"));
}

#[test]
fn redacted_secrets_that_come_back_keep_the_stored_ones() {
    // S0-97
    let check = |new: &[&str], old: &[&str], merged: &[&str]| {
        assert_eq!(with_secrets(new, &[]).merge_redacted(&with_secrets(old, &[])), with_secrets(merged, &[]));
        assert_eq!(with_secrets(&[], new).merge_redacted(&with_secrets(&[], old)), with_secrets(&[], merged));
    };
    check(&["****", "****"], &["a", "b"], &["a", "b"]);
    check(&["****", "c"], &["a", "b"], &["a", "c"]);
    check(&["c", "****"], &["a", "b"], &["c", "b"]);
    check(&["c", "****"], &["a"], &["c", "a"]);
    check(&["c", "****", "****"], &["a", "b"], &["c", "a", "b"]);
    check(&["c"], &["a", "b"], &["c"]);
    // Which of the two is meant?
    check(&["****"], &["a", "b"], &["****"]);
    check(&["****"], &[], &["****"]);
    let old = with_secrets(&[LONG], &[LONG]);
    assert_eq!(old.redacted().merge_redacted(&old), old);
    let kept: Vec<String> = with_secrets(&["****"], &["****"])
        .problems()
        .into_iter()
        .filter(|problem| problem.is_error)
        .map(|problem| problem.path)
        .collect();
    assert_eq!(kept, ["jwt.keys[0].secret", "backend.secrets[0]"]);
}
