//! `tidegate attempts`, `audit` and `cleanup`: what was written down.

use std::process::ExitCode;

use http::Method;
use serde_json::{Value, json};

use super::node::{self, List, Node};
use crate::admin_client::Body;
use crate::cli::node::{AttemptsAction, AttemptsArgs, AuditAction, AuditArgs, CleanupArgs};
use crate::output::{self, Column, Shown, column};

const ATTEMPTS: &[Column] = &[
    column("AGO", "at", Shown::Age),
    column("API", "api", Shown::Text),
    column("STAGE", "stage", Shown::Text),
    column("ADDRESS", "address", Shown::Text),
    column("USER", "user", Shown::Text),
    column("OUTCOME", "outcome", Shown::Text),
    column("STATUS", "status", Shown::Number),
    column("REASON", "reason", Shown::Text),
    column("CONNECTION", "connection_id", Shown::Text),
];

const AUDIT: &[Column] = &[
    column("AGO", "at", Shown::Age),
    column("BY", "by", Shown::Text),
    column("ROLE", "role", Shown::Text),
    column("OPERATION", "operation", Shown::Text),
    column("PATH", "path", Shown::Text),
    column("OUTCOME", "outcome", Shown::Text),
    column("STATUS", "status", Shown::Number),
    column("ID", "id", Shown::Text),
];

pub(crate) async fn attempts(args: AttemptsArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    let AttemptsAction::Ls { filter, limit } = args.action;
    let query = node.filter(&filter).await?;
    let list = List {
        path: &["attempts"],
        query,
        member: "attempts",
        columns: ATTEMPTS,
        names: ("attempt", "attempts"),
        empty: "no attempts; those at stages with a policy are written down, for seven days",
        rows: node::one_row,
        max: limit,
    };
    node.list(list).await
}

pub(crate) async fn audit(args: AuditArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    let AuditAction::Ls { limit } = args.action;
    let list = List {
        path: &["audit"],
        query: Vec::new(),
        member: "audit",
        columns: AUDIT,
        names: ("change", "changes"),
        empty: "nobody has changed anything by the admin API",
        rows: node::one_row,
        max: limit,
    };
    node.list(list).await
}

pub(crate) async fn cleanup(args: CleanupArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    let body = node::members([
        ("token_age", json!(args.token_age)),
        ("attempt_age", json!(args.attempt_age)),
        ("dry_run", json!(args.dry_run)),
    ]);
    let answer = node.change(Method::POST, &["cleanup"], &[], Body::Json(body)).await?;
    Ok(node.say(&answer, |answer| removed(answer, args.dry_run))?)
}

fn removed(answer: &Value, is_dry_run: bool) -> String {
    let number = |name: &str, one: &str, several: &str| {
        output::count(answer[name].as_u64().unwrap_or_default(), one, several)
    };
    format!(
        "{} {}, {}, {} and {}",
        if is_dry_run { "would remove" } else { "removed" },
        number("tokens", "token", "tokens"),
        number("attempts", "attempt", "attempts"),
        number("bans", "ban that ended", "bans that ended"),
        number("audit", "audit record", "audit records"),
    )
}
