//! The certificate that the node's TLS listeners show, which may be replaced while they serve.
//!
//! Whoever begins a handshake gets the newest one; connections that are open keep the keys that they agreed on. A pair of
//! files that cannot be used changes nothing, and what is wrong with it is kept until a usable one is there.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::TlsAcceptor;

use crate::certs;
use crate::config::Config;

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// An operator's files.
    Files { certificate: PathBuf, key: PathBuf },
    /// Made by the CA in the data directory.
    LocalCa { data_dir: PathBuf, region: String, names: Vec<String> },
}

/// How two files looked: whether they are others later is seen without reading them.
pub(crate) type Seen = [Option<FileSeen>; 2];

/// Seconds and nanoseconds of the last change, length, number on the disk.
pub(crate) type FileSeen = (i64, i64, u64, u64);

/// A certificate with its key, and the files as they looked before they were read.
#[derive(Debug)]
pub(crate) struct Loaded {
    key: Arc<CertifiedKey>,
    source: Source,
    seen: Seen,
}

/// The certificate of all listeners.
#[derive(Debug)]
pub(crate) struct Certificates {
    current: ArcSwap<CertifiedKey>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    source: Source,
    seen: Seen,
    /// Why the files of now are not in use.
    problem: Option<String>,
}

impl Source {
    /// That of `[tls]`; where functions make `https://` addresses of what events say, one of the local CA.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let local_ca = |names: Vec<String>| Self::LocalCa {
            data_dir: config.data_dir.clone(),
            region: config.region.clone(),
            names,
        };
        match &config.tls {
            Some(tls) if tls.local_ca => Some(local_ca(tls.names.clone())),
            Some(tls) => match (&tls.certificate, &tls.key) {
                (Some(certificate), Some(key)) => {
                    Some(Self::Files { certificate: certificate.clone(), key: key.clone() })
                }
                _ => None,
            },
            None if config.lambda.functions.is_empty() => None,
            None => {
                let mut names = Vec::from_iter(config.public_hostname.clone());
                let address = config.listen.ip();
                if !address.is_unspecified() {
                    names.push(address.to_string());
                }
                Some(local_ca(names))
            }
        }
    }

    /// Reads the files, or makes a certificate.
    ///
    /// # Errors
    /// A file cannot be read, or certificate and key do not belong together.
    pub(crate) fn load(self) -> anyhow::Result<Loaded> {
        let seen = self.look();
        let key = match &self {
            Self::Files { certificate, key } => read(certificate, key)?,
            Self::LocalCa { data_dir, region, names } => {
                let made = certs::make(data_dir, region, names)?;
                read(&made.certificate, &made.key)?
            }
        };
        Ok(Loaded { key: Arc::new(key), source: self, seen })
    }

    /// How an operator's files look now. Those of the local CA are the node's own.
    pub(crate) fn look(&self) -> Seen {
        let look = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.mtime(), found.mtime_nsec(), found.len(), found.ino()))
        };
        match self {
            Self::Files { certificate, key } => [look(certificate), look(key)],
            Self::LocalCa { .. } => [None, None],
        }
    }
}

impl Certificates {
    pub(crate) fn new(loaded: Loaded) -> Arc<Self> {
        let Loaded { key, source, seen } = loaded;
        let state = Mutex::new(State { source, seen, problem: None });
        Arc::new(Self { current: ArcSwap::new(key), state })
    }

    /// The TLS side of a listener.
    pub(crate) fn acceptor(self: &Arc<Self>) -> TlsAcceptor {
        let mut config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// From now on this one is shown.
    pub(crate) fn replace(&self, loaded: Loaded) {
        let Loaded { key, source, seen } = loaded;
        self.current.store(key);
        *self.state.lock() = State { source, seen, problem: None };
    }

    /// Files that looked so are not in use, and why.
    pub(crate) fn refuse(&self, seen: Seen, problem: String) {
        let mut state = self.state.lock();
        state.seen = seen;
        state.problem = Some(problem);
    }

    pub(crate) fn source(&self) -> Source {
        self.state.lock().source.clone()
    }

    /// How the files looked that were read last.
    pub(crate) fn seen(&self) -> Seen {
        self.state.lock().seen
    }

    /// Why the files of now are not in use; nothing where they are.
    pub(crate) fn problem(&self) -> Option<String> {
        self.state.lock().problem.clone()
    }

    /// The chain that is shown.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.current.load().cert.clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read(certificate: &Path, key: &Path) -> anyhow::Result<CertifiedKey> {
    let chain = certs::read_chain(certificate)?;
    let key_der = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("read the private key {}", key.display()))?;
    CertifiedKey::from_der(chain, key_der, &aws_lc_rs::default_provider())
        .with_context(|| format!("use {} with {}", certificate.display(), key.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path, names: &[String]) -> Source {
        let made = certs::make(folder, "us-east-1", names).expect("a certificate");
        Source::Files { certificate: made.certificate, key: made.key }
    }

    #[test]
    fn what_cannot_be_used_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = files(folder.path(), &["one.example".to_owned()]);
        let certificates = Certificates::new(source.clone().load().expect("usable"));
        let (chain, seen) = (certificates.chain(), certificates.seen());
        assert_eq!(seen, source.look());
        // A key that is not that of the certificate.
        let Source::Files { certificate, key } = &source else { panic!("files") };
        let other = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        std::fs::write(key, other).expect("write");
        assert_ne!(source.look(), seen);
        let error = source.clone().load().expect_err("they do not belong together");
        certificates.refuse(source.look(), format!("{error:#}"));
        assert_eq!(certificates.chain(), chain);
        assert!(certificates.problem().is_some_and(|problem| problem.contains("tidegate.key")));
        std::fs::write(certificate, "nothing").expect("write");
        assert!(source.clone().load().is_err());
        let source = files(folder.path(), &["two.example".to_owned()]);
        certificates.replace(source.load().expect("usable"));
        assert_eq!(certificates.problem(), None);
        assert_ne!(certificates.chain(), chain);
    }
}
