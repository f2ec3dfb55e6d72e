//! `--apply FILE` of `dev` and `serve`: makes everything as a document says before anybody is told that the node is ready.

use std::path::Path;

use anyhow::Context as _;
use tidegate_control::ControlPlane;
use tidegate_control::declarative::{self, Applied, ApplyError, Document, MAX_DOCUMENT, Options, Problem};

/// Reads a document. Nothing when it has problems, which have been said.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read(path: &Path) -> anyhow::Result<Option<Document>> {
    Ok(parse(path)?.map_err(|problems| print_problems(&problems)).ok())
}

/// Reads a document, or everything that is wrong with it.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn parse(path: &Path) -> anyhow::Result<Result<Document, Vec<Problem>>> {
    let what = || format!("--apply {}", path.display());
    let length = std::fs::metadata(path).with_context(what)?.len();
    anyhow::ensure!(
        length <= MAX_DOCUMENT as u64,
        "--apply {}: more than {MAX_DOCUMENT} bytes",
        path.display()
    );
    let text = std::fs::read_to_string(path).with_context(what)?;
    // No TOML begins with a brace.
    Ok(match text.trim_start().starts_with('{') {
        true => Document::from_value(serde_json::from_str(&text).with_context(what)?),
        false => Document::from_toml(&text),
    })
}

/// Applies it without removing anything. Nothing when it has problems, which have been said; then nothing has changed.
///
/// # Errors
/// The store refuses.
pub(crate) async fn apply(control: &ControlPlane, document: &Document) -> anyhow::Result<Option<Applied>> {
    match declarative::apply(control, document, Options { prune: false }).await {
        Ok(applied) => {
            for step in &applied.steps {
                tracing::info!(step = step.sentence, "applied");
            }
            for warning in &applied.warnings {
                let diag = warning.diagnosis.as_deref().unwrap_or("config.invalid-value");
                tracing::warn!(diag, "{warning}");
            }
            Ok(Some(applied))
        }
        Err(ApplyError::Problems(problems)) => {
            print_problems(&problems);
            Ok(None)
        }
        Err(ApplyError::Refused(error)) => anyhow::bail!("apply the document: {}", error.message),
    }
}

fn print_problems(problems: &[Problem]) {
    for problem in problems {
        let id = problem.diagnosis.as_deref().map(|id| format!(" ({id})")).unwrap_or_default();
        eprintln!("apply: {problem}{id}");
    }
}
