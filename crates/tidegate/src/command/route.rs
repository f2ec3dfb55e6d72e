//! `tidegate route test`: where a message goes.

use std::process::ExitCode;

use serde_json::json;

use super::doctor::inspect::test_route;
use super::node::{self, Node};
use crate::cli::route::{RouteAction, RouteArgs};

pub(crate) async fn run(args: RouteArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    let RouteAction::Test { api, message, file } = args.action;
    let message = match &file {
        Some(file) => node::file(file)?,
        None => node::data(message.as_deref())?,
    };
    let (api, stage) = match api.split_once('/') {
        Some((api, stage)) => (api, Some(stage)),
        None => (api.as_str(), None),
    };
    let api_id = node.api_id(Some(api)).await?.unwrap_or_default();
    let tested = test_route(&mut node, &api_id, stage, &message).await?;
    node.say(&json!(tested), |_| match tested.is_empty() {
        true => "nothing is deployed, and nothing defined".to_owned(),
        false => tested.iter().map(|test| test.text()).collect::<Vec<_>>().join("\n"),
    })
    .map_err(Into::into)
}
