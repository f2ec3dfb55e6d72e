//! Why an id is not connected: what is remembered of it, and what it says itself.

use tidegate_core::context::iso_time;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::journal::Facts;

use crate::gateway::Gateway;
use crate::registry::Origin;

/// Milliseconds after which a post to a closed id means that a record was not cleaned up.
const STALE_AFTER: u64 = 3600 * 1000;

/// Posts to a closed id after the first from which on the same is meant.
const STALE_POSTS: u32 = 3;

/// Why an id is not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WhyGone {
    pub(crate) diagnosis: Diagnosis,
    /// `pending`, `closing`, `closed`, `refused` or `unknown`.
    pub(crate) state: &'static str,
    /// Why it ended or was refused.
    pub(crate) reason: Option<Diagnosis>,
    /// The code that it was closed with.
    pub(crate) code: Option<u16>,
    /// Milliseconds since 1970.
    pub(crate) closed_at: Option<u64>,
    /// Milliseconds since 1970, where the id is one of this installation.
    pub(crate) made_at: Option<u64>,
    /// Its end is within the time for which ends are remembered.
    pub(crate) is_remembered: bool,
    /// Posts to it since its end, the present one not counted.
    pub(crate) n_posts: u32,
}

impl WhyGone {
    fn new(diagnosis: Diagnosis, state: &'static str) -> Self {
        Self {
            diagnosis,
            state,
            reason: None,
            code: None,
            closed_at: None,
            made_at: None,
            is_remembered: false,
            n_posts: 0,
        }
    }

    /// The handshake is under way.
    pub(crate) fn pending(connect_started_at: u64) -> Self {
        let made_at = Some(connect_started_at);
        Self { made_at, is_remembered: true, ..Self::new(Diagnosis::GONE_NEVER_ESTABLISHED, "pending") }
    }

    /// What the catalogue names as proof.
    pub(crate) fn facts(&self) -> Facts {
        let mut facts = Facts::none().with("connectionState", self.state);
        facts.add_some("closedAt", self.closed_at);
        facts.add_some("closeCode", self.code);
        facts.add_some("closeReason", self.reason.map(Diagnosis::as_str));
        facts.add_some("madeAt", self.made_at);
        if self.n_posts > 0 {
            facts.add("postsSince", self.n_posts);
        }
        let is_closed = matches!(self.state, "closed" | "closing");
        facts.add_some("symptom", is_closed.then(|| Diagnosis::PUSH_CONNECTION_CLOSED.as_str()));
        facts
    }

    /// What a caller who has proven who it is may know.
    pub(crate) fn told(&self) -> Vec<(&'static str, serde_json::Value)> {
        let mut told = Vec::new();
        if let Some(closed_at) = self.closed_at {
            told.push(("closedAt", iso_time(closed_at).into()));
        }
        if let Some(code) = self.code {
            told.push(("code", code.into()));
        }
        if let Some(reason) = self.reason {
            told.push(("reason", reason.as_str().into()));
        }
        told
    }
}

impl Gateway {
    /// Why an id is not connected. Every id that this process made can be told, as long as it is remembered.
    pub(crate) fn explain_gone(&self, id: ConnectionId, now: u64) -> WhyGone {
        if let Some(handle) = self.registry.find(id) {
            if handle.is_pending() {
                return WhyGone::pending(handle.facts.connected_at);
            }
            if let Some(cause) = handle.ending() {
                return WhyGone {
                    reason: Some(cause.diagnosis),
                    code: Some(cause.code),
                    closed_at: Some(now),
                    made_at: Some(id.made_at()),
                    is_remembered: true,
                    ..WhyGone::new(cause.gone, "closing")
                };
            }
        }
        let memory = self.in_force().node.settings.all.management.gone_memory.saturating_mul(1000);
        if let Some(gone) = self.registry.gone(id) {
            let age = now.saturating_sub(gone.at);
            let diagnosis = match () {
                () if age >= STALE_AFTER || gone.n_posts >= STALE_POSTS => {
                    Diagnosis::CONNECTIONS_STALE_RECORD
                }
                () if age > memory => Diagnosis::GONE_UNKNOWN_ID,
                () => gone.diagnosis,
            };
            return WhyGone {
                reason: gone.reason.or(Some(gone.diagnosis)),
                code: (gone.code != 0).then_some(gone.code),
                closed_at: Some(gone.at),
                made_at: Some(id.made_at()),
                is_remembered: age <= memory,
                n_posts: gone.n_posts,
                ..WhyGone::new(diagnosis, if gone.code == 0 { "refused" } else { "closed" })
            };
        }
        let longest = self.in_force().node.settings.all.data_plane.age().unwrap_or_default();
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        let (diagnosis, state) = match self.registry.origin(id) {
            Origin::Elsewhere => return WhyGone::new(Diagnosis::GONE_UNKNOWN_ID, "unknown"),
            // So many have ended since that its end was forgotten.
            Origin::Here => (Diagnosis::CONNECTIONS_STALE_RECORD, "closed"),
            // It had reached its age, and an hour more had passed, before this process began.
            Origin::Earlier
                if longest > 0
                    && id.made_at().saturating_add(longest).saturating_add(STALE_AFTER)
                        < self.registry.started_at() =>
            {
                (Diagnosis::CONNECTIONS_STALE_RECORD, "closed")
            }
            Origin::Earlier => (Diagnosis::GONE_RESTART, "closed"),
        };
        WhyGone { made_at: Some(id.made_at()), ..WhyGone::new(diagnosis, state) }
    }
}
