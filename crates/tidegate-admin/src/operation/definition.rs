//! Definitions: APIs, policies of their stages, and everything as one document.

use http::StatusCode;
use serde_json::{Value, json};
use tidegate_auth::Role;
use tidegate_control::declarative::{self, ApplyError, Document, Options, Plan, Problem, Secrets};
use tidegate_control::{ApiError, PolicyError};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::policy::Policy;

use super::{COUNT, TEXT};
use crate::api::Inner;
use crate::call::{Call, find_stage};
use crate::paging;
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Body, Content, Reply, Route, Verb};
use crate::shape::{Member, Shape, optional, required};

const PROBLEM: Shape = Shape::Record(&[
    required("path", TEXT, "Where."),
    required("message", TEXT, "What an operator should know."),
    optional("id", TEXT, "Diagnosis id."),
]);

pub(super) const PROBLEMS: Shape = Shape::List { of: &PROBLEM, max: usize::MAX };

const STAGE: Shape = Shape::Record(&[
    required("name", TEXT, "Its name."),
    required("is_deployed", Shape::Boolean, "Whether clients can connect."),
    required("is_behind", Shape::Boolean, "The API has changed since its deployment."),
    required("has_policy", Shape::Boolean, "Whether it has a policy."),
    required("connections", COUNT, "Its connections on this node."),
]);

const API: Shape = Shape::Record(&[
    required("id", TEXT, "Its id."),
    required("name", TEXT, "Its name."),
    required("endpoint", TEXT, "Where clients connect; the stage comes behind."),
    required(
        "provisioning",
        Shape::OneOf(&[
            "pending",
            "creating",
            "api_created",
            "routes_created",
            "deployed",
            "domain_created",
            "mapped",
        ]),
        "How far it is.",
    ),
    required("stages", Shape::List { of: &STAGE, max: usize::MAX }, "Its stages."),
]);

const CHANGED: Shape = Shape::Record(&[
    required("changed", Shape::Boolean, "The stage has another policy than before."),
    required("warnings", PROBLEMS, "The policy is in use all the same."),
]);

const PLAN: Shape = Shape::Record(&[
    required(
        "steps",
        Shape::List { of: &Shape::Object, max: usize::MAX },
        "What happens, as sentences and members; empty: nothing does.",
    ),
    required("unchanged", COUNT, "Objects of the document that stay as they are."),
    required(
        "left_alone",
        Shape::List { of: &TEXT, max: usize::MAX },
        "Objects beside them that the document does not name.",
    ),
    required(
        "apis",
        Shape::List { of: &Shape::Object, max: usize::MAX },
        "How far the APIs of the document are, before and after.",
    ),
    required("warnings", PROBLEMS, "What an operator should know."),
]);

const PRUNE: &[Member] =
    &[optional("prune", Shape::Boolean, "What the document does not mention goes; see the manual.")];

const DOCUMENT: &str = "APIs, domain names and VPC links as they shall be; see the manual.";

const POLICY: &str = "/api/apis/{api}/stages/{stage}/policy";

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        Verb::Get,
        "/api/apis",
        "listApis",
        Access::Look(Role::Read),
        "APIs with their stages.",
        Shape::Record(&[required("apis", Shape::List { of: &API, max: usize::MAX }, "By id."), paging::NEXT]),
        |inner, call| Box::pin(async { list(inner, call) }),
    )
    .query(&[paging::LIMIT, paging::NEXT_TOKEN]),
    Route::new(
        Verb::Get,
        POLICY,
        "getPolicy",
        Access::Look(Role::Read),
        "The policy of a stage; secrets are `****`.",
        Shape::Object,
        |inner, call| Box::pin(async { policy(inner, call) }),
    )
    .refuses(&[404]),
    Route::new(
        Verb::Put,
        POLICY,
        "putPolicy",
        Access::Change(Role::Administer),
        "Gives a stage a policy, live at once; secrets that are `****` stay as they are.",
        CHANGED,
        |inner, call| Box::pin(put_policy(inner, call)),
    )
    .body(Body::Document("A policy; see the manual."))
    .refuses(&[404, 503]),
    Route::new(
        Verb::Delete,
        POLICY,
        "deletePolicy",
        Access::Change(Role::Administer),
        "Takes the policy of a stage away: it is as API Gateway has stages.",
        Shape::Record(&[required("removed", Shape::Boolean, "Whether there was one.")]),
        |inner, call| Box::pin(delete_policy(inner, call)),
    )
    .refuses(&[404, 503]),
    Route::new(
        Verb::Post,
        "/api/plan",
        "plan",
        Access::Look(Role::Read),
        "What applying a document would do.",
        PLAN,
        |inner, call| Box::pin(async { plan(inner, call) }),
    )
    .query(PRUNE)
    .body(Body::Document(DOCUMENT))
    .max_body(declarative::MAX_DOCUMENT)
    .refuses(&[409, 429, 503]),
    Route::new(
        Verb::Post,
        "/api/apply",
        "apply",
        Access::Change(Role::Administer),
        "Makes everything as a document says: all of it or nothing.",
        PLAN,
        |inner, call| Box::pin(apply(inner, call)),
    )
    .query(PRUNE)
    .body(Body::Document(DOCUMENT))
    .max_body(declarative::MAX_DOCUMENT)
    .refuses(&[409, 429, 503]),
    Route::new(
        Verb::Get,
        "/api/export",
        "export",
        Access::Look(Role::Read),
        "Everything as a document that apply takes: JSON, or with `Accept: application/toml` TOML. Secrets are `****`.",
        Shape::Object,
        |inner, call| Box::pin(async { export(inner, call) }),
    ),
];

fn list(inner: &Inner, call: &Call) -> Answer {
    let live = inner.control.live();
    let behind = inner.control.stages_behind();
    let (apis, next) = paging::page(call, live.apis, |api| api.api.api_id.clone())?;
    let items = apis
        .iter()
        .map(|api| {
            let id = &api.api.api_id;
            let stages = api.stages.iter().map(|stage| {
                let name = &stage.stage.stage_name;
                let filter = tidegate_gateway::ConnectionFilter {
                    api_id: Some(id.clone()),
                    stage: Some(name.clone()),
                    ..Default::default()
                };
                json!({
                    "name": name,
                    "is_deployed": stage.deployment.is_some(),
                    "is_behind": behind.iter().any(|(of, stage)| of == id && stage == name),
                    "has_policy": stage.policy.is_some(),
                    "connections": inner.gateway.count_connections(&filter),
                })
            });
            json!({
                "id": id,
                "name": api.api.name,
                "endpoint": inner.control.settings().api_endpoint(id),
                "provisioning": declarative::provisioning(&inner.control, id),
                "stages": stages.collect::<Vec<_>>(),
            })
        })
        .collect();
    Ok(Reply::json(paging::list("apis", items, next)))
}

fn shown(policy: &Policy) -> Result<Value, Refusal> {
    // A policy came as JSON or TOML and has a JSON form.
    serde_json::to_value(policy.redacted()).map_err(|_| Refusal::malformed("The policy cannot be shown"))
}

fn policy(inner: &Inner, call: &Call) -> Answer {
    let (api, stage) = (call.path("api"), call.path("stage"));
    find_stage(inner, api, stage)?;
    match inner.control.policy(api, stage) {
        Some(policy) => shown(&policy).map(Reply::json),
        None => Err(Refusal::not_found(
            Diagnosis::ADMIN_NO_POLICY,
            format!("The stage {stage} of the API {api} has no policy"),
        )),
    }
}

pub(super) fn warnings(warnings: &[Problem]) -> Value {
    let shown = warnings.iter().map(|warning| {
        let mut shown = json!({ "path": warning.path, "message": warning.message });
        if let Some(id) = &warning.diagnosis {
            shown["id"] = id.as_str().into();
        }
        shown
    });
    shown.collect()
}

fn refuse_policy(error: PolicyError) -> Refusal {
    match error {
        PolicyError::Problems { problems } => Refusal::problems("The policy has problems", problems),
        PolicyError::NotFound { .. } => Refusal::not_found(Diagnosis::STAGE_UNKNOWN, error.to_string()),
        PolicyError::Store(error) => refuse_change(&error),
    }
}

/// What the control plane says, in the words of this API.
fn refuse_change(error: &ApiError) -> Refusal {
    let (status, diagnosis) = match error.status {
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => {
            (StatusCode::BAD_REQUEST, Diagnosis::ADMIN_MALFORMED)
        }
        StatusCode::CONFLICT => (StatusCode::CONFLICT, Diagnosis::ADMIN_NOT_POSSIBLE),
        StatusCode::TOO_MANY_REQUESTS => (StatusCode::TOO_MANY_REQUESTS, Diagnosis::STORE_UNAVAILABLE),
        _ => (StatusCode::SERVICE_UNAVAILABLE, Diagnosis::STORE_UNAVAILABLE),
    };
    let diagnosis = error.diagnosis.and_then(Diagnosis::find).unwrap_or(diagnosis);
    let mut refusal = Refusal::new(status, diagnosis, error.message.clone());
    refusal.retry_after = (status == StatusCode::TOO_MANY_REQUESTS).then_some(1);
    refusal
}

async fn put_policy(inner: &Inner, call: &Call) -> Answer {
    let (api, stage) = (call.path("api"), call.path("stage"));
    find_stage(inner, api, stage)?;
    let refuse = |problems| Refusal::problems("The policy has problems", problems);
    let policy = match call.toml()? {
        Some(text) => declarative::read_policy_toml(text).map_err(refuse)?,
        None => declarative::read_policy(call.json()).map_err(refuse)?,
    };
    let show = || inner.control.policy(api, stage).map(|policy| shown(&policy)).transpose();
    let before = show()?;
    let change = inner.control.put_policy(api, stage, policy).await.map_err(refuse_policy)?;
    let body = json!({ "changed": change.is_changed, "warnings": warnings(&change.warnings) });
    Ok(Reply::json(body).with_note(json!({ "before": before, "after": show()? })))
}

async fn delete_policy(inner: &Inner, call: &Call) -> Answer {
    let (api, stage) = (call.path("api"), call.path("stage"));
    find_stage(inner, api, stage)?;
    let before = inner.control.policy(api, stage).map(|policy| shown(&policy)).transpose()?;
    let removed = inner.control.delete_policy(api, stage).await.map_err(refuse_policy)?;
    Ok(Reply::json(json!({ "removed": removed })).with_note(json!({ "before": before, "after": null })))
}

fn document(call: &Call) -> Result<(Document, Options), Refusal> {
    let document = match call.toml()? {
        Some(text) => Document::from_toml(text),
        None => Document::from_value(call.json().clone()),
    };
    let document = document.map_err(|problems| Refusal::problems("The document has problems", problems))?;
    Ok((document, Options { prune: call.is_set("prune") }))
}

fn refuse_document(error: ApplyError) -> Refusal {
    match error {
        ApplyError::Problems(problems) => Refusal::problems("The document has problems", problems),
        ApplyError::Refused(error) => refuse_change(&error),
    }
}

fn show_plan(plan: &Plan) -> Result<Value, Refusal> {
    let mut shown =
        serde_json::to_value(plan).map_err(|_| Refusal::malformed("The plan cannot be shown as JSON"))?;
    shown["warnings"] = warnings(&plan.warnings);
    Ok(shown)
}

fn plan(inner: &Inner, call: &Call) -> Answer {
    let (document, options) = document(call)?;
    let plan = declarative::plan(&inner.control, &document, options).map_err(refuse_document)?;
    show_plan(&plan).map(Reply::json)
}

async fn apply(inner: &Inner, call: &Call) -> Answer {
    let (document, options) = document(call)?;
    let applied = declarative::apply(&inner.control, &document, options).await.map_err(refuse_document)?;
    // Sentences have no secrets in them.
    let sentences: Vec<_> = applied.steps.iter().map(|step| step.sentence.as_str()).collect();
    let note = json!({ "prune": options.prune, "steps": sentences });
    Ok(Reply::json(show_plan(&applied)?).with_note(note))
}

fn export(inner: &Inner, call: &Call) -> Answer {
    let export = declarative::export(&inner.control, Secrets::Masked);
    let failed = |_| Refusal::malformed("The definitions have no form of this type");
    let body = match call.wants_toml() {
        true => Content::Toml(export.to_toml().map_err(|_| failed(()))?),
        false => Content::Json(serde_json::to_value(&export.document).map_err(|_| failed(()))?),
    };
    Ok(Reply { body, note: None })
}
