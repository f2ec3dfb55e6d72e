//! Sessions: which are connected, ending one.

use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_auth::Role;
use tidegate_gateway::{Ending, GroupInfo, Subject};

use super::{API, COUNT, ENDED, STAGE, TEXT, ended};
use crate::api::Inner;
use crate::call::Call;
use crate::paging;
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Body, Reply, Route, Verb};
use crate::shape::{Member, Shape, required, text};

const SESSION: Shape = Shape::Record(&[
    required("api", TEXT, "Id of the API."),
    required("stage", TEXT, "Name of the stage."),
    required("session", TEXT, "Its id."),
    required("connections", COUNT, "Its connections."),
]);

const BY_COOKIE: &[Member] =
    &[required("cookie", text(4096), "Value of the session cookie that handshakes carried."), API, STAGE];

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        Verb::Get,
        "/api/sessions",
        "listSessions",
        Access::Look(Role::Read),
        "Sessions that are connected.",
        Shape::Record(&[
            required("sessions", Shape::List { of: &SESSION, max: usize::MAX }, "By API, stage and id."),
            paging::NEXT,
        ]),
        |inner, call| Box::pin(async { list(inner, call) }),
    )
    .query(&[API, STAGE, paging::LIMIT, paging::NEXT_TOKEN]),
    Route::new(
        Verb::Post,
        "/api/sessions/{id}/end",
        "endSession",
        Access::Change(Role::Operate),
        "Closes all connections of a session and makes its unspent tokens worthless: for logout.",
        ENDED,
        |inner, call| Box::pin(end(inner, call)),
    )
    .query(&[API, STAGE]),
    Route::new(
        Verb::Post,
        "/api/sessions/end",
        "endSessionOfCookie",
        Access::Change(Role::Operate),
        "As endSession, for a backend that knows only the value of the session cookie.",
        ENDED,
        |inner, call| Box::pin(end_of_cookie(inner, call)),
    )
    .body(Body::Json(BY_COOKIE)),
];

/// A page of groups; `name` is what one is called, `list` what several are.
pub(super) fn page(call: &Call, groups: Vec<GroupInfo>, list: &str, name: &str) -> Result<Value, Refusal> {
    // No name has a zero character, and it sorts before all others: the order is that of the three.
    let key = |group: &GroupInfo| format!("{}\0{}\0{}", group.api, group.stage, group.name);
    let (groups, next) = paging::page(call, groups, key)?;
    let items = groups
        .into_iter()
        .map(|group| {
            let mut item =
                json!({ "api": group.api, "stage": group.stage, "connections": group.connections });
            item[name] = group.name.into();
            item
        })
        .collect();
    Ok(paging::list(list, items, next))
}

fn list(inner: &Inner, call: &Call) -> Answer {
    let groups = inner.gateway.list_sessions(call.text("api"), call.text("stage"));
    page(call, groups, "sessions", "session").map(Reply::json)
}

async fn end(inner: &Inner, call: &Call) -> Answer {
    let subject = Subject::Session(call.path("id").to_owned());
    let (api, stage) = (call.text("api"), call.text("stage"));
    let done = ended(inner.gateway.end(&subject, api, stage, Ending::SessionEnded).await);
    Ok(Reply::json(done.clone()).with_note(done))
}

async fn end_of_cookie(inner: &Inner, call: &Call) -> Answer {
    #[derive(Deserialize)]
    struct Request {
        cookie: String,
        api: Option<String>,
        stage: Option<String>,
    }
    let request: Request = call.body()?;
    let session = inner.gateway.session_of_cookie(&request.cookie);
    let subject = Subject::Session(session.clone());
    let (api, stage) = (request.api.as_deref(), request.stage.as_deref());
    let done = ended(inner.gateway.end(&subject, api, stage, Ending::SessionEnded).await);
    let note = json!({ "session": session, "api": api, "stage": stage, "ended": done });
    Ok(Reply::json(done).with_note(note))
}
