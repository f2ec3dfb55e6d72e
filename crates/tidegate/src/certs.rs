//! A local CA and certificates, for programs that insist on a fixed `https://` address.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// The files that were made or were there already.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    names: Vec<String>,
}

impl Made {
    /// What to do with the files.
    pub(crate) fn instructions(&self) -> String {
        format!(
            "CA           {}\nCertificate  {}\nKey          {}\nNames        {}\n\nLet AWS clients trust it:\n\n  export AWS_CA_BUNDLE={}\n",
            self.ca.display(),
            self.certificate.display(),
            self.key.display(),
            self.names.join(", "),
            self.ca.display()
        )
    }
}

/// Makes the CA once, and a certificate for the fixed push address of AWS clients, loopback and `names`.
pub(crate) fn make(data_dir: &Path, region: &str, names: &[String]) -> anyhow::Result<Made> {
    let folder = data_dir.join("certs");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let (ca, ca_key) = (folder.join("ca.pem"), folder.join("ca.key"));
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Tidegate local CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let issuer = if ca.exists() && ca_key.exists() {
        // Name and key make the issuer; both are those of the first time, so the CA that clients trust stays.
        let key = std::fs::read_to_string(&ca_key).with_context(|| format!("read {}", ca_key.display()))?;
        Issuer::new(params, KeyPair::from_pem(&key).context("read the CA's key")?)
    } else {
        let key = KeyPair::generate().context("make the CA's key")?;
        let certificate = params.self_signed(&key).context("sign the CA")?;
        write_secret(&ca_key, &key.serialize_pem())?;
        std::fs::write(&ca, certificate.pem()).with_context(|| format!("write {}", ca.display()))?;
        Issuer::new(params, key)
    };
    let mut all: Vec<String> =
        ["localhost".to_owned(), "127.0.0.1".to_owned(), format!("*.execute-api.{region}.amazonaws.com")]
            .into();
    all.push("*.localhost".to_owned());
    all.extend(names.iter().cloned());
    let key = KeyPair::generate().context("make the certificate's key")?;
    let mut params = CertificateParams::new(all.clone()).context("names of the certificate")?;
    params.distinguished_name.push(DnType::CommonName, "Tidegate");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer).context("sign the certificate")?;
    let made =
        Made { ca, certificate: folder.join("tidegate.pem"), key: folder.join("tidegate.key"), names: all };
    write_secret(&made.key, &key.serialize_pem())?;
    std::fs::write(&made.certificate, certificate.pem())
        .with_context(|| format!("write {}", made.certificate.display()))?;
    Ok(made)
}

/// A file that only its owner reads, from its first byte on.
fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    // An existing file keeps its permissions, so it goes first.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("replace {}", path.display()));
        }
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("create {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))
}

/// All certificates of a file.
pub(crate) fn read_chain(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .with_context(|| format!("read the certificates {}", file.display()))?;
    anyhow::ensure!(!chain.is_empty(), "no certificate is in {}", file.display());
    Ok(chain)
}

/// Whom the system trusts.
pub(crate) fn system_roots() -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// TLS towards others: the system's certificates, and those of `extra`.
pub(crate) fn client_config(extra: Option<&Path>) -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = system_roots();
    if let Some(path) = extra {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .with_context(|| format!("read the certificates {}", path.display()))?;
        roots.add_parsable_certificates(certificates);
    }
    Ok(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
