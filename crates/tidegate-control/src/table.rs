//! Objects of one kind below one parent, in creation order.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidegate_core::definition::{
    ApiMapping, Authorizer, Deployment, Integration, IntegrationResponse, Model, Route, RouteResponse, Stage,
    VpcLink,
};

/// What a [`Table`] holds: an object that knows its own id and its kind in the store.
pub(crate) trait Object: Clone + PartialEq + Serialize + DeserializeOwned {
    /// [`tidegate_core::port::Document::kind`].
    const KIND: &'static str;

    fn id(&self) -> &str;
}

macro_rules! objects {
    ($($kind:literal $name:ident $id:ident),* $(,)?) => {
        $(impl Object for $name {
            const KIND: &'static str = $kind;

            fn id(&self) -> &str {
                &self.$id
            }
        })*
    };
}

objects! {
    "route" Route route_id,
    "route-response" RouteResponse route_response_id,
    "integration" Integration integration_id,
    "integration-response" IntegrationResponse integration_response_id,
    "model" Model model_id,
    "authorizer" Authorizer authorizer_id,
    "deployment" Deployment deployment_id,
    "stage" Stage stage_name,
    "api-mapping" ApiMapping api_mapping_id,
    "vpc-link" VpcLink vpc_link_id,
    "name" GivenName id,
}

/// A name of the declarative form for an object that API Gateway knows by its id only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GivenName {
    /// Id of an integration or authorizer.
    pub(crate) id: String,
    pub(crate) name: String,
}

/// Rows by creation sequence, with an index by id.
///
/// Rows are shared between the state that is served and the draft that a change works on: cloning a table copies
/// pointers, and a row that is still the same pointer has not changed.
#[derive(Debug, Clone)]
pub(crate) struct Table<T> {
    rows: BTreeMap<u64, Arc<T>>,
    ids: BTreeMap<Arc<str>, u64>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), ids: BTreeMap::new() }
    }
}

impl<T: Clone> Table<T> {
    pub(crate) fn insert(&mut self, id: &str, sequence: u64, row: T) {
        self.rows.insert(sequence, Arc::new(row));
        self.ids.insert(id.into(), sequence);
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.ids.contains_key(id)
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Arc<T>> {
        self.rows.get(self.ids.get(id)?)
    }

    /// The row for changing; it is copied first, because the served state shares it.
    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        self.rows.get_mut(self.ids.get(id)?).map(Arc::make_mut)
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Arc<T>> {
        self.rows.remove(&self.ids.remove(id)?)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// In creation order.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<T>> {
        self.rows.values()
    }

    /// With their sequences, in creation order.
    pub(crate) fn rows(&self) -> impl DoubleEndedIterator<Item = (u64, &Arc<T>)> {
        self.rows.iter().map(|(sequence, row)| (*sequence, row))
    }

    pub(crate) fn at(&self, sequence: u64) -> Option<&Arc<T>> {
        self.rows.get(&sequence)
    }

    /// In the order of the ids.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.ids.keys().map(|id| id.to_string()).collect()
    }
}

impl<T: Clone + PartialEq> Table<T> {
    /// Whether both hold equal rows in the same places.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.rows.len() == other.rows.len()
            && self.rows.iter().all(|(sequence, row)| {
                other.rows.get(sequence).is_some_and(|o| Arc::ptr_eq(row, o) || row == o)
            })
    }
}
