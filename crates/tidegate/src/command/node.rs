//! What all commands that ask a running node share: which stage is meant, lists over all pages, and how errors end.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::process::ExitCode;

use http::Method;
use serde_json::{Value, json};

use crate::admin_client::{AdminClient, Body, ClientError, path};
use crate::cli::node::{FilterArgs, NodeArgs, ScopeArgs};
use crate::output::{self, Column, Table};

/// Items of a page: few calls, and little memory.
const PAGE: u64 = 500;

/// Largest file or message that is read, in bytes; the largest that the node takes.
const MAX_INPUT: u64 = 32 << 20;

/// Candidates that an error names.
const MAX_NAMED: usize = 10;

/// A running node, and how its answers are shown.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) client: AdminClient,
    pub(crate) is_json: bool,
}

/// A list of the admin API.
pub(crate) struct List<'a> {
    pub(crate) path: &'a [&'a str],
    pub(crate) query: Vec<(&'static str, String)>,
    /// Member of the answer that has the items.
    pub(crate) member: &'static str,
    pub(crate) columns: &'static [Column],
    /// `connection`, `connections`.
    pub(crate) names: (&'static str, &'static str),
    /// Why there is nothing, and what to do.
    pub(crate) empty: &'a str,
    /// Rows of the table for an item.
    pub(crate) rows: fn(Value) -> Vec<Value>,
    /// At most so many items.
    pub(crate) max: u64,
}

/// One row for each item.
pub(crate) fn one_row(item: Value) -> Vec<Value> {
    vec![item]
}

/// An API and the names of its stages.
struct ApiEntry {
    id: String,
    name: String,
    stages: Vec<String>,
}

impl Node {
    pub(crate) fn new(args: &NodeArgs) -> anyhow::Result<Self> {
        Ok(Self { client: AdminClient::new(args)?, is_json: args.json })
    }

    /// A change; what the node answers.
    pub(crate) async fn change(
        &mut self,
        method: Method,
        segments: &[&str],
        query: &[(&'static str, String)],
        body: Body,
    ) -> Result<Value, ClientError> {
        self.client.call(method, &path(segments), query, body).await
    }

    /// Prints an answer: as it is, or as `text` says it.
    pub(crate) fn say(
        &self,
        answer: &Value,
        text: impl FnOnce(&Value) -> String,
    ) -> std::io::Result<ExitCode> {
        match self.is_json {
            true => output::print(&format!("{answer}\n"))?,
            false => output::print(&format!("{}\n", text(answer).trim_end()))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Prints a list, page by page: a table, or one JSON array over all pages. No more than one page is held.
    pub(crate) async fn list(&mut self, list: List<'_>) -> anyhow::Result<ExitCode> {
        let mut table = Table::new(list.columns);
        let (mut n_items, mut next) = (0_u64, None::<String>);
        loop {
            let mut query = list.query.clone();
            query.push(("limit", PAGE.min(list.max - n_items).max(1).to_string()));
            query.extend(next.take().map(|token| ("next_token", token)));
            // A list that breaks off has no end, so that no program takes it for the whole.
            let mut page = self.client.get(&path(list.path), &query).await?;
            let items = match page[list.member].take() {
                Value::Array(items) => items,
                _ => Vec::new(),
            };
            next = page["next_token"].as_str().map(str::to_owned);
            self.print_page(&list, items, &mut table, &mut n_items)?;
            if next.is_none() || n_items >= list.max {
                break;
            }
        }
        match (self.is_json, n_items) {
            (true, 0) => output::print("[]\n")?,
            (true, _) => output::print("]\n")?,
            (false, 0) => eprintln!("{}", list.empty),
            (false, _) => {
                let more = if next.is_some() { ", and there are more" } else { "" };
                eprintln!("{}{more}", output::count(n_items, list.names.0, list.names.1));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn print_page(
        &self,
        list: &List<'_>,
        items: Vec<Value>,
        table: &mut Table,
        n_items: &mut u64,
    ) -> std::io::Result<()> {
        if self.is_json {
            let mut text = String::new();
            for item in items {
                text.push(if *n_items == 0 { '[' } else { ',' });
                text.push_str(&item.to_string());
                *n_items += 1;
            }
            return output::print(&text);
        }
        *n_items += items.len() as u64;
        let rows: Vec<Value> = items.into_iter().flat_map(list.rows).collect();
        match rows.is_empty() {
            true => Ok(()),
            false => output::print(&table.lines(&rows, output::now())),
        }
    }

    async fn apis(&mut self) -> Result<Vec<ApiEntry>, ClientError> {
        let (mut apis, mut next) = (Vec::new(), None::<String>);
        loop {
            let mut query = vec![("limit", PAGE.to_string())];
            query.extend(next.take().map(|token| ("next_token", token)));
            let page = self.client.get(&path(&["apis"]), &query).await?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            for api in page["apis"].as_array().into_iter().flatten() {
                let stages = api["stages"].as_array().into_iter().flatten();
                let stages = stages.map(|stage| text(&stage["name"])).collect();
                apis.push(ApiEntry { id: text(&api["id"]), name: text(&api["name"]), stages });
            }
            next = page["next_token"].as_str().map(str::to_owned);
            if next.is_none() {
                return Ok(apis);
            }
        }
    }

    /// API and stage: those that were named, or the only ones there are.
    pub(crate) async fn scope(&mut self, scope: &ScopeArgs) -> Result<(String, String), ClientError> {
        choose(self.apis().await?, scope.api.as_deref(), scope.stage.as_deref())
    }

    /// The id of an API that was named.
    pub(crate) async fn api_id(&mut self, api: Option<&str>) -> Result<Option<String>, ClientError> {
        match api {
            None => Ok(None),
            Some(wanted) => Ok(Some(choose_api(self.apis().await?, wanted)?.id)),
        }
    }

    /// `api` and `stage` for a query.
    pub(crate) async fn filter(
        &mut self,
        filter: &FilterArgs,
    ) -> Result<Vec<(&'static str, String)>, ClientError> {
        let mut query = Vec::new();
        query.extend(self.api_id(filter.api.as_deref()).await?.map(|id| ("api", id)));
        query.extend(filter.stage.clone().map(|stage| ("stage", stage)));
        Ok(query)
    }
}

fn choose_api(mut apis: Vec<ApiEntry>, wanted: &str) -> Result<ApiEntry, ClientError> {
    if let Some(api_idx) = apis.iter().position(|api| api.id == wanted) {
        return Ok(apis.swap_remove(api_idx));
    }
    let all = named(apis.iter());
    apis.retain(|api| api.name == wanted);
    match (apis.pop(), apis.is_empty()) {
        (Some(api), true) => Ok(api),
        (Some(last), false) => {
            let candidates = named(apis.iter().chain([&last]));
            Err(ClientError::Usage(format!(
                "--api {wanted}: several have this name: {candidates}; give the id"
            )))
        }
        (None, _) if all.is_empty() => Err(no_api()),
        (None, _) => {
            Err(ClientError::NotThere(format!("--api {wanted}: there is no such API; there are {all}")))
        }
    }
}

fn choose(
    mut apis: Vec<ApiEntry>,
    api: Option<&str>,
    stage: Option<&str>,
) -> Result<(String, String), ClientError> {
    let chosen = match api {
        Some(wanted) => choose_api(apis, wanted)?,
        None => {
            if apis.is_empty() {
                return Err(no_api());
            }
            if let Some(stage) = stage {
                let all = named(apis.iter());
                apis.retain(|api| api.stages.iter().any(|name| name == stage));
                if apis.is_empty() {
                    return Err(ClientError::NotThere(format!(
                        "--stage {stage}: none of the APIs has it: {all}"
                    )));
                }
            }
            let candidates = named(apis.iter());
            match (apis.pop(), apis.is_empty()) {
                (Some(only), true) => only,
                _ => return Err(ClientError::Usage(format!("--api is needed; there are {candidates}"))),
            }
        }
    };
    let ApiEntry { id, name, mut stages } = chosen;
    let candidates = join(stages.iter().cloned());
    match stage {
        Some(stage) if stages.iter().any(|known| known == stage) => Ok((id, stage.to_owned())),
        Some(stage) => Err(ClientError::NotThere(match candidates.is_empty() {
            true => format!("--stage {stage}: the API {name} ({id}) has no stage"),
            false => format!("--stage {stage}: the API {name} ({id}) has only {candidates}"),
        })),
        None => match (stages.pop(), stages.is_empty()) {
            (Some(only), true) => Ok((id, only)),
            (None, _) => Err(ClientError::NotThere(format!("the API {name} ({id}) has no stage"))),
            _ => {
                Err(ClientError::Usage(format!("--stage is needed; the API {name} ({id}) has {candidates}")))
            }
        },
    }
}

fn no_api() -> ClientError {
    ClientError::NotThere("there is no API yet; `tidegate apply FILE` makes one".to_owned())
}

/// `chat (k3x9q2m7vd), alerts (abc)`.
fn named<'a>(apis: impl Iterator<Item = &'a ApiEntry>) -> String {
    join(apis.map(|api| format!("{} ({})", api.name, api.id)))
}

fn join(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    let n_more = names.len().saturating_sub(MAX_NAMED);
    names.truncate(MAX_NAMED);
    let more = if n_more > 0 { format!(" and {n_more} more") } else { String::new() };
    output::plain(&format!("{}{more}", names.join(", ")))
}

/// A message, or whatever else an argument may have or read from the standard input. One line end at the end of what is
/// read is left out: `echo` and editors put it there.
pub(crate) fn data(argument: Option<&str>) -> anyhow::Result<String> {
    match argument {
        Some(text) if text != "-" => Ok(text.to_owned()),
        _ => {
            if std::io::stdin().is_terminal() {
                eprintln!("reading from the terminal; Ctrl-D ends");
            }
            let mut text = read_text("the standard input", std::io::stdin().lock())?;
            let without = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
            let length = without.map(str::len);
            text.truncate(length.unwrap_or(text.len()));
            Ok(text)
        }
    }
}

/// The text of a file; `-` is the standard input.
pub(crate) fn file(path: &Path) -> anyhow::Result<String> {
    if path.as_os_str() == "-" {
        return data(None);
    }
    let name = path.display().to_string();
    let file = std::fs::File::open(path).map_err(|error| ClientError::Usage(format!("{name}: {error}")))?;
    read_text(&name, file)
}

fn read_text(name: &str, from: impl std::io::Read) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = from.take(MAX_INPUT + 1).read_to_string(&mut text);
    read.map_err(|error| ClientError::Usage(format!("{name}: {error}")))?;
    match text.len() as u64 > MAX_INPUT {
        true => Err(ClientError::Usage(format!("{name}: more than {MAX_INPUT} bytes")).into()),
        false => Ok(text),
    }
}

/// A JSON object that an argument has.
pub(crate) fn object(name: &str, text: &str) -> Result<Value, ClientError> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => {
            Err(ClientError::Usage(format!("{name}: a JSON object expected, like {{\"role\": \"staff\"}}")))
        }
        Err(error) => Err(ClientError::Usage(format!("{name}: is no JSON: {error}"))),
    }
}

/// A document as the admin API takes it: no TOML begins with a brace.
pub(crate) fn document(text: String) -> Body {
    match text.trim_start().starts_with('{') {
        true => Body::Text("application/json", text),
        false => Body::Text("application/toml", text),
    }
}

/// A body of the members that have a value.
pub(crate) fn members<const N: usize>(members: [(&str, Value); N]) -> Value {
    let mut body = json!({});
    for (name, value) in members {
        if !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty()) {
            body[name] = value;
        }
    }
    body
}

/// What ended: connections and tokens.
pub(crate) fn ended(answer: &Value) -> String {
    let number = |name: &str| answer[name].as_u64().unwrap_or_default();
    format!(
        "closing {}; {} worth nothing any more",
        output::count(number("connections"), "connection", "connections"),
        output::count(number("tokens"), "unspent token is", "unspent tokens are"),
    )
}

/// How a command ends that failed: one line, what to do about it, and the exit code of the kind of failure.
pub(crate) fn end(result: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let error = match result {
        Ok(code) => return Ok(code),
        Err(error) => error,
    };
    if let Some(error) = error.downcast_ref::<std::io::Error>()
        && error.kind() == std::io::ErrorKind::BrokenPipe
    {
        // `tidegate ... | head`: enough was read.
        return Ok(ExitCode::SUCCESS);
    }
    let Some(failure) = error.downcast_ref::<ClientError>() else { return Err(error) };
    eprintln!("tidegate: {}", output::plain(&format!("{error:#}")));
    for problem in failure.problems() {
        eprintln!("  {}", output::plain(problem));
    }
    if let Some(hint) = failure.hint() {
        eprintln!("  {}", output::plain(&hint));
    }
    Ok(ExitCode::from(failure.exit_code()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{EXIT_NOT_FOUND, EXIT_USAGE};

    fn apis() -> Vec<ApiEntry> {
        let api = |id: &str, name: &str, stages: &[&str]| ApiEntry {
            id: id.to_owned(),
            name: name.to_owned(),
            stages: stages.iter().map(|&stage| stage.to_owned()).collect(),
        };
        vec![
            api("a1", "chat", &["dev", "prod"]),
            api("b2", "alerts", &["live"]),
            api("c3", "alerts", &[]),
            api("chat", "odd", &["dev"]),
        ]
    }

    #[test]
    fn api_and_stage_are_what_was_named_or_the_only_ones() {
        let chosen = |api, stage| choose(apis(), api, stage).unwrap();
        assert_eq!(chosen(Some("a1"), Some("prod")), ("a1".into(), "prod".into()));
        assert_eq!(chosen(Some("b2"), None), ("b2".into(), "live".into()));
        assert_eq!(chosen(Some("odd"), None), ("chat".into(), "dev".into()));
        // An id wins over a name.
        assert_eq!(chosen(Some("chat"), None), ("chat".into(), "dev".into()));
        assert_eq!(chosen(None, Some("live")), ("b2".into(), "live".into()));
        let only = || apis().into_iter().skip(1).take(1).collect();
        assert_eq!(choose(only(), None, None).unwrap(), ("b2".into(), "live".into()));
    }

    #[test]
    fn what_is_not_clear_names_the_candidates() {
        for (api, stage, code, expected) in [
            (None, None, EXIT_USAGE, "chat (a1), alerts (b2), alerts (c3), odd (chat)"),
            (None, Some("dev"), EXIT_USAGE, "chat (a1), odd (chat)"),
            (None, Some("x"), EXIT_NOT_FOUND, "--stage x"),
            (Some("a1"), None, EXIT_USAGE, "dev, prod"),
            (Some("a1"), Some("live"), EXIT_NOT_FOUND, "has only dev, prod"),
            (Some("alerts"), None, EXIT_USAGE, "alerts (b2), alerts (c3)"),
            (Some("c3"), None, EXIT_NOT_FOUND, "has no stage"),
            (Some("nobody"), None, EXIT_NOT_FOUND, "there is no such API"),
        ] {
            let error = choose(apis(), api, stage).unwrap_err();
            assert_eq!(error.exit_code(), code, "{error}");
            assert!(error.to_string().contains(expected), "{expected} in {error}");
        }
        assert!(choose(Vec::new(), None, None).unwrap_err().to_string().contains("tidegate apply"));
    }
}
