//! Reads an API by the operations of `apigatewayv2`: those that read, and no others.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tidegate_auth::{CredentialKeys, Secret, Signer};
use tidegate_import::LiveApi;

use crate::admin_client::{AdminClient, ClientError, path_below};
use crate::cli::import::AwsArgs;

/// Items of a page, and most pages of a list.
const PAGE: &str = "100";
const MAX_PAGES: usize = 200;

/// Lists without which there is no API to speak of.
const NEEDED: &[&str] = &["GetRoutes", "GetIntegrations", "GetStages"];

/// Calls that are made again when the service has too many, with pauses that double from the first.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(400);

/// The whole API, with the domain names that lead to it.
///
/// # Errors
/// No credential, no such API, no answer, one of [`NEEDED`] refused. Other lists that are refused are in
/// [`LiveApi::refused`].
pub(super) async fn read(args: &AwsArgs) -> anyhow::Result<LiveApi> {
    let mut reader = Reader { client: client(args)?, refused: Vec::new() };
    let api_id = args.api_id.as_str();
    let mut live = LiveApi { api: reader.api(api_id).await?, ..LiveApi::default() };
    live.routes = reader.list("GetRoutes", &["apis", api_id, "routes"]).await?;
    live.integrations = reader.list("GetIntegrations", &["apis", api_id, "integrations"]).await?;
    for route_id in ids(&live.routes, "routeId") {
        let path = ["apis", api_id, "routes", route_id, "routeresponses"];
        let found = reader.list("GetRouteResponses", &path).await?;
        live.route_responses.insert(route_id.to_owned(), found);
    }
    for integration_id in ids(&live.integrations, "integrationId") {
        let path = ["apis", api_id, "integrations", integration_id, "integrationresponses"];
        let found = reader.list("GetIntegrationResponses", &path).await?;
        live.integration_responses.insert(integration_id.to_owned(), found);
    }
    live.models = reader.list("GetModels", &["apis", api_id, "models"]).await?;
    live.authorizers = reader.list("GetAuthorizers", &["apis", api_id, "authorizers"]).await?;
    live.stages = reader.list("GetStages", &["apis", api_id, "stages"]).await?;
    live.deployments = reader.list("GetDeployments", &["apis", api_id, "deployments"]).await?;
    for domain in reader.list("GetDomainNames", &["domainnames"]).await? {
        let Some(name) = domain["domainName"].as_str().map(str::to_owned) else { continue };
        let mappings = reader.list("GetApiMappings", &["domainnames", &name, "apimappings"]).await?;
        if mappings.iter().any(|mapping| mapping["apiId"] == api_id) {
            live.mappings.insert(name, mappings);
            live.domains.push(domain);
        }
    }
    let used: Vec<&str> = live.integrations.iter().filter_map(|it| it["connectionId"].as_str()).collect();
    if !used.is_empty() {
        let mut links = reader.list("GetVpcLinks", &["vpclinks"]).await?;
        links.retain(|link| link["vpcLinkId"].as_str().is_some_and(|id| used.contains(&id)));
        live.vpc_links = links;
    }
    live.refused = reader.refused;
    Ok(live)
}

fn ids<'v>(list: &'v [Value], member: &'v str) -> impl Iterator<Item = &'v str> {
    list.iter().filter_map(move |value| value[member].as_str())
}

fn client(args: &AwsArgs) -> anyhow::Result<AdminClient> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let region =
        args.region.clone().or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"));
    let endpoint = args.endpoint_url.clone().or_else(|| variable("AWS_ENDPOINT_URL"));
    let (endpoint, region) = match (endpoint, region) {
        (Some(endpoint), region) => (endpoint, region.unwrap_or_else(|| "us-east-1".to_owned())),
        (None, Some(region)) => {
            let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            (format!("https://apigateway.{region}.{suffix}"), region)
        }
        (None, None) => {
            let message = "the region of the API is needed: --region, or AWS_REGION";
            return Err(ClientError::Usage(message.to_owned()).into());
        }
    };
    let (Some(access_key_id), Some(secret)) =
        (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"))
    else {
        let message = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are needed; \
             `aws configure export-credentials --format env` prints those of a profile";
        return Err(ClientError::Usage(message.to_owned()).into());
    };
    let mut keys = CredentialKeys::permanent(Secret::new(secret));
    keys.session_token = variable("AWS_SESSION_TOKEN").map(Secret::new);
    let origin = format!("the access key {access_key_id} of AWS_ACCESS_KEY_ID");
    let signer = Signer::new(access_key_id, keys, region, "apigateway");
    AdminClient::signing("--endpoint-url", &endpoint, args.cafile.as_deref(), signer, origin)
}

struct Reader {
    client: AdminClient,
    refused: Vec<(String, String)>,
}

impl Reader {
    async fn api(&mut self, api_id: &str) -> Result<Value, ClientError> {
        let (status, answer) = self.ask(&["apis", api_id], &[]).await?;
        match status {
            StatusCode::OK if answer["apiId"].is_string() => Ok(answer),
            StatusCode::NOT_FOUND => {
                Err(ClientError::NotThere(format!("there is no API {api_id} at {}", self.client.base())))
            }
            _ => Err(self.refusal("GetApi", status, &answer)),
        }
    }

    /// The items of all pages.
    async fn list(&mut self, operation: &str, segments: &[&str]) -> Result<Vec<Value>, ClientError> {
        let (mut items, mut next) = (Vec::new(), None::<String>);
        for _ in 0..MAX_PAGES {
            let mut query = vec![("maxResults", PAGE.to_owned())];
            query.extend(next.take().map(|token| ("nextToken", token)));
            let (status, mut answer) = self.ask(segments, &query).await?;
            match status {
                StatusCode::OK => {}
                // Emulators do not know all operations: what they lack is told like what is refused.
                _ if !NEEDED.contains(&operation) => {
                    let why = said(status, &answer);
                    if !self.refused.iter().any(|(known, _)| known == operation) {
                        self.refused.push((operation.to_owned(), why));
                    }
                    return Ok(items);
                }
                _ => return Err(self.refusal(operation, status, &answer)),
            }
            next = answer["nextToken"].as_str().filter(|token| !token.is_empty()).map(str::to_owned);
            if let Value::Array(page) = answer["items"].take() {
                items.extend(page);
            }
            if next.is_none() {
                return Ok(items);
            }
        }
        let url = self.client.base().to_owned();
        Err(ClientError::NoAnswer { url, reason: format!("{operation} has more than {MAX_PAGES} pages") })
    }

    /// One call, again while the service has too many.
    async fn ask(
        &mut self,
        segments: &[&str],
        query: &[(&'static str, String)],
    ) -> Result<(StatusCode, Value), ClientError> {
        let path = path_below("/v2", segments);
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match self.once(&path, query).await? {
                (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, _) => {}
                answer => return Ok(answer),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.once(&path, query).await
    }

    async fn once(
        &mut self,
        path: &str,
        query: &[(&'static str, String)],
    ) -> Result<(StatusCode, Value), ClientError> {
        self.client.ask(path, query).await.map_err(|error| match error {
            // What to do about it is another thing than with a node.
            ClientError::Unreachable { url, source } => {
                ClientError::NoAnswer { url, reason: format!("cannot connect: {source}") }
            }
            error => error,
        })
    }

    fn refusal(&self, operation: &str, status: StatusCode, answer: &Value) -> ClientError {
        let url = self.client.base().to_owned();
        let reason = format!("{operation}: {}", said(status, answer));
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ClientError::NoCredential(format!("{url} that it takes: {reason}"))
            }
            _ => ClientError::NoAnswer { url, reason },
        }
    }
}

/// The words of the service.
fn said(status: StatusCode, answer: &Value) -> String {
    let words =
        answer["message"].as_str().or_else(|| answer["Message"].as_str()).unwrap_or("without a reason");
    format!("{status}: {}", words.chars().take(300).collect::<String>())
}
