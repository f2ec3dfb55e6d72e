//! `tidegate users` and `tidegate sessions`: who is connected, ending them, bans.

use std::process::ExitCode;

use http::Method;
use serde_json::{Value, json};

use super::node::{self, List, Node};
use crate::admin_client::Body;
use crate::cli::node::{FilterArgs, SessionsAction, SessionsArgs, UsersAction, UsersArgs};
use crate::output::{self, Column, Shown, column};

const USERS: &[Column] = &[
    column("USER", "user", Shown::Text),
    column("API", "api", Shown::Text),
    column("STAGE", "stage", Shown::Text),
    column("CONNECTIONS", "connections", Shown::Number),
];

const SESSIONS: &[Column] = &[
    column("SESSION", "session", Shown::Text),
    column("API", "api", Shown::Text),
    column("STAGE", "stage", Shown::Text),
    column("CONNECTIONS", "connections", Shown::Number),
];

const BANS: &[Column] = &[
    column("KIND", "kind", Shown::Text),
    column("ID", "id", Shown::Text),
    column("API", "api", Shown::Text),
    column("SINCE", "since", Shown::Age),
    column("ENDS", "until", Shown::Age),
    column("REASON", "reason", Shown::Text),
];

pub(crate) async fn run(args: UsersArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    match args.action {
        UsersAction::Ls(filter) => {
            let query = node.filter(&filter).await?;
            let list = List {
                path: &["users"],
                query,
                member: "users",
                columns: USERS,
                names: ("user", "users"),
                empty: "no users; a connection has one when a token, a JSON Web Token or a key names it: `tidegate token create --user ID`",
                rows: node::one_row,
                max: u64::MAX,
            };
            node.list(list).await
        }
        UsersAction::End { user, filter } => end(&mut node, "users", &user, &filter).await,
        UsersAction::Ban { user, seconds, reason, api } => {
            let api = node.api_id(api.as_deref()).await?;
            let members = [("seconds", json!(seconds)), ("reason", json!(reason)), ("api", json!(api))];
            let body = Body::Json(node::members(members));
            let answer = node.change(Method::POST, &["users", &user, "ban"], &[], body).await?;
            Ok(node.say(&answer, |answer| {
                format!("banned for {}; {}", output::span(seconds), node::ended(answer))
            })?)
        }
        UsersAction::Unban { user, api } => {
            let query: Vec<_> =
                node.api_id(api.as_deref()).await?.map(|api| ("api", api)).into_iter().collect();
            let answer = node.change(Method::DELETE, &["users", &user, "ban"], &query, Body::Nothing).await?;
            Ok(node.say(&answer, |answer| match answer["lifted"].as_bool() {
                Some(false) => format!("{} was not banned", output::plain(&user)),
                _ => format!("{} may connect again", output::plain(&user)),
            })?)
        }
        UsersAction::Bans => {
            let list = List {
                path: &["bans"],
                query: Vec::new(),
                member: "bans",
                columns: BANS,
                names: ("ban", "bans"),
                empty: "nobody is banned; `tidegate users ban ID` does it",
                rows: node::one_row,
                max: u64::MAX,
            };
            node.list(list).await
        }
        UsersAction::Claims { user, claims, role, filter } => {
            let query = node.filter(&filter).await?;
            let claims = match claims {
                Some(text) => node::object("CLAIMS", &node::data(Some(&text))?)?,
                None => Value::Null,
            };
            let body = Body::Json(node::members([("roles", json!(role)), ("claims", claims)]));
            let answer = node.change(Method::PUT, &["users", &user, "claims"], &query, body).await?;
            Ok(node.say(&answer, |answer| {
                let number = |name: &str| answer[name].as_u64().unwrap_or_default();
                format!(
                    "{} changed; {}",
                    output::count(number("connections"), "connection", "connections"),
                    output::count(number("removed"), "membership ended", "memberships ended"),
                )
            })?)
        }
    }
}

pub(crate) async fn run_sessions(args: SessionsArgs) -> anyhow::Result<ExitCode> {
    let mut node = Node::new(&args.node)?;
    match args.action {
        SessionsAction::Ls(filter) => {
            let query = node.filter(&filter).await?;
            let list = List {
                path: &["sessions"],
                query,
                member: "sessions",
                columns: SESSIONS,
                names: ("session", "sessions"),
                empty: "no sessions; a connection has one when its token or session cookie names it: `tidegate token create --session ID`",
                rows: node::one_row,
                max: u64::MAX,
            };
            node.list(list).await
        }
        SessionsAction::End { session, filter } => end(&mut node, "sessions", &session, &filter).await,
    }
}

async fn end(node: &mut Node, of: &str, id: &str, filter: &FilterArgs) -> anyhow::Result<ExitCode> {
    let query = node.filter(filter).await?;
    let answer = node.change(Method::POST, &[of, id, "end"], &query, Body::Nothing).await?;
    Ok(node.say(&answer, node::ended)?)
}
