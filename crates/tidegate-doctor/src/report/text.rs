//! A report for people: finding, cause, evidence, fix.

use std::fmt::Write as _;

use super::{ClientSaw, Confidence, Finding, Probe, ProbeResult, Report, Severity};

/// Widest line, in characters.
const WIDTH: usize = 100;

/// Width of the names in front of paragraphs.
const LABEL: usize = 10;

/// How text is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// With colors, for terminals.
    pub color: bool,
    /// With the measurements of probes that went well.
    pub verbose: bool,
}

impl Style {
    fn paint(self, text: &str, color: &str) -> String {
        if self.color { format!("\u{1b}[{color}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

const RED: &str = "31;1";
const YELLOW: &str = "33;1";
const BLUE: &str = "34;1";
const GREEN: &str = "32";
const FAINT: &str = "2";

impl Report {
    /// The report as text, with a line feed at its end.
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        for probe in &self.probes {
            probe_line(&mut out, probe, style);
        }
        if !self.probes.is_empty() {
            out.push('\n');
        }
        if !self.timeline.is_empty() {
            for moment in &self.timeline {
                let outcome = match moment.outcome.as_str() {
                    "ok" => style.paint("ok", GREEN),
                    other => style.paint(other, RED),
                };
                let line = format!("{}  {:<11} {outcome}  {}", moment.at, moment.kind, moment.text);
                // A timeline is read in columns; wrapping it would break them.
                let _ = writeln!(out, "{}", line.trim_end());
            }
            out.push('\n');
        }
        for finding in &self.findings {
            finding_text(&mut out, finding, style);
            out.push('\n');
        }
        // Lists that a probe wants to be read whole, such as a checklist.
        for probe in &self.probes {
            let shown = probe.measurements.get("shown").and_then(serde_json::Value::as_array);
            for line in shown.into_iter().flatten().filter_map(serde_json::Value::as_str) {
                paragraph(&mut out, "", line, style);
            }
            if shown.is_some() {
                out.push('\n');
            }
        }
        if !self.excluded.is_empty() {
            paragraph(&mut out, "excluded", &self.excluded.join(", "), style);
        }
        for note in &self.notes {
            paragraph(&mut out, "note", note, style);
        }
        let _ = writeln!(out, "{}", self.counts());
        out
    }

    /// The last line.
    fn counts(&self) -> String {
        let mut parts = Vec::new();
        let mut part = |n: usize, one: &str, many: &str| match n {
            0 => {}
            1 => parts.push(format!("1 {one}")),
            n => parts.push(format!("{n} {many}")),
        };
        part(self.summary.problems, "problem", "problems");
        part(self.summary.warnings, "warning", "warnings");
        let infos = self.findings.iter().filter(|finding| finding.severity == Severity::Info).count();
        part(infos, "hint", "hints");
        part(self.summary.skipped, "probe skipped", "probes skipped");
        let unclear = self.probes.iter().filter(|probe| probe.result == ProbeResult::Inconclusive).count();
        part(unclear, "probe inconclusive", "probes inconclusive");
        match (parts.is_empty(), self.tool.as_str()) {
            (false, _) => parts.join(", "),
            (true, "doctor") => "no problems".to_owned(),
            (true, _) => "nothing found".to_owned(),
        }
    }
}

fn probe_line(out: &mut String, probe: &Probe, style: Style) {
    let color = match probe.result {
        ProbeResult::Ok => GREEN,
        ProbeResult::Warning | ProbeResult::Inconclusive => YELLOW,
        ProbeResult::Problem => RED,
        ProbeResult::Skipped => FAINT,
    };
    let result = style.paint(&format!("{:<12}", probe.result.as_str()), color);
    let reason = probe.measurements.get("reason").and_then(serde_json::Value::as_str);
    let shown = match (reason, style.verbose) {
        (Some(reason), _) => reason.to_owned(),
        (None, false) => {
            let summary = probe.measurements.get("summary").and_then(serde_json::Value::as_str);
            summary.map_or_else(|| scalars(&probe.measurements), str::to_owned)
        }
        (None, true) => serde_json::Value::Object(probe.measurements.clone()).to_string(),
    };
    let _ = writeln!(out, "{}", format!("{result} {:<14} {shown}", probe.name).trim_end());
}

/// Measurements that are one number or word, by name.
fn scalars(measurements: &serde_json::Map<String, serde_json::Value>) -> String {
    let shown = measurements.iter().filter_map(|(name, value)| match value {
        serde_json::Value::Number(number) => Some(format!("{name} {number}")),
        serde_json::Value::String(text) => Some(format!("{name} {text}")),
        _ => None,
    });
    shown.take(4).collect::<Vec<_>>().join(", ")
}

fn finding_text(out: &mut String, finding: &Finding, style: Style) {
    let (word, color) = match finding.severity {
        Severity::Problem => ("PROBLEM", RED),
        Severity::Warning => ("WARNING", YELLOW),
        Severity::Info => ("INFO", BLUE),
    };
    let confidence = match finding.confidence {
        Confidence::Proven => "",
        Confidence::Likely => "likely: ",
        Confidence::Possible => "possible: ",
    };
    let count =
        finding.count.filter(|count| *count > 1).map_or_else(String::new, |n| format!(" ({n} times)"));
    let _ = writeln!(
        out,
        "{} {}  {confidence}{}{count}",
        style.paint(word, color),
        style.paint(&finding.id, "1"),
        finding.title
    );
    paragraph(out, "cause", &finding.cause, style);
    for evidence in &finding.evidence {
        paragraph(out, "evidence", &evidence.text, style);
    }
    if let Some(saw) = &finding.client_saw {
        paragraph(out, "client", &client_text(saw), style);
    }
    for fix in &finding.fix {
        paragraph(out, "fix", fix, style);
    }
    for next in &finding.next {
        // A command is copied, not read: it stays on one line.
        let _ = writeln!(out, "  {:<LABEL$}{next}", "next");
    }
}

fn client_text(saw: &ClientSaw) -> String {
    let mut parts = Vec::new();
    if let Some(status) = saw.status {
        parts.push(format!("got HTTP {status}"));
    }
    if let Some(code) = saw.close_code {
        parts.push(format!("saw close code {code}"));
    }
    if let Some(text) = &saw.text {
        parts.push(format!("read \"{text}\""));
    }
    parts.join(", ")
}

/// A label and text beside it, wrapped.
pub(crate) fn paragraph(out: &mut String, label: &str, text: &str, style: Style) {
    let mut label = style.paint(&format!("{label:<LABEL$}"), FAINT);
    for line in wrap(text, WIDTH - LABEL - 2) {
        let _ = writeln!(out, "  {label}{line}");
        label = " ".repeat(LABEL);
    }
}

/// Lines of at most `width` characters, broken at blanks; a longer word keeps its own line.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let fits = match lines.last() {
            Some(line) if line.is_empty() => true,
            Some(line) => line.chars().count() + 1 + word.chars().count() <= width,
            None => false,
        };
        match lines.last_mut() {
            Some(line) if fits => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
