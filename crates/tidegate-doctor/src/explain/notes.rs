//! Plain statements beside the findings: what is open now, what never arrived, what limits the journal's word.

use tidegate_core::diagnosis::{Cause, Diagnosis, search};

use super::{Answer, NEVER_ARRIVED, describe, next};
use crate::check::{facts, severity, span, time};
use crate::report::{Confidence, Finding};

impl Answer<'_> {
    /// Says how an open connection is; answers whether it is there.
    pub(super) fn say_live(&mut self, id: &str) -> bool {
        let Some(connection) = self.sources.live.and_then(|live| live.connection(id)) else { return false };
        let ago = |at: u64| span(self.now().saturating_sub(at));
        let channels = match connection.channels.is_empty() {
            true => "in no channel".to_owned(),
            false => format!("in {}", connection.channels.join(", ")),
        };
        let note = format!(
            "{id} is {} now: for {}, last message {} ago, {} messages in and {} out, {channels}.",
            connection.state,
            ago(connection.connected_at),
            ago(connection.last_active_at),
            connection.messages_in,
            connection.messages_out,
        );
        self.report.notes.push(note);
        self.add_moments(connection.recent.iter().map(describe::passed).collect());
        true
    }

    /// Says what the gateway itself remembers of an id that is not open; answers whether it does.
    pub(super) fn say_gone(&mut self, id: &str) -> bool {
        let why = self.sources.live.and_then(|live| live.why_gone(id));
        // Those two are said of everything that is no id of a connection, such as one of a request.
        let unknown = [Diagnosis::GONE_UNKNOWN_ID, Diagnosis::GONE_MALFORMED_ID];
        let Some(why) = why.filter(|why| !unknown.contains(why)) else { return false };
        let text = "The journal has no entry about this id; the gateway itself remembers how it ended.";
        let finding = Finding::new(why, severity(why), Confidence::Proven).seen(text, facts([]));
        self.report.findings.push(Finding { connection_id: Some(id.to_owned()), ..finding });
        true
    }

    pub(super) fn note_never_arrived(&mut self) {
        self.report.notes.push(format!(
            "No attempt to connect{} is in the journal since {}: the request never arrived. Run: tidegate doctor wss://HOST/PATH",
            self.options.words(),
            time(self.since())
        ));
    }

    /// The causes of a request that never arrived. With the id of a request that is not known, the backend may have it from
    /// somebody else than the gateway.
    pub(super) fn never_arrived(&mut self, request_id: Option<&str>) {
        if request_id.is_some() {
            let diagnosis = Diagnosis::BACKEND_NOT_FROM_GATEWAY;
            let text =
                "If the backend's log names this id as a request id: the gateway made no such request.";
            let mut finding =
                Finding::new(diagnosis, severity(diagnosis), Confidence::Possible).seen(text, facts([]));
            finding.next = next::commands(diagnosis.describe(), None, self.options.api.as_deref());
            self.report.findings.push(finding);
        } else {
            self.note_never_arrived();
        }
        let candidates = NEVER_ARRIVED.iter().flat_map(|symptom| search::causes_of(*symptom));
        let outside: Vec<&'static Cause> = candidates
            .map(Diagnosis::describe)
            .filter(|cause| {
                cause.seen.split(' ').any(|seen| seen == "D")
                    && !cause.seen.split(' ').any(|seen| seen == "G")
            })
            .collect();
        // One run of doctor tells them apart, so they are one line and not a page each.
        let ids: Vec<&str> = outside.iter().map(|cause| cause.diagnosis.as_str()).collect();
        if let Some(first) = outside.first() {
            let text = format!("Nothing arrived. doctor tells these apart: {}.", ids.join(", "));
            let mut finding = Finding::new(first.diagnosis, severity(first.diagnosis), Confidence::Possible)
                .seen(text, facts([]));
            finding.next.push("tidegate doctor wss://HOST/PATH".to_owned());
            self.report.findings.push(finding);
        }
    }

    /// What limits the journal's word.
    pub(super) fn note_reach(&mut self) {
        let (dropped, sampled) = self.losses();
        if dropped > 0 {
            self.report.notes.push(format!(
                "{dropped} entries were lost since the gateway's start: that something is not here proves nothing."
            ));
        }
        if sampled > 0 {
            self.report
                .notes
                .push(format!("{sampled} successes were counted and not written: there were too many."));
        }
        match self.state.oldest {
            None => self.report.notes.push("The journal is empty.".to_owned()),
            Some(oldest) if oldest > self.since() => {
                self.report.notes.push(format!(
                    "The journal begins at {}, later than what was asked about.",
                    time(oldest)
                ));
            }
            Some(_) => {}
        }
    }
}
