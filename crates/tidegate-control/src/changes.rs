//! The difference between two states, as the store takes it.
//!
//! Operations only edit a draft; what has to be written is found here by comparing pointers, so an operation cannot
//! forget to store what it did.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tidegate_core::port::{Change, Document};

use crate::error::ApiError;
use crate::state::{
    API, ApiState, DEPLOYMENT_CONTENT, DOMAIN_NAME, DomainState, POLICY, State, mapping_parent,
};
use crate::table::{Object, Table};

/// What leads from `old` to `new`; empty when nothing changed.
///
/// # Errors
/// 500 when an object cannot be written as JSON, which its types exclude.
pub(crate) fn between(old: &State, new: &State) -> Result<Vec<Change>, ApiError> {
    let mut changes = Vec::new();
    table("", &old.vpc_links, &new.vpc_links, &mut changes)?;

    for (sequence, api) in new.apis.rows() {
        match old.apis.at(sequence) {
            Some(before) if Arc::ptr_eq(before, api) => {}
            before => below_api(before.map(AsRef::as_ref), api, sequence, &mut changes)?,
        }
    }
    for (sequence, api) in old.apis.rows() {
        if new.apis.at(sequence).is_none() {
            let id = &api.api.api_id;
            changes.push(Change::DeleteTree { parent: id.clone() });
            changes.push(delete(API, "", id));
        }
    }

    for (sequence, domain) in new.domains.rows() {
        match old.domains.at(sequence) {
            Some(before) if Arc::ptr_eq(before, domain) => {}
            before => below_domain(before.map(AsRef::as_ref), domain, sequence, &mut changes)?,
        }
    }
    for (sequence, domain) in old.domains.rows() {
        if new.domains.at(sequence).is_none() {
            let name = &domain.domain.domain_name;
            changes.push(Change::DeleteTree { parent: mapping_parent(name) });
            changes.push(delete(DOMAIN_NAME, "", name));
        }
    }
    Ok(changes)
}

fn below_api(
    before: Option<&ApiState>,
    api: &ApiState,
    sequence: u64,
    changes: &mut Vec<Change>,
) -> Result<(), ApiError> {
    let nothing = ApiState::default();
    let old = before.unwrap_or(&nothing);
    let id = api.api.api_id.as_str();
    if before.is_none_or(|b| b.api != api.api) {
        changes.push(put(API, "", id, sequence, &api.api)?);
    }
    table(id, &old.routes, &api.routes, changes)?;
    children(id, &old.route_responses, &api.route_responses, changes)?;
    table(id, &old.integrations, &api.integrations, changes)?;
    children(id, &old.integration_responses, &api.integration_responses, changes)?;
    table(id, &old.models, &api.models, changes)?;
    table(id, &old.authorizers, &api.authorizers, changes)?;
    for (deployment_id, (sequence, content)) in &api.contents {
        let is_unchanged = old.contents.get(deployment_id).is_some_and(|(_, old)| Arc::ptr_eq(old, content));
        if !is_unchanged {
            changes.push(put(DEPLOYMENT_CONTENT, id, deployment_id, *sequence, content.as_ref())?);
        }
    }
    for deployment_id in old.contents.keys() {
        if !api.contents.contains_key(deployment_id) {
            changes.push(delete(DEPLOYMENT_CONTENT, id, deployment_id));
        }
    }
    table(id, &old.deployments, &api.deployments, changes)?;
    table(id, &old.stages, &api.stages, changes)?;
    for (stage, (sequence, policy)) in &api.policies {
        let is_unchanged =
            old.policies.get(stage).is_some_and(|(at, before)| at == sequence && Arc::ptr_eq(before, policy));
        if !is_unchanged {
            changes.push(put(POLICY, id, stage, *sequence, policy.as_ref())?);
        }
    }
    for stage in old.policies.keys().filter(|stage| !api.policies.contains_key(*stage)) {
        changes.push(delete(POLICY, id, stage));
    }
    table(id, &old.names, &api.names, changes)
}

fn below_domain(
    before: Option<&DomainState>,
    domain: &DomainState,
    sequence: u64,
    changes: &mut Vec<Change>,
) -> Result<(), ApiError> {
    let nothing = DomainState::default();
    let old = before.unwrap_or(&nothing);
    let name = domain.domain.domain_name.as_str();
    if before.is_none_or(|b| b.domain != domain.domain) {
        changes.push(put(DOMAIN_NAME, "", name, sequence, &domain.domain)?);
    }
    table(&mapping_parent(name), &old.mappings, &domain.mappings, changes)
}

/// Tables by the id of their owner, which is one level below `parent`.
fn children<T: Object>(
    parent: &str,
    old: &BTreeMap<String, Table<T>>,
    new: &BTreeMap<String, Table<T>>,
    changes: &mut Vec<Change>,
) -> Result<(), ApiError> {
    let nothing = Table::default();
    for (owner, rows) in new {
        table(&format!("{parent}/{owner}"), old.get(owner).unwrap_or(&nothing), rows, changes)?;
    }
    for owner in old.keys() {
        if !new.contains_key(owner) {
            changes.push(Change::DeleteTree { parent: format!("{parent}/{owner}") });
        }
    }
    Ok(())
}

fn table<T: Object>(
    parent: &str,
    old: &Table<T>,
    new: &Table<T>,
    changes: &mut Vec<Change>,
) -> Result<(), ApiError> {
    for (sequence, row) in old.rows() {
        if new.at(sequence).is_none() {
            changes.push(delete(T::KIND, parent, row.id()));
        }
    }
    for (sequence, row) in new.rows() {
        let is_unchanged = old.at(sequence).is_some_and(|o| Arc::ptr_eq(o, row) || o == row);
        if !is_unchanged {
            changes.push(put(T::KIND, parent, row.id(), sequence, row.as_ref())?);
        }
    }
    Ok(())
}

fn put<T: Serialize>(
    kind: &str,
    parent: &str,
    id: &str,
    sequence: u64,
    object: &T,
) -> Result<Change, ApiError> {
    let body = serde_json::to_string(object).map_err(|error| {
        tracing::error!(%error, kind, id, diag = "auth.internal", "an object cannot be written as JSON");
        ApiError::internal()
    })?;
    Ok(Change::Put(Document {
        kind: kind.to_owned(),
        parent: parent.to_owned(),
        id: id.to_owned(),
        sequence,
        body,
    }))
}

fn delete(kind: &str, parent: &str, id: &str) -> Change {
    Change::Delete { kind: kind.to_owned(), parent: parent.to_owned(), id: id.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;
    use serde_json::{Value, json};
    use tidegate_core::definition::Live;
    use tidegate_core::port::{DefinitionSink, DefinitionStore};
    use tidegate_store::SqliteStore;

    use super::*;
    use crate::declarative::{self, Options, Secrets, apply, export};
    use crate::plane::{ControlPlane, ControlSettings};

    #[derive(Debug)]
    struct Nowhere;

    impl DefinitionSink for Nowhere {
        fn publish(&self, _: Live) {}
    }

    /// Small numbers that look random, the same in every run.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % u64::try_from(limit).expect("small")).expect("small")
        }
    }

    async fn ids(plane: &ControlPlane, list: &str, id: &str) -> Vec<String> {
        let page = plane.request(&Method::GET, &format!("/v2{list}?maxResults=500"), Value::Null).await;
        let items = page.map(|page| page["items"].as_array().cloned().unwrap_or_default());
        items.unwrap_or_default().iter().filter_map(|i| i[id].as_str().map(str::to_owned)).collect()
    }

    /// Makes, changes or removes something at random; what is refused is as welcome as what works.
    async fn step(plane: &ControlPlane, dice: &mut Dice) {
        let apis = ids(plane, "/apis", "apiId").await;
        let none = String::from("none");
        let pick = |from: &[String], dice: &mut Dice| match from.len() {
            0 => none.clone(),
            n => from[dice.below(n)].clone(),
        };
        let api = format!("/apis/{}", pick(&apis, dice));
        let routes = ids(plane, &format!("{api}/routes"), "routeId").await;
        let integrations = ids(plane, &format!("{api}/integrations"), "integrationId").await;
        let deployments = ids(plane, &format!("{api}/deployments"), "deploymentId").await;
        let (route, integration) = (pick(&routes, dice), pick(&integrations, dice));
        let deployment = pick(&deployments, dice);
        let n = dice.below(4);
        let (post, patch, delete) = (Method::POST, Method::PATCH, Method::DELETE);
        let (method, target, body) = match dice.below(24) {
            0 if apis.len() < 4 => (
                post,
                "/apis".to_owned(),
                json!({"name": "n", "protocolType": "WEBSOCKET", "routeSelectionExpression": "$request.body.a"}),
            ),
            1 if dice.below(4) == 0 => (delete, api, json!(null)),
            2 => (patch, api, json!({"description": n.to_string()})),
            3..=5 => (
                post,
                format!("{api}/routes"),
                json!({"routeKey": format!("r{}", dice.below(9)), "target": format!("integrations/{integration}")}),
            ),
            6 => (patch, format!("{api}/routes/{route}"), json!({"routeKey": format!("r{}", dice.below(9))})),
            7 => (delete, format!("{api}/routes/{route}"), json!(null)),
            8 => (
                post,
                format!("{api}/routes/{route}/routeresponses"),
                json!({"routeResponseKey": "$default"}),
            ),
            9 | 10 => (post, format!("{api}/integrations"), json!({"integrationType": "MOCK"})),
            11 => (delete, format!("{api}/integrations/{integration}"), json!(null)),
            12 => (
                post,
                format!("{api}/integrations/{integration}/integrationresponses"),
                json!({"integrationResponseKey": format!("/{n}/")}),
            ),
            13 => {
                (post, format!("{api}/stages"), json!({"stageName": format!("s{n}"), "autoDeploy": n == 0}))
            }
            14 => (patch, format!("{api}/stages/s{n}"), json!({"deploymentId": deployment})),
            15 => (delete, format!("{api}/stages/s{n}"), json!(null)),
            16 | 17 => (post, format!("{api}/deployments"), json!({"stageName": format!("s{n}")})),
            18 => (delete, format!("{api}/deployments/{deployment}"), json!(null)),
            19 => (post, "/domainnames".to_owned(), json!({"domainName": format!("d{n}.example.com")})),
            20 if n == 0 => (delete, format!("/domainnames/d{}.example.com", dice.below(4)), json!(null)),
            21 => (
                post,
                format!("/domainnames/d{n}.example.com/apimappings"),
                json!({"apiId": api.trim_start_matches("/apis/"), "stage": format!("s{}", dice.below(4)),
                       "apiMappingKey": format!("k{}", dice.below(3))}),
            ),
            22 => (post, format!("{api}/models"), json!({"name": format!("M{n}"), "schema": "{}"})),
            _ => (post, "/vpclinks".to_owned(), json!({"name": "l", "subnetIds": []})),
        };
        let _ = plane.request(&method, &format!("/v2{target}"), body).await;
    }

    /// After any changes the store holds exactly what the state would be written as from nothing, and a second
    /// control plane that loads it has the same state.
    #[tokio::test]
    async fn the_store_follows_the_state_exactly() {
        let store = Arc::new(SqliteStore::open_in_memory().expect("open"));
        let load = || {
            let clock = Arc::new(|| "2025-01-15T12:00:00Z".parse().expect("a time"));
            ControlPlane::load(Arc::clone(&store) as _, Arc::new(Nowhere), ControlSettings::default(), clock)
        };
        let plane = load().await.expect("load");
        let mut dice = Dice(0x5eed);
        let mut largest = 0;
        for round in 0..60 {
            for _ in 0..25 {
                step(&plane, &mut dice).await;
            }
            let written = |plane: &ControlPlane| {
                let puts = between(&State::default(), &plane.state()).expect("JSON").into_iter();
                let mut documents: Vec<Document> = puts
                    .map(|change| match change {
                        Change::Put(document) => document,
                        other => panic!("nothing can be deleted from nothing: {other:?}"),
                    })
                    .collect();
                documents.sort_by_key(|d| d.sequence);
                documents
            };
            let stored = store.load().await.expect("load");
            largest = largest.max(stored.len());
            assert_eq!(stored, written(&plane), "round {round}");
            assert_eq!(written(&load().await.expect("load")), stored, "round {round}");
            // S0-16: the document of what is there changes nothing, whatever operations made it.
            let text = export(&plane, Secrets::Masked).to_toml().expect("TOML");
            let document = declarative::Document::from_toml(&text).expect("a document");
            let applied = apply(&plane, &document, Options { prune: true }).await.expect("applied");
            assert_eq!((applied.steps, applied.left_alone), (Vec::new(), Vec::new()), "round {round}");
            assert_eq!(store.load().await.expect("load"), stored, "round {round}");
        }
        assert!(largest > 60, "the changes made {largest} documents only");
    }
}
