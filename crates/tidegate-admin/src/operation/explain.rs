//! Why something failed.

use std::time::Duration;

use serde_json::json;
use tidegate_auth::Role;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_doctor::explain::{
    self, Behind, Live, LiveConnection, Options, Passed, Payload, Question, Sources,
};
use tidegate_gateway::{ConnectionFilter, RecentMessage, Way};

use super::journal;
use crate::api::Inner;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Reply, Route, Verb};
use crate::shape::{Shape, optional, parse_time, text};

/// Connections of a session that are looked at.
const MAX_OF_SESSION: usize = 20;

/// Microseconds of a millisecond.
const MILLI: u64 = 1000;

pub(super) const ROUTES: &[Route] = &[Route::new(
    Verb::Get,
    "/api/explain",
    "explain",
    Access::Look(Role::Diagnose),
    "Why something failed: causes with their proof, as `tidegate.diagnosis/1`. The journal records who asked.",
    Shape::Object,
    |inner, call| Box::pin(answer(inner, call)),
)
.query(&[
    optional(
        "q",
        text(4096),
        "A request, connection or client reference id, a close code, a status, a diagnosis id or an error text.",
    ),
    optional("since", Shape::Time, "Not older than this; a day unless given."),
    optional("user", text(255), "Only of this user."),
    optional("address", text(64), "Only of this client address, as it is or as it is kept."),
    optional("api", text(255), "Only of this API."),
    optional("payloads", Shape::Boolean, "Shows what was captured of the messages of a connection, see `/api/capture`."),
    optional("last", Shape::Integer { min: 1, max: explain::MAX_LAST as u64 }, "The newest so many failures, instead of `q`."),
])
.refuses(&[503])];

async fn answer(inner: &Inner, call: &Call) -> Answer {
    let member = |name: &str| call.text(name).map(str::to_owned);
    let question =
        match (call.number("last"), call.text("q").map(str::trim).filter(|words| !words.is_empty())) {
            (Some(_), Some(_)) => return Err(Refusal::problem("last", "goes without q")),
            (Some(last), None) => Question::Last(usize::try_from(last).unwrap_or(explain::MAX_LAST)),
            (None, Some(words)) => {
                Question::parse(words).map_err(|error| Refusal::problem("q", error.to_string()))?
            }
            (None, None) if ["user", "address", "api"].iter().any(|name| call.text(name).is_some()) => {
                Question::Everything
            }
            (None, None) => return Err(Refusal::problem("q", explain::QuestionError::Nothing.to_string())),
        };
    let since = match call.text("since").and_then(parse_time) {
        Some(since) => Duration::from_millis(call.now.saturating_sub(since)),
        None => explain::DEFAULT_SINCE,
    };
    let options = Options {
        since,
        user: member("user"),
        address: member("address"),
        api: member("api"),
        payloads: call.is_set("payloads"),
    };
    let sources = Sources { journal: &*inner.journal, now: call.now * MILLI, live: Some(inner) };
    let report =
        explain::explain(&question, &sources, &options).await.map_err(|error| journal::refused(&error))?;
    journal::note_access(inner, call);
    Ok(Reply::json(json!(report)))
}

fn passed(message: &RecentMessage) -> Passed {
    Passed { at: message.at * MILLI, from_client: message.is_received, size: message.size }
}

impl Live for Inner {
    fn connection(&self, id: &str) -> Option<LiveConnection> {
        let info = self.gateway.connection(id)?;
        Some(LiveConnection {
            state: info.state.to_owned(),
            api_id: info.api,
            stage: info.stage,
            user: info.user,
            channels: info.channels,
            connected_at: info.connected_at * MILLI,
            last_active_at: info.last_active_at * MILLI,
            messages_in: info.messages_in,
            messages_out: info.messages_out,
            recent: info.recent.iter().map(passed).collect(),
        })
    }

    fn session(&self, session: &str) -> Vec<String> {
        let filter = ConnectionFilter { session: Some(session.to_owned()), ..ConnectionFilter::default() };
        let (connections, _) = self.gateway.connections(&filter, None, MAX_OF_SESSION);
        connections.into_iter().map(|connection| connection.connection_id).collect()
    }

    fn stages_behind(&self) -> Vec<Behind> {
        let behind = self.control.stages_behind().into_iter();
        behind.map(|(api_id, stage)| Behind { api_id, stage, differences: Vec::new() }).collect()
    }

    fn time_scale(&self) -> u64 {
        self.gateway.time_scale()
    }

    fn payloads(&self, id: &str) -> Vec<Payload> {
        let captured = self.gateway.captured(Some(id)).into_iter();
        captured
            .map(|payload| Payload {
                at: payload.at * MILLI,
                request_id: payload.request_id,
                from_client: payload.way == Way::In,
                size: payload.size,
                text: payload.text,
            })
            .collect()
    }

    fn why_gone(&self, id: &str) -> Option<Diagnosis> {
        self.gateway.connection(id).is_none().then(|| self.gateway.why_gone(id))
    }
}
