//! `tidegate publish` and `tidegate broadcast`: one message to many.

use std::process::ExitCode;

use http::Method;
use serde_json::{Value, json};

use super::node::{self, Node};
use crate::admin_client::Body;
use crate::cli::node::{BroadcastArgs, PublishArgs, PublishOptions, ScopeArgs};
use crate::output;

pub(crate) async fn run(args: PublishArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    let target = ("channel", json!(args.channel));
    send(&mut node, target, args.data.as_deref(), args.options, &args.scope).await
}

pub(crate) async fn run_broadcast(args: BroadcastArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    let target = match (args.user, args.session, args.connection) {
        (Some(user), ..) => ("user", json!(user)),
        (None, Some(session), _) => ("session", json!(session)),
        (None, None, ids) if !ids.is_empty() => ("connections", json!(ids)),
        _ => ("all", json!(true)),
    };
    send(&mut node, target, args.data.as_deref(), args.options, &args.scope).await
}

async fn send(
    node: &mut Node,
    target: (&'static str, Value),
    data: Option<&str>,
    options: PublishOptions,
    scope: &ScopeArgs,
) -> anyhow::Result<ExitCode> {
    let (api, stage) = node.scope(scope).await?;
    let body = node::members([
        ("api", json!(api)),
        ("stage", json!(stage)),
        target,
        ("data", json!(node::data(data)?)),
        ("except", json!(options.except)),
        ("idempotency_key", json!(options.idempotency_key)),
    ]);
    let answer = node.change(Method::POST, &["publish"], &[], Body::Json(body)).await?;
    Ok(node.say(&answer, result)?)
}

fn result(answer: &Value) -> String {
    let number = |name: &str| answer[name].as_u64().unwrap_or_default();
    let mut text =
        format!("delivered to {}", output::count(number("delivered"), "connection", "connections"));
    for (name, words) in [("gone", "gone"), ("slow", "too slow")] {
        if number(name) > 0 {
            text.push_str(&format!(", {} {words}", number(name)));
        }
    }
    if let Some(id) = answer["message_id"].as_str() {
        text.push_str(&format!("; message {}", output::plain(id)));
    }
    if answer["replayed"] == true {
        text.push_str("; the key was used before: nothing was sent now");
    }
    text
}
