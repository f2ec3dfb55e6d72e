//! What `explain` and `doctor` answer: findings with their proof, for people and as JSON.
//!
//! The JSON form is schema `tidegate.diagnosis/1`; members are only added to it, never renamed.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidegate_core::diagnosis::Diagnosis;

pub(crate) mod text;

pub use text::Style;

/// The schema of [`Report`] as JSON.
pub const SCHEMA: &str = "tidegate.diagnosis/1";

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// `doctor` or `explain`.
    pub tool: String,
    /// What was asked about; query values are `*`.
    pub target: String,
    /// When the work began: RFC 3339 in UTC, with milliseconds.
    pub started: String,
    /// How long it took.
    pub duration_ms: u64,
    /// What was tried, in order.
    #[serde(default)]
    pub probes: Vec<Probe>,
    /// What happened, in the order of time.
    #[serde(default)]
    pub timeline: Vec<Moment>,
    /// What was found, the most certain first.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// Ids that were considered and that the facts exclude.
    #[serde(default)]
    pub excluded: Vec<String>,
    /// Plain statements beside the findings: what cannot be seen, what was dropped, which node did not answer.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Counts.
    pub summary: Summary,
}

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeResult {
    /// As it should be.
    Ok,
    /// Works, but look at it.
    Warning,
    /// Does not work.
    Problem,
    /// Not tried.
    Skipped,
    /// Tried; no answer to the question.
    Inconclusive,
}

impl ProbeResult {
    /// Its name in both forms.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
            Self::Skipped => "skipped",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// `dns`, `tls`, ...
    pub name: String,
    /// How it ended.
    pub result: ProbeResult,
    /// What was measured; in a skipped or inconclusive one `reason` says why.
    #[serde(default)]
    pub measurements: Map<String, Value>,
}

/// One line of a timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// When: RFC 3339 in UTC, with milliseconds.
    pub at: String,
    /// Kind of the journal's entry.
    pub kind: String,
    /// `ok` or a diagnosis id.
    pub outcome: String,
    /// One line about it.
    pub text: String,
    /// Of the event or request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does not work.
    Problem,
    /// It works, but it will not always.
    Warning,
    /// Good to know.
    Info,
}

/// How certain a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// The catalogue's proof was observed.
    Proven,
    /// All observed facts fit, and no other cause fits.
    Likely,
    /// Nothing excludes it.
    Possible,
}

/// One observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// For people.
    pub text: String,
    /// By the journal's names.
    #[serde(default)]
    pub facts: Map<String, Value>,
}

/// What the client could see of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientSaw {
    /// Status of the refused handshake or call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Code of the close frame, or 1006 where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_code: Option<u16>,
    /// Text of the answer or the close frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// One cause that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Diagnosis id.
    pub id: String,
    /// How much it matters.
    pub severity: Severity,
    /// How certain it is.
    pub confidence: Confidence,
    /// One sentence.
    pub title: String,
    /// Why it happens.
    pub cause: String,
    /// What was observed.
    pub evidence: Vec<Evidence>,
    /// What the client could see of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_saw: Option<ClientSaw>,
    /// Actions, the first one first.
    pub fix: Vec<String>,
    /// Commands that would prove it, or check that it is gone.
    #[serde(default)]
    pub next: Vec<String>,
    /// Newest example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Newest example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<String>,
    /// Newest example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ref: Option<String>,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_id: Option<String>,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_key: Option<String>,
    /// Time of the newest: RFC 3339 in UTC, with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// How often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

impl Finding {
    /// A finding with the catalogue's words. A cause that nobody can prove is never more than likely.
    pub fn new(diagnosis: Diagnosis, severity: Severity, confidence: Confidence) -> Self {
        let cause = diagnosis.describe();
        let confidence = if cause.is_provable() { confidence } else { confidence.max(Confidence::Likely) };
        Self {
            id: diagnosis.as_str().to_owned(),
            severity,
            confidence,
            title: cause.title.trim_end_matches('.').to_owned(),
            cause: cause.cause.to_owned(),
            evidence: Vec::new(),
            client_saw: None,
            fix: vec![cause.fix.to_owned()],
            next: Vec::new(),
            request_id: None,
            connection_id: None,
            client_ref: None,
            api_id: None,
            stage: None,
            route_key: None,
            at: None,
            count: None,
        }
    }

    /// Something that does not work, with its proof.
    pub fn problem(diagnosis: Diagnosis) -> Self {
        Self::new(diagnosis, Severity::Problem, Confidence::Proven)
    }

    /// Something that works and will not always, with its proof.
    pub fn warning(diagnosis: Diagnosis) -> Self {
        Self::new(diagnosis, Severity::Warning, Confidence::Proven)
    }

    /// Adds an observation.
    #[must_use]
    pub fn seen(mut self, text: impl Into<String>, facts: Map<String, Value>) -> Self {
        self.evidence.push(Evidence { text: text.into(), facts });
        self
    }

    /// Adds an action, before those of the catalogue.
    #[must_use]
    pub fn fix_first(mut self, action: impl Into<String>) -> Self {
        self.fix.insert(0, action.into());
        self
    }

    /// Adds a command to run next.
    #[must_use]
    pub fn next(mut self, command: impl Into<String>) -> Self {
        self.next.push(command.into());
        self
    }
}

/// Counts of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Findings that are problems.
    pub problems: usize,
    /// Findings that are warnings.
    pub warnings: usize,
    /// Probes that were skipped.
    pub skipped: usize,
}

impl Report {
    /// A report with nothing in it yet. `started` is RFC 3339 in UTC, with milliseconds.
    pub fn new(tool: &str, target: impl Into<String>, started: impl Into<String>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            tool: tool.to_owned(),
            target: target.into(),
            started: started.into(),
            duration_ms: 0,
            probes: Vec::new(),
            timeline: Vec::new(),
            findings: Vec::new(),
            excluded: Vec::new(),
            notes: Vec::new(),
            summary: Summary::default(),
        }
    }

    /// Orders the findings (problems first, the most certain first; otherwise as they were added) and counts.
    pub fn finish(&mut self, duration_ms: u64) {
        self.duration_ms = duration_ms;
        self.findings.sort_by_key(|finding| (finding.severity, finding.confidence));
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        self.summary = Summary {
            problems: count(Severity::Problem),
            warnings: count(Severity::Warning),
            skipped: self.probes.iter().filter(|probe| probe.result == ProbeResult::Skipped).count(),
        };
    }

    /// Exit code of `doctor`: 0 nothing wrong, 1 a problem (with `strict` also a warning), 3 no problem found but
    /// something could not be tried.
    pub fn doctor_exit_code(&self, strict: bool) -> u8 {
        let is_open =
            |probe: &Probe| matches!(probe.result, ProbeResult::Skipped | ProbeResult::Inconclusive);
        match self.summary {
            Summary { problems: 1.., .. } => 1,
            Summary { warnings: 1.., .. } if strict => 1,
            _ if self.probes.iter().any(is_open) => 3,
            _ => 0,
        }
    }

    /// Exit code of `explain`: 0 a proven cause, 3 only likely or possible ones, 1 nothing.
    pub fn explain_exit_code(&self) -> u8 {
        match self.findings.iter().map(|finding| finding.confidence).min() {
            Some(Confidence::Proven) => 0,
            Some(_) => 3,
            None => 1,
        }
    }
}

#[cfg(test)]
mod tests;
