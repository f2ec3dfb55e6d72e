//! The command to run next, where proof is missing.

use tidegate_core::diagnosis::Cause;
use tidegate_core::journal::{Entry, Kind};

/// Options of `doctor <url>` for a cause; an empty text is the whole run.
fn probes(id: &str) -> &'static str {
    let (family, _) = id.split_once('.').unwrap_or((id, ""));
    match id {
        "handshake.https-scheme" | "handshake.bad-url-syntax" | "path.double-prefix" | "client.socketio" => {
            " --only 1"
        }
        "handshake.server-down" => " --only 2,3",
        "handshake.tls-on-plain" | "handshake.plain-on-tls" | "proxy.h2-only" => " --only 3,4",
        "proxy.upgrade-stripped" | "proxy.http10" | "proxy.response-stripped" | "proxy.h2-upstream" => {
            " --only 7,8"
        }
        "proxy.deflate-broken" | "proxy.injected-bytes" => " --only 7,11",
        "proxy.host-rewritten" | "proxy.forwarded-missing" | "proxy.forwarded-spoofed" => " --only 6",
        "proxy.buffering"
        | "proxy.inspection"
        | "conn.app-heartbeat-unanswered"
        | "reply.no-route-response" => " --only 11",
        _ if id.starts_with("proxy.idle") || family == "idle" => " --idle",
        _ => match family {
            "dns" => " --only 2",
            "net" => " --only 3",
            "tls" => " --only 4",
            "clock" => " --only 5",
            "bypass" => " --only 6,8",
            "proxy" => " --only 6,7,8",
            "jwt" | "role" | "origin" | "token" | "auth" => " --only 9 --token-file FILE",
            "subprotocol" => " --only 10",
            "app" => " --only 12",
            "browser" | "cookie" => " --only 14 --page PAGE_URL",
            "tokenreq" => " --only 14 --page PAGE_URL --token-url TOKEN_URL",
            _ => "",
        },
    }
}

/// The address that a handshake went to, without its query.
fn url(entry: Option<&Entry>) -> String {
    let address = entry.filter(|entry| entry.kind == Kind::Handshake).and_then(|entry| {
        let host = entry.text("forwardedHost").or_else(|| entry.text("host"))?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]/~%".contains(&byte);
        let path = entry.text("path").unwrap_or("/");
        // It is copied into a shell.
        let is_safe = host.bytes().chain(path.bytes()).all(is_plain);
        let scheme = if entry.text("listener") == Some("plain") && entry.text("forwardedHost").is_none() {
            "ws"
        } else {
            "wss"
        };
        is_safe.then(|| format!("{scheme}://{host}{path}"))
    });
    address.unwrap_or_else(|| "wss://HOST/PATH".to_owned())
}

/// Commands that would prove a cause, by where it can be seen. `entry` is an example; `api_id` is asked about where there is none.
pub(super) fn commands(cause: &Cause, entry: Option<&Entry>, api_id: Option<&str>) -> Vec<String> {
    let id = cause.diagnosis.as_str();
    let (family, _) = id.split_once('.').unwrap_or((id, ""));
    let has = |letter: &str| cause.seen.split(' ').any(|seen| seen.trim_matches(['(', ')']) == letter);
    let api = entry.and_then(|entry| entry.api_id.as_deref()).or(api_id).unwrap_or("API_ID");
    match id {
        "backend.headers-stripped"
        | "backend.server-drops-forwarded"
        | "backend.api-id-unknown"
        | "cookie.not-forwarded"
        | "local.tunnel-strips-headers" => {
            return vec!["tidegate doctor reflect --listen 127.0.0.1:8000".to_owned()];
        }
        "log.token-in-query" | "log.secret-printed" => {
            return vec!["tidegate doctor --check-log FILE".to_owned()];
        }
        _ => {}
    }
    if has("D") {
        return vec![match family {
            // These are seen from where the caller is.
            "management" => "tidegate doctor https://HOST/STAGE   # on the backend's host".to_owned(),
            "backend" | "integration" | "local" => format!("tidegate doctor --api {api}"),
            _ => format!("tidegate doctor {}{}", url(entry), probes(id)),
        }];
    }
    if has("C") {
        return vec![match family {
            "domain" => "tidegate doctor --domain NAME".to_owned(),
            "limit" => "tidegate doctor --system".to_owned(),
            "config" | "log" | "auth" | "proxy" | "jwt" | "store" | "cluster" => {
                "tidegate doctor --config FILE".to_owned()
            }
            _ => format!("tidegate doctor --api {api}"),
        }];
    }
    match cause.is_undetectable() {
        // No command sees it; what to look at stands in the evidence.
        true => Vec::new(),
        false => vec![format!("tidegate explain {id} --since 7d")],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidegate_core::diagnosis::Diagnosis;

    use super::*;

    #[test]
    fn every_cause_that_can_be_seen_names_a_command() {
        // DX-22
        for cause in Diagnosis::all().filter(|cause| !cause.is_undetectable()) {
            let commands = commands(cause, None, None);
            assert!(!commands.is_empty(), "{}", cause.diagnosis);
            assert!(commands.iter().all(|command| command.starts_with("tidegate ")), "{commands:?}");
        }
    }

    #[test]
    fn the_command_names_the_address_that_was_used() {
        // DX-22 DX-64
        let mut entry = Entry::new(0, Kind::Handshake, None);
        entry.facts.insert("host".to_owned(), json!("ws.example.com"));
        entry.facts.insert("path".to_owned(), json!("/chat"));
        let cause = Diagnosis::PROXY_UPGRADE_STRIPPED.describe();
        assert_eq!(
            commands(cause, Some(&entry), None),
            ["tidegate doctor wss://ws.example.com/chat --only 7,8"]
        );
        entry.facts.insert("listener".to_owned(), json!("plain"));
        assert_eq!(
            commands(cause, Some(&entry), None),
            ["tidegate doctor ws://ws.example.com/chat --only 7,8"]
        );
        // What a client chose never becomes a part of a command line.
        entry.facts.insert("path".to_owned(), json!("/chat;rm -rf $HOME"));
        assert_eq!(commands(cause, Some(&entry), None), ["tidegate doctor wss://HOST/PATH --only 7,8"]);
    }
}
