//! The gateway's data plane inside this process: one API without routes, its public listener, a fan-out to all.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tidegate_core::definition::{Api, ApiDefinition, Live, LiveApi, LiveStage, Stage};
use tidegate_core::notice::Place;
use tidegate_core::notice::{Notice, NoticeSink};
use tidegate_core::port::DefinitionSink as _;
use tidegate_gateway::{Gateway, GatewayConfig, Publish, SettingsOf, Target};
use tokio::net::TcpListener;

use super::{Push, print_address};
use crate::swarm::payload;

/// Id of the only API.
const API_ID: &str = "bench00000";

/// Name of the only stage.
const STAGE: &str = "bench";

/// Path of the handshake.
pub const PATH: &str = "/_aws/execute-api/bench00000/bench";

/// Forgets what it is told.
#[derive(Debug)]
struct NoNotices;

impl NoticeSink for NoNotices {
    fn take(&self, _: Notice) {}
}

/// Serves until it is killed.
pub(super) fn run() -> Result<()> {
    let gateway = Gateway::new(config(), Arc::new(NoNotices)).context("start the gateway")?;
    gateway.publish(definitions());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).context("listen")?;
    print_address(listener.local_addr().context("read the own address")?)?;
    // Both end with the process.
    runtime.spawn(Arc::clone(&gateway).run_timers());
    runtime.spawn(tidegate_gateway::edge::listener::serve(Arc::clone(&gateway), listener, None));
    let stage = gateway.find_stage(API_ID, STAGE).context("find the stage")?;
    for line in std::io::stdin().lines() {
        let Some(push) = Push::parse(&line.context("read a command")?) else { continue };
        let text = Bytes::from(payload(push.payload));
        for _ in 0..push.count {
            let publish =
                Publish { targets: vec![Target::Everyone], payload: text.clone(), except: HashSet::new() };
            let result = runtime.block_on(gateway.push_to_many(&stage, publish, &Place::default()));
            if result.gone.len() + result.slow.len() > 0 {
                eprintln!("a push was not taken by all: {result:?}");
            }
        }
    }
    Ok(())
}

fn config() -> GatewayConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    GatewayConfig {
        node: 0,
        region: "us-east-1".to_owned(),
        account_id: "000000000000".to_owned(),
        credentials: Vec::new(),
        api_keys: Vec::new(),
        trusted_proxies: Vec::new(),
        settings: SettingsOf::default(),
        backend_tls: rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth(),
        explain_mismatch: false,
        clock_skew: Duration::from_secs(300),
        signature_hosts: Vec::new(),
        max_connections: 100_000,
        records: Arc::new(tidegate_store::SqliteRecords::open_in_memory().expect("memory")),
        token_keys: tidegate_auth::TokenKeys::new(&[[7; 32]]).expect("a key of 32 bytes"),
        read_file: tidegate_gateway::ReadFile(Arc::new(|path| std::fs::read(path))),
    }
}

fn definitions() -> Live {
    let api = Api {
        api_id: API_ID.to_owned(),
        route_selection_expression: "$request.body.action".to_owned(),
        ..Api::default()
    };
    let deployment = ApiDefinition { api: api.clone(), ..ApiDefinition::default() };
    let stage = Stage { stage_name: STAGE.to_owned(), ..Stage::default() };
    let stages = vec![LiveStage { stage, deployment: Some(Arc::new(deployment)), policy: None }];
    Live { apis: vec![Arc::new(LiveApi { api, stages })], ..Live::default() }
}
