//! Which certificate a client gets.

use std::fs;

use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;

use super::*;
use crate::tls::test_support::{TestConnection, certificates, provider, write_pair};

/// Returns whether a client that requests `name` gets the certificate in these files.
fn gets(certificates: &Certificates, name: &str, files: &CertificateFiles) -> bool {
    [&TLS12, &TLS13].iter().all(|version| {
        let mut connection = TestConnection::new(certificates, name, version);
        // The client may reject the certificate, after it has seen it.
        let is_accepted = connection.exchange().is_ok();
        let sent = connection.client.peer_certificates();
        let expected = Certificate::load(files, &provider()).unwrap();
        assert!(is_accepted, "{name}");
        sent.and_then(<[_]>::first) == expected.key.cert.first()
    })
}

#[test]
fn a_client_gets_the_certificate_of_the_name_that_it_requests() {
    let directory = TempDir::new().unwrap();
    let certificates = certificates(&directory, &["a.example", "*.b.example"]);
    let files: Vec<_> = certificates.files().cloned().collect();
    assert!(gets(&certificates, "a.example", &files[0]));
    assert!(gets(&certificates, "x.b.example", &files[1]));
    assert!(!gets(&certificates, "x.b.example", &files[0]));
    // A foreign name gets the first pair, and the client decides.
    let mut connection = TestConnection::new(&certificates, "c.example", &TLS13);
    let error = connection.exchange().unwrap_err();
    assert!(
        matches!(error, rustls::Error::InvalidCertificate(_)),
        "{error}"
    );
}

#[test]
fn a_changed_pair_is_used_only_if_its_files_belong_together() {
    let directory = TempDir::new().unwrap();
    let certificates = certificates(&directory, &["a.example"]);
    let files = certificates.files().next().cloned().unwrap();
    let current = || certificates.0.pairs[0].current.load_full();
    let old = current();

    let other = write_pair(&directory.path().join(""), "b.example");
    fs::copy(&other.certificate, &files.certificate).unwrap();
    let error = certificates.reload(0).unwrap_err();
    assert!(matches!(error, CertificateError::Mismatch(_)), "{error}");
    fs::write(&files.certificate, "").unwrap();
    let error = certificates.reload(0).unwrap_err();
    assert!(
        matches!(error, CertificateError::NoCertificate(_)),
        "{error}"
    );
    fs::copy(&other.certificate, &files.certificate).unwrap();
    fs::write(&files.key, "-----BEGIN NONSENSE-----").unwrap();
    let error = certificates.reload(0).unwrap_err();
    assert!(matches!(error, CertificateError::NoKey(_)), "{error}");
    assert!(Arc::ptr_eq(&old, &current()));

    fs::copy(&other.key, &files.key).unwrap();
    certificates.reload(0).unwrap();
    assert!(!Arc::ptr_eq(&old, &current()));
    let expiry = current().expires_s.unwrap();
    let metrics = certificates.0.metrics.render();
    let metric = format!("sse_tls_certificate_expiry_timestamp_seconds {expiry}\n");
    assert!(metrics.contains(&metric), "{metric} in {metrics}");
}
