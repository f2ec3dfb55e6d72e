//! A TLS handshake that takes every certificate and keeps what the other side showed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::probe::Run;
use crate::probe::wire::Endpoint;

/// Records what a server shows and lets it pass; see the module.
#[derive(Debug)]
struct Recorder {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        *self.chain.lock() = chain.map(|certificate| certificate.clone().into_owned()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A TCP stream that keeps the first bytes that came.
pub(super) struct Tap {
    pub(super) stream: TcpStream,
    pub(super) first: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let mut first = self.first.lock();
        let left = 16 - first.len().min(16);
        first.extend(buf.filled()[before..].iter().take(left));
        result
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What a TLS handshake is tried with.
pub(super) struct Offer {
    pub(super) versions: &'static [&'static SupportedProtocolVersion],
    pub(super) alpn: &'static [&'static [u8]],
    pub(super) sni: bool,
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

pub(super) const ONLY_12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

pub(super) const ONLY_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

pub(super) const OFFER: Offer = Offer { versions: BOTH, alpn: &[b"h2", b"http/1.1"], sni: true };

pub(super) struct Shaken {
    pub(super) version: &'static str,
    pub(super) alpn: Option<String>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) stream: TlsStream<Tap>,
}

pub(super) struct Failed {
    /// Nothing: it was no matter of TLS.
    pub(super) error: Option<Error>,
    pub(super) trouble: String,
    /// First bytes that came.
    pub(super) first: Vec<u8>,
    pub(super) is_silent: bool,
}

pub(super) async fn shake(run: &Run<'_>, endpoint: &Endpoint, offer: &Offer) -> Result<Box<Shaken>, Failed> {
    let network = |trouble: String, is_silent| Failed { error: None, trouble, first: Vec::new(), is_silent };
    let stream =
        run.net.tcp(endpoint.address).await.map_err(|trouble| network(trouble.to_string(), false))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let recorder = Arc::new(Recorder { provider: provider.clone(), chain: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(offer.versions)
        .map_err(|error| network(error.to_string(), false))?;
    let mut config =
        config.dangerous().with_custom_certificate_verifier(recorder.clone()).with_no_client_auth();
    config.alpn_protocols = offer.alpn.iter().map(|name| name.to_vec()).collect();
    config.enable_sni = offer.sni;
    let name = endpoint.tls.clone().unwrap_or_default();
    let name = ServerName::try_from(name).map_err(|error| network(error.to_string(), false))?;
    let first = Arc::new(Mutex::new(Vec::new()));
    let tap = Tap { stream, first: first.clone() };
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    match tokio::time::timeout(run.net.timeout, connector.connect(name, tap)).await {
        Err(_) => {
            let first = first.lock().clone();
            Err(Failed { error: None, trouble: "no answer".to_owned(), first, is_silent: true })
        }
        Ok(Ok(stream)) => {
            let (_, session) = stream.get_ref();
            let version = match session.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
                Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
                _ => "unknown",
            };
            let alpn = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
            let chain = recorder.chain.lock().clone();
            Ok(Box::new(Shaken { version, alpn, chain, stream }))
        }
        Ok(Err(error)) => {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).cloned();
            let first = first.lock().clone();
            Err(Failed { error: tls, trouble: error.to_string(), first, is_silent: false })
        }
    }
}
