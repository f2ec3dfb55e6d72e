//! Names for objects that API Gateway knows by generated ids only.
//!
//! An integration has the name that a document gave it, kept beside it in the store as a document of the kind `name`,
//! or else its id. An authorizer has such a name, or else the name that the API keeps for it, as long as no older one
//! has the same, or else its id. So the same state always has the same names, and a name does not change by itself.

use std::collections::BTreeMap;

use crate::state::ApiState;

/// Names and ids of the objects of one kind below one API; both ways.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_id: BTreeMap<String, String>,
    by_name: BTreeMap<String, String>,
}

impl Names {
    pub(super) fn of_integrations(api: &ApiState) -> Self {
        Self::new(api, api.integrations.iter().map(|i| (i.integration_id.as_str(), None)).collect())
    }

    pub(super) fn of_authorizers(api: &ApiState) -> Self {
        Self::new(
            api,
            api.authorizers.iter().map(|a| (a.authorizer_id.as_str(), Some(a.name.as_str()))).collect(),
        )
    }

    /// From ids and the names that the API keeps, in creation order.
    fn new(api: &ApiState, objects: Vec<(&str, Option<&str>)>) -> Self {
        let mut names = Self::default();
        for (id, _) in &objects {
            if let Some(given) = api.names.get(id) {
                names.add(id, &given.name);
            }
        }
        for (id, own) in objects {
            if !names.by_id.contains_key(id) {
                let own = own.filter(|own| !names.by_name.contains_key(*own));
                names.add(id, own.unwrap_or(id));
            }
        }
        names
    }

    /// Underscores keep a name apart from one that is taken: a given name may look like another object's id.
    fn add(&mut self, id: &str, name: &str) {
        let mut name = name.to_owned();
        while self.by_name.contains_key(&name) {
            name.push('_');
        }
        self.by_id.insert(id.to_owned(), name.clone());
        self.by_name.insert(name, id.to_owned());
    }

    pub(super) fn name(&self, id: &str) -> Option<&str> {
        self.by_id.get(id).map(String::as_str)
    }

    pub(super) fn id(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(String::as_str)
    }
}
