//! Questions to a journal in memory, and what they are answered.

use std::collections::BTreeMap;
use std::future::ready;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde_json::{Value, json};
use tidegate_core::journal::{Erase, OK, Retention};
use tidegate_core::port::BoxFuture;

use super::*;
use crate::check::tests::{API, START, Story};
use crate::check::{DAY, MILLI, SECOND};

/// A journal in memory.
#[derive(Debug, Default)]
struct Memory {
    entries: Vec<Entry>,
    dropped: u64,
    is_broken: bool,
}

impl Memory {
    fn matching(&self, query: &EntryQuery) -> Vec<Entry> {
        let is = |wanted: &Option<String>, own: &Option<String>| wanted.is_none() || wanted == own;
        let mut found: Vec<Entry> = self
            .entries
            .iter()
            .filter(|entry| {
                query.since.is_none_or(|since| entry.ts >= since)
                    && query.until.is_none_or(|until| entry.ts < until)
                    && (query.kinds.is_empty() || query.kinds.contains(&entry.kind))
                    && (query.outcomes.is_empty() || query.outcomes.contains(&entry.outcome))
                    && (!query.failures_only || entry.outcome != OK)
                    && is(&query.request_id, &entry.request_id)
                    && is(&query.connection_id, &entry.connection_id)
                    && is(&query.client_ref, &entry.client_ref)
                    && is(&query.user, &entry.user)
                    && is(&query.address, &entry.address)
                    && is(&query.api_id, &entry.api_id)
                    && is(&query.stage, &entry.stage)
            })
            .cloned()
            .collect();
        let surplus = found.len().saturating_sub(query.limit);
        found.split_off(surplus)
    }
}

impl JournalStore for Memory {
    fn append(&self, _: Vec<Entry>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(ready(Err(StoreError::Busy)))
    }

    fn query(&self, query: EntryQuery) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        let answer = if self.is_broken { Err(StoreError::Busy) } else { Ok(self.matching(&query)) };
        Box::pin(ready(answer))
    }

    fn count_outcomes(&self, query: EntryQuery) -> BoxFuture<'_, Result<Vec<(String, u64)>, StoreError>> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for entry in self.matching(&EntryQuery { limit: usize::MAX, ..query }) {
            *counts.entry(entry.outcome).or_default() += 1;
        }
        Box::pin(ready(Ok(counts.into_iter().collect())))
    }

    fn retain(&self, _: Retention) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(ready(Ok(0)))
    }

    fn erase(&self, _: Erase) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(ready(Ok(0)))
    }

    fn state(&self) -> BoxFuture<'_, Result<JournalState, StoreError>> {
        let time = |entry: Option<&Entry>| entry.map(|entry| entry.ts);
        Box::pin(ready(Ok(JournalState {
            entries: self.entries.len() as u64,
            oldest: time(self.entries.first()),
            newest: time(self.entries.last()),
            dropped: self.dropped,
            ..JournalState::default()
        })))
    }
}

/// A gateway with one connection and one stage that is behind.
struct Running;

impl Live for Running {
    fn connection(&self, id: &str) -> Option<LiveConnection> {
        (id == "live").then(|| LiveConnection {
            state: "open".to_owned(),
            api_id: API.to_owned(),
            stage: "prod".to_owned(),
            user: Some("ann".to_owned()),
            channels: vec!["room-1".to_owned()],
            connected_at: START,
            last_active_at: START + SECOND,
            messages_in: 3,
            messages_out: 4,
            recent: vec![
                Passed { at: START + SECOND / 2, from_client: true, size: 17 },
                Passed { at: START + SECOND, from_client: false, size: 1 },
            ],
        })
    }

    fn session(&self, session: &str) -> Vec<String> {
        if session == "s1" { vec!["live".to_owned()] } else { Vec::new() }
    }

    fn why_gone(&self, id: &str) -> Option<Diagnosis> {
        Some(if id == "ended" { Diagnosis::GONE_IDLE } else { Diagnosis::GONE_UNKNOWN_ID })
    }

    fn stages_behind(&self) -> Vec<Behind> {
        let differences = vec!["route send".to_owned()];
        vec![Behind { api_id: API.to_owned(), stage: "prod".to_owned(), differences }]
    }
}

/// The result of a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a journal in memory does not wait"),
    }
}

struct Ask {
    memory: Memory,
    options: Options,
    live: bool,
    now: u64,
}

/// A journal that reaches back far enough, and these entries.
fn journal(mut story: Story) -> Ask {
    let begin = Entry::new(START - 3 * DAY, Kind::Control, None);
    story.entries.push(begin);
    story.entries.sort_by_key(|entry| entry.ts);
    let now = story.now();
    Ask {
        memory: Memory { entries: story.entries, ..Memory::default() },
        options: Options::default(),
        live: false,
        now,
    }
}

impl Ask {
    fn ask(&self, question: &str) -> Report {
        let question = Question::parse(question).expect("a question");
        self.question(&question)
    }

    fn question(&self, question: &Question) -> Report {
        let live = self.live.then_some(&Running as &dyn Live);
        let sources = Sources { journal: &self.memory, now: self.now, live };
        let report = now(explain(question, &sources, &self.options)).expect("an answer");
        assert_fits_the_schema(&report);
        report
    }
}

fn found(report: &Report) -> Vec<(&str, Confidence)> {
    report.findings.iter().map(|finding| (finding.id.as_str(), finding.confidence)).collect()
}

/// What the published schema demands, as far as its words go that it uses.
fn assert_fits_the_schema(report: &Report) {
    // DX-61
    let schema: Value =
        serde_json::from_str(include_str!("../../../../docs/src/diagnosis-schema.json")).expect("JSON");
    let value = serde_json::to_value(report).expect("JSON");
    check_schema(&schema, &schema, &value, "report");
}

fn check_schema(root: &Value, schema: &Value, value: &Value, path: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").expect("a definition of the same file");
        return check_schema(root, &root["$defs"][name], value, path);
    }
    match schema["type"].as_str() {
        Some("object") => {
            let members = value.as_object().unwrap_or_else(|| panic!("{path}: an object"));
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                assert!(members.contains_key(name), "{path}.{name} is missing");
            }
            for (name, member) in members {
                match schema["properties"].get(name) {
                    Some(shape) => check_schema(root, shape, member, &format!("{path}.{name}")),
                    None => {
                        assert_ne!(schema["additionalProperties"], false, "{path}.{name} is not described")
                    }
                }
            }
        }
        Some("array") => {
            for item in value.as_array().unwrap_or_else(|| panic!("{path}: an array")) {
                check_schema(root, &schema["items"], item, path);
            }
        }
        Some("string") => assert!(value.is_string(), "{path}: a text"),
        Some("integer") => assert!(value.is_u64(), "{path}: a number"),
        None => {}
        Some(other) => panic!("{path}: the check does not know {other}"),
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{path}: {value}");
    }
    if !schema["const"].is_null() {
        assert_eq!(value, &schema["const"], "{path}");
    }
}

#[test]
fn the_schema_check_can_fail() {
    // DX-61
    let schema: Value =
        serde_json::from_str(include_str!("../../../../docs/src/diagnosis-schema.json")).expect("JSON");
    let report = journal(Story::default()).ask("1006");
    let good = serde_json::to_value(&report).expect("JSON");
    for (path, bad) in
        [("schema", json!("x")), ("notes", json!("x")), ("summary", json!({})), ("unheard", json!(1))]
    {
        let mut value = good.clone();
        value[path] = bad;
        let check = std::panic::catch_unwind(|| check_schema(&schema, &schema, &value, "report"));
        assert!(check.is_err(), "{path}");
    }
}

#[test]
fn an_id_gives_the_timeline_and_the_cause() {
    // DX-18
    let mut story = Story::default();
    let refused = story.refuse(1_000, "c1", "ann", Diagnosis::ROLE_INSUFFICIENT, 403);
    refused.set("role", "user").edit(|entry| entry.client_ref = Some("ref12345".to_owned()));
    story.post(2_000, "c1", Some(Diagnosis::GONE_REFUSED)).set("caller", "AKIA");
    let ask = journal(story);
    for id in ["c1", "r-c1-1000", "ref12345"] {
        let report = ask.ask(id);
        assert_eq!(
            found(&report),
            [("role.insufficient", Confidence::Proven), ("connections.gone-refused", Confidence::Proven)],
            "{id}"
        );
        assert_eq!(report.timeline.len(), 2, "{id}");
        assert_eq!(
            (report.timeline[0].kind.as_str(), report.timeline[1].kind.as_str()),
            ("handshake", "post")
        );
        let first = &report.findings[0];
        assert!(first.evidence[0].text.contains("role user") && first.evidence[0].facts["role"] == "user");
        assert_eq!(
            first.client_saw.as_ref().map(|saw| (saw.status, saw.close_code)),
            Some((Some(403), Some(1006)))
        );
        assert_eq!(report.explain_exit_code(), 0);
    }
}

#[test]
fn what_was_asked_about_comes_first() {
    // DX-18
    let mut story = Story::default();
    story.refuse(1_000, "c1", "ann", Diagnosis::ROLE_INSUFFICIENT, 403);
    let post = story.post(2_000, "c1", Some(Diagnosis::GONE_REFUSED));
    post.edit(|entry| entry.request_id = Some("the-post".to_owned()));
    let report = journal(story).ask("the-post");
    assert_eq!(
        found(&report),
        [("connections.gone-refused", Confidence::Proven), ("role.insufficient", Confidence::Proven)]
    );
}

#[test]
fn a_rule_speaks_in_the_answer_about_an_id_that_it_concerns() {
    // DX-18 DX-19 token.reused-on-reconnect
    let mut story = Story::default();
    story.open(1_000, "c1", "ann").set("fingerprint", "f1");
    story.close(60_000, "c1", Diagnosis::GONE_NETWORK, "network", 1006);
    story.refuse(62_000, "c2", "ann", Diagnosis::TOKEN_REUSED, 403).set("fingerprint", "f1");
    // Somebody else's trouble.
    story.open(1_000, "x1", "bob").set("fingerprint", "f2");
    story.refuse(1_500, "x2", "bob", Diagnosis::TOKEN_REUSED, 403).set("fingerprint", "f2");
    let report = journal(story).ask("c2");
    let ids = found(&report);
    assert!(ids.contains(&("token.reused-on-reconnect", Confidence::Proven)), "{ids:?}");
    assert_eq!(
        report.findings.iter().filter(|finding| finding.id.starts_with("token.")).count(),
        2,
        "{ids:?}"
    );
}

#[test]
fn the_reason_of_a_limit_comes_before_the_limit() {
    // DX-19 ratelimit.failing-retries
    let mut story = Story::default();
    for n in 0..8 {
        let why = if n < 5 { Diagnosis::JWT_EXPIRED } else { Diagnosis::RATELIMIT_CONNECT };
        story.refuse(1_000 + n * 9_000, &format!("c{n}"), "ann", why, if n < 5 { 403 } else { 429 });
    }
    let report = journal(story).ask("ratelimit.failing-retries");
    assert_eq!(found(&report), [("ratelimit.failing-retries", Confidence::Proven)]);
    assert!(report.findings[0].fix[0].contains("jwt.expired"), "{:?}", report.findings[0].fix);
    let mut story = Story::default();
    for n in 0..8 {
        let why = if n < 5 { Diagnosis::JWT_EXPIRED } else { Diagnosis::RATELIMIT_CONNECT };
        story.refuse(1_000 + n * 9_000, &format!("c{n}"), "ann", why, if n < 5 { 403 } else { 429 });
    }
    let report = journal(story).ask("c7");
    let ids: Vec<_> = report.findings.iter().map(|finding| finding.id.as_str()).collect();
    assert_eq!(ids, ["jwt.expired", "ratelimit.failing-retries", "ratelimit.connect"]);
}

fn refusals() -> Story {
    let mut story = Story::default();
    for n in 0..3 {
        story.refuse(1_000 + n, &format!("r{n}"), "ann", Diagnosis::ROLE_INSUFFICIENT, 403);
    }
    for n in 0..5 {
        story.refuse(2_000 + n, &format!("o{n}"), "bob", Diagnosis::ORIGIN_NOT_ALLOWED, 403);
    }
    story.refuse(3_000, "e", "bob", Diagnosis::INTEGRATION_REFUSED, 502);
    story.open(4_000, "ok", "cyd");
    story
}

#[test]
fn a_status_lists_its_causes_by_their_counts() {
    // DX-18
    let report = journal(refusals()).ask("403");
    assert_eq!(
        found(&report),
        [("origin.not-allowed", Confidence::Proven), ("role.insufficient", Confidence::Proven)]
    );
    let newest = &report.findings[0];
    assert_eq!((newest.count, newest.request_id.as_deref()), (Some(5), Some("r-o4-2004")));
    // The journal would have these; another status is none of this.
    assert!(report.excluded.contains(&"jwt.expired".to_owned()), "{:?}", report.excluded);
    assert!(!report.excluded.contains(&"role.insufficient".to_owned()));
    assert!(report.notes.iter().any(|note| note.contains("bypass.unknown-route-403")), "{:?}", report.notes);
    assert_eq!(report.explain_exit_code(), 0);
}

#[test]
fn options_narrow_a_question() {
    // DX-17
    let mut ask = journal(refusals());
    ask.options.user = Some("ann".to_owned());
    assert_eq!(found(&ask.ask("403")), [("role.insufficient", Confidence::Proven)]);
    ask.options.user = None;
    ask.options.api = Some("other00000".to_owned());
    assert!(found(&ask.ask("403")).iter().all(|(_, confidence)| *confidence == Confidence::Possible));
    ask.options.api = None;
    ask.options.since = Duration::from_millis(1_500);
    assert_eq!(found(&ask.ask("HTTP 502")).first(), None.or(found(&ask.ask("502")).first()));
    ask.now = START + 10 * DAY;
    assert!(found(&ask.ask("403")).iter().all(|(_, confidence)| *confidence == Confidence::Possible));
}

#[test]
fn a_close_code_leads_to_what_was_recorded_with_it() {
    // DX-18
    let mut story = refusals();
    story.open(5_000, "c", "ann");
    story.close(9_000, "c", Diagnosis::RATELIMIT_MESSAGES, "gateway", 1008);
    let ask = journal(story);
    assert_eq!(found(&ask.ask("1008"))[0], ("ratelimit.messages", Confidence::Proven));
    let lost = found(&ask.ask("close 1006")).iter().map(|(id, _)| (*id).to_owned()).collect::<Vec<_>>();
    assert!(
        lost.contains(&"role.insufficient".to_owned()) && !lost.contains(&"ratelimit.messages".to_owned()),
        "{lost:?}"
    );
}

#[test]
fn a_pasted_text_leads_to_causes_or_to_an_id_in_it() {
    // DX-17 DX-18
    let mut story = refusals();
    let id = "R0oXAdfD0kwCH6w=";
    story
        .refuse(6_000, "q", "ann", Diagnosis::INTEGRATION_TIMEOUT, 504)
        .edit(|entry| entry.request_id = Some(id.to_owned()));
    let ask = journal(story);
    let report = ask.ask("Error during WebSocket handshake: Unexpected response code: 403");
    assert_eq!(found(&report)[0], ("origin.not-allowed", Confidence::Proven));
    assert!(report.notes.iter().any(|note| note.starts_with("Recognized: ")));
    let report = ask.ask(&format!("WARN handshake refused request_id={id} diag=integration.timeout"));
    assert_eq!(found(&report), [("integration.timeout", Confidence::Proven)]);
    let report = ask.ask("the coffee machine is broken");
    assert_eq!((report.findings.len(), report.explain_exit_code()), (0, 1));
}

#[test]
fn without_proof_there_are_possible_causes_with_a_command_each() {
    // DX-2 DX-20 DX-22
    let report = journal(refusals()).ask("ERR_CERT_DATE_INVALID");
    assert_eq!(found(&report), [("tls.expired", Confidence::Possible)]);
    assert_eq!(report.findings[0].next, ["tidegate doctor wss://HOST/PATH --only 4"]);
    assert_eq!(report.explain_exit_code(), 3);
    assert!(report.text(crate::report::Style::default()).contains("possible: "));
}

#[test]
fn every_id_and_every_code_is_answered_with_a_command_where_proof_is_missing() {
    // DX-1 DX-22: and never called proven by an empty journal.
    let ask = journal(Story::default());
    for cause in Diagnosis::all() {
        let report = ask.ask(cause.diagnosis.as_str());
        let is_excluded = report.excluded.iter().any(|id| id == cause.diagnosis.as_str());
        assert!(is_excluded || !report.findings.is_empty(), "{}", cause.diagnosis);
        for finding in &report.findings {
            assert_ne!(finding.confidence, Confidence::Proven, "{}", cause.diagnosis);
            assert!(!finding.next.is_empty() || cause.is_undetectable(), "{}", cause.diagnosis);
        }
    }
    for code in search::CLOSE_CODES {
        ask.ask(&code.code.to_string());
    }
}

#[test]
fn what_nobody_can_see_is_said_plainly() {
    // DX-2 handshake.hardcoded-host management.no-endpoint management.bad-scheme cleanup.bad-command
    let ask = journal(refusals());
    for cause in Diagnosis::all().filter(|cause| cause.is_undetectable()) {
        let report = ask.ask(cause.diagnosis.as_str());
        let finding = &report.findings[0];
        assert_eq!(
            (finding.id.as_str(), finding.confidence),
            (cause.diagnosis.as_str(), Confidence::Possible)
        );
        assert!(finding.evidence[0].text.contains("The gateway cannot see"), "{finding:?}");
        assert_eq!(report.explain_exit_code(), 3);
    }
    let text = &ask.ask("handshake.hardcoded-host").findings[0].evidence[0].text;
    assert!(text.contains("10 attempts to connect"), "{text}");
}

#[test]
fn losses_of_the_journal_are_said_and_exclude_nothing() {
    // DX-5
    let mut ask = journal(refusals());
    assert!(ask.ask("jwt.expired").excluded.contains(&"jwt.expired".to_owned()));
    ask.memory.dropped = 7;
    let report = ask.ask("jwt.expired");
    assert_eq!(report.excluded, Vec::<String>::new());
    assert_eq!(found(&report), [("jwt.expired", Confidence::Possible)]);
    assert!(report.notes.iter().any(|note| note.starts_with("7 entries were lost")), "{:?}", report.notes);
    let mut young = journal(refusals());
    young.memory.entries.remove(0);
    let report = young.ask("jwt.expired");
    assert_eq!(found(&report), [("jwt.expired", Confidence::Possible)]);
    assert!(report.notes.iter().any(|note| note.starts_with("The journal begins at")));
}

#[test]
fn a_request_that_never_arrived() {
    // DX-19 DX-22 backend.not-from-gateway
    let mut ask = journal(refusals());
    ask.options.user = Some("nobody".to_owned());
    let report = ask.question(&Question::Everything);
    assert!(
        report.notes.iter().any(|note| note.contains("never arrived") && note.contains("tidegate doctor"))
    );
    assert_eq!(
        (found(&report), report.explain_exit_code()),
        (vec![("dns.no-record", Confidence::Possible)], 3)
    );
    assert_eq!(report.findings[0].next, ["tidegate doctor wss://HOST/PATH"]);
    ask.options.user = None;
    let report = ask.ask("nosuchid12345");
    assert!(found(&report).contains(&("backend.not-from-gateway", Confidence::Possible)));
}

#[test]
fn the_newest_failures() {
    // DX-17
    let mut story = refusals();
    story.open(5_000, "c", "ann");
    story.close(9_000, "c", Diagnosis::CLIENT_PAGE_LEFT, "client", 1001);
    let ask = journal(story);
    let report = ask.question(&Question::Last(2));
    assert_eq!(report.timeline.len(), 2);
    let mut ids: Vec<_> = found(&report).into_iter().map(|(id, _)| id).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["integration.refused", "origin.not-allowed"]);
    assert_eq!(report.findings.iter().map(|finding| finding.count).collect::<Vec<_>>(), [Some(1), Some(1)]);
    let mut quiet = journal(Story::default());
    quiet.options.user = None;
    assert_eq!(quiet.question(&Question::Last(5)).explain_exit_code(), 1);
}

#[test]
fn what_is_true_now_belongs_to_the_answer() {
    // DX-19 stage.redeploy-needed
    let mut story = Story::default();
    story.open(0, "live", "ann");
    story
        .message(1_000, "live", "ann", "$default", Some(Diagnosis::ROUTE_NOT_CREATED))
        .set("selectedValue", "send");
    let mut ask = journal(story);
    ask.live = true;
    for question in ["live", "session s1"] {
        let report = ask.ask(question);
        assert!(
            report.notes.iter().any(|note| note.contains("is open now") && note.contains("room-1")),
            "{question}"
        );
        assert!(found(&report).contains(&("stage.redeploy-needed", Confidence::Proven)), "{question}");
    }
    assert_eq!(found(&ask.ask("ended")), [("connections.gone-idle", Confidence::Proven)]);
    assert!(!found(&ask.ask("r-of-somebody")).iter().any(|(id, _)| id.starts_with("connections.")));
    let redeploy = ask.ask("stage.redeploy-needed");
    assert!(redeploy.findings[0].evidence[0].text.contains("route send"));
    // A refused role has nothing to do with a deployment.
    let mut other = journal(refusals());
    other.live = true;
    assert!(found(&other.ask("403")).iter().all(|(id, _)| *id != "stage.redeploy-needed"));
    other.live = false;
    assert!(other.ask("session s1").notes[0].contains("running gateway"));
}

#[test]
fn an_answer_obeys_no_client_and_tells_no_secret() {
    // DX-64
    let mut story = Story::default();
    let told = story.message(1_000, "c", "ann", "$default", Some(Diagnosis::ROUTE_NOT_CREATED));
    told.set("selectedValue", "\u{1b}[2Jx").set("nearest", "a\u{202e}b\nc");
    let report = journal(story).ask("c");
    let text = serde_json::to_string(&report).expect("JSON");
    for bad in ["\\u001b", "\u{202e}", "\\nc"] {
        assert!(!text.contains(bad), "{text}");
    }
}

#[test]
fn a_journal_that_cannot_be_read_is_an_error() {
    // DX-20
    let memory = Memory { is_broken: true, ..Memory::default() };
    let sources = Sources { journal: &memory, now: START, live: None };
    assert!(now(explain(&Question::Status(403), &sources, &Options::default())).is_err());
}

#[test]
fn times_in_facts_are_understood() {
    assert_eq!(check::parse_time("2026-01-02T03:00:00.001Z"), Some(START + MILLI));
    assert_eq!(check::parse_time("yesterday"), None);
}

#[test]
fn a_journal_says_how_fast_the_times_of_its_node_passed() {
    // DX-17
    let mut story = Story::default();
    story.add(0, Kind::Control, None).set("what", "start").set(TIME_SCALE, 600);
    story.open(1_000, "c1", "ann");
    story.close(2_000, "c1", Diagnosis::GONE_IDLE, "gateway", 1001);
    story.add(3_000, Kind::Control, None).set("what", "stop").set(TIME_SCALE, 600);
    let mut ask = journal(story);
    // Since the stop an hour has passed, which was one.
    ask.now = START + 3 * SECOND + 60 * 60 * SECOND;
    let report = ask.ask("c1");
    let at: Vec<&str> = report.timeline.iter().map(|moment| moment.at.as_str()).collect();
    let stretched = |ago: u64| time(START + 3 * SECOND - ago * 600 * SECOND);
    assert_eq!(at, [stretched(2), stretched(1)], "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("600 times faster")), "{report:?}");
    // The last node counts: this one was no test.
    let mut restarted = Story::default();
    restarted.add(4_000, Kind::Control, None).set("what", "start");
    ask.memory.entries.extend(restarted.entries);
    let report = ask.ask("c1");
    assert_eq!(report.timeline[0].at, time(START + SECOND));
    assert!(!report.notes.iter().any(|note| note.contains("faster")), "{report:?}");
}
