//! The gateway's data plane inside this process: one API without routes, its public listener, a fan-out to all.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tidegate_core::definition::{Api, ApiDefinition, Live, LiveApi, LiveStage, Stage};
use tidegate_core::notice::{Notice, NoticeSink};
use tidegate_core::port::DefinitionSink as _;
use tidegate_gateway::{Gateway, GatewayConfig, SettingsOf};
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
    for line in std::io::stdin().lines() {
        let Some(push) = Push::parse(&line.context("read a command")?) else { continue };
        let text = Bytes::from(payload(push.payload));
        for _ in 0..push.count {
            let counts = gateway.push_to_all(API_ID, STAGE, text.clone());
            if counts.gone + counts.slow > 0 {
                eprintln!("a push was not taken by all: {counts:?}");
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
