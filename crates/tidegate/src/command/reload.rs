//! `tidegate reload`: a running node takes over what is written now.

use std::fmt::Write as _;
use std::process::ExitCode;

use http::Method;
use serde_json::{Value, json};

use super::node::Node;
use crate::admin_client::{Body, problem};
use crate::cli::EXIT_CHANGES;
use crate::cli::reload::ReloadArgs;
use crate::output;

pub(crate) async fn run(args: ReloadArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    let body = json!({ "dry_run": args.dry_run });
    let answer = node.change(Method::POST, &["reload"], &[], Body::Json(body)).await?;
    node.say(&answer, |answer| said(answer, args.dry_run))?;
    if !args.node.json {
        for warning in answer["warnings"].as_array().into_iter().flatten() {
            eprintln!("warning: {}", output::plain(&problem(warning)));
        }
    }
    match args.dry_run && has_changes(&answer) {
        true => Ok(ExitCode::from(EXIT_CHANGES)),
        false => Ok(ExitCode::SUCCESS),
    }
}

fn has_changes(answer: &Value) -> bool {
    answer["changes"].as_array().is_some_and(|changes| !changes.is_empty())
}

/// A line for each setting, and how many of them there are.
fn said(answer: &Value, is_dry_run: bool) -> String {
    let changes = answer["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if changes.is_empty() {
        return "nothing has changed".to_owned();
    }
    let mut text = String::new();
    for change in changes {
        let value = |name: &str| output::plain(change[name].as_str().unwrap_or("(unset)"));
        let path = output::plain(change["path"].as_str().unwrap_or_default());
        let waits = if change["needs_restart"] == true { "  (needs a restart)" } else { "" };
        let (before, after) = (value("before"), value("after"));
        let _ = match before == after {
            // A secret, or a file that holds something else.
            true => writeln!(text, "{path}: changed{waits}"),
            false => writeln!(text, "{path}: {before} -> {after}{waits}"),
        };
    }
    let n_waiting = answer["needs_restart"].as_array().map_or(0, Vec::len);
    let n_changed = changes.len().saturating_sub(n_waiting);
    let changed = output::count(n_changed as u64, "setting", "settings");
    let done = if is_dry_run { "would change" } else { "changed" };
    let _ = write!(text, "{changed} {done}");
    if n_waiting > 0 {
        let waiting = output::count(n_waiting as u64, "setting waits", "settings wait");
        let _ = write!(text, "; {waiting} for a restart");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_has_a_line() {
        let change = |path: &str, before: Value, after: Value, needs_restart: bool| json!({ "path": path, "before": before, "after": after, "needs_restart": needs_restart });
        let answer = json!({
            "changes": [
                change("api_key", "****".into(), "****".into(), false),
                change("debug_clients", Value::Null, "[\"::1\"]".into(), false),
                change("listen", "a:1".into(), "a:2".into(), true),
            ],
            "needs_restart": ["listen"],
        });
        assert_eq!(
            said(&answer, false),
            "api_key: changed\ndebug_clients: (unset) -> [\"::1\"]\nlisten: a:1 -> a:2  (needs a restart)\n\
             2 settings changed; 1 setting waits for a restart"
        );
        assert!(said(&answer, true).ends_with("2 settings would change; 1 setting waits for a restart"));
        assert_eq!(said(&json!({ "changes": [] }), false), "nothing has changed");
    }
}
