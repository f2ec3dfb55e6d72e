//! A handshake that was accepted, until its connection runs or has to be given up.

use bytes::Bytes;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::notice::Notice;

use super::super::client_reference::Ended as EndedAttempt;
use super::super::refusal;
use super::{OpenConnection, milliseconds};
use crate::clock::now_millis;
use crate::connection::socket::Socket;
use crate::connection::{close_reason, task};
use crate::integration;
use crate::logs;
use crate::timer_wheel::Kind;

impl OpenConnection {
    /// Runs the connection to its end. The 101 has been written.
    pub(crate) async fn run(mut self: Box<Self>, socket: Socket, early: Bytes) {
        if let Some(refusal) = self.refusal.take() {
            return Box::pin(task::say_goodbye(socket, refusal)).await;
        }
        let Some((gateway, handle)) = self.inner.take() else { return };
        gateway.wheel.schedule(handle.facts.connection_id, Kind::Limits, gateway.first_deadline(&handle));
        let light = self.attempt.without_facts();
        let mut attempt = std::mem::replace(&mut self.attempt, light);
        attempt.note("status", 101);
        let roles = handle.membership_if_any().map(|membership| membership.identity().roles.join(","));
        if let Some(roles) = roles.filter(|roles| !roles.is_empty() && attempt.keeps_facts) {
            attempt.note("role", roles);
        }
        if let Some(reference) = &attempt.place.client_ref {
            let ended = EndedAttempt { request_id: attempt.place.request_id, diagnosis: None, status: 101 };
            gateway.client_references.note(reference, ended, now_millis());
        }
        let duration = attempt.started.elapsed();
        logs::opened(&gateway, &handle, &attempt);
        let (place, facts) = attempt.into_opened(&gateway);
        gateway.notice(Notice::ConnectionOpened { facts, place, duration });
        if handle.stage.settings.connect.announce_id {
            let text = format!(r#"{{"connectionId": "{}"}}"#, handle.facts.connection_id);
            let _ = handle.push(&tidegate_ws::OutboundMessage::text(Bytes::from(text)), now_millis());
        }
        let deflate = self.deflate;
        drop(self);
        task::run(gateway, handle, socket, deflate, early).await;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let Some((gateway, handle)) = self.inner.take() else { return };
        let now = now_millis();
        handle.finish();
        gateway.leave_all(&handle);
        gateway.registry.remove(handle.facts.connection_id, Diagnosis::GONE_NEVER_ESTABLISHED, 1006, now);
        gateway.handshake_over.notify_waiters();
        let light = self.attempt.without_facts();
        let mut attempt = std::mem::replace(&mut self.attempt, light);
        attempt.place.route_key = Some("$connect".into());
        let left_after = self.progress.left_after();
        attempt.note("waitedMs", left_after.unwrap_or_else(|| milliseconds(attempt.started)));
        // A fault of ours is told by whoever answers the client with 500, unless nobody is left to be answered.
        let told = match (std::thread::panicking(), left_after) {
            (false, _) => Some((ErrorCode::Gone, Diagnosis::HANDSHAKE_CLIENT_GAVE_UP)),
            (true, Some(_)) => Some((ErrorCode::Internal, Diagnosis::INTERNAL)),
            (true, None) => None,
        };
        if let Some((code, diagnosis)) = told {
            let detail = "the client left before the 101, or the handshake failed";
            refusal::tell(&gateway, attempt, code, diagnosis, detail, 499);
        }
        let tasks = gateway.tasks.clone();
        tasks.spawn(async move {
            integration::disconnect(&gateway, &handle, 1006, close_reason::ABNORMALLY).await;
        });
    }
}
