use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::policy::{Access, ChannelRule, Channels};

fn rule(pattern: &str, join: Access) -> ChannelRule {
    ChannelRule {
        pattern: pattern.to_owned(),
        join,
        publish: Access::Deny,
        presence: Access::Deny,
        presence_events: false,
        history: None,
        envelope: false,
    }
}

fn channels(rules: impl IntoIterator<Item = ChannelRule>) -> Channels {
    Channels { rules: rules.into_iter().collect(), ..Channels::default() }
}

fn compile(patterns: &[&str]) -> Result<ChannelRules, Vec<PolicyProblem>> {
    ChannelRules::compile(&channels(patterns.iter().map(|pattern| rule(pattern, Access::Allow))))
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).expect(text)
}

fn user(id: &str) -> Identity {
    Identity { user: Some(id.into()), ..Identity::default() }
}

fn any(lists: &[&[&str]]) -> Access {
    Access::Any(lists.iter().map(|list| list.iter().map(|term| (*term).to_owned()).collect()).collect())
}

#[test]
fn names_are_matched_in_full() {
    // S0-64, D-1
    let long = "a".repeat(128);
    for good in ["a", "A-z_09", "-", &long] {
        assert!(ChannelName::parse(good).is_ok(), "{good}");
    }
    let too_long = "a".repeat(129);
    for bad in ["", "general\n", "\ngeneral", "a b", "a.b", "ä", "a*", "a\0", &too_long] {
        assert!(ChannelName::parse(bad).is_err(), "{bad:?}");
        assert!(serde_json::from_value::<ChannelName>(json!(bad)).is_err(), "{bad:?}");
    }
}

#[test]
fn the_most_specific_rule_counts() {
    // S0-65
    let rules = compile(&[
        "*",
        "user_*",
        "user_{user}",
        "user_{claim.team}",
        "user_7",
        "user_{sub}_*",
        "tenant_{claim.tenant}",
        "room_{session}",
    ])
    .unwrap();
    let mut identity = user("9");
    identity.claims.insert("tenant".to_owned(), json!(12));
    identity.claims.insert("team".to_owned(), json!("9"));
    let check = |text: &str, pattern: &str| {
        assert_eq!(rules.rule(&name(text), &identity).map(|rule| &*rule.pattern), Some(pattern), "{text}");
    };
    check("user_7", "user_7");
    // Both placeholders have the same value: the smaller text counts.
    check("user_9", "user_{claim.team}");
    check("user_8", "user_*");
    check("user_9_x", "user_{sub}_*");
    check("user_8_x", "user_*");
    check("tenant_12", "tenant_{claim.tenant}");
    check("tenant_13", "*");
    // No session: the pattern fits nothing.
    check("room_1", "*");
}

#[test]
fn values_that_are_no_part_of_a_name_fit_nothing() {
    // S0-65
    let rules = compile(&["user_{user}", "x{user}y", "c_{claim.list}*"]).unwrap();
    for id in ["", "a.b", "a*", "a\n", "ä"] {
        for text in ["user_", "user_a", "xy", "user_a-b"] {
            assert!(rules.rule(&name(text), &user(id)).is_none(), "{id:?} {text}");
        }
    }
    let mut identity = user("1");
    identity.claims.insert("list".to_owned(), json!(["a"]));
    assert!(rules.rule(&name("c_a"), &identity).is_none());
    assert!(rules.rule(&name("c_a"), &Identity::default()).is_none());
    assert!(rules.rule(&name("user_1"), &Identity::default()).is_none());
    assert!(rules.rule(&name("user_1"), &identity).is_some());
}

#[test]
fn patterns_that_cannot_be_are_problems() {
    // S0-65: a tie, also one under another spelling.
    for (patterns, path) in [
        (&["a", "a"][..], "channels.rules[1].match"),
        (&["user_{user}", "b", "user_{sub}"], "channels.rules[2].match"),
        (&["user_{user}*", "user_{claim.sub}*"], "channels.rules[1].match"),
        (&[""], "channels.rules[0].match"),
        (&["a*b"], "channels.rules[0].match"),
        (&["a**"], "channels.rules[0].match"),
        (&["a.b"], "channels.rules[0].match"),
        (&["{user"], "channels.rules[0].match"),
        (&["{nobody}"], "channels.rules[0].match"),
        (&["{claim.}"], "channels.rules[0].match"),
        (&["a\n"], "channels.rules[0].match"),
        (&["user}"], "channels.rules[0].match"),
    ] {
        let problems = compile(patterns).unwrap_err();
        assert_eq!(problems.len(), 1, "{patterns:?}");
        assert_eq!(problems[0].path, path, "{patterns:?}");
        assert_eq!(problems[0].id, "config.invalid-value");
    }
    assert!(compile(&["a", "a*", "{user}", "{user}*", "{session}", "*"]).is_ok());
    assert!(compile(&[&format!("{{user}}{}", "a".repeat(128))]).is_err());
    let mut bad_default = channels([]);
    bad_default.default = "a b".to_owned();
    bad_default.default_by_domain.insert("d.example".to_owned(), "c\n".to_owned());
    let paths: Vec<_> =
        ChannelRules::compile(&bad_default).unwrap_err().into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["channels.default", "channels.default_by_domain.d.example"]);
}

#[test]
fn unknown_words_are_problems_and_not_permits() {
    // S0-66
    for term in
        ["staff", "roles:staff", "role:", "user:", "perm:", "claim:a", "claim:=x", "claim:a=", "", ":a"]
    {
        let policy = channels([rule("a", any(&[&["role:x"], &["role:x", term]]))]);
        let problems = ChannelRules::compile(&policy).unwrap_err();
        assert_eq!(problems.len(), 1, "{term}");
        assert_eq!(problems[0].path, "channels.rules[0].join.any[1][1]", "{term}");
    }
}

#[test]
fn access_is_any_of_all() {
    // S0-66
    let mut identity = user("7");
    identity.roles = vec!["staff".to_owned()];
    identity.claims.insert("perms".to_owned(), json!(["reports.view", "reports.export"]));
    identity.claims.insert("plan".to_owned(), json!("gold"));
    let nobody = Identity::default();
    for (access, admits_user, admits_nobody) in [
        (Access::Deny, false, false),
        (Access::Allow, true, true),
        (Access::Authenticated, true, false),
        (any(&[]), false, false),
        (any(&[&[]]), false, false),
        (any(&[&[], &["role:staff"]]), true, false),
        (any(&[&["role:admin"], &["perm:reports.view", "perm:reports.export"]]), true, false),
        (any(&[&["perm:reports.view", "perm:reports.delete"]]), false, false),
        (any(&[&["user:7"]]), true, false),
        (any(&[&["user:8"]]), false, false),
        (any(&[&["claim:plan=gold"]]), true, false),
        (any(&[&["claim:plan=Gold"]]), false, false),
        (any(&[&["claim:sub=7"]]), true, false),
    ] {
        let rules = ChannelRules::compile(&channels([rule("a", access.clone())])).unwrap();
        let joins = |identity| rules.decide(&name("a"), identity, Right::Join) == Decision::Allow;
        assert_eq!((joins(&identity), joins(&nobody)), (admits_user, admits_nobody), "{access:?}");
    }
}

#[test]
fn rights_are_separate() {
    // S0-68, S0-69
    let mut policy = channels([rule("a", Access::Allow)]);
    policy.rules[0].publish = Access::Authenticated;
    policy.rules[0].presence = Access::Ask { url: "https://b.example/may".to_owned(), cache: 30 };
    let rules = ChannelRules::compile(&policy).unwrap();
    let nobody = Identity::default();
    let decide = |right| rules.decide(&name("a"), &nobody, right);
    assert_eq!(decide(Right::Join), Decision::Allow);
    assert_eq!(
        decide(Right::Publish),
        Decision::Deny { diagnosis: Diagnosis::CHANNEL_FORBIDDEN, rule: Some("a".into()) }
    );
    assert_eq!(
        decide(Right::Presence),
        Decision::Ask { url: "https://b.example/may".into(), cache_s: 30, rule: "a".into() }
    );
}

#[test]
fn unlisted_channels_are_denied_unless_opened_for_joins() {
    // S0-67
    let unlisted = Decision::Deny { diagnosis: Diagnosis::CHANNEL_UNLISTED, rule: None };
    let mut policy = channels([rule("general", Access::Allow)]);
    let identity = user("7");
    let rules = ChannelRules::compile(&policy).unwrap();
    assert_eq!(rules.decide(&name("genral"), &identity, Right::Join), unlisted);
    assert_eq!(rules.nearest("genral"), Some("general"));
    policy.unlisted = Unlisted::Allow;
    let rules = ChannelRules::compile(&policy).unwrap();
    assert_eq!(rules.decide(&name("genral"), &identity, Right::Join), Decision::Allow);
    assert_eq!(rules.decide(&name("genral"), &identity, Right::Publish), unlisted);
    assert_eq!(rules.decide(&name("genral"), &identity, Right::Presence), unlisted);
}

#[test]
fn a_tokens_list_restricts_joins_and_grants_nothing() {
    let policy = channels([
        rule("a", Access::Allow),
        rule("b_*", Access::Allow),
        rule("c", Access::Ask { url: "https://b.example/".to_owned(), cache: 0 }),
        rule("d", Access::Deny),
    ]);
    let rules = ChannelRules::compile(&policy).unwrap();
    let mut identity = user("7");
    identity.channels = Some(vec!["b_1*".to_owned(), "d".to_owned(), "e".to_owned()]);
    let check = |text: &str, expected: Result<(), (Diagnosis, Option<&str>)>| {
        let expected = match expected {
            Ok(()) => Decision::Allow,
            Err((diagnosis, rule)) => Decision::Deny { diagnosis, rule: rule.map(Arc::from) },
        };
        assert_eq!(rules.decide(&name(text), &identity, Right::Join), expected, "{text}");
    };
    check("a", Err((Diagnosis::CHANNEL_FORBIDDEN, Some("a"))));
    check("b_12", Ok(()));
    check("b_2", Err((Diagnosis::CHANNEL_FORBIDDEN, Some("b_*"))));
    // The backend is not asked about what the token excludes.
    check("c", Err((Diagnosis::CHANNEL_FORBIDDEN, Some("c"))));
    check("d", Err((Diagnosis::CHANNEL_FORBIDDEN, Some("d"))));
    check("e", Err((Diagnosis::CHANNEL_UNLISTED, None)));
}

#[test]
fn domains_have_their_own_default() {
    // S0-71
    let mut policy = channels([]);
    policy.default = "lobby".to_owned();
    policy.default_by_domain.insert("WS.example".to_owned(), "vip".to_owned());
    policy.default_by_domain.insert("quiet.example".to_owned(), String::new());
    let rules = ChannelRules::compile(&policy).unwrap();
    let check = |domain, channel: Option<&str>| {
        assert_eq!(rules.default_channel(domain).map(ChannelName::as_str), channel, "{domain:?}");
    };
    check(None, Some("lobby"));
    check(Some("other.example"), Some("lobby"));
    check(Some("ws.Example"), Some("vip"));
    check(Some("quiet.example"), None);
}

// The model: all rules are scanned; placeholders are replaced in the text; all choices are written out.

fn model_filled(pattern: &str, identity: &Identity) -> Option<String> {
    let mut filled = String::new();
    let mut rest = pattern;
    while let Some(open) = rest.find('{') {
        filled.push_str(&rest[..open]);
        let close = rest.find('}').unwrap();
        let value = match &rest[open + 1..close] {
            "user" | "sub" | "claim.sub" => identity.user.as_deref().map(str::to_owned),
            "session" => identity.session.as_deref().map(str::to_owned),
            claim => identity.claim(claim.strip_prefix("claim.").unwrap()),
        }?;
        if ChannelName::parse(&value).is_err() && value.len() <= MAX_NAME_LENGTH {
            return None;
        }
        filled.push_str(&value);
        rest = &rest[close + 1..];
    }
    filled.push_str(rest);
    Some(filled)
}

fn model_rule(rules: &[ChannelRule], name: &str, identity: &Identity) -> Option<usize> {
    let mut best: Option<(usize, _)> = None;
    for (idx, rule) in rules.iter().enumerate() {
        let Some(filled) = model_filled(&rule.pattern, identity) else { continue };
        let (is_prefix, length) = match filled.strip_suffix('*') {
            Some(prefix) if name.starts_with(prefix) => (true, prefix.len()),
            None if name == filled => (false, filled.len()),
            _ => continue,
        };
        let has_placeholders = rule.pattern.contains('{');
        let mut outside = String::new();
        let mut depth = 0;
        for c in rule.pattern.trim_end_matches('*').chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                c if depth == 0 => outside.push(c),
                _ => {}
            }
        }
        let canonical = rule.pattern.replace("{sub}", "{user}").replace("{claim.sub}", "{user}");
        // Smaller is better.
        let score = (
            is_prefix,
            if is_prefix { usize::MAX - length } else { 0 },
            has_placeholders,
            usize::MAX - outside.len(),
            rule.pattern.matches('{').count(),
            canonical,
        );
        if best.as_ref().is_none_or(|(_, other)| score < *other) {
            best = Some((idx, score));
        }
    }
    best.map(|(idx, _)| idx)
}

fn model_admits(access: &Access, identity: &Identity) -> bool {
    let Access::Any(lists) = access else {
        return match access {
            Access::Allow => true,
            Access::Authenticated => identity.user.is_some(),
            _ => false,
        };
    };
    let holds = |term: &String| {
        let permissions = |claim: &str| match identity.claims.get(claim) {
            Some(serde_json::Value::Array(items)) => {
                items.iter().filter_map(|item| item.as_str()).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        let mut held: Vec<String> = identity.roles.iter().map(|role| format!("role:{role}")).collect();
        held.extend(permissions("perms").iter().map(|permission| format!("perm:{permission}")));
        held.extend(identity.user.iter().map(|user| format!("user:{user}")));
        held.extend(identity.user.iter().map(|user| format!("claim:sub={user}")));
        for claim in identity.claims.keys() {
            held.extend(identity.claim(claim).map(|value| format!("claim:{claim}={value}")));
        }
        held.contains(term)
    };
    let mut admitted = false;
    for list in lists {
        admitted |= !list.is_empty() && list.iter().all(holds);
    }
    admitted
}

fn model_decide(policy: &Channels, name: &str, identity: &Identity, right: Right) -> Decision {
    let forbidden = |rule: Option<&ChannelRule>| Decision::Deny {
        diagnosis: Diagnosis::CHANNEL_FORBIDDEN,
        rule: rule.map(|rule| rule.pattern.as_str().into()),
    };
    let is_restricted = right == Right::Join
        && identity.channels.as_ref().is_some_and(|list| {
            !list.iter().any(|entry| {
                *entry == name || (entry.ends_with('*') && name.starts_with(entry.trim_end_matches('*')))
            })
        });
    let Some(idx) = model_rule(&policy.rules, name, identity) else {
        return match (policy.unlisted, right) {
            (Unlisted::Allow, Right::Join) if is_restricted => forbidden(None),
            (Unlisted::Allow, Right::Join) => Decision::Allow,
            _ => Decision::Deny { diagnosis: Diagnosis::CHANNEL_UNLISTED, rule: None },
        };
    };
    let rule = &policy.rules[idx];
    let access = match right {
        Right::Join => &rule.join,
        Right::Publish => &rule.publish,
        Right::Presence => &rule.presence,
    };
    match access {
        _ if is_restricted => forbidden(Some(rule)),
        Access::Ask { url, cache } => {
            Decision::Ask { url: url.as_str().into(), cache_s: *cache, rule: rule.pattern.as_str().into() }
        }
        access if model_admits(access, identity) => Decision::Allow,
        _ => forbidden(Some(rule)),
    }
}

// Small alphabets, so that patterns, values and names meet.

fn pattern_strategy() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        3 => "[ab_]{1,2}",
        2 => prop::sample::select(vec![
            "{user}", "{sub}", "{claim.sub}", "{session}", "{claim.a}", "{claim.b}",
        ])
        .prop_map(str::to_owned),
    ];
    (prop::collection::vec(segment, 0..4), any_bool())
        .prop_map(|(segments, is_prefix)| segments.concat() + if is_prefix { "*" } else { "" })
        .prop_filter("empty", |pattern| !pattern.is_empty())
}

fn any_bool() -> impl Strategy<Value = bool> {
    proptest::bool::ANY
}

fn access_strategy() -> impl Strategy<Value = Access> {
    let term = prop::sample::select(vec![
        "role:a",
        "role:b",
        "perm:a",
        "perm:b",
        "user:a",
        "user:b",
        "claim:a=a",
        "claim:b=1",
        "claim:sub=a",
    ])
    .prop_map(str::to_owned);
    prop_oneof![
        Just(Access::Deny),
        Just(Access::Allow),
        Just(Access::Authenticated),
        (0_u64..3).prop_map(|cache| Access::Ask { url: "https://b.example/".to_owned(), cache }),
        prop::collection::vec(prop::collection::vec(term, 0..3), 0..3).prop_map(Access::Any),
    ]
}

fn rule_strategy() -> impl Strategy<Value = ChannelRule> {
    (pattern_strategy(), access_strategy(), access_strategy(), access_strategy()).prop_map(
        |(pattern, join, publish, presence)| ChannelRule { publish, presence, ..rule(&pattern, join) },
    )
}

fn identity_strategy() -> impl Strategy<Value = Identity> {
    let value = || prop::option::of(prop::sample::select(vec!["a", "b", "ab", "_a", "a.b", ""]));
    let claim = prop::sample::select(vec![json!("a"), json!("b"), json!(1), json!(["a"]), json!(1.5)]);
    (
        (value(), value()),
        prop::collection::vec(prop::sample::select(vec!["a", "b"]), 0..2),
        prop::collection::btree_map(prop::sample::select(vec!["a", "b"]), claim, 0..3),
        prop::option::of(prop::collection::vec(prop::sample::select(vec!["a", "b"]), 0..3)),
        prop::option::of(prop::collection::vec("[ab_]{0,2}\\*?", 0..3)),
    )
        .prop_map(|((user, session), roles, claims, perms, channels)| {
            let mut claims: BTreeMap<String, serde_json::Value> =
                claims.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            claims.extend(perms.map(|perms| ("perms".to_owned(), json!(perms))));
            Identity {
                user: user.map(Arc::from),
                session: session.map(Arc::from),
                roles: roles.into_iter().map(str::to_owned).collect(),
                claims,
                channels,
                ..Identity::default()
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    // S0-65, S0-66, S0-67, S0-68
    #[test]
    fn rules_agree_with_a_plain_scan(
        rules in prop::collection::vec(rule_strategy(), 0..10),
        is_open in any_bool(),
        identity in identity_strategy(),
        names in prop::collection::vec("[ab_]{1,5}|1|1_a", 8),
    ) {
        let mut policy = channels([]);
        policy.unlisted = if is_open { Unlisted::Allow } else { Unlisted::Deny };
        let mut seen = std::collections::HashSet::new();
        let canonical =
            |rule: &ChannelRule| rule.pattern.replace("{sub}", "{user}").replace("{claim.sub}", "{user}");
        policy.rules = rules.iter().filter(|rule| seen.insert(canonical(rule))).cloned().collect();
        let is_tied = policy.rules.len() < rules.len();
        prop_assert_eq!(ChannelRules::compile(&channels(rules)).is_err(), is_tied);
        let compiled = ChannelRules::compile(&policy).unwrap();
        for text in &names {
            let found = compiled.rule(&name(text), &identity).map(|rule| rule.pattern.to_string());
            let expected = model_rule(&policy.rules, text, &identity);
            prop_assert_eq!(found, expected.map(|idx| policy.rules[idx].pattern.clone()));
            for right in [Right::Join, Right::Publish, Right::Presence] {
                prop_assert_eq!(
                    compiled.decide(&name(text), &identity, right),
                    model_decide(&policy, text, &identity, right)
                );
            }
        }
    }

    #[test]
    fn no_pattern_panics(pattern in ".{0,20}", text in "[a-z_]{1,9}") {
        if let Ok(rules) = compile(&[&pattern]) {
            rules.rule(&name(&text), &user("a"));
        }
    }
}
