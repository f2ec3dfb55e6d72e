//! What the state has and the document does not.

use super::Draft;
use crate::declarative::quote;
use crate::declarative::steps::{Key, Kind};
use crate::rest;
use crate::table::Table;

impl Draft<'_> {
    /// Removes what the API has and the document does not, apart from stages.
    pub(super) fn prune_below(&mut self, path: &str, api_id: &str) {
        let Ok(api) = self.state.api(api_id) else { return };
        let keys = &self.named.keys;
        let is_surplus = |kind: Kind, id: &str| !keys.contains(&Key::new(kind, api_id, id));
        let routes = surplus(&api.routes, |id| is_surplus(Kind::Route, id));
        let integrations = surplus(&api.integrations, |id| is_surplus(Kind::Integration, id));
        let authorizers = surplus(&api.authorizers, |id| is_surplus(Kind::Authorizer, id));
        let models = surplus(&api.models, |id| is_surplus(Kind::Model, id));
        let mut removed = Vec::new();
        self.edit_api(api_id, |api| {
            for id in routes {
                api.routes.remove(&id);
                api.route_responses.remove(&id);
            }
            removed.extend(integrations.iter().map(|id| rest::integration::remove(api, id)));
            removed.extend(authorizers.iter().map(|id| rest::authorizer::remove(api, id)));
            removed.extend(models.iter().map(|id| rest::model::remove(api, id)));
        });
        for result in removed {
            self.checked(path, result);
        }
    }

    pub(super) fn prune_mappings(&mut self, domains: &[String]) {
        for name in domains {
            let Ok(domain) = self.state.domain(name) else { continue };
            let keys = &self.named.keys;
            let ids = surplus(&domain.mappings, |id| !keys.contains(&Key::new(Kind::ApiMapping, name, id)));
            if let (false, Ok(domain)) = (ids.is_empty(), self.state.domain_mut(name)) {
                for id in ids {
                    domain.mappings.remove(&id);
                }
            }
        }
    }

    /// Last, because a stage cannot go while a domain name maps to it.
    pub(super) fn prune_stages(&mut self, apis: &[String]) {
        for api_id in apis {
            let Ok(api) = self.state.api(api_id) else { continue };
            let keys = &self.named.keys;
            let names = surplus(&api.stages, |name| !keys.contains(&Key::new(Kind::Stage, api_id, name)));
            let path = format!("apis.{}.stages", quote(&api.api.name));
            for name in names {
                let removed = rest::stage::remove(self.state, api_id, &name);
                self.checked(&path, removed);
            }
        }
    }
}

fn surplus<T: Clone>(table: &Table<T>, is_surplus: impl Fn(&str) -> bool) -> Vec<String> {
    table.ids().into_iter().filter(|id| is_surplus(id)).collect()
}
