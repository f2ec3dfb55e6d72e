//! Which API and stage a request means: by host, by custom domain, by path.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::settings::ExtraPath;
use tidegate_core::snapshot::{Api, Snapshot, Stage};

/// Prefix of the path form.
pub(super) const PATH_FORM: &str = "/_aws/execute-api/";

/// What stands behind an address.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) stage: Arc<Stage>,
    pub(crate) endpoint: Endpoint,
    /// Host as applications build callback addresses from it.
    pub(crate) domain_name: Arc<str>,
}

/// What lies below a stage. Ids and names are decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// The handshake.
    WebSocket,
    /// `@connections/{id}`.
    Connection(String),
    /// `@connections`.
    Connections,
    /// `@channels/{channel}`.
    Channel(String),
    /// `@channels/{channel}/connections/{id}`.
    ChannelMember(String, String),
    /// `@users/{userId}`.
    User(String),
    /// `@broadcast`.
    Broadcast,
    /// `@token`.
    Token,
}

impl Endpoint {
    /// Reads what follows the stage; nothing for a path that does not exist.
    fn parse(path: &str) -> Option<Self> {
        let path = path.trim_start_matches('/');
        let segments: Vec<String> = path.split('/').map(decode).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        Some(match segments[..] {
            [""] => Self::WebSocket,
            ["@connections"] => Self::Connections,
            // An id is the rest of the path, whatever is in it: then it is malformed, not unknown.
            ["@connections", ..] => match path.split_once('/').map(|(_, id)| decode(id)) {
                Some(id) if !id.is_empty() => Self::Connection(id),
                _ => Self::Connections,
            },
            ["@channels", channel] if !channel.is_empty() => Self::Channel(channel.to_owned()),
            ["@channels", channel, "connections", id] if !channel.is_empty() && !id.is_empty() => {
                Self::ChannelMember(channel.to_owned(), id.to_owned())
            }
            ["@users", user] if !user.is_empty() => Self::User(user.to_owned()),
            ["@broadcast"] => Self::Broadcast,
            ["@token"] => Self::Token,
            _ => return None,
        })
    }
}

/// The address leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unresolved {
    pub(crate) diagnosis: Diagnosis,
    /// For the operator: the candidates that do exist.
    pub(crate) detail: String,
    /// A known custom domain without a fitting mapping: management calls are answered 404 there.
    pub(crate) is_on_domain: bool,
    /// The path speaks of connections, so the caller is a management client.
    pub(crate) is_management: bool,
}

/// Finds API, stage and endpoint. `host` is as the client sent it, `path` still encoded.
pub(crate) fn resolve(snapshot: &Snapshot, host: &str, path: &str) -> Result<Address, Unresolved> {
    let name = host_name(host);
    let first_label = name.split('.').next().unwrap_or_default();

    // Before the ids: those of applications are words, and `chat.example.com` may lead to another API.
    if let Some(domain) = snapshot.domains.get(&name) {
        return by_domain(snapshot, domain, path, host.into());
    }
    let wildcard = name.split_once('.').and_then(|(_, parent)| snapshot.wildcard_domains.get(parent));
    match (snapshot.apis.get(first_label), wildcard) {
        (Some(api), Some(domain)) if is_of_app(api) => {
            return by_domain(snapshot, domain, path, host.into());
        }
        (Some(api), _) => return by_stage(snapshot, &api.api_id, path, host.into()),
        (None, Some(domain)) => return by_domain(snapshot, domain, path, host.into()),
        (None, None) => {}
    }
    if let Some(rest) = path.strip_prefix(PATH_FORM) {
        let (api_id, rest) = split_segment(rest);
        return by_stage(snapshot, &api_id, rest, format!("{host}{PATH_FORM}{api_id}").into());
    }
    let looks_like_api = name.contains(".execute-api.") || name.ends_with(".localhost");
    Err(Unresolved {
        diagnosis: match (looks_like_api, is_plain_host(&name)) {
            (true, _) => Diagnosis::API_UNKNOWN,
            (false, true) => Diagnosis::HANDSHAKE_WRONG_PATH,
            (false, false) => Diagnosis::DOMAIN_UNKNOWN_HOST,
        },
        detail: candidates("APIs", snapshot.apis.keys().map(AsRef::as_ref)),
        is_on_domain: false,
        is_management: is_management(path),
    })
}

/// An API that nobody has defined: its id is the name of the application that lives there, a word that hosts may begin with.
fn is_of_app(api: &Api) -> bool {
    let app_of = |stage: &Arc<Stage>| stage.deployment.as_ref()?.app.clone();
    api.stages.values().filter_map(app_of).any(|app| *app == *api.api_id)
}

/// A host without its port, in lower case.
pub(super) fn host_name(host: &str) -> String {
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host });
    name.to_ascii_lowercase()
}

fn by_stage(
    snapshot: &Snapshot,
    api_id: &str,
    path: &str,
    domain_name: Arc<str>,
) -> Result<Address, Unresolved> {
    let unresolved = |diagnosis, detail| Unresolved {
        diagnosis,
        detail,
        is_on_domain: false,
        is_management: is_management(path),
    };
    let Some(api) = snapshot.apis.get(api_id) else {
        return Err(unresolved(
            Diagnosis::API_UNKNOWN,
            candidates("APIs", snapshot.apis.keys().map(AsRef::as_ref)),
        ));
    };
    let (stage_name, rest) = split_segment(path.trim_start_matches('/'));
    let Some(stage) = api.stages.get(stage_name.as_str()) else {
        let diagnosis = match stage_name.is_empty() || stage_name == "@connections" {
            true => Diagnosis::PATH_MISSING_STAGE,
            false => Diagnosis::STAGE_UNKNOWN,
        };
        return Err(unresolved(diagnosis, candidates("stages", api.stages.keys().map(AsRef::as_ref))));
    };
    if stage.deployment.as_ref().is_some_and(|deployment| deployment.disable_execute_api_endpoint) {
        return Err(unresolved(Diagnosis::API_DEFAULT_ENDPOINT_DISABLED, String::new()));
    }
    below_stage(stage, rest, domain_name)
}

fn by_domain(
    snapshot: &Snapshot,
    domain: &tidegate_core::snapshot::Domain,
    path: &str,
    domain_name: Arc<str>,
) -> Result<Address, Unresolved> {
    let unresolved = |diagnosis| Unresolved {
        diagnosis,
        detail: candidates("mapping keys", domain.mappings.iter().map(|(key, ..)| key.as_str())),
        is_on_domain: true,
        is_management: is_management(path),
    };
    let below = path.trim_start_matches('/');
    let (first, rest) = split_segment(below);
    // Longest key first; the root mapping takes what no key takes.
    let mapping = domain.mappings.iter().find(|(key, ..)| key.is_empty() || *key == first);
    let Some((key, api_id, stage_name)) = mapping else {
        return Err(unresolved(Diagnosis::DOMAIN_NO_MAPPING));
    };
    let stage = snapshot.apis.get(api_id).and_then(|api| api.stages.get(stage_name));
    let Some(stage) = stage else { return Err(unresolved(Diagnosis::STAGE_UNKNOWN)) };
    let mut rest = if key.is_empty() { path } else { rest };
    if is_management(rest) && !rest.trim_start_matches('/').starts_with(['@', '%']) {
        // The stage in front of @connections, as callback addresses built from events have it.
        if !stage.settings.management.accept_stage_on_domain {
            return Err(unresolved(Diagnosis::MANAGEMENT_STAGE_WITH_DOMAIN));
        }
        rest = split_segment(rest.trim_start_matches('/')).1;
    }
    below_stage(stage, rest, domain_name)
}

fn below_stage(stage: &Arc<Stage>, rest: &str, domain_name: Arc<str>) -> Result<Address, Unresolved> {
    let endpoint = Endpoint::parse(rest);
    let is_extra = !rest.trim_start_matches('/').starts_with(['@', '%']);
    let endpoint = match endpoint {
        None if is_extra && stage.settings.data_plane.extra_path == ExtraPath::Ignore => Endpoint::WebSocket,
        Some(endpoint) => endpoint,
        None => {
            return Err(Unresolved {
                diagnosis: Diagnosis::HANDSHAKE_WRONG_PATH,
                detail: "below the stage are @connections, @channels, @users, @broadcast and @token"
                    .to_owned(),
                is_on_domain: false,
                is_management: is_management(rest),
            });
        }
    };
    Ok(Address { stage: Arc::clone(stage), endpoint, domain_name })
}

/// The first segment, decoded once, and the rest with its slash.
fn split_segment(path: &str) -> (String, &str) {
    let end = path.find('/').unwrap_or(path.len());
    (decode(&path[..end]), &path[end..])
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

pub(crate) fn is_management(path: &str) -> bool {
    path.contains("/@connections") || path.to_ascii_lowercase().contains("/%40connections")
}

/// A host that names a machine rather than an API or a domain.
fn is_plain_host(name: &str) -> bool {
    name.is_empty()
        || name == "localhost"
        || name.starts_with('[')
        || name.parse::<std::net::IpAddr>().is_ok()
}

fn candidates<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    let shown = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => format!("there are no {what}"),
        1..=5 => format!("known {what}: {shown}"),
        n_names => format!("known {what}: {shown} and {} more", n_names - 5),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::compile::{Cache, compile};
    use tidegate_core::definition::{
        Api, ApiDefinition, ApiMapping, DomainName, Live, LiveApi, LiveStage, Stage as StageDefinition,
    };

    use super::*;

    fn snapshot() -> Snapshot {
        let api = Api { api_id: "k3x9q2m7vd".to_owned(), ..Api::default() };
        let definition = Some(Arc::new(ApiDefinition { api: api.clone(), ..ApiDefinition::default() }));
        let stage = StageDefinition { stage_name: "prod".to_owned(), ..StageDefinition::default() };
        let mapping = |key: &str| ApiMapping {
            api_id: "k3x9q2m7vd".to_owned(),
            api_mapping_key: key.to_owned(),
            stage: "prod".to_owned(),
            ..ApiMapping::default()
        };
        let domain = |name: &str| DomainName { domain_name: name.to_owned(), ..DomainName::default() };
        let live = Live {
            apis: vec![Arc::new(LiveApi {
                api,
                stages: vec![LiveStage { stage, deployment: definition, policy: None }],
            })],
            domains: vec![
                (domain("ws.example.com"), vec![mapping("")]),
                (domain("k3x9q2m7vd.example.com"), vec![mapping("")]),
                (domain("*.tenant.example.com"), vec![mapping("chat")]),
            ],
        };
        compile(&live, &|_| Arc::default(), &mut Cache::default())
    }

    #[test]
    fn every_form_of_address_is_understood() {
        // AG-27, S0-35, S0-44
        let snapshot = snapshot();
        let id = || Endpoint::Connection("R0oXAdfD0kwCH6w=".to_owned());
        for (host, path, endpoint) in [
            ("k3x9q2m7vd.execute-api.us-east-1.amazonaws.com", "/prod", Endpoint::WebSocket),
            ("k3x9q2m7vd.localhost:8080", "/prod/", Endpoint::WebSocket),
            ("K3X9Q2M7VD.anything", "/prod/@connections/R0oXAdfD0kwCH6w%3D", id()),
            ("127.0.0.1:8080", "/_aws/execute-api/k3x9q2m7vd/prod", Endpoint::WebSocket),
            ("127.0.0.1:8080", "/_aws/execute-api/k3x9q2m7vd/prod/%40connections/R0oXAdfD0kwCH6w=", id()),
            ("ws.example.com", "/", Endpoint::WebSocket),
            ("WS.example.com:443", "", Endpoint::WebSocket),
            ("ws.example.com", "/@connections/R0oXAdfD0kwCH6w=", id()),
            ("k3x9q2m7vd.example.com", "/", Endpoint::WebSocket),
            ("a.tenant.example.com", "/chat", Endpoint::WebSocket),
            ("a.tenant.example.com", "/chat/@connections/R0oXAdfD0kwCH6w=", id()),
        ] {
            let address =
                resolve(&snapshot, host, path).unwrap_or_else(|error| panic!("{host}{path}: {error:?}"));
            assert_eq!(address.endpoint, endpoint, "{host}{path}");
        }
    }

    #[test]
    fn what_leads_nowhere_says_why() {
        // S0-45
        let snapshot = snapshot();
        for (host, path, diagnosis) in [
            ("nosuchapi0.localhost", "/prod", Diagnosis::API_UNKNOWN),
            ("127.0.0.1", "/_aws/execute-api/nosuchapi0/prod", Diagnosis::API_UNKNOWN),
            ("127.0.0.1", "/", Diagnosis::HANDSHAKE_WRONG_PATH),
            ("other.example", "/", Diagnosis::DOMAIN_UNKNOWN_HOST),
            ("k3x9q2m7vd.localhost", "/", Diagnosis::PATH_MISSING_STAGE),
            ("k3x9q2m7vd.localhost", "/@connections/x", Diagnosis::PATH_MISSING_STAGE),
            ("k3x9q2m7vd.localhost", "/dev", Diagnosis::STAGE_UNKNOWN),
            ("k3x9q2m7vd.localhost", "/prod/extra", Diagnosis::HANDSHAKE_WRONG_PATH),
            ("a.tenant.example.com", "/other", Diagnosis::DOMAIN_NO_MAPPING),
            ("ws.example.com", "/prod/@connections/x", Diagnosis::MANAGEMENT_STAGE_WITH_DOMAIN),
        ] {
            let error = resolve(&snapshot, host, path).expect_err(path);
            assert_eq!(error.diagnosis, diagnosis, "{host}{path}");
        }
    }
}
