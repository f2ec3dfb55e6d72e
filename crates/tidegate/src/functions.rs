//! Functions on this machine, as a node starts them: what their processes may know and whom they may call.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tidegate_auth::{Credential, Secret};
use tidegate_lambda::{Log, Runner, RunnerSettings};

use crate::config::Config;

/// Variables of the gateway's own environment that functions get: where programs are and how people write. None of them
/// is a secret of the gateway's.
const PASSED_ON: [&str; 16] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "NODE_PATH",
    "JAVA_HOME",
    "LD_LIBRARY_PATH",
    "SSL_CERT_DIR",
    "NO_PROXY",
];

/// Where distributions keep the certificates that everybody trusts.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// The functions of a node, and what makes their calls of it work.
pub(crate) struct Functions {
    pub(crate) runner: Arc<Runner>,
    /// Their key: it may call `@connections` of every API, and lives as long as the process.
    pub(crate) credential: Credential,
}

impl Functions {
    /// Makes ready what is configured; nothing is started yet. The certificate of the listeners has been made.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Option<Self>> {
        if config.lambda.functions.is_empty() {
            return Ok(None);
        }
        // Without `[tls]` their certificate is one of the local CA, too.
        let is_local = config.tls.as_ref().is_none_or(|tls| tls.local_ca);
        let ca = is_local.then(|| config.data_dir.join("certs").join("ca.pem"));
        let credential = credential()?;
        let mut environment: Vec<(OsString, OsString)> = PASSED_ON
            .iter()
            .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
            .collect();
        environment.push(("AWS_ACCESS_KEY_ID".into(), credential.access_key_id.clone().into()));
        environment.push(("AWS_SECRET_ACCESS_KEY".into(), credential.secret.expose().into()));
        if let Some(ca) = ca {
            let bundle = bundle(&config.data_dir, &ca)?;
            for name in ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"] {
                environment.push((name.into(), bundle.clone().into()));
            }
            environment.push(("NODE_EXTRA_CA_CERTS".into(), absolute(&ca)?.into()));
        }
        let common = RunnerSettings {
            region: config.region.clone(),
            account_id: config.account_id.clone(),
            environment,
            async_retries: async_retries(config.settings.data_plane.time_scale),
        };
        let log: Log = match config.is_dev {
            true => Arc::new(|name, line| println!("[{name}] {line}")),
            false => Arc::new(|name, line| tracing::info!(target: "tidegate::function", "[{name}] {line}")),
        };
        let runner = Arc::new(Runner::new(config.lambda.functions.clone(), common, log));
        Ok(Some(Self { runner, credential }))
    }
}

/// Pauses before an asynchronous event that failed is tried again. Source: *How Lambda handles errors and retries with
/// asynchronous invocation* in the Lambda developer guide: twice more, after one minute and after two.
fn async_retries(time_scale: u32) -> Vec<Duration> {
    [60, 120].map(|seconds| Duration::from_secs(seconds) / time_scale.max(1)).into()
}

/// A key that nobody else has.
fn credential() -> anyhow::Result<Credential> {
    let mut random = [0; 38];
    getrandom::fill(&mut random).context("make a key for functions")?;
    let (id, secret) = random.split_at(8);
    Ok(Credential {
        access_key_id: format!("ASIA{}", hex::encode_upper(id)),
        secret: Secret::new(hex::encode(secret)),
        allow: vec!["execute-api:ManageConnections *".to_owned()],
    })
}

/// One file with the system's certificates and the local CA: the variables that name a file replace what programs trust.
fn bundle(data_dir: &Path, ca: &Path) -> anyhow::Result<PathBuf> {
    let own = std::fs::read_to_string(ca).with_context(|| format!("read {}", ca.display()))?;
    let configured = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let known = configured.into_iter().chain(SYSTEM_BUNDLES.iter().map(PathBuf::from));
    let system = known.filter_map(|path| std::fs::read_to_string(path).ok()).next().unwrap_or_default();
    let path = absolute(&data_dir.join("certs").join("functions.pem"))?;
    std::fs::write(&path, format!("{system}\n{own}")).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// Functions run in folders of their own.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("the path {}", path.display()))
}
