//! `tidegate doctor` from inside: gathers what the checks of `tidegate_doctor::inspect` judge.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tidegate_doctor::inspect::checklist::{self, Known};
use tidegate_doctor::inspect::route_test::RouteTest;
use tidegate_doctor::inspect::{definitions, facts, management};
use tidegate_doctor::report::{Finding, Probe, ProbeResult, Report, Style};

use crate::admin_client::{Body, ClientError, path};
use crate::cli::EXIT_USAGE;
use crate::cli::doctor::inspect::InspectArgs;
use crate::cli::doctor::probe::ProbeArgs;
use crate::cli::node::{NodeArgs, ScopeArgs};
use crate::command::node::Node;
use crate::output;

mod backend_table;
mod configuration;
mod domain;
mod log_file;
mod push;
pub(super) mod reflect;
mod system;

/// `doctor` itself failed.
const EXIT_INTERNAL: u8 = 4;

pub(super) async fn run(
    args: &InspectArgs,
    outside: &ProbeArgs,
    is_json: bool,
    is_strict: bool,
    timeout: Duration,
) -> anyhow::Result<ExitCode> {
    match inspect(args, outside, timeout).await {
        Ok(report) => {
            let text = match is_json {
                true => format!("{}\n", serde_json::to_string(&report)?),
                false => {
                    let style = Style { color: output::is_colored(), verbose: outside.verbose };
                    plain_lines(&report.text(style))
                }
            };
            output::print(&text)?;
            Ok(ExitCode::from(report.doctor_exit_code(is_strict)))
        }
        Err(error) => {
            let failure = error.downcast_ref::<ClientError>();
            let code = if failure.is_some_and(|failure| matches!(failure, ClientError::Usage(_))) {
                EXIT_USAGE
            } else {
                EXIT_INTERNAL
            };
            eprintln!("tidegate: {}", output::plain(&format!("{error:#}")));
            if let Some(hint) = failure.and_then(ClientError::hint) {
                eprintln!("  {}", output::plain(&hint));
            }
            Ok(ExitCode::from(code))
        }
    }
}

/// Without characters that a terminal would obey, but for line feeds and the report's own colors.
fn plain_lines(text: &str) -> String {
    let is_own = |c: char| matches!(c, '\n' | '\u{1b}');
    text.chars().map(|c| if c.is_control() && !is_own(c) { '\u{fffd}' } else { c }).collect()
}

/// Everything that was asked for, as one report.
async fn inspect(args: &InspectArgs, outside: &ProbeArgs, timeout: Duration) -> anyhow::Result<Report> {
    let started = Instant::now();
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
    let mut report = Report::new("doctor", "", now);
    let mut targets = Vec::new();
    if let Some(file) = &args.config {
        targets.push(format!("configuration {}", file.display()));
        configuration::check(file, timeout, &mut report).await;
    }
    if args.system {
        targets.push("this machine".to_owned());
        system::check(&args.data_dir, &mut report).await;
    }
    if let Some(file) = &args.check_log {
        targets.push(format!("log {}", file.display()));
        log_file::check(file, args.config.as_deref(), &mut report)?;
    }
    let mut node = LazyNode { args, node: None };
    if let Some(wanted) = &args.api {
        targets.push(api(&mut node, wanted, args, timeout, &mut report).await?);
    }
    if let Some(name) = &args.domain {
        targets.push(format!("domain name {name}"));
        domain::check(node.get()?, name, outside, timeout, &mut report).await?;
    }
    if let Some(id) = &args.connection {
        targets.push(format!("connection {id}"));
        connection(node.get()?, id, &mut report).await?;
    }
    if args.watch {
        targets.push("what the node watches".to_owned());
        watched(node.get()?, &mut report).await?;
    }
    if targets.is_empty() {
        let what = "say what to look at: --config FILE, --api, --domain NAME, --connection ID, --system, --check-log FILE or --watch";
        return Err(ClientError::Usage(what.to_owned()).into());
    }
    report.target = targets.join(", ");
    report.finish(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
    Ok(report)
}

/// A node that is asked only when something needs it.
struct LazyNode<'a> {
    args: &'a InspectArgs,
    node: Option<Node>,
}

impl LazyNode<'_> {
    fn get(&mut self) -> anyhow::Result<&mut Node> {
        if self.node.is_none() {
            let args = NodeArgs {
                admin_url: self.args.admin_url.clone(),
                key_file: self.args.key_file.clone(),
                cafile: None,
                json: true,
            };
            self.node = Some(Node::new(&args)?);
        }
        self.node.as_mut().ok_or_else(|| anyhow::anyhow!("no node"))
    }
}

/// Takes over what a node found.
fn merge(report: &mut Report, found: Value) -> anyhow::Result<()> {
    let found: Report = serde_json::from_value(found)?;
    report.probes.extend(found.probes);
    report.findings.extend(found.findings);
    report.notes.extend(found.notes);
    Ok(())
}

async fn api(
    node: &mut LazyNode<'_>,
    wanted: &str,
    args: &InspectArgs,
    timeout: Duration,
    report: &mut Report,
) -> anyhow::Result<String> {
    let node = node.get()?;
    let api_id = match wanted {
        "" => node.only_api().await?,
        wanted => node.api_id(Some(wanted)).await?.unwrap_or_default(),
    };
    let body = Body::Json(json!({ "no_post": args.no_post }));
    let answer = node.change(Method::POST, &["apis", &api_id, "doctor"], &[], body).await?;
    merge(report, answer["report"].clone())?;
    let mut known: Known = serde_json::from_value(answer["known"].clone())?;
    // S0-34: on the backend's machine its own environment says how it calls.
    let stage = answer["stages"][0].as_str().unwrap_or("$default");
    let region = answer["region"].as_str().unwrap_or("us-east-1");
    match push::from_environment(&api_id, stage, region, timeout).await {
        Some(checked) => {
            report.probes.push(management::probe(&checked.host, checked.finding.as_ref()));
            let id = checked.finding.as_ref().map(|finding| finding.id.clone());
            (known.is_signature_accepted, known.is_permitted) = match id.as_deref() {
                None => (Some(true), Some(true)),
                Some("management.denied") => (Some(true), Some(false)),
                Some("management.bad-signature" | "management.unknown-key") => (Some(false), None),
                Some(_) => (None, None),
            };
            report.findings.extend(checked.finding);
        }
        None if known.package.is_none() => {}
        None => {
            report.notes.push("pushes were not tried: this environment has no AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; run this on the backend's machine, in its environment".to_owned());
        }
    }
    // What the package's processes need; other backends have other ways.
    if known.package.is_some() {
        let environment = answer["environment"].as_array().into_iter().flatten().filter_map(Value::as_str);
        report.notes.extend(environment.map(|line| format!("environment of the backend: {line}")));
    }
    if let Some(file) = &args.backend_connections {
        backend_table::check(node, &api_id, file, args.grace, report).await?;
    }
    if let Some(message) = &args.message {
        let tested = test_route(node, &api_id, None, message).await?;
        report.notes.extend(
            tested.iter().flat_map(|test| test.text().lines().map(str::to_owned).collect::<Vec<_>>()),
        );
        for test in tested.iter().filter(|test| test.version != DEFINED) {
            report.findings.extend(finding_of(test, &api_id));
        }
        let measurements = facts([("versions", json!(tested))]);
        report.probes.push(Probe { name: "message".to_owned(), result: ProbeResult::Ok, measurements });
    }
    report.probes.push(checklist::probe(&known));
    Ok(format!("API {api_id}"))
}

/// The version that is not deployed.
const DEFINED: &str = "after a deployment";

fn finding_of(test: &RouteTest, api_id: &str) -> Option<Finding> {
    let diagnosis = tidegate_core::diagnosis::Diagnosis::find(test.diagnosis.as_deref()?)?;
    let where_to = test.route_key.as_deref().unwrap_or("no route");
    let text =
        format!("{}: the message selects {:?} and goes to {where_to}", test.version, test.selected_value);
    let known = facts([
        ("selection", json!(test.selection)),
        ("selectedValue", test.selected_value.as_str().into()),
        ("nearest", json!(test.nearest)),
    ]);
    let mut finding = Finding::warning(diagnosis).seen(text, known);
    finding.api_id = Some(api_id.to_owned());
    finding.route_key.clone_from(&test.route_key);
    Some(finding)
}

/// The way of a message: by stage, then by the definition of now where that differs.
pub(crate) async fn test_route(
    node: &mut Node,
    api_id: &str,
    stage: Option<&str>,
    message: &str,
) -> anyhow::Result<Vec<RouteTest>> {
    let mut body = json!({ "message": message });
    if let Some(stage) = stage {
        body["stage"] = stage.into();
    }
    let answer = node.change(Method::POST, &["apis", api_id, "route-test"], &[], Body::Json(body)).await?;
    let mut tested: Vec<RouteTest> = serde_json::from_value(answer["deployed"].clone())?;
    if answer["is_behind"] == true {
        let defined: Option<RouteTest> = serde_json::from_value(answer["defined"].clone())?;
        tested.extend(defined);
    }
    Ok(tested)
}

async fn connection(node: &mut Node, id: &str, report: &mut Report) -> anyhow::Result<()> {
    let answer = match node.client.get(&path(&["connections", id]), &[]).await {
        Ok(answer) => answer,
        Err(ClientError::Refused { status, message, .. })
            if status == http::StatusCode::NOT_FOUND || status == http::StatusCode::GONE =>
        {
            report.notes.push(format!("{id} is not open: {message}"));
            report.probes.push(Probe {
                name: "connection".to_owned(),
                result: ProbeResult::Inconclusive,
                measurements: facts([("reason", "it is not open".into())]),
            });
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let shown = output::connection(&answer, output::now());
    report.notes.extend(shown.lines().map(str::to_owned));
    let measurements = answer.as_object().cloned().unwrap_or_default();
    report.probes.push(Probe { name: "connection".to_owned(), result: ProbeResult::Ok, measurements });
    Ok(())
}

async fn watched(node: &mut Node, report: &mut Report) -> anyhow::Result<()> {
    let answer = node.client.get(&path(&["doctor"]), &[]).await?;
    let findings: Vec<Finding> = serde_json::from_value(answer["findings"].clone())?;
    let (result, measurements) = match answer["at"].as_str() {
        Some(at) => (definitions::worst(&findings), facts([("at", at.into())])),
        None => (
            ProbeResult::Inconclusive,
            facts([("reason", "the node has not looked yet; see `doctor_interval`".into())]),
        ),
    };
    report.probes.push(Probe { name: "watch".to_owned(), result, measurements });
    report.findings.extend(findings);
    Ok(())
}

impl Node {
    /// The id of the only API.
    async fn only_api(&mut self) -> Result<String, ClientError> {
        let page = self.client.get(&path(&["apis"]), &[("limit", "2".to_owned())]).await?;
        match page["apis"].as_array().map(Vec::as_slice) {
            Some([only]) => Ok(only["id"].as_str().unwrap_or_default().to_owned()),
            // Says which there are.
            _ => self.scope(&ScopeArgs::default()).await.map(|(api, _)| api),
        }
    }
}

pub(crate) use configuration::findings as configuration_findings;
