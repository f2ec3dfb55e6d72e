//! `tidegate permissions`: what the rules say, and the policies that have them.

use std::process::ExitCode;

use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};

use super::node::{self, Node};
use crate::admin_client::{Body, path, problem};
use crate::cli::EXIT_REFUSED;
use crate::cli::node::{CheckArgs, PermissionsAction, PermissionsArgs, PolicyAction, ScopeArgs};
use crate::output;

pub(crate) async fn run(args: PermissionsArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    match args.action {
        PermissionsAction::Check(check) => self::check(&mut node, &check).await,
        PermissionsAction::Policy(PolicyAction::Get(scope)) => {
            let place = place(&mut node, &scope).await?;
            let policy = node.client.get(&path(&place.segments()), &[]).await?;
            let text = match node.is_json {
                true => format!("{policy}\n"),
                false => {
                    toml::to_string_pretty(&without_nulls(policy)).context("write the policy as TOML")?
                }
            };
            output::print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        PermissionsAction::Policy(PolicyAction::Set { file, scope }) => {
            let body = node::document(node::file(&file)?);
            let place = place(&mut node, &scope).await?;
            let answer = node.change(Method::PUT, &place.segments(), &[], body).await?;
            for warning in answer["warnings"].as_array().into_iter().flatten() {
                eprintln!("warning: {}", output::plain(&problem(warning)));
            }
            Ok(node.say(&answer, |answer| match answer["changed"].as_bool() {
                Some(false) => "nothing to do: the policy is like that".to_owned(),
                _ => format!("policy of stage {} of API {} replaced; it is live", place.stage, place.api),
            })?)
        }
        PermissionsAction::Policy(PolicyAction::Rm(scope)) => {
            let place = place(&mut node, &scope).await?;
            let answer = node.change(Method::DELETE, &place.segments(), &[], Body::Nothing).await?;
            Ok(node.say(&answer, |answer| match answer["removed"].as_bool() {
                Some(false) => "there was no policy".to_owned(),
                _ => format!("policy of stage {} of API {} removed", place.stage, place.api),
            })?)
        }
    }
}

struct Place {
    api: String,
    stage: String,
}

impl Place {
    fn segments(&self) -> [&str; 5] {
        ["apis", &self.api, "stages", &self.stage, "policy"]
    }
}

async fn place(node: &mut Node, scope: &ScopeArgs) -> anyhow::Result<Place> {
    let (api, stage) = node.scope(scope).await?;
    Ok(Place { api, stage })
}

/// TOML has no null; what is absent means the same.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        value => value,
    }
}

async fn check(node: &mut Node, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let claims = args.claims.as_deref().map(|text| node::object("--claims", text)).transpose()?;
    let (api, stage) = node.scope(&args.scope).await?;
    let body = node::members([
        ("api", json!(api)),
        ("stage", json!(stage)),
        ("user", json!(args.user)),
        ("session", json!(args.session)),
        ("roles", json!(args.role)),
        ("claims", json!(claims)),
        ("channel", json!(args.channel)),
        ("right", json!(args.right.as_str())),
    ]);
    let answer = node.change(Method::POST, &["permissions", "check"], &[], Body::Json(body)).await?;
    node.say(&answer, decision)?;
    match answer["decision"].as_str() {
        Some("deny") => Ok(ExitCode::from(EXIT_REFUSED)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn decision(answer: &Value) -> String {
    let text = |name: &str| answer[name].as_str().map(output::plain);
    let rule = match text("rule") {
        Some(rule) => format!("by the rule {rule}"),
        None => "because no rule names the channel".to_owned(),
    };
    match answer["decision"].as_str().unwrap_or_default() {
        "allow" => format!("allowed {rule}"),
        "ask" => format!("the backend decides, {rule}: {}", text("url").unwrap_or_default()),
        _ => {
            let because = text("message").unwrap_or(rule);
            let id = text("id").map(|id| format!(" ({id})")).unwrap_or_default();
            let nearest = text("nearest").map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            format!("denied: {because}{id}{nearest}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_sentences() {
        for (answer, expected) in [
            (json!({ "decision": "allow", "rule": "room-*" }), "allowed by the rule room-*"),
            (
                json!({ "decision": "deny", "rule": null, "id": "channel.unlisted", "nearest": "room-1" }),
                "denied: because no rule names the channel (channel.unlisted); did you mean room-1?",
            ),
            (
                json!({ "decision": "ask", "rule": "r", "url": "http://b/" }),
                "the backend decides, by the rule r: http://b/",
            ),
        ] {
            assert_eq!(decision(&answer), expected);
        }
    }

    #[test]
    fn nulls_are_left_out() {
        let policy = json!({ "a": null, "b": [{ "c": null, "d": 1 }] });
        assert_eq!(without_nulls(policy), json!({ "b": [{ "d": 1 }] }));
    }
}
