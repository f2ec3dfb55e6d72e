//! `tidegate explain`: why something failed, from a running node or from the journal of a stopped one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tidegate_doctor::explain::{self, Options, Question, Sources};
use tidegate_doctor::page::help_page;
use tidegate_doctor::report::{Report, Style};
use tidegate_store::SqliteJournal;

use crate::admin_client::{AdminClient, ClientError, path};
use crate::cli::EXIT_USAGE;
use crate::cli::explain::ExplainArgs;
use crate::output;
use crate::stores::JOURNAL_FILE;

/// Nobody could be asked, or whoever was asked has no journal.
const EXIT_NO_JOURNAL: u8 = 4;

/// Where `tidegate serve` keeps its state unless it is told otherwise.
const DEFAULT_DATA_DIR: &str = "tidegate-data";

pub(crate) async fn run(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let words = args.words.join(" ");
    let is_narrow = args.user.is_some() || args.address.is_some() || args.api.is_some();
    let question = match (args.last, words.trim()) {
        (Some(last), _) => Question::Last(usize::try_from(last).unwrap_or(explain::MAX_LAST)),
        (None, "") if is_narrow => Question::Everything,
        (None, words) => match Question::parse(words) {
            Ok(question) => question,
            Err(error) => {
                eprintln!("tidegate: {error}");
                return Ok(ExitCode::from(EXIT_USAGE));
            }
        },
    };
    if let (Question::Causes { causes, .. }, false) = (&question, args.node.json)
        && let [cause] = causes.as_slice()
    {
        output::print(&format!("{}\n", help_page(*cause).trim_end()))?;
        output::print("\n")?;
    }
    let answer = match &args.data_dir {
        Some(data_dir) => read(&question, &args, &data_dir.join(JOURNAL_FILE)).await,
        None => ask(&question, &args, &words).await,
    };
    let report = match answer {
        Ok(report) => report,
        Err(error) => return no_answer(&error),
    };
    if args.node.json {
        output::print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        output::print(&report.text(Style { color: output::is_colored(), verbose: false }))?;
    }
    Ok(ExitCode::from(report.explain_exit_code()))
}

/// One line about why there is no answer, what to do, and the exit code.
fn no_answer(error: &anyhow::Error) -> anyhow::Result<ExitCode> {
    eprintln!("tidegate: {}", output::plain(&format!("{error:#}")));
    let Some(failure) = error.downcast_ref::<ClientError>() else {
        return Ok(ExitCode::from(EXIT_NO_JOURNAL));
    };
    for problem in failure.problems() {
        eprintln!("  {}", output::plain(problem));
    }
    if let Some(hint) = failure.hint() {
        eprintln!("  {}", output::plain(&hint));
    }
    let is_usage = match failure {
        ClientError::Usage(_) => true,
        ClientError::Refused { status, .. } => *status == http::StatusCode::BAD_REQUEST,
        _ => false,
    };
    Ok(ExitCode::from(if is_usage { EXIT_USAGE } else { EXIT_NO_JOURNAL }))
}

/// Asks a running node; where none answers and the default data directory has a journal, reads that.
async fn ask(question: &Question, args: &ExplainArgs, words: &str) -> anyhow::Result<Report> {
    let fallback = PathBuf::from(DEFAULT_DATA_DIR).join(JOURNAL_FILE);
    match ask_node(args, words).await {
        Err(error)
            if matches!(error.downcast_ref(), Some(ClientError::Unreachable { .. }))
                && fallback.is_file() =>
        {
            eprintln!("tidegate: no node answers at {}; reading {}", args.node.admin_url, fallback.display());
            read(question, args, &fallback).await
        }
        answer => answer,
    }
}

async fn ask_node(args: &ExplainArgs, words: &str) -> anyhow::Result<Report> {
    let mut client = AdminClient::new(&args.node)?;
    let since = output::now().saturating_sub(args.since.saturating_mul(1000));
    // Whoever asks at a terminal sees what an operator has captured; reports and others who ask do not.
    let mut query = vec![("since", tidegate_core::context::iso_time(since)), ("payloads", "true".to_owned())];
    if !words.trim().is_empty() {
        query.push(("q", words.trim().to_owned()));
    }
    query.extend(args.last.map(|last| ("last", last.to_string())));
    for (name, value) in [("user", &args.user), ("address", &args.address), ("api", &args.api)] {
        query.extend(value.clone().map(|value| (name, value)));
    }
    let answer = client.get(&path(&["explain"]), &query).await?;
    serde_json::from_value(answer).context("the node answers with something else than a report")
}

/// Reads the journal of a data directory, whether a gateway writes it or not.
async fn read(question: &Question, args: &ExplainArgs, file: &Path) -> anyhow::Result<Report> {
    let failed = || format!("read the journal {}", file.display());
    let journal = SqliteJournal::open_read_only(file).with_context(failed)?;
    let options = Options {
        since: Duration::from_secs(args.since),
        user: args.user.clone(),
        address: args.address.clone(),
        api: args.api.clone(),
        payloads: false,
    };
    let sources = Sources { journal: &journal, now: output::now() * 1000, live: None };
    explain::explain(question, &sources, &options).await.with_context(failed)
}
