//! `tidegate check`: everything that is wrong with configuration and document, without binding a port.

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_control::declarative::{self, ApplyError, Options};
use tidegate_control::{ControlPlane, ControlSettings};
use tidegate_core::definition::Live;
use tidegate_core::port::DefinitionSink;

use crate::cli::CheckArgs;
use crate::command::apply_at_start;
use crate::config;

/// One line of the answer.
struct Finding {
    /// `config`, or `apply` for the document.
    of: &'static str,
    path: String,
    message: String,
    id: String,
    is_error: bool,
}

pub(crate) async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let mut findings = Vec::new();
    let loaded = match config::load(&args.config) {
        Ok(loaded) => {
            let warnings =
                config::warnings(&loaded.config).into_iter().chain(config::app_warnings(&loaded.config));
            findings.extend(warnings.map(|found| Finding::of(found, false)));
            Some(loaded)
        }
        Err(problems) => {
            findings.extend(problems.into_iter().map(|found| Finding::of(found, true)));
            None
        }
    };
    if let Some(path) = &args.apply {
        let settings = loaded.map(|loaded| ControlSettings {
            region: loaded.config.region.clone(),
            account_id: loaded.config.account_id.clone(),
            max_timeout_ms: loaded.config.settings.integration.max_timeout_ms,
            allow_integration_hosts: loaded.config.settings.integration.allowed_hosts.clone(),
            ..ControlSettings::default()
        });
        check_document(path, settings.unwrap_or_default(), &mut findings).await?;
    }
    let is_ok = !findings.iter().any(|finding| finding.is_error);
    if args.config.json {
        let shown = |wants_errors: bool| -> Vec<Value> {
            let wanted = findings.iter().filter(|finding| finding.is_error == wants_errors);
            wanted.map(|f| json!({ "of": f.of, "path": f.path, "message": f.message, "id": f.id })).collect()
        };
        println!("{}", json!({ "ok": is_ok, "problems": shown(true), "warnings": shown(false) }));
    } else {
        for Finding { of, path, message, id, is_error } in &findings {
            let level = if *is_error { "" } else { "warning: " };
            eprintln!("{of}: {level}{path}: {message} ({id})");
        }
        if is_ok {
            println!("configuration is valid");
        }
    }
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::from(crate::cli::EXIT_FAILURE) })
}

/// Checks a document as an empty node would take it.
async fn check_document(
    path: &std::path::Path,
    settings: ControlSettings,
    findings: &mut Vec<Finding>,
) -> anyhow::Result<()> {
    let document = match apply_at_start::parse(path)? {
        Ok(document) => document,
        Err(problems) => {
            findings.extend(problems.into_iter().map(|found| Finding::of_document(found, true)));
            return Ok(());
        }
    };
    let store = Arc::new(tidegate_store::SqliteStore::open_in_memory()?);
    let clock: tidegate_control::Clock = Arc::new(jiff::Timestamp::now);
    let plane = ControlPlane::load(store, Arc::new(Nowhere), settings, clock).await?;
    match declarative::plan(&plane, &document, Options { prune: false }) {
        Ok(plan) => {
            findings.extend(plan.warnings.into_iter().map(|found| Finding::of_document(found, false)));
        }
        Err(ApplyError::Problems(problems)) => {
            findings.extend(problems.into_iter().map(|found| Finding::of_document(found, true)));
        }
        Err(ApplyError::Refused(error)) => anyhow::bail!("check the document: {}", error.message),
    }
    Ok(())
}

impl Finding {
    fn of(problem: config::Problem, is_error: bool) -> Self {
        let config::Problem { path, message, id } = problem;
        Self { of: "config", path, message, id: id.to_owned(), is_error }
    }

    fn of_document(problem: declarative::Problem, is_error: bool) -> Self {
        let declarative::Problem { path, message, diagnosis } = problem;
        let id = diagnosis.unwrap_or_else(|| "config.invalid-value".to_owned());
        Self { of: "apply", path, message, id, is_error }
    }
}

/// Nobody is served.
#[derive(Debug)]
struct Nowhere;

impl DefinitionSink for Nowhere {
    fn publish(&self, _: Live) {}
}
