//! A connection to a backend: name, address, TCP, TLS.

use std::future::{Future as _, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Uri;
use http::uri::Scheme;
use rustls::pki_types::ServerName;
use tidegate_core::limits;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::connection::socket::poll_read_shared;

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// How long an address has the field to itself before the next one is tried beside it. Source: RFC 8305,
/// section 5.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Where a backend listens.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Origin<'a> {
    pub(in super::super) is_https: bool,
    /// As the address spells it; what connections are shared by.
    pub(super) authority: &'a str,
    pub(in super::super) host: &'a str,
    pub(in super::super) port: u16,
}

impl<'a> Origin<'a> {
    /// `uri` has scheme and host.
    pub(in super::super) fn of(uri: &'a Uri) -> Self {
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        let default_port = if is_https { 443 } else { 80 };
        let host = uri.host().unwrap_or_default();
        Self {
            is_https,
            authority: uri.authority().map_or("", |authority| authority.as_str()),
            // An IPv6 address stands in brackets in an address, and nowhere else.
            host: host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host),
            port: uri.port_u16().unwrap_or(default_port),
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum DialError {
    /// The name has no address.
    Resolve,
    /// No address took the connection, or TLS did not come about.
    Connect(io::Error),
}

/// Connects, within [`limits::BACKEND_CONNECT_TIMEOUT`] for TCP; name and TLS count against the timeout of the call.
pub(super) async fn dial(
    origin: Origin<'_>,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<BackendStream, DialError> {
    let addresses = match origin.host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, origin.port)],
        Err(_) => tokio::net::lookup_host((origin.host, origin.port))
            .await
            .map_err(|_| DialError::Resolve)?
            .take(MAX_ADDRESSES)
            .collect(),
    };
    let connecting = tokio::time::timeout(limits::BACKEND_CONNECT_TIMEOUT, connect(addresses));
    let stream = connecting
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(DialError::Connect)?;
    // Requests are written whole; waiting for more would only delay them. A failure costs time, nothing else.
    let _ = stream.set_nodelay(true);
    if !origin.is_https {
        return Ok(BackendStream::Plain(stream));
    }
    let name = ServerName::try_from(origin.host.to_owned())
        .map_err(|error| DialError::Connect(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = connector.connect(name, stream).await.map_err(DialError::Connect)?;
    Ok(BackendStream::Tls(Box::new(stream)))
}

/// Tries addresses in their order, the next one when one has failed or takes long. The first error is told: it
/// is that of the preferred address.
async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut first_error = None;
    loop {
        attempts.extend(waiting.next().map(TcpStream::connect));
        tokio::select! {
            attempt = attempts.next() => match attempt {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => {
                    first_error.get_or_insert(error);
                }
                None => return Err(first_error.unwrap_or_else(|| io::ErrorKind::NotConnected.into())),
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if waiting.len() > 0 => {}
        }
    }
}

/// A connection to a backend, with or without TLS.
#[derive(Debug)]
pub(super) enum BackendStream {
    Plain(TcpStream),
    /// Boxed: the state of a TLS session is large.
    Tls(Box<TlsStream<TcpStream>>),
}

impl BackendStream {
    /// As [`poll_read_shared`].
    pub(super) fn poll_read_with(
        &mut self,
        context: &mut Context<'_>,
        take: &mut dyn FnMut(&mut [u8]),
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => poll_read_shared(Pin::new(stream), context, take),
            Self::Tls(stream) => poll_read_shared(Pin::new(stream), context, take),
        }
    }

    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Whether the backend has neither closed the connection nor said anything unasked. Asks the operating system
    /// only when something has happened since the last read.
    pub(super) fn is_quiet(&mut self) -> bool {
        // Out of the task's budget: a look that is put off would find every connection quiet.
        let look = poll_fn(|context| self.poll_read_with(context, &mut |_| {}));
        let look = pin!(tokio::task::coop::unconstrained(look));
        look.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    pub(in super::super) fn self_signed(name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        (certified.cert.der().clone(), key)
    }

    /// Trusts `root` and nobody else.
    pub(in super::super) fn client_config(root: Option<CertificateDer<'static>>) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(root);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        builder.with_root_certificates(roots).with_no_client_auth()
    }

    /// Gives this answer to everything that it reads.
    pub(in super::super) async fn tls_server(
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        answer: &'static [u8],
    ) -> SocketAddr {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).await.is_ok_and(|n_read| n_read > 0) {
                    stream.write_all(answer).await.unwrap();
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn a_certificate_that_nobody_trusts() {
        let (certificate, key) = self_signed("127.0.0.1");
        let address = tls_server(certificate, key, b"").await;
        let uri: Uri = format!("https://{address}/").parse().unwrap();
        let tls = Arc::new(client_config(None));
        let error = dial(Origin::of(&uri), &tls).await.unwrap_err();
        let failure = super::super::no_connection(&error);
        assert_eq!(failure.diagnosis, tidegate_core::diagnosis::Diagnosis::INTEGRATION_TLS);
    }

    #[test]
    fn exhausted_ports_are_not_a_refusal() {
        let error = DialError::Connect(io::ErrorKind::AddrNotAvailable.into());
        let failure = super::super::no_connection(&error);
        assert_eq!(failure.diagnosis, tidegate_core::diagnosis::Diagnosis::LIMIT_EPHEMERAL_PORTS);
    }

    #[test]
    fn origins_of_addresses() {
        for (address, expected) in [
            ("http://h/x", (false, "h", "h", 80)),
            ("https://h", (true, "h", "h", 443)),
            ("https://h:8443/x", (true, "h:8443", "h", 8443)),
            ("http://[::1]:8000/", (false, "[::1]:8000", "::1", 8000)),
            ("http://127.0.0.1/", (false, "127.0.0.1", "127.0.0.1", 80)),
        ] {
            let uri: Uri = address.parse().unwrap();
            let origin = Origin::of(&uri);
            let found = (origin.is_https, origin.authority, origin.host, origin.port);
            assert_eq!(found, expected, "{address}");
        }
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_followed_by_the_next() {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refusing = free.local_addr().unwrap();
        drop(free);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = connect(vec![refusing, address]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let error = connect(vec![refusing, refusing]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect(Vec::new()).await.is_err());
    }
}
