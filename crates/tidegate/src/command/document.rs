//! `tidegate plan`, `apply` and `export`: everything as a document.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use http::Method;
use serde_json::Value;

use super::node::{self, Node};
use crate::admin_client::{Body, path, problem};
use crate::cli::node::{ApplyArgs, DocumentFormat, ExportArgs, PlanArgs};
use crate::cli::{EXIT_CHANGES, EXIT_FAILURE};
use crate::output;

pub(crate) async fn plan(args: PlanArgs) -> anyhow::Result<ExitCode> {
    let text = node::file(&args.file)?;
    let mut node = Node::new(&args.node)?;
    let plan = ask(&mut node, "plan", &text, args.prune).await?;
    warn(&plan);
    node.say(&plan, |plan| {
        let sentences = sentences(plan);
        match sentences.is_empty() {
            true => format!(
                "nothing to do: everything is as {} says{}",
                name(&args.file),
                beside(plan, args.prune)
            ),
            false => format!(
                "{}\n\n{}{}",
                sentences.join("\n"),
                changes(sentences.len()),
                beside(plan, args.prune)
            ),
        }
    })?;
    match sentences(&plan).is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::from(EXIT_CHANGES)),
    }
}

pub(crate) async fn apply(args: ApplyArgs) -> anyhow::Result<ExitCode> {
    let ApplyArgs { plan: args, yes } = args;
    let text = node::file(&args.file)?;
    let mut node = Node::new(&args.node)?;
    let mut agreed = Vec::new();
    if !yes && std::io::stdin().is_terminal() {
        let plan = ask(&mut node, "plan", &text, args.prune).await?;
        agreed = sentences(&plan);
        if !agreed.is_empty() {
            eprintln!("{}\n", agreed.join("\n"));
            if !confirm(&format!("Make {}?", changes(agreed.len())))? {
                eprintln!("nothing was changed");
                return Ok(ExitCode::from(EXIT_FAILURE));
            }
        }
    }
    let applied = ask(&mut node, "apply", &text, args.prune).await?;
    warn(&applied);
    Ok(node.say(&applied, |applied| {
        let done = sentences(applied);
        match done.as_slice() {
            [] => format!(
                "nothing to do: everything is as {} says{}",
                name(&args.file),
                beside(applied, args.prune)
            ),
            // Somebody read them a moment ago.
            done if done == agreed.as_slice() => {
                format!("done: {}{}", changes(done.len()), beside(applied, args.prune))
            }
            done => {
                format!("{}\n\ndone: {}{}", done.join("\n"), changes(done.len()), beside(applied, args.prune))
            }
        }
    })?)
}

pub(crate) async fn export(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    let text = match args.format {
        DocumentFormat::Toml if !node.is_json => node.client.get_toml(&path(&["export"])).await?,
        DocumentFormat::Toml | DocumentFormat::Json => {
            let document = node.client.get(&path(&["export"]), &[]).await?;
            match node.is_json {
                true => format!("{document}\n"),
                false => format!("{document:#}\n"),
            }
        }
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn ask(node: &mut Node, what: &str, text: &str, prune: bool) -> anyhow::Result<Value> {
    let query: &[(&'static str, String)] = &[("prune", prune.to_string())];
    let body: Body = node::document(text.to_owned());
    Ok(node.change(Method::POST, &[what], query, body).await?)
}

fn name(file: &Path) -> String {
    if file.as_os_str() == "-" { "the document".to_owned() } else { file.display().to_string() }
}

fn changes(number: usize) -> String {
    output::count(number as u64, "change", "changes")
}

fn sentences(plan: &Value) -> Vec<String> {
    let steps = plan["steps"].as_array().into_iter().flatten();
    steps.map(|step| output::plain(step["sentence"].as_str().unwrap_or_default())).collect()
}

fn warn(plan: &Value) {
    for warning in plan["warnings"].as_array().into_iter().flatten() {
        eprintln!("warning: {}", output::plain(&problem(warning)));
    }
}

/// What stays: `; 3 objects stay as they are`, and what the document does not name.
fn beside(plan: &Value, prune: bool) -> String {
    let mut text = String::new();
    let n_unchanged = plan["unchanged"].as_u64().unwrap_or_default();
    if n_unchanged > 0 {
        let words = output::count(n_unchanged, "object stays as it is", "objects stay as they are");
        text.push_str(&format!("; {words}"));
    }
    let left_alone = plan["left_alone"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !left_alone.is_empty() {
        let why = if prune { "" } else { ", they would go with --prune" };
        text.push_str(&format!("\nleft alone, because the document does not name them{why}:"));
        for object in left_alone {
            text.push_str(&format!("\n  {}", output::plain(object.as_str().unwrap_or_default())));
        }
    }
    text
}

fn confirm(question: &str) -> std::io::Result<bool> {
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
