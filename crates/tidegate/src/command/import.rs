//! `tidegate import`: an API from a template, or from a running control plane, as a document.

mod aws;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use tidegate_control::declarative::{Document, Export};
use tidegate_import::{Format, Imported, LeftOut, Options, Part};

use super::node;
use crate::admin_client::ClientError;
use crate::cli::EXIT_FAILURE;
use crate::cli::import::{ImportArgs, ImportFrom, OutputArgs, ServerlessArgs, TemplateArgs};
use crate::output;

pub(crate) async fn run(args: ImportArgs) -> anyhow::Result<ExitCode> {
    match args.from {
        ImportFrom::Sam(args) | ImportFrom::Cloudformation(args) => {
            template(Format::CloudFormation, &args, None)
        }
        ImportFrom::Serverless(ServerlessArgs { template: args, stage }) => {
            template(Format::Serverless, &args, stage)
        }
        ImportFrom::Aws(args) => {
            let live = aws::read(&args).await?;
            match tidegate_import::import_live(&live) {
                Ok(imported) => finish(&imported, &args.output),
                Err(error) => {
                    eprintln!("tidegate: {}", output::plain(&error.to_string()));
                    Ok(ExitCode::from(EXIT_FAILURE))
                }
            }
        }
    }
}

fn template(format: Format, args: &TemplateArgs, stage: Option<String>) -> anyhow::Result<ExitCode> {
    let mut parameters = BTreeMap::new();
    for parameter in &args.parameter {
        let Some((name, value)) = parameter.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            // Not repeated: it may have a secret in it.
            return Err(ClientError::Usage("--parameter: NAME=VALUE expected".to_owned()).into());
        };
        parameters.insert(name.to_owned(), value.to_owned());
    }
    let options = Options {
        parameters,
        region: args.region.clone(),
        account_id: args.account_id.clone(),
        stack_name: args.stack_name.clone(),
        stage,
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
    };
    match tidegate_import::import(format, &node::file(&args.file)?, &options) {
        Ok(imported) => finish(&imported, &args.output),
        Err(error) => {
            let text = format!("tidegate: {}: {error}", args.file.display());
            eprintln!("{}", output::plain(&text));
            Ok(ExitCode::from(EXIT_FAILURE))
        }
    }
}

/// Prints the result, and on the standard error output what is not in it.
fn finish(imported: &Imported, args: &OutputArgs) -> anyhow::Result<ExitCode> {
    let document = match Document::from_value(imported.document.clone()) {
        Ok(document) => document,
        Err(problems) => {
            eprintln!("tidegate: what was read makes no document");
            for problem in problems {
                eprintln!("  {}", output::plain(&problem.to_string()));
            }
            return Ok(ExitCode::from(EXIT_FAILURE));
        }
    };
    let configuration = imported.configuration();
    if let Some(path) = &args.configuration {
        write(path, &configuration)?;
    }
    let text = match args.json {
        true => {
            let shown = json!({
                "document": document,
                "configuration": configuration,
                "functions": imported.functions,
                "usage_plans": imported.usage_plans,
                "left_out": imported.left_out,
            });
            format!("{shown}\n")
        }
        false => {
            let mut text = Export { document, notes: Vec::new() }.to_toml()?;
            if args.configuration.is_none() && !configuration.is_empty() {
                text.push_str("\n# For the configuration file of the node:\n#\n");
                for line in configuration.lines() {
                    text.push_str(format!("# {line}").trim_end());
                    text.push('\n');
                }
            }
            text
        }
    };
    match &args.output {
        Some(path) => write(path, &text)?,
        None => output::print(&text)?,
    }
    if !args.json {
        tell(&imported.left_out);
    }
    let is_whole = imported.left_out.iter().all(|entry| entry.part != Part::Api);
    match args.strict && !is_whole {
        true => Ok(ExitCode::from(EXIT_FAILURE)),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// For its owner alone: a template may have secrets in it.
fn write(path: &Path, text: &str) -> Result<(), ClientError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| ClientError::Usage(format!("{}: {error}", path.display())))
}

/// What is the same for several things is said once.
fn tell(left_out: &[LeftOut]) {
    if left_out.is_empty() {
        eprintln!("nothing was left out");
        return;
    }
    for (part, title) in [
        (Part::Api, "left out of the API:"),
        (Part::Configuration, "for the configuration:"),
        (Part::Beside, "left out, because it lies beside the API:"),
    ] {
        let mut groups: Vec<(&str, &str, Vec<String>)> = Vec::new();
        for entry in left_out.iter().filter(|entry| entry.part == part) {
            let place = match entry.line {
                Some(line) => format!("{} (line {line})", entry.what),
                None => entry.what.clone(),
            };
            match groups.iter_mut().find(|(why, to_do, _)| *why == entry.why && *to_do == entry.to_do) {
                Some((_, _, places)) => places.push(place),
                None => groups.push((&entry.why, &entry.to_do, vec![place])),
            }
        }
        if !groups.is_empty() {
            eprintln!("{title}");
        }
        for (why, to_do, places) in groups {
            eprintln!("  {}: {}", output::plain(&places.join(", ")), output::plain(why));
            if !to_do.is_empty() {
                eprintln!("    {}", output::plain(to_do));
            }
        }
    }
}
