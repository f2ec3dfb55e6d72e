//! `tidegate capture`: payloads of one route, for a short time.

use std::process::ExitCode;

use http::Method;
use serde_json::{Value, json};

use super::node::{self, Node};
use crate::admin_client::{Body, path};
use crate::cli::node::{CaptureAction, CaptureArgs};
use crate::output;

pub(crate) async fn run(args: CaptureArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    match args.action {
        CaptureAction::Start { route, seconds, bytes, filter } => {
            let api = node.api_id(filter.api.as_deref()).await?;
            let body = Body::Json(node::members([
                ("route", json!(route)),
                ("seconds", json!(seconds)),
                ("bytes", json!(bytes)),
                ("api", json!(api)),
                ("stage", json!(filter.stage)),
            ]));
            let answer = node.change(Method::POST, &["capture"], &[], body).await?;
            Ok(node.say(&answer, |_| {
                format!(
                    "keeping payloads of the route {route} for {}, at most {bytes} bytes, in memory only\n\
                     see them: tidegate capture show, or tidegate explain CONNECTION",
                    output::span(seconds)
                )
            })?)
        }
        CaptureAction::Show { connection } => {
            let query: Vec<_> = connection.map(|id| ("connection", id)).into_iter().collect();
            let answer = node.client.get(&path(&["capture"]), &query).await?;
            Ok(node.say(&answer, shown)?)
        }
        CaptureAction::Stop => {
            let answer = node.change(Method::DELETE, &["capture"], &[], Body::Nothing).await?;
            Ok(node.say(&answer, |answer| match answer["ended"] == true {
                true => "ended; what was kept is forgotten".to_owned(),
                false => "there was none".to_owned(),
            })?)
        }
    }
}

/// The state in one line, then each payload.
fn shown(answer: &Value) -> String {
    let capture = &answer["capture"];
    if capture.is_null() {
        return "nothing is captured; `tidegate capture start --route KEY` begins".to_owned();
    }
    let text = |value: &Value, name: &str| output::plain(value[name].as_str().unwrap_or_default());
    let state = if capture["active"] == true { "until" } else { "ended at" };
    let mut lines = format!(
        "route {}, {state} {}, {} of {} bytes\n",
        text(capture, "route"),
        text(capture, "ends_at"),
        capture["bytes"],
        capture["max_bytes"]
    );
    for payload in answer["payloads"].as_array().into_iter().flatten() {
        let arrow = if payload["way"] == "in" { "<" } else { ">" };
        let cut = if payload["cut"] == true { " (cut)" } else { "" };
        let said = output::plain(payload["text"].as_str().unwrap_or("(no text)"));
        lines.push_str(&format!(
            "{} {} {arrow} {} bytes{cut}  {said}\n",
            text(payload, "at"),
            text(payload, "connectionId"),
            payload["size"]
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_lines() {
        let answer = json!({
            "capture": { "route": "send", "active": true, "ends_at": "E", "bytes": 5, "max_bytes": 10 },
            "payloads": [
                { "at": "T", "connectionId": "c1", "way": "in", "size": 7, "cut": true, "text": "a\u{1b}b" },
                { "at": "U", "connectionId": "c1", "way": "out", "size": 3, "cut": false },
            ],
        });
        let lines = shown(&answer);
        assert_eq!(
            lines,
            "route send, until E, 5 of 10 bytes\nT c1 < 7 bytes (cut)  a\u{fffd}b\nU c1 > 3 bytes  (no text)\n"
        );
        assert!(shown(&json!({ "capture": null, "payloads": [] })).starts_with("nothing is captured"));
    }
}
