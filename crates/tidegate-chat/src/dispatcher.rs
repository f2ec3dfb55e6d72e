//! Frames on their way out: encoded once, given to everybody in their audience, in one order for all.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_core::app::Host;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;

use crate::connections::{Connections, Waiting};
use crate::event::{Dispatch, encode};
use crate::settings::Settings;

/// Close code of a connection for which too much has come before it was open.
const POLICY: u16 = 1008;

/// Gives dispatches to connections.
#[derive(Debug, Default)]
pub struct Dispatcher {
    /// Who is there.
    pub connections: Connections,
    host: OnceLock<Arc<dyn Host>>,
    /// Held while one event's frames go into outboxes: all connections see them in the same order.
    order: Mutex<()>,
}

impl Dispatcher {
    /// Called once, before anything is sent.
    pub fn start(&self, host: Arc<dyn Host>) {
        // A second one would be the same gateway's.
        let _ = self.host.set(host);
    }

    /// The gateway, once it has started.
    pub fn host(&self) -> Option<&Arc<dyn Host>> {
        self.host.get()
    }

    /// Sends what an event has left, in its order. They are in the outboxes when it returns.
    pub fn send(&self, dispatches: &[Dispatch], settings: &Settings) {
        let Some(host) = self.host.get() else { return };
        if dispatches.is_empty() {
            return;
        }
        let frames: Vec<Bytes> =
            dispatches.iter().map(|dispatch| bytes_of(encode(&dispatch.frame, settings))).collect();
        let _order = self.order.lock();
        for (dispatch, frame) in dispatches.iter().zip(frames) {
            let to = self.connections.targets(&dispatch.audience, &frame);
            if !to.is_empty() {
                host.send(&to, frame);
            }
        }
    }

    /// The first frame of a connection is in its outbox: what has waited follows.
    pub fn open(&self, connection: ConnectionId) {
        let Some(host) = self.host.get() else { return };
        let _order = self.order.lock();
        match self.connections.open(connection) {
            Waiting::Frames(frames) => {
                for frame in frames {
                    host.send(&[connection], frame);
                }
            }
            Waiting::TooMuch => {
                host.close(connection, POLICY, "Slow consumer", Diagnosis::CONN_SLOW_CONSUMER);
            }
        }
    }
}

/// The text's own bytes, without a copy.
fn bytes_of(text: Arc<str>) -> Bytes {
    struct Owner(Arc<str>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    Bytes::from_owner(Owner(text))
}
