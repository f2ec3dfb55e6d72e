use serde_json::json;

use super::*;

fn report() -> Report {
    let mut report = Report::new("doctor", "wss://ws.example.com/chat?token=*", "2026-01-02T03:04:05.678Z");
    let mut measurements = Map::new();
    measurements.insert("reason".to_owned(), json!("the handshake failed"));
    report.probes.push(Probe { name: "echo".to_owned(), result: ProbeResult::Skipped, measurements });
    report.findings.push(Finding::warning(Diagnosis::PROXY_FORWARDED_MISSING));
    let facts = json!({ "status": 426 }).as_object().cloned().unwrap_or_default();
    report.findings.push(
        Finding::problem(Diagnosis::PROXY_UPGRADE_STRIPPED)
            .seen("Sec-WebSocket-Key and Sec-WebSocket-Version are there, Upgrade is not, and this sentence is so long that it has to be wrapped.", facts)
            .next("tidegate doctor wss://ws.example.com/chat --only 7,8"),
    );
    report.finish(12);
    report
}

#[test]
fn text_has_finding_cause_evidence_fix_and_counts() {
    // DX-60
    let text = report().text(Style::default());
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "skipped      echo           the handshake failed");
    assert!(lines[2].starts_with("PROBLEM proxy.upgrade-stripped  "), "{text}");
    for label in ["  cause     ", "  evidence  ", "  fix       ", "  next      "] {
        assert!(lines.iter().any(|line| line.starts_with(label)), "{label}: {text}");
    }
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{text}");
    assert_eq!(lines.last(), Some(&"1 problem, 1 warning, 1 probe skipped"));
    assert!(!text.contains('\u{1b}'));
    assert!(report().text(Style { color: true, verbose: false }).contains('\u{1b}'));
}

#[test]
fn json_has_the_members_of_the_schema() {
    // DX-61
    let json = serde_json::to_value(report()).expect("JSON");
    assert_eq!(json["schema"], "tidegate.diagnosis/1");
    assert_eq!(json["durationMs"], 12);
    assert_eq!(json["probes"][0]["result"], "skipped");
    assert_eq!(json["findings"][0]["id"], "proxy.upgrade-stripped");
    assert_eq!(json["findings"][0]["severity"], "problem");
    assert_eq!(json["findings"][0]["confidence"], "proven");
    assert_eq!(json["findings"][0]["evidence"][0]["facts"]["status"], 426);
    assert_eq!(json["summary"], json!({ "problems": 1, "warnings": 1, "skipped": 1 }));
    let read: Report = serde_json::from_value(json).expect("a report");
    assert_eq!(read, report());
}

#[test]
fn exit_codes_say_how_it_went() {
    // DX-20 DX-62
    let mut empty = Report::new("doctor", "", "");
    assert_eq!((empty.doctor_exit_code(false), empty.explain_exit_code()), (0, 1));
    empty.findings.push(Finding::warning(Diagnosis::TLS_EXPIRED));
    empty.finish(0);
    assert_eq!((empty.doctor_exit_code(false), empty.doctor_exit_code(true)), (0, 1));
    assert_eq!(report().doctor_exit_code(false), 1);
    let skipped = Report { findings: Vec::new(), summary: Summary::default(), ..report() };
    assert_eq!(skipped.doctor_exit_code(false), 3);
}

#[test]
fn what_nobody_can_prove_is_never_called_proven() {
    // DX-2
    let finding = Finding::problem(Diagnosis::PROXY_CAPACITY);
    assert_eq!(finding.confidence, Confidence::Likely);
    let mut report = Report::new("explain", "1006", "");
    report.findings.push(finding);
    report.finish(0);
    assert_eq!(report.explain_exit_code(), 3);
    assert!(report.text(Style::default()).contains("  likely: "));
}
