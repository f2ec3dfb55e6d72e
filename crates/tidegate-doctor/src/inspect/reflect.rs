//! Reflect mode: what of a request arrives where the backend should be.
//!
//! The gateway's probe carries a nonce. Whoever answers in place of the backend says which headers arrived, and for each a
//! keyed hash of its value, so that the two ends can be compared and no value is told.

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_core::diagnosis::Diagnosis;

use super::facts;
use crate::report::{Confidence, Finding, Severity};

/// Header of the probe; its value is `1`.
pub const PROBE_HEADER: &str = "tidegate-probe";

/// Header of the probe that carries the nonce.
pub const NONCE_HEADER: &str = "tidegate-probe-nonce";

/// The schema of the answer.
pub const SCHEMA: &str = "tidegate.reflect/1";

/// Headers that are reported; more are counted only.
pub const MAX_HEADERS: usize = 200;

/// Headers that say who the client is; some web servers drop all of them from peers they do not trust.
const FORWARDED: [&str; 7] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-host",
    "x-forwarded-by",
    "x-real-ip",
];

/// Headers that every hop sets for itself.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "proxy-connection",
    "accept-encoding",
];

/// One header: its name in lower case, and the keyed hash of its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// In lower case.
    pub name: String,
    /// See [`value_hash`].
    pub hash: String,
}

/// The answer of whoever stands in for the backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {
    /// [`SCHEMA`].
    pub schema: String,
    /// What arrived, at most [`MAX_HEADERS`].
    pub headers: Vec<Header>,
}

/// The keyed hash of a value: 16 hexadecimal digits of HMAC-SHA-256 with the nonce as key.
pub fn value_hash(nonce: &str, value: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, nonce.as_bytes());
    hmac::sign(&key, value).as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names and hashes of these headers.
pub fn hashed<'a>(nonce: &str, headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<Header> {
    let header = |(name, value): (&str, &[u8])| Header {
        name: name.to_ascii_lowercase(),
        hash: value_hash(nonce, value),
    };
    headers.take(MAX_HEADERS).map(header).collect()
}

/// The answer to a request with these headers; nothing for a request that is no probe.
pub fn answer(headers: &[(&str, &[u8])]) -> Option<Value> {
    let find = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    };
    let nonce = find(NONCE_HEADER).filter(|nonce| nonce.len() >= 16)?;
    (find(PROBE_HEADER)? == "1").then(|| {
        json!(Arrived { schema: SCHEMA.to_owned(), headers: hashed(nonce, headers.iter().copied()) })
    })
}

/// Reads an answer; nothing when a backend answered instead.
pub fn read(body: &[u8]) -> Option<Arrived> {
    serde_json::from_slice::<Arrived>(body).ok().filter(|arrived| arrived.schema == SCHEMA)
}

/// Compares what was sent with what arrived. `is_tunnel`: the address belongs to a tunnel service.
pub fn compare(sent: &[Header], arrived: &[Header], is_tunnel: bool) -> Vec<Finding> {
    let counts = |name: &str| !HOP_BY_HOP.contains(&name);
    let by_name = |name: &str| arrived.iter().find(|header| header.name == name);
    let mut missing = Vec::new();
    let mut renamed = Vec::new();
    let mut changed = Vec::new();
    for header in sent.iter().filter(|header| counts(&header.name)) {
        match by_name(&header.name) {
            Some(there) if there.hash == header.hash => {}
            // Hops add themselves to these, as they should.
            Some(_) if FORWARDED.contains(&header.name.as_str()) => {}
            Some(_) => changed.push(header.name.as_str()),
            None => {
                let is_new = |there: &&Header| {
                    !sent.iter().any(|known| known.name == there.name) && there.hash == header.hash
                };
                match arrived.iter().find(is_new) {
                    Some(there) => renamed.push(format!("{} as {}", header.name, there.name)),
                    None => missing.push(header.name.as_str()),
                }
            }
        }
    }
    let mut findings = Vec::new();
    if missing.is_empty() && renamed.is_empty() && changed.is_empty() {
        return findings;
    }
    let diagnosis = match is_tunnel {
        true => Diagnosis::LOCAL_TUNNEL_STRIPS_HEADERS,
        false => Diagnosis::BACKEND_HEADERS_STRIPPED,
    };
    let mut parts = Vec::new();
    for (what, names) in [
        ("did not arrive", missing.join(", ")),
        ("arrived renamed", renamed.join(", ")),
        ("arrived with another value", changed.join(", ")),
    ] {
        if !names.is_empty() {
            parts.push(format!("{what}: {names}"));
        }
    }
    let compared = || {
        facts([
            ("missing", json!(missing)),
            ("renamed", json!(renamed)),
            ("changed", json!(changed)),
            ("headerNames", json!(arrived.iter().map(|header| &header.name).collect::<Vec<_>>())),
        ])
    };
    findings.push(Finding::problem(diagnosis).seen(parts.join("; "), compared()));
    if missing.contains(&"cookie") {
        let text = "the gateway sent a cookie, as it came with the handshake; none arrived";
        let known = facts([("missing", json!(["cookie"]))]);
        findings.push(Finding::problem(Diagnosis::COOKIE_NOT_FORWARDED).seen(text, known));
    }
    if !missing.is_empty()
        && missing.iter().all(|name| FORWARDED.contains(name))
        && renamed.is_empty()
        && changed.is_empty()
    {
        let text = "only headers about the client are missing, as web servers drop them from peers that they do not trust";
        let finding =
            Finding::new(Diagnosis::BACKEND_SERVER_DROPS_FORWARDED, Severity::Problem, Confidence::Possible);
        findings.push(finding.seen(text, facts([("missing", json!(missing))])));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "0123456789abcdef";

    fn sent() -> Vec<Header> {
        let headers = [
            ("Host", "h"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("Cookie", "tidegate-probe=1"),
            ("X-Secret", "s3cret"),
        ];
        hashed(NONCE, headers.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    fn ids(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.id.as_str()).collect()
    }

    #[test]
    fn what_arrives_unchanged_is_no_finding() {
        // DX-49
        let mut arrived = sent();
        arrived[1].hash = value_hash(NONCE, b"1.2.3.4, 10.0.0.1");
        arrived.push(Header { name: "via".to_owned(), hash: value_hash(NONCE, b"1.1 p") });
        assert_eq!(compare(&sent(), &arrived, false), []);
    }

    #[test]
    fn what_a_hop_did_to_headers_is_named() {
        // backend.headers-stripped, local.tunnel-strips-headers, cookie.not-forwarded, backend.server-drops-forwarded
        let without =
            |name: &str| sent().into_iter().filter(|header| header.name != name).collect::<Vec<_>>();
        let findings = compare(&sent(), &without("cookie"), false);
        assert_eq!(ids(&findings), ["backend.headers-stripped", "cookie.not-forwarded"]);
        assert_eq!(findings[0].evidence[0].facts["missing"], json!(["cookie"]));
        let tunnel = compare(&sent(), &without("cookie"), true);
        assert_eq!(ids(&tunnel), ["local.tunnel-strips-headers", "cookie.not-forwarded"]);
        let findings = compare(&sent(), &without("x-forwarded-for"), false);
        assert_eq!(ids(&findings), ["backend.headers-stripped", "backend.server-drops-forwarded"]);
        assert_eq!(findings[1].confidence, Confidence::Possible);
        let mut arrived = sent();
        arrived[3].name = "x-other".to_owned();
        arrived[0].hash = value_hash(NONCE, b"internal");
        let findings = compare(&sent(), &arrived, false);
        assert_eq!(findings[0].evidence[0].facts["renamed"], json!(["x-secret as x-other"]));
        assert_eq!(findings[0].evidence[0].facts["changed"], json!(["host"]));
        let text = serde_json::to_string(&findings).unwrap();
        assert!(!text.contains("s3cret"), "{text}");
    }

    #[test]
    fn only_probes_are_reflected() {
        let headers = |nonce: &'static str, probe: &'static str| {
            vec![("Tidegate-Probe", probe.as_bytes()), ("Tidegate-Probe-Nonce", nonce.as_bytes())]
        };
        assert!(answer(&headers(NONCE, "0")).is_none());
        assert!(answer(&headers("short", "1")).is_none());
        let answer = answer(&headers(NONCE, "1")).unwrap();
        let arrived = read(answer.to_string().as_bytes()).unwrap();
        assert_eq!(
            arrived.headers[0],
            Header { name: "tidegate-probe".to_owned(), hash: value_hash(NONCE, b"1") }
        );
        assert!(read(b"{}").is_none());
    }
}
