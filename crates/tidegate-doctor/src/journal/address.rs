//! How much of a client's address is kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aws_lc_rs::hmac;

/// How much of clients' addresses the journal keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAddress {
    /// All of it.
    #[default]
    Full,
    /// The network: 24 bits of IPv4, 48 of IPv6.
    Truncated,
    /// A keyed hash: two attempts of one address are recognised, and nobody reads it.
    Hashed,
}

/// Key of hashed addresses. `Debug` does not show it.
#[derive(Clone)]
pub struct AddressKey(hmac::Key);

impl AddressKey {
    /// A key of an installation; 32 random bytes.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }
}

impl std::fmt::Debug for AddressKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AddressKey(****)")
    }
}

impl ClientAddress {
    /// Its name in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Truncated => "truncated",
            Self::Hashed => "hashed",
        }
    }

    /// The setting of a name.
    pub fn find(name: &str) -> Option<Self> {
        [Self::Full, Self::Truncated, Self::Hashed].into_iter().find(|known| known.as_str() == name)
    }

    /// What is kept of an address, with or without a port: `192.0.2.0/24`, `2001:db8:1::/48`, `hmac:0123456789abcdef`.
    /// None for a text that is no address.
    pub fn conceal(self, text: &str, key: &AddressKey) -> Option<String> {
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let address: IpAddr = match inner.parse() {
            Ok(address) => address,
            Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
        };
        let address = address.to_canonical();
        Some(match self {
            Self::Full => text.to_owned(),
            Self::Truncated => match address {
                IpAddr::V4(address) => {
                    let [a, b, c, _] = address.octets();
                    format!("{}/24", Ipv4Addr::new(a, b, c, 0))
                }
                IpAddr::V6(address) => {
                    let [a, b, c, ..] = address.segments();
                    format!("{}/48", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
                }
            },
            Self::Hashed => {
                let tag = hmac::sign(&key.0, address.to_string().as_bytes());
                format!("hmac:{}", hex::encode(tag.as_ref().get(..8).unwrap_or_default()))
            }
        })
    }
}
