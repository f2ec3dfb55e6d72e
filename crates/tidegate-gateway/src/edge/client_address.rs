//! Who the client is when proxies stand between.
//!
//! Forwarded headers count only from peers that the operator named; everybody else is who the socket says.

use std::net::{IpAddr, Ipv6Addr};

use http::HeaderMap;

/// What is known of the client's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientAddress {
    pub(crate) ip: IpAddr,
    /// `https` at the client.
    pub(crate) is_secure: bool,
    /// Port that the client used.
    pub(crate) port: u16,
    /// The list for `X-Forwarded-For` when proxies were passed.
    pub(crate) forwarded_for: Option<String>,
}

impl ClientAddress {
    /// `is_trusted` tells whether an address is one of the operator's proxies.
    pub(crate) fn new(
        peer: IpAddr,
        is_tls: bool,
        listener_port: u16,
        headers: &HeaderMap,
        is_trusted: impl Fn(IpAddr) -> bool,
    ) -> Self {
        let peer = peer.to_canonical();
        let direct = Self { ip: peer, is_secure: is_tls, port: listener_port, forwarded_for: None };
        if !is_trusted(peer) {
            return direct;
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let chain: Vec<IpAddr> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(parse_forwarded)
            .collect();
        // The last address that no proxy of ours has: further left anybody may have written anything.
        let client = chain.iter().rposition(|address| !is_trusted(*address)).or(if chain.is_empty() {
            None
        } else {
            Some(0)
        });
        let Some(client) = client else { return direct };
        let mut forwarded: Vec<String> = chain[client..].iter().map(ToString::to_string).collect();
        forwarded.push(peer.to_string());
        let is_secure = text("x-forwarded-proto")
            .map_or(is_tls, |proto| proto.eq_ignore_ascii_case("https") || proto.eq_ignore_ascii_case("wss"));
        let port = text("x-forwarded-port").and_then(|port| port.parse().ok()).unwrap_or(if is_secure {
            443
        } else {
            listener_port
        });
        Self { ip: chain[client], is_secure, port, forwarded_for: Some(forwarded.join(", ")) }
    }
}

/// One entry of `X-Forwarded-For`: a bare address, also when it came with a port, brackets or a zone.
pub(super) fn parse_forwarded(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim().trim_matches('"');
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Some(bracketed) = entry.strip_prefix('[') {
        let inner = bracketed.split_once(']')?.0;
        let bare = inner.split('%').next()?;
        return bare.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical());
    }
    let bare = entry.split('%').next()?;
    bare.parse::<IpAddr>()
        .ok()
        .or_else(|| entry.rsplit_once(':')?.0.parse().ok())
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use tidegate_core::network::Network;

    use super::*;

    fn of(forwarded: &str) -> ClientAddress {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", forwarded.parse().unwrap());
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        let trusted: Network = "10.0.0.0/8".parse().unwrap();
        ClientAddress::new("10.0.0.1".parse().unwrap(), false, 8080, &headers, |address| {
            trusted.contains(address)
        })
    }

    #[test]
    fn the_first_entry_is_a_bare_address() {
        // S0-19, S0-25
        for (forwarded, ip) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:5123", "203.0.113.7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("[fe80::1%eth0]", "fe80::1"),
            ("198.51.100.1, 203.0.113.7, 10.1.1.1", "203.0.113.7"),
        ] {
            let address = of(forwarded);
            assert_eq!(address.ip.to_string(), ip, "{forwarded}");
            assert!(address.forwarded_for.is_some_and(|list| list.starts_with(ip)), "{forwarded}");
            assert!(address.is_secure && address.port == 443);
        }
    }

    #[test]
    fn strangers_are_who_their_socket_says() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "203.0.113.7".parse().unwrap());
        let address = ClientAddress::new("192.0.2.1".parse().unwrap(), false, 8080, &headers, |_| false);
        assert_eq!(
            (address.ip.to_string().as_str(), address.is_secure, address.port),
            ("192.0.2.1", false, 8080)
        );
        assert_eq!(address.forwarded_for, None);
    }
}
