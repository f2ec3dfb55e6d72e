//! What the operator is told, with its id and its facts.

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::notice::{Notice, Place};

use crate::harness::Plane;

/// One notice, as far as all kinds are alike.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Its kind.
    pub(crate) what: &'static str,
    /// Its diagnosis id; empty for what went well.
    pub(crate) id: &'static str,
    pub(crate) place: Place,
    pub(crate) facts: serde_json::Map<String, serde_json::Value>,
}

impl Seen {
    fn of(notice: &Notice) -> Option<Self> {
        let seen = |what, id: Option<Diagnosis>, place: &Place, facts: &Facts| {
            let id = id.map_or("", Diagnosis::as_str);
            Some(Self { what, id, place: place.clone(), facts: facts.clone().into_map() })
        };
        match notice {
            Notice::HandshakeRefused { place, facts, diagnosis, .. } => {
                seen("handshake", Some(*diagnosis), place, facts)
            }
            Notice::MessageHandled { place, facts, remark, .. } => seen("message", *remark, place, facts),
            Notice::MessageFailed { place, facts, diagnosis, .. }
            | Notice::BackendRefusedMessage { place, facts, diagnosis, .. } => {
                seen("message", Some(*diagnosis), place, facts)
            }
            Notice::HandlerNotAllowed { place, facts, .. } => {
                seen("message", Some(Diagnosis::HANDLER_NOT_ALLOWED), place, facts)
            }
            Notice::IntegrationCalled { place, facts, .. } => seen("integration", None, place, facts),
            Notice::ConnectionClosed { place, facts, diagnosis, .. } => {
                seen("close", Some(*diagnosis), place, facts)
            }
            Notice::DisconnectLost { place, facts, diagnosis, .. } => {
                seen("lost", Some(*diagnosis), place, facts)
            }
            Notice::Pushed { place, facts, .. } => seen("pushed", None, place, facts),
            Notice::Published { place, facts, .. } => seen("published", None, place, facts),
            Notice::PushRefused { place, facts, diagnosis, .. } => {
                seen("refused", Some(*diagnosis), place, facts)
            }
            Notice::Decided { place, facts, remark, .. } => seen("decided", *remark, place, facts),
            _ => None,
        }
    }

    /// A fact as text; empty when there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.facts.get(name).and_then(|value| value.as_str()).unwrap_or_default()
    }

    /// A fact as a number.
    pub(crate) fn number(&self, name: &str) -> f64 {
        let value = self.facts.get(name).and_then(|value| value.as_f64());
        value.unwrap_or_else(|| panic!("no number `{name}` in {self:?}"))
    }

    /// A fact that is a list of texts; empty when there is none.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        let values = self.facts.get(name).and_then(|value| value.as_array());
        values.into_iter().flatten().filter_map(|value| value.as_str()).collect()
    }
}

impl Plane {
    /// Waits for a notice of this kind with this id.
    pub(crate) async fn seen(&self, what: &str, id: &str) -> Seen {
        let fits = |notice: &Notice| Seen::of(notice).is_some_and(|seen| seen.what == what && seen.id == id);
        let enough = self.notices.record.until(&format!("{what} {id}"), 1, fits).await;
        enough.last().and_then(Seen::of).unwrap()
    }

    /// Notices of a kind so far.
    pub(crate) fn all_seen(&self, what: &str) -> Vec<Seen> {
        let all = self.notices.record.all();
        all.iter().filter_map(Seen::of).filter(|seen| seen.what == what).collect()
    }

    /// Nothing so far was worth an entry of its own.
    pub(crate) fn is_healthy(&self) -> bool {
        let all = self.notices.record.all();
        all.iter().filter_map(Seen::of).all(|seen| {
            let is_normal_end =
                matches!(seen.id, "connections.gone-client-closed" | "client.page-left" | "node.draining");
            seen.id.is_empty() || (seen.what == "close" && is_normal_end)
        })
    }
}
