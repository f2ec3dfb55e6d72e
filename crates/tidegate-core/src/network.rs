//! Addresses of clients: networks that they belong to, and what counts as one address.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Addresses with a common prefix, such as `10.0.0.0/8`, `::1` or `192.0.2.7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// The text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an address or a network such as 10.0.0.0/8 expected")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| NetworkError)?;
        if prefix > longest {
            return Err(NetworkError);
        }
        Ok(Self { address, prefix })
    }
}

impl Network {
    /// Whether an address belongs to the network. IPv4 in IPv6 clothes counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address.to_canonical() {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
            IpAddr::V6(v6) => (u128::from(v6), 128),
        };
        let ((ours, our_width), (theirs, their_width)) = (bits(self.address), bits(address));
        let mask = if self.prefix == 0 { 0 } else { u128::MAX << (128 - u32::from(self.prefix)) };
        our_width == their_width && ours & mask == theirs & mask
    }

    /// Whether it has more addresses than a network of `ipv4` or `ipv6` leading bits.
    pub fn is_wider_than(&self, ipv4: u8, ipv6: u8) -> bool {
        self.prefix < if self.address.is_ipv4() { ipv4 } else { ipv6 }
    }
}

/// What counts as one client address: an IPv4 address, or the leading bits of an IPv6 address, because one client
/// has many of those (S0-79).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressKey {
    address: IpAddr,
    /// Bits of an IPv6 address that count.
    prefix: u8,
}

impl AddressKey {
    /// The key of an address. `ipv6_prefix` is 0 to 128 bits, a larger one counts as 128. IPv4 in IPv6 clothes is
    /// IPv4.
    pub fn new(address: IpAddr, ipv6_prefix: u8) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self { address: v4.into(), prefix: 32 },
            IpAddr::V6(v6) => {
                let prefix = ipv6_prefix.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                Self { address: Ipv6Addr::from(u128::from(v6) & mask).into(), prefix }
            }
        }
    }
}

impl fmt::Display for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V6(v6) if self.prefix < 128 => write!(f, "{v6}/{}", self.prefix),
            address => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_own() {
        let check = |network: &str, address: &str, is_inside| {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), is_inside, "{address}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("0.0.0.0/0", "1.2.3.4", true);
        check("::1", "::1", true);
        check("2001:db8::/32", "2001:db8:1::1", true);
        check("127.0.0.1", "::ffff:127.0.0.1", true);
        assert!("10.0.0.0/33".parse::<Network>().is_err());
    }

    #[test]
    fn ipv6_addresses_of_one_network_are_one_address() {
        // S0-79
        let check = |address: &str, prefix, key: &str| {
            assert_eq!(AddressKey::new(address.parse().unwrap(), prefix).to_string(), key, "{address}");
        };
        check("192.0.2.7", 64, "192.0.2.7");
        check("::ffff:192.0.2.7", 64, "192.0.2.7");
        check("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::/64");
        check("2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6");
        check("2001:db8:1:2:3:4:5:6", 255, "2001:db8:1:2:3:4:5:6");
        check("2001:db8::1", 0, "::/0");
        let key = |address: &str| AddressKey::new(address.parse().unwrap(), 64);
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
    }
}
