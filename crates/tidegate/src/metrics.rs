//! Metrics in the form Prometheus reads. Labels come from closed sets and from definitions, never from ids or clients' text.

mod stages;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidegate_core::definition::Live;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::notice::Notice;
use tidegate_doctor::journal::Counts;

use self::stages::Stages;
use crate::log_targets::LineCounts;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    diagnosis: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Problem {
    id: &'static str,
}

/// All metrics of a node.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    stages: Stages,
    session_refusals: Family<Reason, Counter>,
    problems: Family<Problem, Gauge>,
    key_set_failures: Counter,
    disconnects_lost: Counter,
    accept_failures: Counter,
    panics: Counter,
}

impl Metrics {
    /// `always`: API and stage of applications, which no definition names.
    pub(crate) fn new(always: Vec<(String, String)>) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tidegate"),
            stages: Stages::new(always),
            session_refusals: Family::default(),
            problems: Family::default(),
            key_set_failures: Counter::default(),
            disconnects_lost: Counter::default(),
            accept_failures: Counter::default(),
            panics: Counter::default(),
        };
        let registry = &mut metrics.registry;
        let refusals = metrics.session_refusals.clone();
        registry.register(
            "session_refusals",
            "Channels, limits and handlers that policies refused",
            refusals,
        );
        let problems = metrics.problems.clone();
        registry.register(
            "doctor_problem",
            "Problems and warnings that the repeated checks found last",
            problems,
        );
        let failures = metrics.key_set_failures.clone();
        registry.register("key_set_failures", "Fetches of JSON Web Key Sets that failed", failures);
        registry.register(
            "disconnects_lost",
            "$disconnect events that were not delivered",
            metrics.disconnects_lost.clone(),
        );
        registry.register(
            "accept_failures",
            "Times the listener could not accept",
            metrics.accept_failures.clone(),
        );
        registry.register("connection_panics", "Connection tasks that panicked", metrics.panics.clone());
        metrics
    }

    /// What is defined from now on: the series that there are.
    pub(crate) fn set_stages(&self, live: &Live) {
        self.stages.set(live);
    }

    /// What the repeated checks found last, in place of what they found before.
    pub(crate) fn set_problems(&self, counts: &[(Diagnosis, u64)]) {
        self.problems.clear();
        for (diagnosis, count) in counts {
            let gauge = self.problems.get_or_create(&Problem { id: diagnosis.as_str() });
            gauge.set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }

    /// Counts one notice.
    pub(crate) fn count(&self, notice: &Notice) {
        match notice {
            Notice::DisconnectLost { .. } => {
                self.disconnects_lost.inc();
            }
            Notice::ChannelRefused { diagnosis, .. } | Notice::WouldBeLimited { diagnosis, .. } => {
                self.session_refusals.get_or_create(&Reason { diagnosis: diagnosis.as_str() }).inc();
            }
            Notice::HandlerNotAllowed { .. } => {
                let diagnosis = Diagnosis::HANDLER_NOT_ALLOWED.as_str();
                self.session_refusals.get_or_create(&Reason { diagnosis }).inc();
            }
            Notice::KeySetNotFetched { .. } => {
                self.key_set_failures.inc();
            }
            Notice::AcceptFailed { .. } => {
                self.accept_failures.inc();
            }
            Notice::ConnectionPanicked { .. } => {
                self.panics.inc();
            }
            // Counted elsewhere, or for the journal alone.
            Notice::SubprotocolTrouble { .. }
            | Notice::BackendRefusedMessage { .. }
            | Notice::TokenRequested { .. }
            | Notice::Decided { .. }
            | Notice::MembershipChanged { .. }
            | Notice::Controlled { .. } => {}
            of_stages => self.stages.count(of_stages),
        }
    }

    /// The page that Prometheus reads. Connections and entries are counted where they are.
    /// `of_apps` is what [`alerts`] and [`chat`] give.
    pub(crate) fn page(
        &self,
        n_connections: usize,
        journal: Counts,
        logs: LineCounts,
        of_apps: &str,
    ) -> String {
        let mut page = format!(
            "# HELP tidegate_connections Pending and open connections.\n# TYPE tidegate_connections gauge\ntidegate_connections {n_connections}\n"
        );
        for (name, help, count) in [
            ("entries", "Entries that were written into the journal", journal.written),
            ("dropped", "Events that are not in the journal because it was full or failed", journal.dropped),
            ("sampled", "Successes that were counted and not written into the journal", journal.sampled),
        ] {
            page.push_str(&format!(
                "# HELP tidegate_journal_{name} {help}.\n# TYPE tidegate_journal_{name} counter\ntidegate_journal_{name}_total {count}\n"
            ));
        }
        let mut lines =
            Written::new(&mut page, "counter", "log_lines", "Lines of access and execution logs by result");
        for (result, n) in [("written", logs.written), ("dropped", logs.dropped), ("failed", logs.failed)] {
            lines.sample(&[("result", result)], n);
        }
        self.stages.write(&mut page);
        page.push_str(of_apps);
        // Writing into a string cannot fail.
        let _ = encode(&mut page, &self.registry);
        page
    }
}

/// One metric with its samples, in the text form of Prometheus.
struct Written<'a> {
    page: &'a mut String,
    name: &'static str,
    suffix: &'static str,
}

impl<'a> Written<'a> {
    fn new(page: &'a mut String, kind: &'static str, name: &'static str, help: &'static str) -> Self {
        page.push_str(&format!("# HELP tidegate_{name} {help}.\n# TYPE tidegate_{name} {kind}\n"));
        Self { page, name, suffix: if kind == "counter" { "_total" } else { "" } }
    }

    fn sample(&mut self, names: &[(&str, &str)], value: u64) {
        self.page.push_str(&format!("tidegate_{}{}{} {value}\n", self.name, self.suffix, labels(names)));
    }
}

/// `{name="value",...}`; nothing without labels.
fn labels(names: &[(&str, &str)]) -> String {
    let labels: Vec<String> =
        names.iter().map(|(name, text)| format!("{name}=\"{}\"", escaped(text))).collect();
    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) }
}

/// Roles and routes are named by whoever writes the configuration.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// What the page says of alerts.
pub(crate) fn alerts(numbers: &tidegate_alerts::statistics::Metrics) -> String {
    let mut page = String::new();
    let gauge = "gauge";
    Written::new(&mut page, gauge, "alerts_connections", "Connections of the alerts application")
        .sample(&[], numbers.connections as u64);
    let mut members = Written::new(
        &mut page,
        gauge,
        "alerts_members",
        "Connections by channel and role; one may be in several",
    );
    for ((channel, role), n) in &numbers.members {
        members.sample(&[("channel", channel), ("role", role)], *n as u64);
    }
    for (name, help, n) in [
        ("alerts_published", "Alerts and broadcasts that were published", numbers.published),
        ("alerts_delivered", "Alerts that a connection took", numbers.delivered),
        ("alerts_failed", "Alerts that a connection did not take", numbers.failed),
    ] {
        Written::new(&mut page, "counter", name, help).sample(&[], n);
    }
    let mut refused =
        Written::new(&mut page, "counter", "alerts_refused", "Handshakes that were refused, by diagnosis");
    for (diagnosis, n) in &numbers.refused {
        refused.sample(&[("diagnosis", diagnosis)], *n);
    }
    let mut closed =
        Written::new(&mut page, "counter", "alerts_closed", "Connections that have ended, by close code");
    for (code, n) in &numbers.closed {
        closed.sample(&[("code", &code.to_string())], *n);
    }
    page
}

/// What the page says of the chat.
pub(crate) fn chat(numbers: &tidegate_chat::app::Numbers) -> String {
    let mut page = String::new();
    Written::new(&mut page, "gauge", "chat_connections", "Connections of the chat")
        .sample(&[], numbers.connections as u64);
    let mut events =
        Written::new(&mut page, "counter", "chat_events", "Events of clients, by type and outcome");
    for ((event, outcome), n) in &numbers.events {
        events.sample(&[("event", event), ("outcome", outcome)], *n);
    }
    let mut errors =
        Written::new(&mut page, "counter", "chat_errors", "Events that were refused, by error code");
    for (code, n) in &numbers.errors {
        errors.sample(&[("code", &code.to_string())], *n);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_alerts_are_in_the_form_that_prometheus_reads() {
        // S3-61
        let numbers = tidegate_alerts::statistics::Metrics {
            connections: 2,
            members: [(("authority".into(), "a \"b\"\\".into()), 2)].into(),
            published: 3,
            delivered: 5,
            failed: 1,
            refused: [("jwt.expired", 4)].into(),
            closed: [(1008, 1)].into(),
        };
        let page = alerts(&numbers);
        for line in [
            "tidegate_alerts_connections 2",
            "tidegate_alerts_members{channel=\"authority\",role=\"a \\\"b\\\"\\\\\"} 2",
            "tidegate_alerts_published_total 3",
            "tidegate_alerts_delivered_total 5",
            "tidegate_alerts_failed_total 1",
            "tidegate_alerts_refused_total{diagnosis=\"jwt.expired\"} 4",
            "tidegate_alerts_closed_total{code=\"1008\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }
}
