//! `tidegate channels`: which there are, who is in them.

use std::process::ExitCode;

use http::Method;
use serde_json::{Value, json};

use super::node::{self, List, Node};
use crate::admin_client::{Body, path};
use crate::cli::node::{ChannelsAction, ChannelsArgs};
use crate::output::{self, Column, Shown, column};

const COLUMNS: &[Column] = &[
    column("CHANNEL", "channel", Shown::Text),
    column("API", "api", Shown::Text),
    column("STAGE", "stage", Shown::Text),
    column("CONNECTIONS", "connections", Shown::Number),
];

pub(crate) async fn run(args: ChannelsArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    match args.action {
        ChannelsAction::Ls { filter, prefix } => {
            let mut query = node.filter(&filter).await?;
            query.extend(prefix.map(|prefix| ("prefix", prefix)));
            let list = List {
                path: &["channels"],
                query,
                member: "channels",
                columns: COLUMNS,
                names: ("channel", "channels"),
                empty: "no channels; a channel is there while somebody is in it: `tidegate channels join CHANNEL CONNECTION`",
                rows: node::one_row,
                max: u64::MAX,
            };
            node.list(list).await
        }
        ChannelsAction::Show { channel, scope } => {
            let (api, stage) = node.scope(&scope).await?;
            let query = [("api", api), ("stage", stage)];
            let answer = node.client.get(&path(&["channels", &channel]), &query).await?;
            Ok(node.say(&answer, |answer| show(&channel, answer))?)
        }
        ChannelsAction::Join { channel, connection } => {
            let segments = ["channels", &channel, "connections", &connection];
            let answer = node.change(Method::PUT, &segments, &[], Body::Nothing).await?;
            Ok(node.say(&answer, |answer| match answer["joined"].as_bool() {
                Some(false) => format!("was in {channel} already"),
                _ => format!("joined {channel}"),
            })?)
        }
        ChannelsAction::Leave { channel, connection } => {
            let segments = ["channels", &channel, "connections", &connection];
            let answer = node.change(Method::DELETE, &segments, &[], Body::Nothing).await?;
            Ok(node.say(&answer, |answer| match answer["left"].as_bool() {
                Some(false) => format!("was not in {channel}"),
                _ => format!("left {channel}"),
            })?)
        }
        ChannelsAction::Recheck { api, user } => {
            let api = node.api_id(api.as_deref()).await?;
            let body = Body::Json(node::members([("api", json!(api)), ("user", json!(user))]));
            let answer = node.change(Method::POST, &["channels", "recheck"], &[], body).await?;
            Ok(node.say(&answer, |answer| {
                let n_removed = answer["removed"].as_u64().unwrap_or_default();
                output::count(n_removed, "membership ended", "memberships ended")
            })?)
        }
    }
}

fn show(channel: &str, answer: &Value) -> String {
    let number = |name: &str| answer[name].as_u64().unwrap_or_default();
    let mut text = format!(
        "{}: {}, {}\n",
        output::plain(channel),
        output::count(number("connections"), "connection", "connections"),
        output::count(number("users"), "user", "users"),
    );
    let ids = answer["user_ids"].as_array().map(Vec::as_slice).unwrap_or_default();
    for id in ids {
        text.push_str(&format!("  {}\n", output::plain(id.as_str().unwrap_or_default())));
    }
    let n_more = number("users").saturating_sub(ids.len() as u64);
    if n_more > 0 {
        text.push_str(&format!("  ... and {n_more} more\n"));
    }
    text
}
