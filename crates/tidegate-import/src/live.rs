//! A running API, as the operations of `apigatewayv2` answer it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cloudformation::function_name;
use crate::error::ImportError;
use crate::form::Objects;
use crate::object::{Kind, Object};
use crate::report::{Part, Report};
use crate::{Imported, template::plain};

/// The answers of the operations, as they came. Lists are the items of all pages.
#[derive(Debug, Clone, Default)]
pub struct LiveApi {
    /// `GetApi`.
    pub api: Value,
    /// `GetRoutes`.
    pub routes: Vec<Value>,
    /// `GetRouteResponses`, by route id.
    pub route_responses: BTreeMap<String, Vec<Value>>,
    /// `GetIntegrations`.
    pub integrations: Vec<Value>,
    /// `GetIntegrationResponses`, by integration id.
    pub integration_responses: BTreeMap<String, Vec<Value>>,
    /// `GetModels`.
    pub models: Vec<Value>,
    /// `GetAuthorizers`.
    pub authorizers: Vec<Value>,
    /// `GetStages`.
    pub stages: Vec<Value>,
    /// `GetDeployments`.
    pub deployments: Vec<Value>,
    /// `GetDomainNames`: those with a mapping to this API.
    pub domains: Vec<Value>,
    /// `GetApiMappings`, by domain name.
    pub mappings: BTreeMap<String, Vec<Value>>,
    /// `GetVpcLinks`: those that an integration uses.
    pub vpc_links: Vec<Value>,
    /// Operations that were refused, and what is missing for it: `GetDomainNames`, the words of the service.
    pub refused: Vec<(String, String)>,
}

/// What the answers say, as a document.
///
/// # Errors
/// No WebSocket API.
pub fn import_live(live: &LiveApi) -> Result<Imported, ImportError> {
    let mut report = Report::default();
    let id = live.api["apiId"].as_str().unwrap_or_default();
    if live.api["protocolType"] != "WEBSOCKET" {
        return Err(ImportError::whole(format!("the API {} is no WebSocket API", plain(id))));
    }
    let mut objects = Vec::new();
    let mut add = |kind: Kind, path: String, value: &Value, more: &[(&str, &str)]| {
        let mut object = Object::from_wire(kind, path, value, &mut report);
        for (name, text) in more {
            object.members.insert((*name).to_owned(), Value::from(*text));
        }
        objects.push(object);
    };
    let of_api = [("apiId", id)];
    let base = format!("apis/{}", plain(id));
    add(Kind::Api, base.clone(), &live.api, &of_api);
    let lists = [
        (Kind::Route, "routes", &live.routes),
        (Kind::Integration, "integrations", &live.integrations),
        (Kind::Model, "models", &live.models),
        (Kind::Authorizer, "authorizers", &live.authorizers),
        (Kind::Stage, "stages", &live.stages),
        (Kind::Deployment, "deployments", &live.deployments),
    ];
    for (kind, name, list) in lists {
        for value in list {
            let own = plain(value[kind.id_member()].as_str().unwrap_or_default());
            add(kind, format!("{base}/{name}/{own}"), value, &of_api);
        }
    }
    let below = [
        (Kind::RouteResponse, "routes", "routeresponses", "routeId", &live.route_responses),
        (
            Kind::IntegrationResponse,
            "integrations",
            "integrationresponses",
            "integrationId",
            &live.integration_responses,
        ),
    ];
    for (kind, parents, name, member, lists) in below {
        for (parent, value) in
            lists.iter().flat_map(|(parent, list)| list.iter().map(move |value| (parent, value)))
        {
            let own = plain(value[kind.id_member()].as_str().unwrap_or_default());
            let path = format!("{base}/{parents}/{}/{name}/{own}", plain(parent));
            add(kind, path, value, &[("apiId", id), (member, parent)]);
        }
    }
    for value in &live.domains {
        let name = value["domainName"].as_str().unwrap_or_default();
        add(Kind::DomainName, format!("domainnames/{}", plain(name)), value, &[]);
        for mapping in live.mappings.get(name).into_iter().flatten().filter(|m| m["apiId"] == id) {
            let own = plain(mapping["apiMappingId"].as_str().unwrap_or_default());
            let path = format!("domainnames/{}/apimappings/{own}", plain(name));
            add(Kind::ApiMapping, path, mapping, &[("domainName", name)]);
        }
    }
    for value in &live.vpc_links {
        let own = plain(value["vpcLinkId"].as_str().unwrap_or_default());
        add(Kind::VpcLink, format!("vpclinks/{own}"), value, &[]);
    }
    for (name, list) in &live.mappings {
        let n_others = list.iter().filter(|mapping| mapping["apiId"] != id).count();
        if n_others > 0 && live.domains.iter().any(|domain| domain["domainName"] == name.as_str()) {
            let why = format!("{n_others} mappings of it lead to other APIs");
            let what = format!("domainnames/{}", plain(name));
            report.add(
                Part::Beside,
                &what,
                0,
                why,
                "import those APIs too, then write the mappings into one [[domains]]",
            );
        }
    }
    for (operation, why) in &live.refused {
        let why = format!("was refused: {}", plain(why));
        let to_do = format!("give the caller the right to it ({operation}) and import again");
        report.add(Part::Api, operation, 0, why, &to_do);
    }
    for object in &objects {
        let uri = object.text("integrationUri").or_else(|| object.text("authorizerUri"));
        if let Some(name) = uri.and_then(function_name) {
            let name = plain(name);
            let why = format!("calls the function {name}, which is not part of an API");
            let to_do = format!("describe it in [lambda.functions.{name}], or name the endpoint that has it");
            report.add(Part::Configuration, &object.path, 0, why, &to_do);
        }
    }
    let api_ids = BTreeMap::new();
    let document = Objects { all: &objects, api_ids: &api_ids, is_live: true }.document(&mut report);
    Ok(Imported { document, functions: Vec::new(), usage_plans: Vec::new(), left_out: report.into_entries() })
}
