//! Which notice becomes which entry.

use std::time::Duration;

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Draft, FactValue, Facts, Kind};
use tidegate_core::notice::{Notice, Place};

/// Ends of connections that somebody wanted: no failure.
const WANTED_ENDS: [Diagnosis; 3] =
    [Diagnosis::CLIENT_PAGE_LEFT, Diagnosis::GONE_CLIENT_CLOSED, Diagnosis::CLOSE_BACKEND_REQUESTED];

/// Did something go wrong? Failures are written before anything else.
pub(super) fn is_failure(notice: &Notice) -> bool {
    match notice {
        Notice::ConnectionOpened { .. }
        | Notice::Pushed { .. }
        | Notice::Published { .. }
        | Notice::MembershipChanged { .. } => false,
        Notice::MessageHandled { remark, .. } | Notice::Decided { remark, .. } => remark.is_some(),
        Notice::IntegrationCalled { status, .. } => is_bad(*status),
        Notice::ConnectionClosed { diagnosis, .. } => !WANTED_ENDS.contains(diagnosis),
        Notice::TokenRequested { refused, .. } => refused.is_some(),
        // There are few, and what happened to the node explains what happened to its connections.
        Notice::Controlled { .. } => true,
        Notice::HandshakeRefused { .. }
        | Notice::SubprotocolTrouble { .. }
        | Notice::MessageFailed { .. }
        | Notice::BackendRefusedMessage { .. }
        | Notice::DisconnectLost { .. }
        | Notice::ChannelRefused { .. }
        | Notice::WouldBeLimited { .. }
        | Notice::HandlerNotAllowed { .. }
        | Notice::KeySetNotFetched { .. }
        | Notice::PushRefused { .. }
        | Notice::AcceptFailed { .. }
        | Notice::ConnectionPanicked { .. } => true,
    }
}

fn is_bad(status: Option<u16>) -> bool {
    status.is_none_or(|status| !(200..300).contains(&status))
}

/// What is to be written of a notice of a time in microseconds since 1970.
pub(super) fn of(notice: Notice, at: u64, node: u32) -> Draft {
    let mut draft = match notice {
        Notice::ConnectionOpened { place, duration, facts } => {
            made(Kind::Handshake, None, place, facts).lasted(duration).with("status", 101)
        }
        Notice::HandshakeRefused { place, status, code, diagnosis, detail, duration, facts } => {
            made(Kind::Handshake, Some(diagnosis), place, facts)
                .lasted(duration)
                .with("status", status)
                .with("code", code.as_str())
                .with_text("detail", &detail)
        }
        Notice::SubprotocolTrouble { place, diagnosis, facts } => {
            made(Kind::Handshake, Some(diagnosis), place, facts).with("check", "subprotocol")
        }
        Notice::MessageHandled { place, size, status, dropped_reply, facts, remark } => {
            made(Kind::Message, remark, place, facts)
                .with("size", size)
                .with("status", status)
                .with("replyDropped", dropped_reply)
        }
        Notice::MessageFailed { place, size, code, diagnosis, detail, facts } => {
            made(Kind::Message, Some(diagnosis), place, facts)
                .with("size", size)
                .with("code", code.as_str())
                .with_text("detail", &detail)
        }
        Notice::BackendRefusedMessage { place, status, diagnosis, facts } => {
            made(Kind::Message, Some(diagnosis), place, facts).with("status", status)
        }
        Notice::IntegrationCalled { place, event_type, status, duration, facts } => {
            let outcome = is_bad(status).then(|| of_call(status, &facts));
            let made =
                made(Kind::Integration, outcome, place, facts).lasted(duration).with("eventType", event_type);
            match status {
                Some(status) => made.with("status", status),
                None => made,
            }
        }
        Notice::ConnectionClosed {
            place,
            by,
            close_code,
            diagnosis,
            age,
            messages_in,
            messages_out,
            bytes_in,
            bytes_out,
            facts,
        } => {
            let outcome = (!WANTED_ENDS.contains(&diagnosis)).then_some(diagnosis);
            made(Kind::Close, outcome, place, facts)
                .with("by", by.as_str())
                .with("closeCode", close_code)
                .with("closeReason", diagnosis.as_str())
                .with("ageMs", u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
                .with("messagesIn", messages_in)
                .with("messagesOut", messages_out)
                .with("bytesIn", bytes_in)
                .with("bytesOut", bytes_out)
        }
        Notice::DisconnectLost { place, diagnosis, detail, facts } => {
            made(Kind::Integration, Some(diagnosis), place, facts)
                .with("eventType", "DISCONNECT")
                .with("lost", true)
                .with_text("detail", &detail)
        }
        Notice::Pushed { place, size, facts } => {
            made(Kind::Post, None, place, facts).with("target", "connection").with("size", size)
        }
        Notice::Published { place, target, size, delivered, gone, slow, facts } => {
            made(Kind::Post, None, place, facts)
                .with("target", target)
                .with("size", size)
                .with("delivered", delivered)
                .with("gone", gone)
                .with("slow", slow)
        }
        Notice::PushRefused { place, status, code, diagnosis, facts } => {
            made(Kind::Post, Some(diagnosis), place, facts)
                .with("status", status)
                .with("result", code.as_str())
        }
        Notice::ChannelRefused { place, channel, diagnosis, detail, facts } => {
            made(Kind::Membership, Some(diagnosis), place, facts)
                .with_text("channel", &channel)
                .with_text("rule", &detail)
        }
        Notice::MembershipChanged { place, channel, change, by } => {
            made(Kind::Membership, None, place, Facts::none())
                .with_text("channel", &channel)
                .with("change", change)
                .with("by", by)
        }
        Notice::WouldBeLimited { place, diagnosis, detail, facts } => {
            made(Kind::RateLimit, Some(diagnosis), place, facts)
                .with("dryRun", true)
                .with_text("detail", &detail)
        }
        Notice::HandlerNotAllowed { place, handler, nearest, facts } => {
            let outcome = Some(Diagnosis::HANDLER_NOT_ALLOWED);
            let made =
                made(Kind::Message, outcome, place, facts).with_text("selectedValue", &cut(&handler, 64));
            match nearest {
                Some(nearest) => made.with("nearest", nearest),
                None => made,
            }
        }
        Notice::KeySetNotFetched { place, diagnosis, detail, facts } => {
            made(Kind::Jwt, Some(diagnosis), place, facts).with_text("detail", &detail)
        }
        Notice::TokenRequested { place, refused, facts } => made(Kind::Token, refused, place, facts),
        Notice::Decided { place, kind, remark, facts } => made(kind, remark, place, facts),
        Notice::Controlled { place, what, actor, refused, facts } => {
            made(Kind::Control, refused, place, facts).with("what", what).with("actor", actor)
        }
        Notice::AcceptFailed { error, diagnosis } => {
            made(Kind::Control, Some(diagnosis), Place::default(), Facts::none())
                .with("what", "accept")
                .with_text("detail", &error)
        }
        Notice::ConnectionPanicked { place } => {
            made(Kind::Control, Some(Diagnosis::INTERNAL), place, Facts::none()).with("what", "panic")
        }
    }
    .0;
    draft.ts = at;
    draft.node = node;
    draft
}

/// What a call that went wrong is called. What the call itself found out wins.
fn of_call(status: Option<u16>, facts: &Facts) -> Diagnosis {
    let known = facts.text("causeId").as_deref().and_then(Diagnosis::find);
    match (known, status) {
        (Some(known), _) => known,
        (None, Some(300..400)) => Diagnosis::BACKEND_REDIRECT,
        (None, Some(400..500)) => Diagnosis::BACKEND_REFUSED,
        (None, Some(_)) => Diagnosis::INTEGRATION_ERROR_STATUS,
        (None, None) => Diagnosis::INTEGRATION_REFUSED,
    }
}

fn cut(text: &str, n_letters: usize) -> String {
    text.chars().take(n_letters).collect()
}

/// An entry that is being made.
struct Made(Draft);

fn made(kind: Kind, outcome: Option<Diagnosis>, place: Place, facts: Facts) -> Made {
    let address = place.address.map(|address| address.to_canonical().to_string());
    Made(Draft { ts: 0, kind, outcome, place, node: 0, address, duration_ms: None, facts })
}

impl Made {
    /// Adds a fact, unless the notice brought it.
    fn with(mut self, name: &'static str, value: impl FactValue) -> Self {
        if !self.0.facts.has(name) {
            self.0.facts.add(name, value);
        }
        self
    }

    /// Adds a text, unless it is empty or the notice brought it.
    fn with_text(self, name: &'static str, text: &str) -> Self {
        if text.is_empty() { self } else { self.with(name, text) }
    }

    fn lasted(mut self, duration: Duration) -> Self {
        // Microseconds are enough.
        self.0.duration_ms = Some(duration.as_micros() as f64 / 1000.0);
        self
    }
}
