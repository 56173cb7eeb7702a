//! TLS to Redis and to sentinels.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore,
    client::WantsClientCert,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_rustls::TlsConnector;

use super::login::TlsFiles;

/// Prepares TLS with the certificates of `files`.
///
/// # Errors
///
/// Which file cannot be used, and why.
pub(super) fn connector(files: &TlsFiles) -> Result<TlsConnector, String> {
    let config = with_client_certificate(with_trust(files.ca.as_deref())?, files)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

type Builder = ConfigBuilder<ClientConfig, WantsClientCert>;

/// Trusts the certificates in `ca`, or those of the system.
fn with_trust(ca: Option<&Path>) -> Result<Builder, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let Some(ca) = ca else {
        let trusted = builder.with_platform_verifier();
        return trusted.map_err(|error| {
            format!("the certificates of the system cannot be used ({error}); give --redis-ca")
        });
    };
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(ca, "--redis-ca")? {
        roots
            .add(certificate)
            .map_err(|error| format!("--redis-ca {}: {error}", ca.display()))?;
    }
    Ok(builder.with_root_certificates(roots))
}

fn with_client_certificate(builder: Builder, files: &TlsFiles) -> Result<ClientConfig, String> {
    let (certificate, key) = match (&files.certificate, &files.key) {
        (None, None) => return Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => (certificate, key),
        _ => {
            return Err("give both --redis-cert and --redis-key, or neither of them".to_owned());
        }
    };
    let chain = read_certificates(certificate, "--redis-cert")?;
    let private_key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
        format!(
            "--redis-key {}: no private key in PEM that is not encrypted ({error})",
            key.display()
        )
    })?;
    builder
        .with_client_auth_cert(chain, private_key)
        .map_err(|error| format!("--redis-cert {}: {error}", certificate.display()))
}

fn read_certificates(path: &Path, flag: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error: &dyn std::fmt::Display| {
        format!(
            "{flag} {}: {error}; give a file in PEM (-----BEGIN CERTIFICATE-----)",
            path.display()
        )
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(&error))?;
    if certificates.is_empty() {
        return Err(failed(&"it has no certificate"));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(path("certificate"), pair.cert.pem()).unwrap();
        std::fs::write(path("key"), pair.signing_key.serialize_pem()).unwrap();
        std::fs::write(path("other"), "nothing").unwrap();
        let files = |ca: Option<&str>, certificate: Option<&str>, key: Option<&str>| TlsFiles {
            ca: ca.map(path),
            certificate: certificate.map(path),
            key: key.map(path),
        };
        let certificate = Some("certificate");
        assert!(connector(&files(certificate, certificate, Some("key"))).is_ok());
        for (bad, named) in [
            (files(Some("other"), None, None), "--redis-ca"),
            (files(Some("absent"), None, None), "--redis-ca"),
            (files(certificate, certificate, None), "--redis-key"),
            (
                files(certificate, Some("other"), Some("key")),
                "--redis-cert",
            ),
            (
                files(certificate, certificate, Some("other")),
                "--redis-key",
            ),
        ] {
            let error = connector(&bad).err().unwrap();
            assert!(error.contains(named), "{error}");
        }
    }
}
