//! `tidegate dev`: everything in a temporary folder, with an API that works at once.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};
use tidegate_auth::{Credential, Secret};
use tidegate_control::ControlPlane;
use tidegate_control::declarative::{self, Secrets};
use tidegate_lambda::FunctionSettings;

use super::apply_at_start;
use crate::admin_client::{DEV_ACCESS_KEY_ID, DEV_SECRET_ACCESS_KEY};
use crate::app::App;
use crate::cli::{ConfigArgs, DevArgs, EXIT_FAILURE};
use crate::config::Config;
use crate::demo::Demo;
use crate::reload::Reread;
use crate::stores::Stores;
use crate::{config, observe};

const API_ID: &str = "dev0000000";
const STAGE: &str = "dev";

/// Name of the function of `--lambda`.
const FUNCTION: &str = "dev";

pub(crate) async fn run(args: DevArgs) -> anyhow::Result<ExitCode> {
    observe::start_logging(args.log_format, "info");
    let config_args = ConfigArgs {
        config: args.config.clone(),
        listen: args.listen.clone(),
        admin: args.admin.clone(),
        limits: args.limits,
        time_scale: args.time_scale,
        ..ConfigArgs::default()
    };
    let mut config = match config::load(&config_args) {
        Ok(loaded) => loaded.config,
        Err(problems) => {
            config::print_problems(&problems);
            return Ok(ExitCode::from(EXIT_FAILURE));
        }
    };
    let backend = args.backend.as_deref().map(base_url).transpose()?;
    let document = match args.apply.as_deref().map(apply_at_start::read).transpose()? {
        Some(None) => return Ok(ExitCode::from(EXIT_FAILURE)),
        document => document.flatten(),
    };
    let own_function = args.lambda.as_deref().map(function).transpose()?;
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let data_dir = folder.path().to_owned();
    // What the command makes of the configuration, now and after each reload.
    let adjust = move |config: &mut Config| {
        if config.is_dev {
            return;
        }
        config.is_dev = true;
        config.lambda.functions.extend(own_function.clone());
        config.data_dir.clone_from(&data_dir);
        if config.credentials.is_empty() {
            config.credentials.push(Credential {
                access_key_id: DEV_ACCESS_KEY_ID.to_owned(),
                secret: Secret::new(DEV_SECRET_ACCESS_KEY),
                allow: Vec::new(),
            });
        }
    };
    adjust(&mut config);
    let demo = match args.app.as_slice() {
        [] => None,
        apps => Some(Arc::new(Demo::switch_on(&mut config, apps)?)),
    };
    let access_key_id = config.credentials[0].access_key_id.clone();
    let region = config.region.clone();
    let is_own_key = access_key_id == DEV_ACCESS_KEY_ID;
    let stores = Stores::in_memory(&config)?;
    let unusual = crate::app::unusual(&config);
    // The applications of `--app` are not those of a file.
    let of_demo = demo.as_ref().map(|_| config.apps.clone());
    let fixed = if of_demo.is_some() { vec!["jwt", "chat", "apps"] } else { Vec::new() };
    let adjust = Box::new(move |config: &mut Config| {
        adjust(config);
        if let Some(apps) = &of_demo {
            config.apps.clone_from(apps);
        }
    });
    let app = App::start(config, stores, Reread { args: config_args, adjust, fixed }).await?;
    let public = app.public_address();
    let places = match &document {
        None => {
            create_api(&app.control, backend.as_ref(), args.lambda.is_some()).await?;
            vec![Place { api_id: API_ID.to_owned(), name: "dev".to_owned(), stage: STAGE.to_owned() }]
        }
        Some(document) => {
            if apply_at_start::apply(&app.control, document).await?.is_none() {
                return Ok(ExitCode::from(EXIT_FAILURE));
            }
            places(&app.control)
        }
    };
    let first = places.first().map(|place| (place.url("ws", public), place.url("http", public)));
    let (url, management) = first.unwrap_or_default();
    app.set_demo(json!({ "url": (!url.is_empty()).then_some(&url), "backend": backend.as_ref().map(url::Url::as_str) }));
    if let Some(demo) = &demo {
        app.set_examples(Arc::clone(demo));
    }
    if let Some(path) = &args.address_file {
        let stages: Vec<Value> = places.iter().map(|place| place.show(public)).collect();
        let first = places.first();
        let extra = json!({
            "api_id": first.map(|place| &place.api_id),
            "stage": first.map(|place| &place.stage),
            "url": url,
            "management": management,
            "stages": stages,
            "examples": demo.as_ref().map(|demo| demo.data(public)),
        });
        if let Value::Object(extra) = extra {
            app.write_addresses(path, extra)?;
        }
    }
    let secret = if is_own_key { DEV_SECRET_ACCESS_KEY } else { "<as configured>" };
    let behind = match (&document, &backend) {
        (None, None) if args.lambda.is_some() => {
            format!("{}, started with the first event", args.lambda.as_deref().unwrap_or_default())
        }
        (Some(_), _) => "as the document says".to_owned(),
        (None, None) => "an echo inside: every message comes back".to_owned(),
        (None, Some(backend)) => format!(
            "POST {backend}connect, {backend}default, {backend}disconnect\n               with the connection id in the header connectionId; answers to messages go to the client"
        ),
    };
    let urls: Vec<String> = places.iter().map(|place| place.url("ws", public)).collect();
    println!("{}", introduction(&app, &urls, &management, &access_key_id, secret, &region, &behind));
    if let Some(unusual) = unusual {
        println!("  Limits       {unusual}\n");
    }
    if let Some(demo) = &demo {
        println!("{}", demo.introduction(app.admin_address(), public));
    }
    if let Some(backend) = &backend {
        report_backend(backend).await;
    }
    app.serve_until_stopped().await
}

/// A stage that clients may connect to.
struct Place {
    api_id: String,
    name: String,
    stage: String,
}

impl Place {
    fn url(&self, scheme: &str, public: SocketAddr) -> String {
        format!("{scheme}://{public}/_aws/execute-api/{}/{}", self.api_id, self.stage)
    }

    fn show(&self, public: SocketAddr) -> Value {
        json!({ "api_id": self.api_id, "name": self.name, "stage": self.stage, "url": self.url("ws", public) })
    }
}

/// Every stage of every API.
fn places(control: &ControlPlane) -> Vec<Place> {
    let mut places = Vec::new();
    for api in declarative::export(control, Secrets::Masked).document.apis {
        for (stage, _) in api.stages {
            let api_id = api.id.clone().unwrap_or_default();
            places.push(Place { api_id, name: api.name.clone(), stage });
        }
    }
    places
}

/// The backend's base: `connect`, `default` and `disconnect` are put behind it.
fn base_url(text: &str) -> anyhow::Result<url::Url> {
    let mut url = url::Url::parse(text).with_context(|| format!("--backend {text}"))?;
    anyhow::ensure!(
        matches!(url.scheme(), "http" | "https"),
        "--backend {text}: http:// or https:// expected"
    );
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// The function of a handler in this folder: which program runs it follows from its file.
fn function(handler: &str) -> anyhow::Result<FunctionSettings> {
    let directory = std::env::current_dir().context("find the current folder")?;
    let (module, _) = handler.rsplit_once('.').with_context(|| {
        format!(
            "--lambda {handler}: the file without its ending, a dot, and the name of the handler, expected"
        )
    })?;
    let is_there = |ending: &str| directory.join(format!("{module}.{ending}")).is_file();
    let client = "node_modules/.bin/aws-lambda-ric";
    let command: Vec<&str> = if is_there("py") {
        vec!["python3", "-m", "awslambdaric", handler]
    } else if ["mjs", "js", "cjs"].into_iter().any(is_there) {
        anyhow::ensure!(
            directory.join(client).is_file(),
            "--lambda {handler}: {client} is not there; npm install aws-lambda-ric, or name another command in [lambda.functions]"
        );
        vec![client, handler]
    } else {
        anyhow::bail!("--lambda {handler}: neither {module}.py nor {module}.mjs nor {module}.js is here");
    };
    Ok(FunctionSettings {
        name: FUNCTION.to_owned(),
        command: command.into_iter().map(str::to_owned).collect(),
        handler: handler.to_owned(),
        directory,
        environment: std::collections::BTreeMap::new(),
        memory_mb: 128,
        // As long as the integration waits.
        timeout: Duration::from_secs(29),
        concurrency: 10,
        queue: 100,
        reload: true,
    })
}

/// One integration per event, the connection id in a header, answers to messages sent back.
async fn create_api(
    control: &ControlPlane,
    backend: Option<&url::Url>,
    has_function: bool,
) -> anyhow::Result<()> {
    let api = json!({
        "name": "dev",
        "protocolType": "WEBSOCKET",
        "routeSelectionExpression": "$request.body.action",
    });
    let fail = |error: tidegate_control::ApiError| anyhow::anyhow!("create the demo API: {}", error.message);
    control.create_api_with_id(API_ID, api).await.map_err(fail)?;
    let post = |path: &str, body: Value| {
        let target = format!("/v2/apis/{API_ID}/{path}");
        async move { control.request(&Method::POST, &target, body).await.map_err(fail) }
    };
    let routes: &[(&str, &str)] = match backend {
        None if !has_function => &[("$default", "")],
        _ => &[("$connect", "connect"), ("$default", "default"), ("$disconnect", "disconnect")],
    };
    for (route_key, name) in routes {
        let uri = match backend {
            None => tidegate_core::compile::ECHO_URI.to_owned(),
            Some(backend) => backend.join(name).context("join the backend's URL")?.to_string(),
        };
        let integration = match has_function {
            true => json!({
                "integrationType": "AWS_PROXY",
                "integrationMethod": "POST",
                "integrationUri": format!("arn:aws:lambda:us-east-1:000000000000:function:{FUNCTION}"),
            }),
            false => json!({
                "integrationType": "HTTP_PROXY",
                "integrationMethod": "POST",
                "integrationUri": uri,
                "requestParameters": { "integration.request.header.connectionId": "context.connectionId" },
            }),
        };
        let integration = post("integrations", integration).await?;
        let id = integration["integrationId"].as_str().unwrap_or_default().to_owned();
        let mut route = json!({ "routeKey": route_key, "target": format!("integrations/{id}") });
        if *route_key == "$default" {
            route["routeResponseSelectionExpression"] = "$default".into();
        }
        let route = post("routes", route).await?;
        if *route_key == "$default" {
            let id = route["routeId"].as_str().unwrap_or_default();
            post(&format!("routes/{id}/routeresponses"), json!({ "routeResponseKey": "$default" })).await?;
        }
    }
    post("stages", json!({ "stageName": STAGE })).await?;
    post("deployments", json!({ "stageName": STAGE })).await?;
    Ok(())
}

/// Says at once when nothing listens where the backend should be.
async fn report_backend(backend: &url::Url) {
    let host = backend.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = backend.port_or_known_default().unwrap_or(80);
    let connect = tokio::net::TcpStream::connect((host.as_str(), port));
    let problem = match tokio::time::timeout(Duration::from_secs(3), connect).await {
        Ok(Ok(_)) => {
            println!("Backend {backend} answers.\n");
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer within 3 s".to_owned(),
    };
    println!(
        "BACKEND DOWN: nothing answers at {backend} ({problem}).\nClients will get 504 until it is started; no restart of tidegate is needed.\n"
    );
}

fn introduction(
    app: &App,
    urls: &[String],
    management: &str,
    access_key_id: &str,
    secret: &str,
    region: &str,
    behind: &str,
) -> String {
    let admin = app.admin_address();
    let url = urls.first().map_or("URL", String::as_str);
    let all = match urls {
        [] => "no stage: the document has none".to_owned(),
        urls => urls.join("\n               "),
    };
    // The command line looks there unless told otherwise.
    let variable = match admin.to_string().as_str() {
        "127.0.0.1:8081" => String::new(),
        _ => format!("\n  export TIDEGATE_ADMIN_URL=http://{admin}"),
    };
    format!(
        r#"Tidegate is ready.

  Page         http://{admin}/
  WebSocket    {all}
  Push         {management}/@connections/CONNECTION_ID
  Control      http://{admin}/v2/
  Backend      {behind}

Try it:

  tidegate connect {url}

Look at it from another terminal:
{variable}
  tidegate connections watch
  tidegate apis ls

Use the AWS SDKs and the AWS CLI against it:

  export AWS_ACCESS_KEY_ID={access_key_id}
  export AWS_SECRET_ACCESS_KEY={secret}
  export AWS_DEFAULT_REGION={region}
  export AWS_ENDPOINT_URL_APIGATEWAYV2=http://{admin}
  export AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI={management}

  python3 -c 'import boto3; boto3.client("apigatewaymanagementapi").post_to_connection(ConnectionId="CONNECTION_ID", Data=b"hello")'

Stop with Ctrl-C.
"#
    )
}
