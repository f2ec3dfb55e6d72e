//! Looks from inside: definitions, backends, the configuration, the machine, log files.
//!
//! Everything here is a function from what somebody else has read or received to findings; sockets, files and clocks stay
//! with the callers. `definitions` judges an API, `differences` says what a deployment lacks, `target` looks at one address,
//! `backend` plans requests to a backend and judges the answers, `backend_table` compares its list of connections with what is open, `reflect` compares what was sent with what arrived,
//! `checklist` has the lines at the end of a report about an API, `route_test` follows one message, `configuration`,
//! `certificate`, `key_set` and `domain` are about names and settings, `statistics` counts what the journal and the records have, `management` about the way back from a backend, `system` about the
//! machine and `log_file` about what should not stand in a log.

use serde_json::{Map, Value};

pub mod backend;
pub mod backend_table;
pub mod certificate;
pub mod checklist;
pub mod configuration;
pub mod definitions;
pub mod differences;
pub mod domain;
pub mod key_set;
pub mod log_file;
pub mod management;
pub mod reflect;
pub mod route_test;
pub mod statistics;
pub mod system;
pub mod target;

/// Facts of an observation, by their names in the journal.
pub fn facts<const N: usize>(facts: [(&str, Value); N]) -> Map<String, Value> {
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// An address as it may be shown: without user information, query values are `*`.
pub fn shown_url(url: &str) -> String {
    let (head, fragment) = url.split_once('#').map_or((url, ""), |(head, _)| (head, "#*"));
    let (address, query) =
        head.split_once('?').map_or((head, None), |(address, query)| (address, Some(query)));
    let mut shown = match address.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => address.to_owned(),
    };
    for (n_before, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if n_before == 0 { '?' } else { '&' });
        shown.push_str(pair.split('=').next().unwrap_or_default());
        if pair.contains('=') {
            shown.push_str("=*");
        }
    }
    shown.push_str(fragment);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_their_secrets() {
        // DX-64
        for (url, shown) in [
            ("https://u:p@h.example/a?k=secret&b&c=#x", "https://h.example/a?k=*&b&c=*#*"),
            ("http://h:1", "http://h:1"),
            ("/path?token=abc", "/path?token=*"),
            ("", ""),
        ] {
            assert_eq!(shown_url(url), shown, "{url}");
        }
    }
}
