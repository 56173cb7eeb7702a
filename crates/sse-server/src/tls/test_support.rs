//! Certificates and clients for unit tests.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tempfile::TempDir;

use super::{CertificateFiles, Certificates, TlsSession, server_settings};
use crate::metrics::Metrics;

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Writes a new certificate for `name`, with its key.
pub(crate) fn write_pair(directory: &Path, name: &str) -> CertificateFiles {
    let pair = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let files = CertificateFiles {
        certificate: directory.join(format!("{name}.pem")),
        key: directory.join(format!("{name}.key")),
    };
    fs::write(&files.certificate, pair.cert.pem()).unwrap();
    fs::write(&files.key, pair.signing_key.serialize_pem()).unwrap();
    files
}

/// Loads certificates for these names.
pub(crate) fn certificates(directory: &TempDir, names: &[&str]) -> Certificates {
    let files = names.iter().map(|name| write_pair(directory.path(), name));
    let files: Vec<_> = files.collect();
    Certificates::load(&files, provider(), Metrics::new()).unwrap()
}

/// Returns settings of a client that trusts the certificates of all `files`.
fn client_settings<'a>(
    files: impl IntoIterator<Item = &'a CertificateFiles>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for files in files {
        roots
            .add(CertificateDer::from_pem_file(&files.certificate).unwrap())
            .unwrap();
    }
    let settings = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap();
    Arc::new(settings.with_root_certificates(roots).with_no_client_auth())
}

/// A client and the session of the server, whose sockets are two buffers.
pub(crate) struct TestConnection {
    pub(crate) client: ClientConnection,
    pub(crate) server: TlsSession,
    /// What the server received.
    pub(crate) received: Vec<u8>,
}

impl TestConnection {
    /// Connects without a handshake. The client requests `name`.
    pub(crate) fn new(
        certificates: &Certificates,
        name: &str,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        let settings: Arc<ServerConfig> =
            server_settings(certificates.clone(), provider(), &[b"http/1.1"]).unwrap();
        let client = client_settings(certificates.files(), version);
        Self {
            client: ClientConnection::new(client, name.to_owned().try_into().unwrap()).unwrap(),
            server: TlsSession::new(settings).unwrap(),
            received: Vec::new(),
        }
    }

    /// Exchanges messages until both sides have nothing to send.
    pub(crate) fn exchange(&mut self) -> Result<(), rustls::Error> {
        loop {
            let mut to_server = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut to_server).unwrap();
            }
            let received = &mut self.received;
            self.server.receive(&mut to_server, &mut |bytes| {
                received.extend_from_slice(bytes);
            })?;
            let is_silent = to_server.is_empty() && !self.server.wants_write();
            self.deliver_to_client()?;
            if is_silent {
                return Ok(());
            }
        }
    }

    /// Lets the client read all that the server sends.
    fn deliver_to_client(&mut self) -> Result<(), rustls::Error> {
        let mut bytes = Vec::new();
        self.server.flush(&mut collect(&mut bytes)).unwrap();
        self.client_reads(&bytes)
    }

    /// Lets the client read encrypted bytes.
    pub(crate) fn client_reads(&mut self, mut bytes: &[u8]) -> Result<(), rustls::Error> {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            self.client.process_new_packets()?;
        }
        Ok(())
    }
}

/// A socket that accepts everything.
pub(crate) fn collect(
    bytes: &mut Vec<u8>,
) -> impl FnMut(&[u8]) -> std::io::Result<Option<usize>> + use<'_> {
    |more| {
        bytes.extend_from_slice(more);
        Ok(Some(more.len()))
    }
}
