//! TLS: certificates made for each fault.

use std::net::Ipv4Addr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tidegate_doctor::probe::{ProbeOptions, Resolve};
use tidegate_doctor::report::{Confidence, Severity};
use tokio_rustls::TlsAcceptor;

use crate::server::{Server, answer, date, serve, serve_on, tidegate};
use crate::{finding, healthy, ids, look, look_with, options, probe_of, proven};

const HOST: &str = "ws.example.test";

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

fn authority(name: &str, above: Option<&Authority>) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().unwrap();
    let certificate = match above {
        None => params.self_signed(&key).unwrap(),
        Some(above) => params.signed_by(&key, &above.issuer).unwrap(),
    };
    Authority { certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
}

/// A certificate for names; days from now to begin and to end.
fn certificate(
    issuer: &Authority,
    names: &[&str],
    days: (i64, i64),
    extension: Option<CustomExtension>,
) -> (CertificateDer<'static>, KeyPair) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).unwrap();
    params.distinguished_name.push(DnType::CommonName, names.first().cloned().unwrap_or_default());
    let day = |days: i64| {
        let seconds = jiff::Timestamp::now().as_second() + days * 86_400;
        let date = jiff::Timestamp::from_second(seconds).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
        rcgen::date_time_ymd(i32::from(date.year()), date.month() as u8, date.day() as u8)
    };
    params.not_before = day(days.0);
    params.not_after = day(days.1);
    params.custom_extensions.extend(extension);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, &issuer.issuer).unwrap().der().clone(), key)
}

const VALID: (i64, i64) = (-10, 90);

fn config(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> ServerConfig {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap()
}

fn acceptor(config: ServerConfig) -> TlsAcceptor {
    TlsAcceptor::from(Arc::new(config))
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    roots
}

/// A listener's certificate for these names, and who trusts it.
pub(crate) fn trusted(names: &[&str]) -> (TlsAcceptor, RootCertStore) {
    let root = authority("Test root", None);
    let (leaf, key) = certificate(&root, names, VALID, None);
    (acceptor(config(vec![leaf], &key)), roots(&root))
}

fn at(server: &Server, roots: RootCertStore) -> ProbeOptions {
    let port = server.address.port();
    let mut options = options(&format!("wss://{HOST}:{port}/chat"));
    options.resolve = vec![Resolve { host: HOST.to_owned(), port, address: Ipv4Addr::LOCALHOST.into() }];
    options.roots = Arc::new(roots);
    options
}

async fn served(config: ServerConfig) -> Server {
    serve_on("127.0.0.1:0", Some(acceptor(config)), tidegate).await
}

#[tokio::test]
async fn a_good_certificate() {
    // tls.expired tls.hostname-mismatch tls.self-signed: the negative of all.
    let root = authority("Test root", None);
    let middle = authority("Test intermediate", Some(&root));
    let (leaf, key) = certificate(&middle, &[HOST], VALID, None);
    let mut config = config(vec![leaf, middle.certificate.clone()], &key);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let server = served(config).await;
    let report = look(&at(&server, roots(&root))).await;
    healthy(&report);
    let tls = &probe_of(&report, "tls").measurements;
    assert_eq!((&tls["tls12"], &tls["tls13"], &tls["http11"]), (&true.into(), &true.into(), &true.into()));
    assert_eq!(tls["names"][0], HOST);
    assert_eq!(report.doctor_exit_code(true), 0);
}

#[tokio::test]
async fn dates() {
    // tls.expired tls.not-yet-valid
    let root = authority("Test root", None);
    for (days, id, severity) in [
        ((-90, -3), "tls.expired", Severity::Problem),
        ((-90, 10), "tls.expired", Severity::Warning),
        ((5, 90), "tls.not-yet-valid", Severity::Problem),
    ] {
        let (leaf, key) = certificate(&root, &[HOST], days, None);
        let server = served(config(vec![leaf], &key)).await;
        let report = look_with(&at(&server, roots(&root)), &["tls", "handshake"]).await;
        assert_eq!(ids(&report), [id], "{days:?}");
        assert_eq!(proven(&report, id).severity, severity);
        // What cannot be opened is not tried; a warning stops nothing.
        let skipped = severity == Severity::Problem;
        assert_eq!(
            probe_of(&report, "handshake").result == tidegate_doctor::report::ProbeResult::Skipped,
            skipped
        );
    }
}

#[tokio::test]
async fn a_wrong_clock_is_not_the_certificate() {
    // clock.client
    let root = authority("Test root", None);
    let (leaf, key) = certificate(&root, &[HOST], VALID, None);
    let server = serve_on("127.0.0.1:0", Some(acceptor(config(vec![leaf], &key))), |_| {
        answer("404 Not Found", &date(0), "")
    })
    .await;
    let mut options = at(&server, roots(&root));
    options.surroundings.clock_offset_ms = -400 * 86_400_000;
    let report = look_with(&options, &["tls"]).await;
    assert_eq!(ids(&report), ["clock.client"]);
    assert_eq!(proven(&report, "clock.client").severity, Severity::Problem);
}

#[tokio::test]
async fn another_name() {
    // tls.hostname-mismatch
    let root = authority("Test root", None);
    let (leaf, key) = certificate(&root, &["www.example.test", "*.other.test"], VALID, None);
    let server = served(config(vec![leaf], &key)).await;
    let report = look_with(&at(&server, roots(&root)), &["tls"]).await;
    assert_eq!(ids(&report), ["tls.hostname-mismatch"]);
    assert_eq!(proven(&report, "tls.hostname-mismatch").evidence[0].facts["names"][0], "www.example.test");
}

#[tokio::test]
async fn a_fallback_certificate() {
    // tls.not-issued
    let own = authority("TRAEFIK DEFAULT CERT", None);
    let (leaf, key) = certificate(&own, &["0123456789.traefik.default"], VALID, None);
    let (leaf2, key2) = {
        let mut params = CertificateParams::new(vec!["0123.traefik.default".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "TRAEFIK DEFAULT CERT");
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().der().clone(), key)
    };
    drop((leaf, key));
    let server = served(config(vec![leaf2], &key2)).await;
    let report = look_with(&at(&server, RootCertStore::empty()), &["tls"]).await;
    assert_eq!(ids(&report), ["tls.not-issued"]);
    proven(&report, "tls.not-issued");
}

#[tokio::test]
async fn nobody_who_is_trusted_signed_it() {
    // tls.self-signed
    let root = authority("Somebody", None);
    let (leaf, key) = certificate(&root, &[HOST], VALID, None);
    let with_root = served(config(vec![leaf, root.certificate.clone()], &key)).await;
    let alone = {
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, HOST);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        served(config(vec![certificate], &key)).await
    };
    for server in [&with_root, &alone] {
        let report = look_with(&at(server, roots(&authority("Another root", None))), &["tls"]).await;
        assert_eq!(ids(&report), ["tls.self-signed"]);
        proven(&report, "tls.self-signed");
    }
    healthy(&look_with(&at(&with_root, roots(&root)), &["tls"]).await);
}

#[tokio::test]
async fn an_intermediate_is_missing() {
    // tls.incomplete-chain
    let root = authority("Test root", None);
    let middle = authority("Test intermediate", Some(&root));
    let pem = {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(&middle.certificate);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    let store = serve(move |_| answer("200 OK", "Content-Type: application/x-pem-file\r\n", &pem)).await;
    // id-pe-authorityInfoAccess with one id-ad-caIssuers. Source: RFC 5280, section 4.2.2.1.
    let url = format!("http://{}/ca.pem", store.address);
    let mut description = vec![0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 2, 0x86, url.len() as u8];
    description.extend_from_slice(url.as_bytes());
    let mut content = vec![0x30, description.len() as u8 + 2, 0x30, description.len() as u8];
    content.extend_from_slice(&description);
    let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content);
    let (leaf, key) = certificate(&middle, &[HOST], VALID, Some(extension));
    let server = served(config(vec![leaf], &key)).await;
    let report = look_with(&at(&server, roots(&root)), &["tls"]).await;
    assert_eq!(ids(&report), ["tls.incomplete-chain"]);
    proven(&report, "tls.incomplete-chain");

    // Without an address to fetch it from, nobody can tell which of the two it is.
    let (leaf, key) = certificate(&middle, &[HOST], VALID, None);
    let server = served(config(vec![leaf], &key)).await;
    let report = look_with(&at(&server, roots(&root)), &["tls"]).await;
    assert_eq!(finding(&report, "tls.self-signed").confidence, Confidence::Likely);
    assert_eq!(finding(&report, "tls.incomplete-chain").confidence, Confidence::Possible);
}

#[tokio::test]
async fn no_version_in_common() {
    // tls.no-common-version: a server that answers with the alert for it. Source: RFC 8446, section 6.
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 4096];
            let _ = stream.read(&mut hello).await;
            let _ = stream.write_all(&[0x15, 3, 1, 0, 2, 2, 70]).await;
        }
    });
    let report = look_with(&options(&format!("wss://{address}/chat")), &["tls"]).await;
    assert_eq!(ids(&report), ["tls.no-common-version"]);
    proven(&report, "tls.no-common-version");
    server.abort();
}

/// Two certificates: one for a name, one for everybody else.
#[derive(Debug)]
struct ByName {
    named: Arc<CertifiedKey>,
    fallback: Arc<CertifiedKey>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(if hello.server_name() == Some(HOST) { self.named.clone() } else { self.fallback.clone() })
    }
}

#[tokio::test]
async fn an_address_has_no_server_name() {
    // tls.no-sni
    let root = authority("Test root", None);
    let certified = |names: &[&str]| {
        let (leaf, key) = certificate(&root, names, VALID, None);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        Arc::new(CertifiedKey::new(vec![leaf], key))
    };
    let resolver = ByName { named: certified(&[HOST]), fallback: certified(&["default.example.test"]) };
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    let server = served(config).await;
    let mut options = at(&server, roots(&root));
    let report = look_with(&options, &["tls"]).await;
    healthy(&report);
    assert_eq!(probe_of(&report, "tls").measurements["withoutServerName"], "another certificate");
    options.url = format!("wss://{}/chat", server.address);
    let report = look_with(&options, &["tls"]).await;
    proven(&report, "tls.no-sni");
    proven(&report, "tls.hostname-mismatch");
}

#[tokio::test]
async fn the_wrong_kind_of_port() {
    // handshake.tls-on-plain handshake.plain-on-tls
    let plain = serve(tidegate).await;
    let report = look(&options(&format!("wss://{}/chat", plain.address))).await;
    assert_eq!(ids(&report), ["handshake.tls-on-plain"]);
    assert!(proven(&report, "handshake.tls-on-plain").next[0].contains("ws://"));

    let (acceptor, _) = trusted(&[HOST]);
    let encrypted = serve_on("127.0.0.1:0", Some(acceptor), tidegate).await;
    let report = look(&options(&encrypted.url("/chat"))).await;
    assert_eq!(ids(&report), ["handshake.plain-on-tls"]);
    assert!(proven(&report, "handshake.plain-on-tls").next[0].contains("wss://"));
}

#[tokio::test]
async fn only_http2() {
    // proxy.h2-only: a server that chooses h2, refuses http/1.1, and whose settings lack extended CONNECT.
    use tokio::io::AsyncWriteExt as _;
    let root = authority("Test root", None);
    let (leaf, key) = certificate(&root, &[HOST], VALID, None);
    let mut config = config(vec![leaf], &key);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = acceptor(config);
    for (settings, expected) in [
        (&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &["proxy.h2-only"][..]),
        (&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1], &[]),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = acceptor.clone();
        let settings = settings.to_vec();
        let server = tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.write_all(&settings).await;
                    open.push(stream);
                }
            }
        });
        let mut options = options(&format!("wss://{HOST}:{port}/chat"));
        options.resolve = vec![Resolve { host: HOST.to_owned(), port, address: Ipv4Addr::LOCALHOST.into() }];
        options.roots = Arc::new(roots(&root));
        assert_eq!(ids(&look_with(&options, &["tls"]).await), expected);
        server.abort();
    }
}

#[tokio::test]
async fn an_inspecting_program() {
    // proxy.inspection
    let root = authority("Avast Web/Mail Shield Root", None);
    let (leaf, key) = certificate(&root, &[HOST], VALID, None);
    let server = served(config(vec![leaf], &key)).await;
    let report = look_with(&at(&server, roots(&root)), &["tls"]).await;
    assert_eq!(ids(&report), ["proxy.inspection"]);
    // The issuer alone makes it likely; an altered message proves it (messages.rs).
    assert_eq!(report.findings[0].confidence, Confidence::Likely);
}
