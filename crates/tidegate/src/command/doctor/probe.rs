//! `tidegate doctor <url>`.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use http::Method;
use serde_json::json;
use tidegate_auth::Secret;
use tidegate_doctor::probe::{self, Admin, Cookie, ProbeOptions, PublishRequest};
use tidegate_doctor::report::Report;

use crate::admin_client::{self, AdminClient, Body, ClientError};
use crate::cli::EXIT_USAGE;
use crate::cli::doctor::DoctorArgs;
use crate::cli::node::NodeArgs;

/// Longest token, in bytes: more than any server takes in a URL.
const MAX_TOKEN: u64 = 64 << 10;

pub(super) async fn run(url: &str, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let options = match options(url, args).await {
        Ok(options) => options,
        Err(error) => {
            eprintln!("tidegate: {error:#}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    if let Some(idle) = options.idle {
        // DX-46: what it costs is said before it starts.
        eprintln!(
            "the idle probe takes up to {} s and holds {} connections, with a small frame every 20 s on two of them",
            idle.as_secs(),
            4 + usize::from(options.heartbeat.is_some()),
        );
    }
    let started = jiff::Timestamp::now();
    let clock = Instant::now();
    let mut report = Report::new("doctor", probe::masked(url), format!("{started:.3}"));
    if args.probe.admin.is_some() && options.admin.as_ref().is_none_or(|admin| admin.ticket.is_none()) {
        report.notes.push("the admin listener gave no ticket for the probe endpoint".to_owned());
    }
    probe::run(&options, &mut report, &super::progress).await;
    report.finish(u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX));
    Ok(super::print(&report, args))
}

async fn options(url: &str, args: &DoctorArgs) -> anyhow::Result<ProbeOptions> {
    let given = &args.probe;
    let roots = probe::roots(given.cafile.as_deref())?;
    let mut options = ProbeOptions::new(url, Arc::new(roots));
    options.token = token(given.token.as_deref(), given.token_file.as_deref())?;
    options.token_name.clone_from(&given.token_name);
    options.spend_token = given.spend_token;
    options.origin.clone_from(&given.origin);
    if let Some(path) = &given.cookie_file {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        options.cookies = Cookie::parse_file(&text).with_context(|| format!("{}", path.display()))?;
    }
    options.subprotocols.clone_from(&given.subprotocol);
    options.headers.clone_from(&given.header);
    options.page.clone_from(&given.page);
    options.token_url.clone_from(&given.token_url);
    options.token_headers.clone_from(&given.token_header);
    options.resolve.clone_from(&given.resolve);
    options.resolvers.clone_from(&given.resolver);
    options.idle = given.idle;
    options.heartbeat = given.heartbeat;
    options.send.clone_from(&given.send);
    options.expect.clone_from(&given.expect);
    options.chat = given.chat;
    options.publish = given.publish_url.clone().map(|url| PublishRequest {
        url,
        body: given.publish_body.clone(),
        headers: given.publish_header.clone(),
        subscribe: given.subscribe.clone(),
    });
    options.timeout = args.timeout;
    options.only.clone_from(&given.only);
    if let Some(admin) = &given.admin {
        options.admin = Some(ask_for_ticket(admin, args).await?);
    }
    for (name, value) in [("--origin", &options.origin), ("--page", &options.page)] {
        if value.as_ref().is_some_and(|value| value.contains(char::is_control)) {
            anyhow::bail!("{name}: control characters are not permitted");
        }
    }
    Ok(options)
}

fn token(given: Option<&str>, file: Option<&Path>) -> anyhow::Result<Option<Secret>> {
    let mut text = String::new();
    match (given, file) {
        (None, None) => return Ok(None),
        (Some("-"), _) => {
            std::io::stdin().take(MAX_TOKEN).read_to_string(&mut text).context("read the token")?;
        }
        (Some(token), _) => text.push_str(token),
        (None, Some(path)) => {
            let file = std::fs::File::open(path).with_context(|| format!("read {}", path.display()))?;
            file.take(MAX_TOKEN)
                .read_to_string(&mut text)
                .with_context(|| format!("read {}", path.display()))?;
        }
    }
    // Editors put a newline at the end that is no part of it.
    let token = text.trim_end_matches(['\r', '\n']);
    if token.is_empty() {
        anyhow::bail!("the token is empty");
    }
    Ok(Some(Secret::new(token)))
}

/// Asks the gateway that is meant for a ticket to its probe endpoint.
async fn ask_for_ticket(url: &str, args: &DoctorArgs) -> anyhow::Result<Admin> {
    let node = NodeArgs {
        admin_url: url.to_owned(),
        key_file: args.inspect.key_file.clone(),
        cafile: args.probe.cafile.clone(),
        json: args.json,
    };
    let mut client = AdminClient::new(&node)?;
    let path = admin_client::path(&["probe-tickets"]);
    let answer = client.call(Method::POST, &path, &[], Body::Json(json!({}))).await;
    let (answers, ticket, installation) = match answer {
        Ok(body) => {
            (true, body["ticket"].as_str().map(Secret::new), body["installation"].as_str().map(str::to_owned))
        }
        Err(ClientError::Unreachable { .. } | ClientError::NoAnswer { .. }) => (false, None, None),
        Err(error @ ClientError::Usage(_)) => return Err(error.into()),
        Err(_) => (true, None, None),
    };
    Ok(Admin { ticket, installation, answers, url: url.to_owned() })
}
