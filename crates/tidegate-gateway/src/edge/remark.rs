//! What is worth a look although the handshake went on: told at most once an hour for each subject.
//!
//! A false remark is worse than none, so each needs something that was observed and that a healthy set-up does not show.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use http::header::{HOST, HeaderMap, ORIGIN};
use parking_lot::Mutex;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::{Facts, Kind};
use tidegate_core::notice::Notice;
use tidegate_core::snapshot::{Deployment, IntegrationKind, Route};

use super::attempt::Attempt;
use super::client_address::{ClientAddress, parse_forwarded};
use super::service::{Peer, Via};
use crate::clock::now_millis;
use crate::gateway::Gateway;

/// Milliseconds between two remarks about one subject.
const PAUSE: u64 = 3600 * 1000;

/// Subjects at a time; beyond them there are no new remarks until old ones are an hour old.
const MAX_SUBJECTS: usize = 4096;

/// Peers whose forwarded clients are counted at a time.
const MAX_PEERS: usize = 1024;

/// Different clients behind one peer from which on it must be a proxy.
const MANY_CLIENTS: usize = 3;

/// Headers that proxies add and clients do not.
const OF_PROXIES: [&str; 7] = [
    "via",
    "x-real-ip",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-server",
    "forwarded",
];

/// What has been remarked.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    told: Mutex<HashMap<(Diagnosis, String), u64>>,
    /// For each peer that is no trusted proxy: hashes of the clients that it forwards, and since when.
    clients: Mutex<HashMap<IpAddr, (u64, Vec<u64>)>>,
    hasher: RandomState,
}

impl Remarks {
    /// Whether it is time for a remark; then it counts as made.
    fn is_due(&self, diagnosis: Diagnosis, subject: String, now: u64) -> bool {
        let mut told = self.told.lock();
        let key = (diagnosis, subject);
        if told.get(&key).is_some_and(|at| now.saturating_sub(*at) < PAUSE) {
            return false;
        }
        if told.len() >= MAX_SUBJECTS {
            told.retain(|_, at| now.saturating_sub(*at) < PAUSE);
            if told.len() >= MAX_SUBJECTS {
                return false;
            }
        }
        told.insert(key, now);
        true
    }

    /// How many different clients a peer has forwarded within the hour, as far as it matters.
    fn n_clients(&self, peer: IpAddr, client: IpAddr, now: u64) -> usize {
        let client = self.hasher.hash_one(client);
        let mut clients = self.clients.lock();
        if clients.len() >= MAX_PEERS && !clients.contains_key(&peer) {
            clients.retain(|_, (since, _)| now.saturating_sub(*since) < PAUSE);
            if clients.len() >= MAX_PEERS {
                return 0;
            }
        }
        let (since, known) = clients.entry(peer).or_insert_with(|| (now, Vec::new()));
        if now.saturating_sub(*since) >= PAUSE {
            *since = now;
            known.clear();
        }
        if known.len() < MANY_CLIENTS && !known.contains(&client) {
            known.push(client);
        }
        known.len()
    }
}

/// Makes a remark about an attempt, if it is time for one.
fn remark(
    gateway: &Gateway,
    attempt: &Attempt,
    kind: Kind,
    diagnosis: Diagnosis,
    subject: String,
    facts: Facts,
) {
    if gateway.remarks.is_due(diagnosis, subject, now_millis()) {
        gateway.notice(Notice::Decided {
            place: attempt.place.clone(),
            kind,
            remark: Some(diagnosis),
            facts,
        });
    }
}

/// Looks at how a handshake came here.
pub(super) fn on_arrival(
    gateway: &Gateway,
    attempt: &Attempt,
    peer: &Peer,
    client: &ClientAddress,
    headers: &HeaderMap,
) {
    if !attempt.keeps_facts {
        return;
    }
    let address = peer.address.ip().to_canonical();
    let about_peer = |diagnosis, facts: Facts| {
        let facts = facts.with("peer", address.to_string());
        remark(gateway, attempt, Kind::Handshake, diagnosis, address.to_string(), facts);
    };
    if let Some(tls) = &peer.tls
        && tls.server_name.is_none()
        && peer.listener == Via::Tls
        && let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok())
        && is_name(host)
    {
        about_peer(Diagnosis::TLS_NO_SNI, Facts::none().with("host", super::attempt::short(host, 255)));
    }
    let forwarded = headers.get_all("x-forwarded-for").iter().next_back();
    let is_trusted = gateway.is_trusted(address);
    let Some(forwarded) = forwarded else {
        let of_proxy: Vec<&str> = OF_PROXIES.into_iter().filter(|name| headers.contains_key(*name)).collect();
        // `Via` alone comes from proxies on the client's side too.
        let is_of_ours = of_proxy.iter().any(|name| !matches!(*name, "via" | "forwarded"));
        if is_of_ours && (is_trusted || is_internal(address)) {
            about_peer(Diagnosis::PROXY_FORWARDED_MISSING, Facts::none().with("headerNames", of_proxy));
        }
        return;
    };
    let last = forwarded.to_str().ok().and_then(|value| value.rsplit(',').next());
    let parsed = last.and_then(parse_forwarded);
    if is_trusted {
        // The proxy wrote it, and nobody can read it: all its clients have its address.
        if parsed.is_none() && client.forwarded_for.is_none() {
            let facts = Facts::none().with("trusted", true).with("parsed", false);
            about_peer(Diagnosis::PROXY_CLIENT_IP_COLLAPSED, facts);
        }
        return;
    }
    if gateway.in_force().node.trusted_proxies.is_empty() && is_internal(address) {
        // Perhaps a proxy that the operator has not named; one that forwards several clients is one.
        if let Some(parsed) = parsed {
            let n_clients = gateway.remarks.n_clients(address, parsed, now_millis());
            if n_clients >= MANY_CLIENTS {
                let facts = Facts::none().with("trusted", false).with("count", n_clients);
                about_peer(Diagnosis::PROXY_CLIENT_IP_COLLAPSED, facts);
            }
        }
        return;
    }
    about_peer(Diagnosis::PROXY_FORWARDED_SPOOFED, Facts::none().with("trusted", false));
}

/// Looks at what a handshake leads to.
pub(super) fn on_deployment(gateway: &Gateway, attempt: &Attempt, deployment: &std::sync::Arc<Deployment>) {
    if !attempt.keeps_facts || deployment.routes.contains_key("$connect") {
        return;
    }
    // Who answers by itself has nobody who would have to know.
    let asks_backend =
        |route: &std::sync::Arc<Route>| matches!(route.integration.kind, IntegrationKind::Http(_));
    let diagnosis = match deployment.routes.is_empty() {
        true => Diagnosis::ROUTE_NONE,
        false if deployment.routes.values().any(asks_backend) => Diagnosis::ROUTE_CONNECT_MISSING,
        false => return,
    };
    let place = &attempt.place;
    // A new deployment is another object; its address tells it from the one before.
    let subject = format!("{}/{}/{:p}", place.api_id, place.stage, std::sync::Arc::as_ptr(deployment));
    let facts = Facts::none().with("routeCount", deployment.routes.len());
    remark(gateway, attempt, Kind::Handshake, diagnosis, subject, facts);
}

/// A client whose session cookie did not come, although the stage looks for it.
pub(crate) fn cookie_missing(headers: &HeaderMap, domain: &str) -> (Diagnosis, Facts) {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(domain);
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    let has_cookies = headers.contains_key(http::header::COOKIE);
    let is_cross_site = origin.is_some_and(|origin| is_cross_site(origin, host));
    let mut facts =
        Facts::none().with("crossSite", is_cross_site).with("host", super::attempt::short(host, 255));
    facts.add_some("origin", origin.map(|origin| super::attempt::short(origin, 255)));
    match is_cross_site && !has_cookies {
        true => (Diagnosis::COOKIE_SAMESITE, facts),
        false => (Diagnosis::IDENTITY_COOKIE_NOT_AVAILABLE, facts),
    }
}

/// Whether page and host are of different sites for sure: they differ in the last two labels, or one is no name.
fn is_cross_site(origin: &str, host: &str) -> bool {
    let Some((_, page)) = origin.split_once("://") else { return false };
    let (page, host) = (super::address::host_name(page), super::address::host_name(host));
    if page == host {
        return false;
    }
    let last_two = |name: &str| {
        let mut labels = name.rsplit('.').take(2).map(str::to_owned).collect::<Vec<_>>();
        labels.reverse();
        labels
    };
    is_name(&page) != is_name(&host) || last_two(&page) != last_two(&host)
}

/// A host that is a name and no address.
fn is_name(host: &str) -> bool {
    let name = super::address::host_name(host);
    !name.is_empty() && !name.starts_with('[') && name.parse::<IpAddr>().is_err()
}

/// An address of a machine or network of one's own.
fn is_internal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_is_made_once_an_hour_and_the_memory_is_bounded() {
        let remarks = Remarks::default();
        let due = |subject: &str, now| remarks.is_due(Diagnosis::ROUTE_NONE, subject.to_owned(), now);
        assert!(due("a", 1000));
        assert!(!due("a", 1000 + PAUSE - 1));
        assert!(due("b", 1000));
        assert!(due("a", 1000 + PAUSE));
        for n in 0..MAX_SUBJECTS {
            remarks.is_due(Diagnosis::ROUTE_NONE, n.to_string(), 2 * PAUSE);
        }
        assert_eq!(remarks.told.lock().len(), MAX_SUBJECTS);
        assert!(!due("one more", 2 * PAUSE));
        assert!(due("one more", 3 * PAUSE + 1000));
    }

    #[test]
    fn sites_differ_only_when_it_is_sure() {
        // cookie.samesite
        for (origin, host, is_cross) in [
            ("https://app.example.com", "ws.example.com", false),
            ("https://example.com", "ws.example.com:8443", false),
            ("https://app.example.com", "app.example.org", true),
            ("https://a.co.uk", "b.co.uk", false),
            ("http://localhost:3000", "localhost:8080", false),
            ("http://localhost:3000", "127.0.0.1:8080", true),
            ("null", "ws.example.com", false),
        ] {
            assert_eq!(is_cross_site(origin, host), is_cross, "{origin} {host}");
        }
    }
}
