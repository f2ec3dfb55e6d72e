//! What the address of a server says of TLS, in the words of libpq: `sslmode` and `sslrootcert`.
//!
//! `prefer`, which is the default, takes TLS where the server has it and `require` insists on it; neither looks at who the
//! server is. `verify-ca` demands that the certificate was signed by somebody who is trusted, and `verify-full` that it is
//! for the name in the address, too. With `sslrootcert` those in the file are trusted and nobody else, and `require` is
//! `verify-ca`.
//! Source: PostgreSQL documentation, "SSL Support" of libpq.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;

/// What servers are told that speak TLS from the first byte on. Source: PostgreSQL documentation, "SSL Session Encryption".
const ALPN: &[u8] = b"postgresql";

/// Why an address cannot be used. Says nothing of what else is in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum AddressError {
    /// The parser's own words may quote the address.
    #[error("the address is not one of PostgreSQL, or has a parameter that is not known")]
    Unreadable,
    #[error("sslmode is disable, prefer, require, verify-ca or verify-full")]
    Mode,
    #[error("read the certificates of sslrootcert, {path}: {why}")]
    RootFile { path: String, why: String },
    #[error("sslmode={0} has nobody to trust: name a file of certificates with sslrootcert")]
    NobodyTrusted(&'static str),
    #[error("TLS cannot be used")]
    Tls(#[source] Error),
}

/// How much is demanded of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    Nothing,
    /// A certificate of somebody who is trusted.
    Signed,
    /// For this name, too.
    Named,
}

/// The TLS of an address.
pub(super) struct Tls {
    /// For the rest of the address.
    pub(super) mode: SslMode,
    /// Nothing where there is to be none.
    pub(super) config: Option<ClientConfig>,
}

/// Takes `sslmode` and `sslrootcert` out of an address; gives the rest and what they say. `system` are trusted where no file
/// is named, or the file is `system`.
pub(super) fn read(address: &str, system: &RootCertStore) -> Result<(String, Tls), AddressError> {
    let (rest, found) = take_parameters(address)?;
    let file = found.root_file.filter(|file| file != "system");
    let (mode, mut demand) = match found.mode.as_deref() {
        Some("disable") => return Ok((rest, Tls { mode: SslMode::Disable, config: None })),
        None | Some("prefer") => (SslMode::Prefer, Demand::Nothing),
        Some("require") => (SslMode::Require, Demand::Nothing),
        Some("verify-ca") => (SslMode::Require, Demand::Signed),
        Some("verify-full") => (SslMode::Require, Demand::Named),
        Some(_) => return Err(AddressError::Mode),
    };
    if file.is_some() && mode == SslMode::Require && demand == Demand::Nothing {
        demand = Demand::Signed;
    }
    let (roots, pinned) = match &file {
        Some(file) if demand != Demand::Nothing => read_roots(file)?,
        _ => (system.clone(), Vec::new()),
    };
    if demand != Demand::Nothing && roots.is_empty() {
        let name = if demand == Demand::Named { "verify-full" } else { "verify-ca" };
        return Err(AddressError::NobodyTrusted(name));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Verifier { demand, roots, pinned, algorithms: provider.signature_verification_algorithms };
    let config = client_config(provider, verifier).map_err(AddressError::Tls)?;
    Ok((rest, Tls { mode, config: Some(config) }))
}

fn client_config(provider: Arc<CryptoProvider>, verifier: Verifier) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn read_roots(file: &str) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), AddressError> {
    let failed = |why: String| AddressError::RootFile { path: file.to_owned(), why };
    let read =
        CertificateDer::pem_file_iter(Path::new(file)).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| failed(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    let (n_used, _) = roots.add_parsable_certificates(certificates.iter().cloned());
    match n_used {
        0 => Err(failed("no certificate is in it".to_owned())),
        _ => Ok((roots, certificates)),
    }
}

/// Looks at a server as the address demands.
#[derive(Debug)]
struct Verifier {
    demand: Demand,
    roots: RootCertStore,
    /// Certificates of the file: a server's own may be among them.
    pinned: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.demand == Demand::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let signed = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        );
        match signed {
            Ok(()) => {}
            // A server that has signed for itself and says that it may sign for others: everything else was found good.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.pinned.iter().any(|pinned| pinned.as_ref() == end_entity.as_ref()) => {}
            Err(error) => return Err(error),
        }
        if self.demand == Demand::Named {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What was in an address.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parameters {
    mode: Option<String>,
    root_file: Option<String>,
}

impl Parameters {
    /// False: it is none of these.
    fn take(&mut self, key: &str, value: Cow<'_, str>) -> bool {
        let place = match key {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.root_file,
            _ => return false,
        };
        *place = Some(value.into_owned()).filter(|value| !value.is_empty());
        true
    }
}

fn take_parameters(address: &str) -> Result<(String, Parameters), AddressError> {
    let is_url = address.starts_with("postgres://") || address.starts_with("postgresql://");
    if is_url { take_from_url(address) } else { take_from_words(address) }
}

/// `postgres://user@host/database?sslmode=require`
fn take_from_url(address: &str) -> Result<(String, Parameters), AddressError> {
    let mut found = Parameters::default();
    let Some((before, query)) = address.split_once('?') else { return Ok((address.to_owned(), found)) };
    let mut rest = String::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value).ok_or(AddressError::Unreadable)?;
        if !found.take(key, value.into()) {
            rest.push(if rest.is_empty() { '?' } else { '&' });
            rest.push_str(pair);
        }
    }
    Ok((format!("{before}{rest}"), found))
}

/// `%2F` as `/`; nothing where that is no text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

/// `host=localhost sslmode = require sslrootcert='/a file'`, with a backslash before what is meant as it is.
fn take_from_words(address: &str) -> Result<(String, Parameters), AddressError> {
    let mut found = Parameters::default();
    let mut rest = String::new();
    let mut left = address.trim_start();
    while !left.is_empty() {
        let (key, behind) = left.split_once('=').ok_or(AddressError::Unreadable)?;
        let behind = behind.trim_start();
        let (value, length) = word(behind).ok_or(AddressError::Unreadable)?;
        let (raw, next) = behind.split_at(length);
        if !found.take(key.trim(), value.into()) {
            rest.push_str(&format!("{}={raw} ", key.trim()));
        }
        left = next.trim_start();
    }
    Ok((rest, found))
}

/// The value at the beginning of a text, and how long it is there; nothing where a quote is not closed.
fn word(text: &str) -> Option<(String, usize)> {
    let is_quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(is_quoted));
    while let Some((at, char)) = chars.next() {
        match char {
            '\'' if is_quoted => return Some((value, at + 1)),
            '\\' => value.push(chars.next()?.1),
            char if !is_quoted && char.is_whitespace() => return Some((value, at)),
            char => value.push(char),
        }
    }
    (!is_quoted).then_some((value, text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(address: &str) -> (String, Option<String>, Option<String>) {
        let (rest, found) = take_parameters(address).unwrap();
        (rest, found.mode, found.root_file)
    }

    #[test]
    fn the_words_of_libpq_are_taken_out_of_an_address() {
        let some = |text: &str| Some(text.to_owned());
        let url = "postgres://u:p%3F@h/d";
        assert_eq!(taken(url), (url.to_owned(), None, None));
        assert_eq!(
            taken(&format!("{url}?sslmode=verify-full&options=-csearch_path%3Da&sslrootcert=%2Fca%20x.pem")),
            (format!("{url}?options=-csearch_path%3Da"), some("verify-full"), some("/ca x.pem"))
        );
        assert_eq!(taken(&format!("{url}?sslmode=")), (url.to_owned(), None, None));
        assert_eq!(
            taken(r"host=/run/p sslmode = require  sslrootcert='/a \'b' password='x y'"),
            ("host=/run/p password='x y' ".to_owned(), some("require"), some("/a 'b"))
        );
        for wrong in ["sslmode", "password='x", "postgres://h?sslrootcert=%4", "postgres://h?a=%zz"] {
            assert!(take_parameters(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_that_says_nonsense_is_refused_without_quoting_it() {
        let told = |address: &str| match read(address, &RootCertStore::empty()) {
            Ok(_) => panic!("{address} is fine"),
            Err(error) => error.to_string(),
        };
        assert!(told("postgres://u:p4ss@h/d?sslmode=allow").contains("verify-full"));
        assert!(told("postgres://u:p4ss@h/d?sslmode=verify-full").contains("sslrootcert"));
        let gone = told("postgres://u:p4ss@h/d?sslmode=require&sslrootcert=/nowhere/ca.pem");
        assert!(gone.contains("/nowhere/ca.pem"), "{gone}");
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "nothing").unwrap();
        let empty = told(&format!("postgres://h?sslmode=verify-ca&sslrootcert={}", empty.display()));
        assert!(empty.contains("no certificate"), "{empty}");
        for error in [gone, empty] {
            assert!(!error.contains("p4ss"));
        }
        // Where nothing is demanded nobody needs to be trusted.
        let (_, tls) = read("postgres://h", &RootCertStore::empty()).unwrap();
        assert!(tls.mode == SslMode::Prefer && tls.config.is_some());
        let (_, tls) = read("postgres://h?sslmode=disable", &RootCertStore::empty()).unwrap();
        assert!(tls.mode == SslMode::Disable && tls.config.is_none());
    }

    /// `openssl req -x509` makes certificates that may sign others: as a server's own they are no chain, and libpq takes them.
    #[test]
    fn a_server_may_sign_for_itself_if_its_certificate_is_in_the_file() {
        let made = || {
            let mut wanted = rcgen::CertificateParams::new(["db.example".to_owned()]).unwrap();
            wanted.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            wanted.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap()
        };
        let (own, other) = (made(), made());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own.pem");
        std::fs::write(&file, own.pem()).unwrap();
        let (roots, pinned) = read_roots(file.to_str().unwrap()).unwrap();
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let verifier = Verifier { demand: Demand::Named, roots, pinned, algorithms };
        let verify = |certificate: &CertificateDer<'_>, name: &'static str, now: UnixTime| {
            let name = ServerName::try_from(name).unwrap();
            verifier.verify_server_cert(certificate, &[], &name, &[], now)
        };
        let now = UnixTime::now();
        assert!(verify(own.der(), "db.example", now).is_ok());
        assert!(verify(own.der(), "other.example", now).is_err());
        assert!(verify(other.der(), "db.example", now).is_err());
        let long_ago = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1));
        assert!(verify(own.der(), "db.example", long_ago).is_err());
    }
}
