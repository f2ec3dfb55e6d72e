//! `tidegate apis` and `tidegate status`: what the node has, and how it is.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::node::{List, Node};
use crate::admin_client::path;
use crate::cli::node::{ApisAction, ApisArgs, StatusArgs};
use crate::output::{self, Column, Shown, column};

const COLUMNS: &[Column] = &[
    column("API", "id", Shown::Text),
    column("NAME", "name", Shown::Text),
    column("STAGE", "stage", Shown::Text),
    column("STATE", "state", Shown::Text),
    column("POLICY", "policy", Shown::Text),
    column("CONNECTIONS", "connections", Shown::Number),
    column("URL", "url", Shown::Text),
];

pub(crate) async fn run(args: ApisArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    let ApisAction::Ls = args.action;
    let list = List {
        path: &["apis"],
        query: Vec::new(),
        member: "apis",
        columns: COLUMNS,
        names: ("API", "APIs"),
        empty: "no APIs; `tidegate apply FILE` makes one, and so does every apigatewayv2 client",
        rows,
        max: u64::MAX,
    };
    node.list(list).await
}

/// A row for each stage; one for an API without any.
fn rows(api: Value) -> Vec<Value> {
    let row = |stage: &Value| {
        let state = match (stage["is_deployed"].as_bool(), stage["is_behind"].as_bool()) {
            _ if stage.is_null() => api["provisioning"].as_str().unwrap_or_default(),
            (Some(true), Some(true)) => "deployed, API changed since",
            (Some(true), _) => "deployed",
            _ => "not deployed",
        };
        let url = match (api["endpoint"].as_str(), stage["name"].as_str()) {
            (Some(endpoint), Some(stage)) => format!("{endpoint}/{stage}"),
            _ => String::new(),
        };
        json!({
            "id": api["id"],
            "name": api["name"],
            "stage": stage["name"],
            "state": state,
            "policy": if stage["has_policy"] == true { "yes" } else { "no" },
            "connections": stage["connections"],
            "url": url,
        })
    };
    match api["stages"].as_array() {
        Some(stages) if !stages.is_empty() => stages.iter().map(row).collect(),
        _ => vec![row(&Value::Null)],
    }
}

pub(crate) async fn status(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    let answer = node.client.get(&path(&["status"]), &[]).await?;
    Ok(node.say(&answer, |answer| {
        let mut shown = answer.clone();
        if let Some(uptime) = answer["uptime"].as_u64() {
            shown["uptime"] = output::span(uptime).into();
        }
        output::record(&shown, output::now())
    })?)
}
