//! `tidegate serve`: the APIs of a data directory.

use std::process::ExitCode;

use anyhow::Context as _;

use super::apply_at_start;
use crate::app::App;
use crate::cli::{EXIT_FAILURE, ServeArgs};
use crate::reload::Reread;
use crate::stores::Stores;
use crate::{config, observe};

pub(crate) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    observe::start_logging(args.log_format, "info");
    let config = match config::load(&args.config) {
        Ok(loaded) => {
            for finding in super::doctor::inspect::configuration_findings(&loaded) {
                let detail = finding.evidence.first().map_or("", |evidence| evidence.text.as_str());
                tracing::warn!(diag = finding.id, "{}: {detail}", finding.title);
            }
            loaded.config
        }
        Err(problems) => {
            config::print_problems(&problems);
            return Ok(ExitCode::from(EXIT_FAILURE));
        }
    };
    if config.credentials.is_empty() {
        anyhow::bail!(config::no_credentials().message);
    }
    let document = match args.apply.as_deref().map(apply_at_start::read).transpose()? {
        Some(None) => return Ok(ExitCode::from(EXIT_FAILURE)),
        document => document.flatten(),
    };
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("create the data directory {}", config.data_dir.display()))?;
    let stores = Stores::open(&config)?;
    let reread = Reread { args: args.config, adjust: Box::new(|_| {}), fixed: Vec::new() };
    let app = App::start(config, stores, reread).await?;
    if let Some(document) = &document
        && apply_at_start::apply(&app.control, document).await?.is_none()
    {
        return Ok(ExitCode::from(EXIT_FAILURE));
    }
    if let Some(path) = &args.address_file {
        app.write_addresses(path, serde_json::Map::new())?;
    }
    app.serve_until_stopped().await
}
