//! Probe 2: what the host name resolves to, who says so, and for how long.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_core::diagnosis::Diagnosis;

use super::dns_message::{self, Kind, Reply};
use super::{Outcome, Run, facts};
use crate::report::{Confidence, Finding, Severity};

/// Longest wait for one name server.
const SERVER_LIMIT: Duration = Duration::from_secs(2);

/// Most addresses that are looked at.
const MAX_ADDRESSES: usize = 8;

/// What one name server said about a name.
#[derive(Debug, Clone, Default)]
struct Lookup {
    server: String,
    /// Did it answer at all?
    answered: bool,
    no_such_name: bool,
    addresses: BTreeSet<IpAddr>,
    ttl: Option<u32>,
    aliases: Vec<String>,
}

impl Lookup {
    fn measured(&self) -> Value {
        json!({
            "server": self.server,
            "answer": match self {
                Self { answered: false, .. } => "none",
                Self { no_such_name: true, .. } => "no such name",
                Self { addresses, .. } if addresses.is_empty() => "no address",
                _ => "addresses",
            },
            "addresses": texts(&self.addresses),
            "aliases": self.aliases,
            "ttl": self.ttl,
        })
    }
}

fn texts<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> Vec<String> {
    addresses.into_iter().map(ToString::to_string).collect()
}

pub(super) async fn run(run: &mut Run<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let options = run.options;
    let Some(target) = run.target().cloned() else { return outcome };
    if let Ok(address) = target.host.parse::<IpAddr>() {
        run.resolved = vec![address];
        outcome.summary("the URL has an address, no name");
        return outcome;
    }
    let fixed: Vec<IpAddr> = options
        .resolve
        .iter()
        .filter(|resolve| resolve.host.eq_ignore_ascii_case(&target.host) && resolve.port == target.port)
        .map(|resolve| resolve.address)
        .collect();
    let host = target.host.as_str();
    let is_local = host == "localhost" || host.ends_with(".localhost");
    let system = match options.resolvers.is_empty() {
        true => Some(of_system(if is_local { "localhost" } else { host }).await),
        false => None,
    };
    let servers = match (is_local, options.resolvers.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => system_resolvers(),
        (false, false) => options.resolvers.clone(),
    };
    let limit = options.timeout.min(SERVER_LIMIT);
    let mut lookups = Vec::new();
    for server in servers.iter().take(2) {
        lookups.push(of_server(*server, host, limit).await);
    }
    let mut measured: Vec<Value> = Vec::new();
    if let Some(system) = &system {
        measured.push(system.measured());
    }
    measured.extend(lookups.iter().map(Lookup::measured));
    outcome.measure("answers", measured);

    let from = system.iter().chain(&lookups).find(|lookup| !lookup.addresses.is_empty());
    let addresses: Vec<IpAddr> =
        from.map(|lookup| lookup.addresses.iter().copied().collect()).unwrap_or_default();
    if !fixed.is_empty() {
        run.public_addresses = addresses.into_iter().filter(|address| !fixed.contains(address)).collect();
        outcome.summary(format!("{} by --resolve", texts(&fixed).join(", ")));
        run.resolved = fixed;
        return outcome;
    }
    if addresses.is_empty() {
        no_address(run, &mut outcome, host, system.as_ref(), &lookups);
        return outcome;
    }
    // IPv6 first, as browsers do.
    let mut ordered = addresses;
    ordered.sort_by_key(|address| !address.is_ipv6());
    if ordered.len() > MAX_ADDRESSES {
        run.notes
            .push(format!("{host} has {} addresses; the first {MAX_ADDRESSES} are looked at", ordered.len()));
        ordered.truncate(MAX_ADDRESSES);
    }
    outcome.summary(format!("{host} is {}", texts(&ordered).join(", ")));
    if let (false, Some(server), Some(local)) = (is_local, servers.first(), from) {
        let local = lookups.iter().find(|lookup| lookup.ttl.is_some()).unwrap_or(local).clone();
        compare_with_authority(run, &mut outcome, *server, host, &local, limit).await;
    }
    run.resolved = ordered;
    outcome
}

fn no_address(
    run: &mut Run<'_>,
    outcome: &mut Outcome,
    host: &str,
    system: Option<&Lookup>,
    lookups: &[Lookup],
) {
    let empty: Vec<&Lookup> = system.into_iter().chain(lookups).filter(|lookup| lookup.answered).collect();
    if empty.is_empty() {
        outcome.inconclusive("no name server answered");
        outcome.stop("no name server answered");
        return;
    }
    // The system asks the first of the servers; only different ones are two witnesses.
    let witnesses = lookups.iter().filter(|lookup| lookup.answered).count().max(1);
    let confidence = if witnesses > 1 { Confidence::Proven } else { Confidence::Likely };
    let said: Vec<String> = empty
        .iter()
        .map(|lookup| {
            let answer = if lookup.no_such_name { "no such name" } else { "no address" };
            format!("{} says {answer}", lookup.server)
        })
        .collect();
    let host_facts = facts([("domain", host.into()), ("count", empty.len().into())]);
    let mut finding = Finding::new(Diagnosis::DNS_NO_RECORD, Severity::Problem, confidence)
        .seen(format!("{host}: {}.", said.join("; ")), host_facts)
        .next(run.again("dns"));
    if witnesses < 2 {
        finding = finding.next(run.again_with("--only dns --resolver ADDRESS --resolver ANOTHER-ADDRESS"));
    }
    run.add(finding);
    outcome.stop(format!("{host} does not resolve"));
}

/// One address of another host of the run.
pub(super) async fn address_of(run: &Run<'_>, host: &str) -> Option<IpAddr> {
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    let is_local = host == "localhost" || host.ends_with(".localhost");
    let lookup = match run.options.resolvers.first().filter(|_| !is_local) {
        Some(server) => of_server(*server, host, run.options.timeout.min(SERVER_LIMIT)).await,
        None => of_system(if is_local { "localhost" } else { host }).await,
    };
    let is_four = lookup.addresses.iter().find(|address| address.is_ipv4());
    is_four.or(lookup.addresses.first()).copied()
}

async fn of_system(host: &str) -> Lookup {
    let mut lookup = Lookup { server: "this system".to_owned(), ..Lookup::default() };
    match tokio::net::lookup_host((host, 0)).await {
        Ok(found) => {
            lookup.answered = true;
            lookup.addresses = found.map(|address| address.ip()).collect();
        }
        Err(error) => {
            // The text of the resolver library; only "try again" means that nobody answered.
            let text = error.to_string().to_ascii_lowercase();
            lookup.answered = !text.contains("temporary") && !text.contains("try again");
            lookup.no_such_name = lookup.answered;
        }
    }
    lookup
}

async fn of_server(server: SocketAddr, host: &str, limit: Duration) -> Lookup {
    let (four, six) = tokio::join!(
        dns_message::ask(server, host, Kind::A, limit),
        dns_message::ask(server, host, Kind::Aaaa, limit)
    );
    merge(server.to_string(), [four, six])
}

fn merge(server: String, replies: [Option<Reply>; 2]) -> Lookup {
    let mut lookup = Lookup { server, ..Lookup::default() };
    for reply in replies.into_iter().flatten() {
        // Other codes than these say that the server cannot tell.
        lookup.answered |= matches!(reply.code, 0 | 3);
        lookup.no_such_name |= reply.code == 3;
        for (address, ttl) in reply.addresses() {
            lookup.addresses.insert(address);
            lookup.ttl = Some(lookup.ttl.map_or(ttl, |known| known.min(ttl)));
        }
        for alias in reply.aliases() {
            if !lookup.aliases.iter().any(|known| known == alias) {
                lookup.aliases.push(alias.to_owned());
            }
        }
    }
    lookup
}

/// Name servers of this system. Source: resolv.conf(5).
fn system_resolvers() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok())
        .map(|address| SocketAddr::new(address, 53))
        .collect()
}

/// Asks a server that owns the zone, and compares.
async fn compare_with_authority(
    run: &mut Run<'_>,
    outcome: &mut Outcome,
    resolver: SocketAddr,
    host: &str,
    local: &Lookup,
    limit: Duration,
) {
    let Some(zone) = psl::domain_str(host) else { return };
    let Some(reply) = dns_message::ask(resolver, zone, Kind::Ns, limit).await else { return };
    let Some(name) = reply.name_servers().next().map(str::to_owned) else { return };
    let Some(of_name) = dns_message::ask(resolver, &name, Kind::A, limit).await else { return };
    let Some((address, _)) = of_name.addresses().next() else { return };
    let server = SocketAddr::new(address, run.options.surroundings.dns_port);
    let first = of_server(server, host, limit).await;
    outcome.measure("authoritative", first.measured());
    // An alias into another zone has no addresses here; nothing to compare then.
    if first.addresses.is_empty() || !first.addresses.is_disjoint(&local.addresses) {
        return;
    }
    // Different answers inside and outside of a network are meant to be.
    if first.addresses.iter().any(is_private) != local.addresses.iter().any(is_private) {
        return;
    }
    // Servers that answer differently each time, or by who asks, are no sign of a change.
    let second = of_server(server, host, limit).await;
    if second.addresses != first.addresses {
        return;
    }
    let ttl = local.ttl;
    // With so short a time the owner may well balance load or answer by place.
    let confidence = match first.ttl {
        Some(ttl) if ttl > 60 => Confidence::Proven,
        _ => Confidence::Possible,
    };
    let left = ttl.map_or_else(String::new, |ttl| format!(" for {ttl} more seconds"));
    run.add(
        Finding::new(Diagnosis::DNS_STALE, Severity::Warning, confidence)
            .seen(
                format!(
                    "{} still answers {}{left}; {name}, which owns the zone, answers {}.",
                    local.server,
                    texts(&local.addresses).join(", "),
                    texts(&first.addresses).join(", "),
                ),
                facts([
                    ("domain", host.into()),
                    ("addresses", texts(&local.addresses).into()),
                    ("authoritative", texts(&first.addresses).into()),
                    ("ttl", ttl.into()),
                ]),
            )
            .next(run.again("dns")),
    );
}

fn is_private(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_loopback(),
    }
}
