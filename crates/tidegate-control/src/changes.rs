//! The difference between two states, as the store takes it.
//!
//! Operations only edit a draft; what has to be written is found here by comparing pointers, so an operation cannot
//! forget to store what it did.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tidegate_core::port::{Change, Document};

use crate::error::ApiError;
use crate::state::{API, ApiState, DEPLOYMENT_CONTENT, DOMAIN_NAME, DomainState, State, mapping_parent};
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
        if !old.contents.contains_key(deployment_id) {
            changes.push(put(DEPLOYMENT_CONTENT, id, deployment_id, *sequence, content.as_ref())?);
        }
    }
    for deployment_id in old.contents.keys() {
        if !api.contents.contains_key(deployment_id) {
            changes.push(delete(DEPLOYMENT_CONTENT, id, deployment_id));
        }
    }
    table(id, &old.deployments, &api.deployments, changes)?;
    table(id, &old.stages, &api.stages, changes)
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
        tracing::error!(%error, kind, id, "an object cannot be written as JSON");
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
