//! Rules of the reference, one by one, and a model that is too plain to be wrong.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::wildcard::tests::naive;

const ARN: &str = "arn:aws:execute-api:us-east-1:123456789012:abc123def4/prod/$connect";
const INVOKE: &str = "execute-api:Invoke";

fn keys() -> ConditionKeys {
    ConditionKeys::default()
        .with("aws:SourceIp", "203.0.113.7")
        .with("aws:UserAgent", "Example/1.0")
        .with("aws:CurrentTime", "2025-01-15T12:00:00Z")
        .with("aws:EpochTime", "1736942400")
        .with("aws:SecureTransport", "true")
}

fn decide(document: &Value) -> Decision {
    let keys = keys();
    let policy = PolicyDocument::parse(document).unwrap();
    policy.decide(&Access { action: INVOKE, resource: ARN, keys: &keys })
}

fn statement(effect: &str, action: Value, resource: Value) -> Value {
    json!({ "Effect": effect, "Action": action, "Resource": resource })
}

fn allows(resource: &str) -> bool {
    let statement = statement("Allow", json!(INVOKE), json!(resource));
    decide(&json!({ "Version": "2012-10-17", "Statement": [statement] })) == Decision::Allow
}

#[test]
fn resources_are_patterns() {
    // AG-18
    for resource in [
        ARN,
        "*",
        "arn:aws:execute-api:*:*:*",
        "arn:aws:execute-api:us-east-1:123456789012:abc123def4/*",
        "arn:aws:execute-api:us-east-1:123456789012:abc123def4/prod/*",
        "arn:aws:execute-api:us-east-1:123456789012:abc123def4/*/$connect",
        "arn:aws:execute-api:us-east-1:123456789012:abc123def?/prod/$connect",
    ] {
        assert!(allows(resource), "{resource}");
    }
    for resource in [
        // Built for REST APIs: method and path behind the stage.
        "arn:aws:execute-api:us-east-1:123456789012:abc123def4/prod/*/*",
        "arn:aws:execute-api:us-east-1:123456789012:abc123def4/prod/GET/$connect",
        "arn:aws:execute-api:us-east-1:123456789012:abc123def4/dev/$connect",
        "arn:aws:execute-api:us-east-1:123456789012:ABC123DEF4/prod/$connect",
        "arn:aws:execute-api:us-east-1:123456789012:abc123def4/prod/$disconnect",
        "",
    ] {
        assert!(!allows(resource), "{resource}");
    }
}

#[test]
fn a_deny_wins_and_what_nothing_allows_is_denied() {
    let (allow, deny) =
        (statement("Allow", json!("*"), json!("*")), statement("Deny", json!("execute-api:*"), json!([ARN])));
    let list = |list: Vec<&Value>| json!({ "Statement": list });
    assert_eq!(decide(&list(vec![&allow])), Decision::Allow);
    assert_eq!(decide(&list(vec![&allow, &deny])), Decision::ExplicitDeny { statement: 1 });
    assert_eq!(decide(&list(vec![&deny, &allow])), Decision::ExplicitDeny { statement: 0 });
    assert_eq!(decide(&list(vec![])), Decision::NoAllow { other_resources: Vec::new() });
    // A single statement needs no list; a deny of something else denies nothing.
    assert_eq!(decide(&json!({ "Statement": allow })), Decision::Allow);
    let other = statement("Deny", json!(INVOKE), json!("arn:aws:s3:::*"));
    assert_eq!(decide(&list(vec![&other, &allow])), Decision::Allow);
}

#[test]
fn what_would_have_allowed_another_resource_is_named() {
    let rest = "arn:aws:execute-api:us-east-1:123456789012:abc123def4/prod/*/*";
    let allow = statement("Allow", json!(INVOKE), json!([rest, "b", "c", "d"]));
    let other_action = statement("Allow", json!("execute-api:ManageConnections"), json!(["x"]));
    let decision = decide(&json!({ "Statement": [other_action, allow] }));
    let expected = [rest, "b", "c"].map(str::to_owned).to_vec();
    assert_eq!(decision, Decision::NoAllow { other_resources: expected });
}

#[test]
fn actions_have_no_case_and_negations() {
    for (action, is_allowed) in [
        (json!({ "Action": "EXECUTE-API:invoke" }), true),
        (json!({ "Action": ["s3:*", "execute-api:In*"] }), true),
        (json!({ "Action": "execute-api:Invok" }), false),
        (json!({ "NotAction": "execute-api:ManageConnections" }), true),
        (json!({ "NotAction": ["execute-api:*"] }), false),
    ] {
        let mut statement = json!({ "Effect": "Allow", "Resource": "*" });
        statement.as_object_mut().unwrap().extend(action.as_object().unwrap().clone());
        assert_eq!(decide(&json!({ "Statement": statement })) == Decision::Allow, is_allowed, "{action}");
    }
    let not = |list: Value| json!({ "Statement": { "Effect": "Allow", "Action": "*", "NotResource": list } });
    assert_eq!(decide(&not(json!(["arn:other"]))), Decision::Allow);
    assert_ne!(decide(&not(json!("*"))), Decision::Allow);
}

#[test]
fn conditions_have_their_operators() {
    for (condition, holds) in [
        (json!({ "IpAddress": { "aws:SourceIp": "203.0.113.0/24" } }), true),
        (json!({ "IpAddress": { "AWS:sourceip": ["10.0.0.0/8", "203.0.113.7"] } }), true),
        (json!({ "IpAddress": { "aws:SourceIp": "10.0.0.0/8" } }), false),
        (json!({ "NotIpAddress": { "aws:SourceIp": ["10.0.0.0/8", "203.0.113.0/24"] } }), false),
        (json!({ "NotIpAddress": { "aws:SourceIp": "10.0.0.0/8" } }), true),
        (json!({ "StringEquals": { "aws:UserAgent": "Example/1.0" } }), true),
        (json!({ "StringEquals": { "aws:UserAgent": "example/1.0" } }), false),
        (json!({ "StringEqualsIgnoreCase": { "aws:UserAgent": "example/1.0" } }), true),
        (json!({ "StringNotEqualsIgnoreCase": { "aws:UserAgent": "example/1.0" } }), false),
        (json!({ "StringLike": { "aws:UserAgent": ["x", "Exam*/?.0"] } }), true),
        (json!({ "StringNotLike": { "aws:UserAgent": "Exam*" } }), false),
        (json!({ "NumericLessThan": { "aws:EpochTime": 1736942401 } }), true),
        (json!({ "NumericGreaterThanEquals": { "aws:EpochTime": "1736942400" } }), true),
        (json!({ "NumericEquals": { "aws:EpochTime": "1" } }), false),
        (json!({ "NumericNotEquals": { "aws:EpochTime": "1" } }), true),
        (json!({ "DateGreaterThan": { "aws:CurrentTime": "2025-01-15T11:59:59Z" } }), true),
        (json!({ "DateLessThan": { "aws:CurrentTime": "2025-01-15" } }), false),
        (json!({ "DateEquals": { "aws:EpochTime": "2025-01-15T12:00:00Z" } }), true),
        (json!({ "DateLessThanEquals": { "aws:CurrentTime": "1736942400" } }), true),
        (json!({ "Bool": { "aws:SecureTransport": "true" } }), true),
        (json!({ "Bool": { "aws:SecureTransport": false } }), false),
        (json!({ "Null": { "aws:Referer": "true", "aws:SourceIp": false } }), true),
        (json!({ "Null": { "aws:SourceIp": "true" } }), false),
        // A key that is not there.
        (json!({ "StringEquals": { "aws:Referer": "x" } }), false),
        (json!({ "StringNotEquals": { "aws:Referer": "x" } }), true),
        (json!({ "StringEqualsIfExists": { "aws:Referer": "x" } }), true),
        (json!({ "StringEqualsIfExists": { "aws:UserAgent": "x" } }), false),
        (json!({ "ForAllValues:StringEquals": { "aws:Referer": "x" } }), true),
        (json!({ "ForAnyValue:StringEquals": { "aws:Referer": "x" } }), false),
        (json!({ "ForAnyValue:StringLike": { "aws:UserAgent": ["x", "E*"] } }), true),
        (json!({ "ForAnyValue:StringNotLike": { "aws:UserAgent": ["x", "E*"] } }), false),
        // All of them.
        (json!({ "Bool": { "aws:SecureTransport": true }, "StringLike": { "aws:UserAgent": "x" } }), false),
        (json!({}), true),
    ] {
        let document = json!({ "Statement": {
            "Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition,
        } });
        assert_eq!(decide(&document) == Decision::Allow, holds, "{condition}");
    }
}

#[test]
fn stars_do_not_reach_over_the_colons_of_an_arn() {
    let keys = ConditionKeys::default().with("aws:PrincipalArn", "arn:aws:iam::123456789012:user/a:b");
    for (pattern, holds) in [
        ("arn:aws:iam::*:user/*", true),
        ("arn:*:iam::123456789012:user/a:?", true),
        ("arn:*:user/a:b", false),
        ("*", false),
    ] {
        for operator in ["ArnLike", "ArnEquals"] {
            let condition = json!({ operator: { "aws:PrincipalArn": pattern } });
            let document = json!({ "Statement": { "Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition } });
            let policy = PolicyDocument::parse(&document).unwrap();
            let decision = policy.decide(&Access { action: INVOKE, resource: ARN, keys: &keys });
            assert_eq!(decision == Decision::Allow, holds, "{pattern}");
        }
    }
}

#[test]
fn several_values_are_asked_for_all_or_any() {
    let keys = ConditionKeys::default().with("x:tags", "a").with("x:tags", "b");
    for (operator, holds) in [
        ("ForAllValues:StringEquals", false),
        ("ForAnyValue:StringEquals", true),
        ("ForAllValues:StringNotEquals", false),
        ("ForAnyValue:StringNotEquals", true),
    ] {
        let clauses = condition::parse(&json!({ operator: { "x:tags": ["a", "c"] } })).unwrap();
        assert_eq!(clauses[0].holds(&keys), holds, "{operator}");
    }
}

#[test]
fn what_is_not_understood_is_no_policy() {
    let with = |name: &str, value: Value| {
        let mut statement = statement("Allow", json!("*"), json!("*"));
        statement[name] = value;
        json!({ "Statement": [statement] })
    };
    let condition = |condition: Value| with("Condition", condition);
    for (document, path) in [
        (json!(null), "policyDocument"),
        (json!([]), "policyDocument"),
        (json!({}), "Statement"),
        (json!({ "Statement": "x" }), "Statement"),
        (json!({ "Statement": [1] }), "Statement[0]"),
        (json!({ "Version": "2020-01-01", "Statement": [] }), "Version"),
        (json!({ "Statement": [], "statement": [] }), "statement"),
        (json!({ "Statement": [], "a secret?": 1 }), "policyDocument"),
        (with("Effect", json!("allow")), "Statement[0].Effect"),
        (with("Principal", json!("*")), "Statement[0].Principal"),
        (with("NotAction", json!("*")), "Statement[0].Action"),
        (with("Action", json!([])), "Statement[0].Action"),
        (with("Resource", json!(["*", 1])), "Statement[0].Resource"),
        (with("Resource", json!("x".repeat(513))), "Statement[0].Resource"),
        (with("Resource", json!("arn:${aws:username}")), "Statement[0].Resource"),
        (json!({ "Statement": { "Effect": "Allow", "Action": "*" } }), "Statement.Resource"),
        (condition(json!([])), "Statement[0].Condition"),
        (condition(json!({ "StringSame": {} })), "Statement[0].Condition"),
        (condition(json!({ "ForSome:StringLike": {} })), "Statement[0].Condition"),
        (condition(json!({ "NullIfExists": {} })), "Statement[0].Condition"),
        (condition(json!({ "StringLike": "x" })), "Statement[0].Condition"),
        (condition(json!({ "StringLike": { "aws:Referer": [] } })), "Statement[0].Condition"),
        (condition(json!({ "StringLike": { "aws:Referer": {} } })), "Statement[0].Condition"),
        (condition(json!({ "StringLike": { "aws:Referer": "${x}" } })), "Statement[0].Condition"),
        (condition(json!({ "IpAddress": { "aws:SourceIp": "x" } })), "Statement[0].Condition"),
        (condition(json!({ "DateEquals": { "aws:CurrentTime": "x" } })), "Statement[0].Condition"),
        (condition(json!({ "NumericEquals": { "aws:EpochTime": "NaN" } })), "Statement[0].Condition"),
        (condition(json!({ "Bool": { "aws:SecureTransport": "yes" } })), "Statement[0].Condition"),
    ] {
        let error = PolicyDocument::parse(&document).expect_err(&document.to_string());
        assert_eq!(error.path, path, "{document}");
    }
    let many: Vec<Value> = (0..=MAX_STATEMENTS).map(|_| statement("Deny", json!("*"), json!("*"))).collect();
    assert!(PolicyDocument::parse(&json!({ "Statement": many })).is_err());
}

/// A statement as the model sees it.
#[derive(Debug, Clone)]
struct Plain {
    is_allow: bool,
    not_action: bool,
    actions: Vec<String>,
    not_resource: bool,
    resources: Vec<String>,
    /// `StringLike` or `StringNotLike` of one key.
    condition: Option<(bool, Vec<String>)>,
}

impl Plain {
    fn document(&self) -> Value {
        let mut statement = json!({ "Effect": if self.is_allow { "Allow" } else { "Deny" } });
        statement[if self.not_action { "NotAction" } else { "Action" }] = json!(self.actions);
        statement[if self.not_resource { "NotResource" } else { "Resource" }] = json!(self.resources);
        if let Some((is_negated, values)) = &self.condition {
            let operator = if *is_negated { "StringNotLike" } else { "StringLike" };
            statement["Condition"] = json!({ operator: { "x:key": values } });
        }
        statement
    }

    fn applies(&self, action: &str, resource: &str, key: Option<&str>) -> bool {
        let any = |patterns: &[String], text: &str| {
            patterns.iter().any(|pattern| naive(pattern.as_bytes(), text.as_bytes()))
        };
        let condition = match (&self.condition, key) {
            (None, _) => true,
            (Some((is_negated, _)), None) => *is_negated,
            (Some((is_negated, values)), Some(key)) => any(values, key) != *is_negated,
        };
        any(&self.actions, action) != self.not_action
            && any(&self.resources, resource) != self.not_resource
            && condition
    }
}

fn plain() -> impl Strategy<Value = Plain> {
    let patterns = || prop::collection::vec("[ab*?]{1,4}", 1..3);
    let condition = prop::option::of((any::<bool>(), patterns()));
    (any::<bool>(), prop::bool::weighted(0.2), patterns(), prop::bool::weighted(0.2), patterns(), condition)
        .prop_map(|(is_allow, not_action, actions, not_resource, resources, condition)| Plain {
            is_allow,
            not_action,
            actions,
            not_resource,
            resources,
            condition,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn decisions_are_those_of_the_plain_model(
        statements in prop::collection::vec(plain(), 0..5),
        action in "[ab]{1,4}",
        resource in "[ab]{1,4}",
        key in prop::option::of("[ab]{1,3}"),
    ) {
        let list: Vec<Value> = statements.iter().map(Plain::document).collect();
        let policy = PolicyDocument::parse(&json!({ "Statement": list })).unwrap();
        let keys = ConditionKeys::default().with_some("x:key", key.clone());
        let decision = policy.decide(&Access { action: &action, resource: &resource, keys: &keys });
        let applying: Vec<&Plain> =
            statements.iter().filter(|it| it.applies(&action, &resource, key.as_deref())).collect();
        match decision {
            Decision::ExplicitDeny { statement } => {
                prop_assert!(!statements[statement].is_allow);
                prop_assert!(applying.iter().any(|it| !it.is_allow));
            }
            Decision::Allow => prop_assert!(!applying.is_empty() && applying.iter().all(|it| it.is_allow)),
            Decision::NoAllow { other_resources } => {
                prop_assert!(applying.is_empty());
                let would = statements.iter().any(|it| it.is_allow
                    && Plain { resources: vec!["*".to_owned()], not_resource: false, ..it.clone() }
                        .applies(&action, &resource, key.as_deref()));
                prop_assert_eq!(!other_resources.is_empty(), would);
            }
        }
    }

    #[test]
    fn reading_never_panics(text in "[\\[\\]{}\":,a*?$EffectAllowStatementActionResource ]{0,80}") {
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            let _ = PolicyDocument::parse(&value);
        }
    }
}
