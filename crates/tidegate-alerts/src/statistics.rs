//! Numbers: who is connected, and what has happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::delivery::Delivery;

/// Name of the one node that there is.
pub const NODE: &str = "local";

/// Counters from the start on, and gauges. Labels are channels and roles of the configuration, ids of the catalogue and
/// close codes: nothing that belongs to a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Connections.
    pub connections: usize,
    /// Connections by channel and role.
    pub members: BTreeMap<(Arc<str>, Arc<str>), usize>,
    /// Alerts and broadcasts that were published.
    pub published: u64,
    /// Connections that took one.
    pub delivered: u64,
    /// Connections that did not.
    pub failed: u64,
    /// Refused handshakes by diagnosis.
    pub refused: BTreeMap<&'static str, u64>,
    /// Ended connections by close code.
    pub closed: BTreeMap<u16, u64>,
}

/// Counts.
#[derive(Debug, Default)]
pub struct Counters {
    published: AtomicU64,
    delivered: AtomicU64,
    failed: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    closed: Mutex<BTreeMap<u16, u64>>,
}

impl Counters {
    /// An alert went out.
    pub fn published(&self, delivered: usize, failed: usize) {
        let add = |counter: &AtomicU64, n: usize| counter.fetch_add(n as u64, Ordering::Relaxed);
        add(&self.published, 1);
        add(&self.delivered, delivered);
        add(&self.failed, failed);
    }

    /// A handshake was refused. As many ids as the catalogue has.
    pub fn refused(&self, diagnosis: &'static str) {
        *self.refused.lock().entry(diagnosis).or_default() += 1;
    }

    /// A connection ended. Codes that RFC 6455 does not have count as 0, so that clients cannot make labels.
    pub fn closed(&self, code: u16) {
        let code = if (1000..=1015).contains(&code) { code } else { 0 };
        *self.closed.lock().entry(code).or_default() += 1;
    }

    /// All numbers.
    pub fn read(&self, delivery: &Delivery) -> Metrics {
        let (connections, channels) = delivery.count();
        let members = channels.into_iter().flat_map(|(channel, roles)| {
            roles.into_iter().map(move |(role, n)| ((Arc::clone(&channel), role), n))
        });
        Metrics {
            connections,
            members: members.collect(),
            published: self.published.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            refused: self.refused.lock().clone(),
            closed: self.closed.lock().clone(),
        }
    }
}

/// The answer of `GET /api/alerts/stats`. There is one node.
pub fn stats(delivery: &Delivery, node: &str) -> Value {
    let (total, channels) = delivery.count();
    let channels: Map<String, Value> = channels
        .into_iter()
        .map(|(channel, roles)| {
            let roles: Map<String, Value> =
                roles.into_iter().map(|(role, n)| (role.to_string(), n.into())).collect();
            let count: u64 = roles.values().filter_map(Value::as_u64).sum();
            (channel.to_string(), json!({ "connection_count": count, "user_roles": roles }))
        })
        .collect();
    let numbers = json!({ "total_connections": total, "channels": channels });
    let mut answer = numbers.clone();
    answer["nodes"] = json!({ node: numbers });
    answer
}
