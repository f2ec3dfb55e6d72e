//! Metrics in the form Prometheus reads. Labels come from closed sets, never from ids or clients' text.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::notice::Notice;
use tidegate_doctor::journal::Counts;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Push {
    target: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Close {
    by: &'static str,
    diagnosis: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    diagnosis: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Problem {
    id: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Event {
    event: &'static str,
}

/// All metrics of a node.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    connects: Family<Outcome, Counter>,
    messages: Family<Direction, Counter>,
    message_failures: Family<Outcome, Counter>,
    integrations: Family<Event, Histogram, fn() -> Histogram>,
    integration_failures: Family<Event, Counter>,
    pushes: Family<Push, Counter>,
    closes: Family<Close, Counter>,
    session_refusals: Family<Reason, Counter>,
    problems: Family<Problem, Gauge>,
    key_set_failures: Counter,
    disconnects_lost: Counter,
    accept_failures: Counter,
    panics: Counter,
    bytes: Family<Direction, Counter<u64, AtomicU64>>,
}

/// From a millisecond to the longest integration timeout, in seconds.
const BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 29.0];

impl Metrics {
    pub(crate) fn new() -> Self {
        let integrations: fn() -> Histogram = || Histogram::new(BUCKETS);
        let mut metrics = Self {
            registry: Registry::with_prefix("tidegate"),
            connects: Family::default(),
            messages: Family::default(),
            message_failures: Family::default(),
            integrations: Family::new_with_constructor(integrations),
            integration_failures: Family::default(),
            pushes: Family::default(),
            closes: Family::default(),
            session_refusals: Family::default(),
            problems: Family::default(),
            key_set_failures: Counter::default(),
            disconnects_lost: Counter::default(),
            accept_failures: Counter::default(),
            panics: Counter::default(),
            bytes: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("connects", "Handshakes by outcome", metrics.connects.clone());
        registry.register("messages", "Messages from (in) and to (out) clients", metrics.messages.clone());
        registry.register(
            "message_failures",
            "Messages that failed, by error code",
            metrics.message_failures.clone(),
        );
        registry.register_with_unit(
            "integration_duration",
            "Time of integration calls by event",
            Unit::Seconds,
            metrics.integrations.clone(),
        );
        let failures = metrics.integration_failures.clone();
        registry.register("integration_failures", "Integration calls without an answer", failures);
        registry.register("push", "Pushes by target and result", metrics.pushes.clone());
        registry.register("closes", "Ended connections by who ended them and why", metrics.closes.clone());
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
        registry.register_with_unit(
            "payload",
            "Payload from and to clients",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        metrics
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
        let message = |direction| self.messages.get_or_create(&Direction { direction }).inc();
        match notice {
            Notice::ConnectionOpened { .. } => {
                self.connects.get_or_create(&Outcome { outcome: "opened" }).inc();
            }
            Notice::HandshakeRefused { code, .. } => {
                self.connects.get_or_create(&Outcome { outcome: code.as_str() }).inc();
            }
            Notice::MessageHandled { .. }
            | Notice::BackendRefusedMessage { .. }
            | Notice::SubprotocolTrouble { .. } => {
                if matches!(notice, Notice::MessageHandled { .. }) {
                    message("in");
                }
            }
            Notice::MessageFailed { code, .. } => {
                message("in");
                self.message_failures.get_or_create(&Outcome { outcome: code.as_str() }).inc();
            }
            Notice::IntegrationCalled { event_type, status, duration, .. } => {
                self.integrations.get_or_create(&Event { event: event_type }).observe(duration.as_secs_f64());
                if status.is_none() {
                    self.integration_failures.get_or_create(&Event { event: event_type }).inc();
                }
            }
            Notice::ConnectionClosed { by, diagnosis, messages_out, bytes_in, bytes_out, .. } => {
                let close = Close { by: by.as_str(), diagnosis: diagnosis.as_str() };
                self.closes.get_or_create(&close).inc();
                self.messages.get_or_create(&Direction { direction: "out" }).inc_by(*messages_out);
                self.bytes.get_or_create(&Direction { direction: "in" }).inc_by(*bytes_in);
                self.bytes.get_or_create(&Direction { direction: "out" }).inc_by(*bytes_out);
            }
            Notice::DisconnectLost { .. } => {
                self.disconnects_lost.inc();
            }
            Notice::Pushed { .. } => {
                self.pushes.get_or_create(&Push { target: "connection", result: "taken" }).inc();
            }
            Notice::Published { target, delivered, gone, slow, .. } => {
                for (result, n_connections) in [("taken", delivered), ("gone", gone), ("slow", slow)] {
                    self.pushes.get_or_create(&Push { target, result }).inc_by(*n_connections as u64);
                }
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
            Notice::PushRefused { code, .. } => {
                self.pushes.get_or_create(&Push { target: "connection", result: code.as_str() }).inc();
            }
            Notice::AcceptFailed { .. } => {
                self.accept_failures.inc();
            }
            Notice::ConnectionPanicked { .. } => {
                self.panics.inc();
            }
            // Counted elsewhere, or for the journal alone.
            Notice::TokenRequested { .. }
            | Notice::Decided { .. }
            | Notice::MembershipChanged { .. }
            | Notice::Controlled { .. } => {}
        }
    }

    /// The page that Prometheus reads. Connections and entries are counted where they are.
    /// `of_apps` is what [`alerts`] and [`chat`] give.
    pub(crate) fn page(&self, n_connections: usize, journal: Counts, of_apps: &str) -> String {
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

    fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> =
            labels.iter().map(|(name, text)| format!("{name}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.page.push_str(&format!("tidegate_{}{}{labels} {value}\n", self.name, self.suffix));
    }
}

/// Roles are named by whoever writes the configuration.
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
