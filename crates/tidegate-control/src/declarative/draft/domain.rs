//! Domain names with their mappings, and VPC links: what belongs to no API.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Draft, hint, members, replace_row};
use crate::declarative::document::{DomainForm, MappingForm, VpcLinkForm};
use crate::declarative::form;
use crate::declarative::steps::Kind;
use crate::rest;
use crate::state::DomainState;

impl Draft<'_> {
    pub(super) fn vpc_link(&mut self, path: &str, form: &VpcLinkForm) {
        let found: Vec<String> = match &form.id {
            Some(id) => self.state.vpc_links.get(id).map(|l| l.vpc_link_id.clone()).into_iter().collect(),
            None => {
                let links = self.state.vpc_links.iter();
                links.filter(|l| l.name == form.name).map(|l| l.vpc_link_id.clone()).collect()
            }
        };
        let body = members(json!({"name": form.name, "subnetIds": form.subnet_ids,
            "securityGroupIds": form.security_group_ids, "tags": form.tags}));
        let id = match found.as_slice() {
            [] => {
                let made = rest::vpc_link::insert(self.state, form.id.as_deref(), &body, self.context);
                self.checked(path, made).map(|link| link.vpc_link_id)
            }
            [id] => {
                let built = rest::vpc_link::build(id.clone(), &body, self.context);
                if let (Some(mut built), Some(link)) =
                    (self.checked(path, built), self.state.vpc_links.get(id).cloned())
                {
                    built.created_date.clone_from(&link.created_date);
                    built.vpc_link_version.clone_from(&link.vpc_link_version);
                    replace_row(&mut self.state.vpc_links, id, built);
                }
                Some(id.clone())
            }
            several => {
                self.problem(
                    path,
                    format!("several VPC links have this name; give one of the ids {}", several.join(", ")),
                );
                None
            }
        };
        if let Some(id) = id {
            self.claim(path, Kind::VpcLink, "", &id);
        }
    }

    pub(super) fn domain(
        &mut self,
        path: &str,
        form: &DomainForm,
        broken: &BTreeSet<String>,
    ) -> Option<String> {
        let has_name = |d: &&Arc<DomainState>| d.domain.domain_name.eq_ignore_ascii_case(&form.name);
        let existing = self.state.domains.iter().find(has_name).cloned();
        let configurations: Vec<Value> = form
            .configurations
            .iter()
            .map(|c| {
                json!({"certificateArn": c.certificate_arn, "certificateName": c.certificate_name,
                    "hostedZoneId": c.hosted_zone_id, "ipAddressType": c.ip_address_type,
                    "ownershipVerificationCertificateArn": c.ownership_verification_certificate_arn})
            })
            .collect();
        let mutual_tls = form.mutual_tls.as_ref().map(|tls| {
            let mut members = serde_json::Map::new();
            members.insert("truststoreUri".to_owned(), json!(tls.truststore_uri));
            members.extend(tls.truststore_version.iter().map(|v| ("truststoreVersion".to_owned(), json!(v))));
            members
        });
        let name = existing.as_ref().map_or(&form.name, |d| &d.domain.domain_name).clone();
        let body = members(json!({"domainName": name, "domainNameConfigurations": configurations,
            "mutualTlsAuthentication": mutual_tls, "tags": form.tags}));
        if let Some(existing) = &existing {
            let mut wanted = form.clone();
            wanted.mappings.clear();
            wanted.name.clone_from(&name);
            if form::domain(&existing.domain) != wanted {
                let built = rest::domain_name::build(&body, self.context);
                if let Some(mut built) = self.checked(path, built) {
                    let pairs = built.domain_name_configurations.iter_mut();
                    for (new, old) in pairs.zip(&existing.domain.domain_name_configurations) {
                        if new.certificate_arn == old.certificate_arn {
                            new.certificate_upload_date.clone_from(&old.certificate_upload_date);
                        }
                    }
                    if let Ok(domain) = self.state.domain_mut(&name) {
                        domain.domain = built;
                    }
                }
            }
        } else {
            let made = rest::domain_name::insert(self.state, &body, self.context);
            self.checked(path, made)?;
        }
        if !self.claim(path, Kind::DomainName, "", &name) {
            return None;
        }
        for (idx, mapping) in form.mappings.iter().enumerate() {
            if !broken.contains(&mapping.api) {
                self.mapping(&format!("{path}.mappings[{idx}]"), &name, mapping);
            }
        }
        Some(name)
    }

    pub(super) fn mapping(&mut self, path: &str, domain_name: &str, form: &MappingForm) {
        let Some(api_id) = self.api_reference(path, &form.api) else { return };
        let body = members(json!({"apiId": api_id, "stage": form.stage, "apiMappingKey": form.key}));
        let Ok(domain) = self.state.domain(domain_name) else { return };
        let existing = domain.mappings.iter().find(|m| m.api_mapping_key == form.key).cloned();
        let id = match existing {
            None => {
                let made = rest::api_mapping::insert(self.state, domain_name, &body, self.context);
                self.checked(path, made).map(|mapping| mapping.api_mapping_id)
            }
            Some(mapping) => {
                let id = mapping.api_mapping_id.clone();
                let built = rest::api_mapping::build(id.clone(), domain_name, &body, self.state);
                if let (Some(built), Ok(domain)) =
                    (self.checked(path, built), self.state.domain_mut(domain_name))
                {
                    replace_row(&mut domain.mappings, &id, built);
                }
                Some(id)
            }
        };
        if let Some(id) = id {
            self.claim(path, Kind::ApiMapping, domain_name, &id);
        }
    }

    /// The API that a mapping names, by id or by name.
    pub(super) fn api_reference(&mut self, path: &str, reference: &str) -> Option<String> {
        if self.state.apis.contains(reference) {
            return Some(reference.to_owned());
        }
        let apis = self.state.apis.iter().filter(|api| api.api.name == reference);
        let ids: Vec<String> = apis.map(|api| api.api.api_id.clone()).collect();
        match ids.as_slice() {
            [id] => Some(id.clone()),
            [] => {
                let names: Vec<String> = self.state.apis.iter().map(|api| api.api.name.clone()).collect();
                let hint = hint(reference, names.iter());
                self.problem(format!("{path}.api"), format!("no API has the id or name {reference}{hint}"));
                None
            }
            several => {
                let ids = several.join(", ");
                self.problem(
                    format!("{path}.api"),
                    format!("several APIs have this name; give one of the ids {ids}"),
                );
                None
            }
        }
    }
}
