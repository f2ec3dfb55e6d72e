//! Pages against the catalogue and against what is written in the manual.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::*;
use crate::report::{Confidence, Finding, Severity};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Text without its line breaks.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_id_has_a_complete_help_page() {
    // DX-1 DX-63
    for cause in Diagnosis::all() {
        let page = help_page(cause.diagnosis);
        let id = cause.diagnosis;
        assert!(page.starts_with(&format!("{id}  {}\n", cause.title)), "{page}");
        for label in ["cause", "proof", "seen", "client", "told", "fix"] {
            assert!(page.contains(&format!("\n  {label:<10}")), "{id} without {label}: {page}");
        }
        let flat_page = flat(&page);
        for part in [cause.cause, cause.proof, cause.client, cause.fix, cause.said_to_client()] {
            assert!(flat_page.contains(part), "{id} lacks {part:?}");
        }
        for line in page.lines().skip(1).filter(|line| !line.starts_with("  next")) {
            // One word can be wider than a line; lines of several words cannot.
            assert!(line.chars().count() <= 100 || line.split_whitespace().count() <= 2, "{id}: {line}");
        }
        for alias in search::aliases_of(id) {
            assert!(page.contains(alias), "{id} without {alias}");
        }
        if let Some(other) = search::causes_of(cause.symptom).iter().find(|other| **other != id) {
            assert!(page.contains(other.as_str()), "{id} without {other}");
        }
        assert!(!page.contains("an unknown place"), "{id}: {}", cause.seen);
    }
}

#[test]
fn a_help_page_reads_as_one() {
    // DX-63
    let page = help_page(Diagnosis::PROXY_UPGRADE_STRIPPED);
    assert!(page.contains("  next      tidegate explain REQUEST_ID\n"), "{page}");
    assert!(page.contains("  next      tidegate doctor URL\n"), "{page}");
    assert!(flat(&page).contains("proxy_set_header Upgrade $http_upgrade;"), "{page}");
    assert!(
        flat(&page).contains("Proven by the gateway, at the moment it happens; a probe from outside"),
        "{page}"
    );
    let page = help_page(Diagnosis::STAGE_REDEPLOY_NEEDED);
    assert!(page.contains("  aliases   api.not-deployed\n"), "{page}");
    let page = help_page(Diagnosis::PROXY_CAPACITY);
    assert!(flat(&page).contains("Suggested by a probe from outside"), "{page}");
    assert!(!flat(&page).contains("Proven by"), "{page}");
}

#[test]
fn pages_of_causes_that_nothing_can_see_say_so() {
    // Each id with words of what comes closest and of what to check by hand.
    for (id, closest, by_hand) in [
        ("handshake.hardcoded-host", "no handshake follows", "console"), // handshake.hardcoded-host
        ("handler.not-allowed", "matches no route", "list of allowed handlers"), // handler.not-allowed
        ("handler.name-mismatch", "by their spelling", "methods of the view"), // handler.name-mismatch
        ("publish.pattern-subscribe", "no deliveries with the bus", "PSUBSCRIBE"), // publish.pattern-subscribe
        ("publish.layer-overflow", "round number of unread messages", "server's log"), // publish.layer-overflow
        ("management.no-endpoint", "absence of calls", "endpoint by hand"), // management.no-endpoint
        ("management.bad-scheme", "absence of calls", "endpoint by hand"),  // management.bad-scheme
        ("command.no-environment", "no call of the control plane", "which python"), // command.no-environment
        ("command.no-settings", "no call of the control plane", "DJANGO_SETTINGS_MODULE"), // command.no-settings
        ("cleanup.bad-command", "exit status", "once by hand"), // cleanup.bad-command
        ("cleanup.no-access", "scheduler's log", "scheduler's user"), // cleanup.no-access
        ("log.secret-printed", "log file", "--check-log"),      // log.secret-printed
        ("security.untrusted-input", "no route has a request model", "validates each message"), // security.untrusted-input
    ] {
        let diagnosis = Diagnosis::find(id).expect("known");
        assert!(diagnosis.describe().is_undetectable(), "{id}");
        let page = flat(&help_page(diagnosis));
        assert!(page.contains("Nowhere: no part of Tidegate can see it."), "{id}: {page}");
        let statement =
            page.split("limits No part of Tidegate can see this cause.").nth(1).expect("statement");
        let statement = statement.split(" client ").next().unwrap_or_default();
        assert!(statement.contains("closest"), "{id}: {statement}");
        assert!(statement.contains(closest), "{id}: {statement}");
        let advice = statement.split("By hand:").nth(1).expect("advice");
        assert!(page.contains(by_hand) && !advice.trim().is_empty(), "{id}: {statement}");
    }
    assert_eq!(Diagnosis::all().filter(|cause| cause.is_undetectable()).count(), 13);
}

#[test]
fn what_can_only_be_suggested_is_never_a_proven_finding() {
    // DX-2
    let mut n_suggested = 0;
    for cause in Diagnosis::all() {
        let finding = Finding::new(cause.diagnosis, Severity::Problem, Confidence::Proven);
        let text = {
            let mut report = crate::report::Report::new("explain", "x", "2026-11-21T00:00:00.000Z");
            report.findings.push(finding.clone());
            report.text(Style::default())
        };
        let hedged = text.contains("likely: ") || text.contains("possible: ");
        assert_eq!(finding.confidence == Confidence::Proven, cause.is_provable(), "{}", cause.diagnosis);
        assert_eq!(hedged, !cause.is_provable(), "{text}");
        let is_suggested = !cause.is_provable() && !cause.is_undetectable();
        n_suggested += usize::from(is_suggested);
        let page = flat(&help_page(cause.diagnosis));
        assert_eq!(page.contains("This cause can only be suggested, not proven, from here."), is_suggested);
    }
    assert_eq!(n_suggested, 17);
}

#[test]
fn the_catalogue_as_json() {
    let value = catalogue_json();
    assert_eq!(value["schema"], "tidegate.catalogue/1");
    let causes = value["causes"].as_array().expect("array");
    assert_eq!(causes.len(), Diagnosis::all().count());
    for (cause, known) in causes.iter().zip(Diagnosis::all()) {
        let names: Vec<_> = cause.as_object().expect("object").keys().map(String::as_str).collect();
        assert_eq!(
            names.iter().copied().collect::<BTreeSet<_>>(),
            ["fix", "id", "saidToClient", "symptom", "title"].into()
        );
        assert_eq!(cause["id"], known.diagnosis.as_str());
        assert_eq!(cause["saidToClient"], known.said_to_client());
        for name in ["title", "saidToClient", "fix"] {
            assert!(cause[name].as_str().is_some_and(|text| !text.is_empty()), "{cause}");
        }
    }
}

#[test]
fn pages_are_current() {
    // DX-1 DX-63
    const RENEW: &str = "the manual is not what the catalogue says; renew it: make manual";
    let folder = docs().join("troubleshooting");
    let written: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{RENEW} ({error})"))
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    let pages = manual_pages();
    assert_eq!(pages.iter().map(|page| page.file.clone()).collect::<BTreeSet<_>>(), written, "{RENEW}");
    for page in &pages {
        assert!(read(&folder.join(&page.file)) == page.text, "{}: {RENEW}", page.file);
    }
    let summary = read(&docs().join("SUMMARY.md"));
    assert!(with_section(&summary) == summary, "SUMMARY.md: {RENEW}");
    let codes = read(&docs().join("close-codes.md"));
    assert!(close_code_section(&codes) == codes, "close-codes.md: {RENEW}");
}

#[test]
fn links_of_the_manual_lead_somewhere() {
    let pages: BTreeMap<String, String> =
        manual_pages().into_iter().map(|page| (page.file, page.text)).collect();
    for (file, text) in &pages {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (page, anchor) = target.split_once('#').unwrap_or((target, ""));
            let page = if page.is_empty() { file } else { page };
            let linked = pages.get(page).unwrap_or_else(|| panic!("{file} links to {target}"));
            assert!(
                anchor.is_empty() || linked.contains(&format!("<a id=\"{anchor}\">")),
                "{file} links to {target}"
            );
        }
    }
    for cause in Diagnosis::all() {
        let id = format!("**Diagnosis:** `{}`", cause.diagnosis);
        assert_eq!(pages.values().filter(|text| text.contains(&id)).count(), 1, "{id}");
    }
    // A page for each symptom, the rest, each close code (4002 to 4006 share one), each status (7 share two), 3 indexes.
    let expected = 38 + 1 + search::CLOSE_CODES.len() - 4 + search::STATUSES.len() - 5 + 3;
    assert_eq!(pages.len(), expected);
}

#[test]
fn an_earlier_chapter_is_replaced() {
    let before = "# Summary\n\n- [A](a.md)\n- [Troubleshooting](troubleshooting/README.md)\n  - [Old](troubleshooting/old.md)\n- [B](b.md)\n";
    let after = with_section(before);
    assert!(!after.contains("old.md") && after.ends_with("- [B](b.md)\n"), "{after}");
    assert_eq!(after, with_section(&after));
    assert!(with_section("# Summary\n").ends_with(&summary_section()));
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn texts_name_settings_and_commands_that_exist() {
    // DX-63
    let settings = read(&docs().join("settings.md"));
    let policies = read(&docs().join("policies.md")) + &read(&docs().join("channels.md"));
    let commands = read(&docs().join("command-line.md"));
    let known = |word: &str| {
        ["explain", "doctor", "route", "journal", "report"].contains(&word)
            || commands.contains(&format!("`{word}`"))
            || commands.contains(&format!("`{word} "))
    };
    let mut n_settings = 0;
    for cause in Diagnosis::all() {
        for text in [cause.cause, cause.proof, cause.client, cause.fix] {
            for word in quoted(text) {
                let name: &str = word.split([' ', '=', '(']).next().unwrap_or_default();
                if let Some((section, key)) = name.split_once('.') {
                    let page = match section {
                        "data_plane" | "integration" | "management" | "connect" | "api" | "tls" | "sigv4" => {
                            &settings
                        }
                        "admission" | "jwt" | "attempts" | "messages" | "channels" | "control"
                        | "backend" | "connect_tokens" | "claims" | "endpoint" => &policies,
                        _ => continue,
                    };
                    // `integration.request.header.X` is a mapping, and diagnosis ids have dashes.
                    if key.contains(['.', '-', '/']) {
                        continue;
                    }
                    n_settings += 1;
                    let is_there = [format!("`{key}`"), format!("{section}.{key}"), format!("{key} =")]
                        .iter()
                        .any(|form| page.contains(form.as_str()));
                    assert!(is_there, "{}: {name} is no setting", cause.diagnosis);
                }
                if let Some(rest) = word.strip_prefix("tidegate ") {
                    let command = rest.split(' ').next().unwrap_or_default();
                    assert!(known(command), "{}: {word} is no command", cause.diagnosis);
                }
            }
        }
    }
    assert!(n_settings > 60, "{n_settings}");
}
