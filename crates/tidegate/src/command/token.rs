//! `tidegate token`: connect tokens and JSON Web Tokens.

use std::process::ExitCode;

use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};

use super::connect;
use super::node::{self, Node};
use crate::admin_client::Body;
use crate::cli::ConnectArgs;
use crate::cli::node::{ScopeArgs, TokenAction, TokenArgs, TokenCreateArgs};
use crate::output;

pub(crate) async fn run(args: TokenArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    match args.action {
        TokenAction::Create(create) => {
            let answer = issue(&mut node, &create).await?;
            if !create.connect {
                return Ok(node.say(&answer, show)?);
            }
            let url = answer["url"].as_str().context("the node's answer has no URL")?.to_owned();
            // A token that is bound to an origin wants to see it.
            let header = create.origin.iter().map(|origin| format!("Origin: {origin}")).collect();
            let cafile = args.node.cafile.clone();
            connect::run(ConnectArgs { url, header, cafile, json: node.is_json, ..ConnectArgs::default() })
                .await
        }
        TokenAction::Jwt { claims, scope } => {
            let claims = node::object("CLAIMS", &node::data(Some(&claims))?)?;
            sign(&mut node, claims, &scope).await
        }
    }
}

async fn issue(node: &mut Node, args: &TokenCreateArgs) -> anyhow::Result<Value> {
    let claims = args.claims.as_deref().map(|text| node::object("--claims", text)).transpose()?;
    let (api, stage) = node.scope(&args.scope).await?;
    let body = node::members([
        ("api", json!(api)),
        ("stage", json!(stage)),
        ("user", json!(args.user)),
        ("session", json!(args.session)),
        ("roles", json!(args.role)),
        ("claims", json!(claims)),
        ("channels", json!(args.channel)),
        ("origin", json!(args.origin)),
        ("address", json!(args.address)),
        ("lifetime", json!(args.lifetime)),
    ]);
    Ok(node.change(Method::POST, &["tokens"], &[], Body::Json(body)).await?)
}

fn show(answer: &Value) -> String {
    let text = |name: &str| output::plain(answer[name].as_str().unwrap_or_default());
    let expires_in = output::span(answer["expires_in"].as_u64().unwrap_or_default());
    format!(
        "token    {}\nurl      {}\nexpires  in {expires_in}, or when it is used\n",
        text("token"),
        text("url")
    )
}

async fn sign(node: &mut Node, claims: Value, scope: &ScopeArgs) -> anyhow::Result<ExitCode> {
    let (api, stage) = node.scope(scope).await?;
    let body = json!({ "api": api, "stage": stage, "claims": claims });
    let answer = node.change(Method::POST, &["jwt"], &[], Body::Json(body)).await?;
    Ok(node.say(&answer, |answer| answer["token"].as_str().unwrap_or_default().to_owned())?)
}
