//! The gateway under test, as a process of its own on free ports.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::child::OwnedChild;
use crate::http_exchange::exchange;

/// Credentials of this run; they protect nothing.
pub const ACCESS_KEY_ID: &str = "AKIDBENCH";
/// Secret half of [`ACCESS_KEY_ID`].
pub const SECRET_ACCESS_KEY: &str = "bench-secret-access-key";
/// Bearer key of this run.
pub const API_KEY: &str = "bench-api-key";
/// Region that signatures name.
pub const REGION: &str = "us-east-1";

/// How long the gateway may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running gateway; ends when it is dropped.
#[derive(Debug)]
pub struct GatewayProcess {
    child: OwnedChild,
    /// Data plane.
    pub public: SocketAddr,
    /// Control plane.
    pub admin: SocketAddr,
    /// From the start of the process to the first ready answer.
    pub ready_after: Duration,
    directory: tempfile::TempDir,
}

impl GatewayProcess {
    /// Starts `binary` with an empty data directory and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, ends early, or is not ready in time; then the end of its log is in the error.
    pub fn start(binary: &Path) -> Result<Self> {
        Self::start_with(binary, "")
    }

    /// [`Self::start`] with a configuration file.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(binary: &Path, config: &str) -> Result<Self> {
        // The process gets a working directory of its own.
        let binary = &std::path::absolute(binary).context("find the gateway")?;
        let directory = tempfile::tempdir().context("make a temporary folder")?;
        let address_file = directory.path().join("address.json");
        let config_path = directory.path().join("tidegate.toml");
        fs::write(&config_path, config).context("write the configuration")?;
        let log_path = directory.path().join("log");
        let log = fs::File::create(&log_path).context("create the log")?;
        let started = Instant::now();
        let mut child = OwnedChild::spawn(
            Command::new(binary)
                .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"])
                .arg(directory.path().join("data"))
                .arg("--config")
                .arg(&config_path)
                .arg("--address-file")
                .arg(&address_file)
                .env("TIDEGATE_ACCESS_KEY_ID", ACCESS_KEY_ID)
                .env("TIDEGATE_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
                .env("TIDEGATE_API_KEY", API_KEY)
                .env("TIDEGATE_REGION", REGION)
                .current_dir(directory.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log),
        )?;
        loop {
            let addresses: Option<Value> =
                fs::read(&address_file).ok().and_then(|text| serde_json::from_slice(&text).ok());
            if let Some(addresses) = addresses {
                let (public, admin) = (address(&addresses, "public")?, address(&addresses, "admin")?);
                let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
                if exchange(admin, request).is_ok_and(|answer| answer.status == 200) {
                    let ready_after = started.elapsed();
                    return Ok(Self { child, public, admin, ready_after, directory });
                }
            }
            if let Some(status) = child.ended()? {
                bail!(
                    "the gateway ended with {status}: {}",
                    fs::read_to_string(&log_path).unwrap_or_default()
                );
            }
            if started.elapsed() > START_TIMEOUT {
                bail!("the gateway is not ready: {}", fs::read_to_string(&log_path).unwrap_or_default());
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// Where it keeps its state.
    pub fn data_dir(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }
}

/// `host:port` or `scheme://host:port`.
fn address(addresses: &Value, name: &str) -> Result<SocketAddr> {
    let text = addresses[name].as_str().with_context(|| format!("no address {name} in {addresses}"))?;
    let (_, host) = text.split_once("://").unwrap_or(("", text));
    host.trim_end_matches('/').parse().with_context(|| format!("parse the address {text}"))
}
