//! A server that also listens with TLS, and clients that trust its certificates.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Backend, TestServer, free_port, within};

/// A server on two addresses: `http` for the harness, and `https`.
pub(crate) struct TlsServer {
    pub(crate) server: TestServer,
    pub(crate) address: SocketAddr,
    pub(crate) files: TempDir,
}

impl TlsServer {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self::start_on(Backend::Memory, "", flags).await
    }

    /// A server whose https address has this option.
    pub(crate) async fn start_on(backend: Backend, option: &str, flags: &[&str]) -> Self {
        let files = TempDir::new().unwrap();
        write_pair(files.path(), "first", &["localhost", "127.0.0.1"]);
        let [certificate, key] = paths(files.path(), "first");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let bind = format!("https://{address}{option}");
        let tls = [
            "--bind",
            &bind,
            "--tls-cert",
            &certificate,
            "--tls-key",
            &key,
        ];
        let server = TestServer::start_with(backend, &[&tls[..], flags].concat()).await;
        Self {
            server,
            address,
            files,
        }
    }

    /// The file of the certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.files.path().join("first.pem")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// A connection without TLS.
    pub(crate) async fn connect_plain(&self) -> TcpStream {
        self.connect_from(Ipv4Addr::LOCALHOST).await
    }

    /// A connection without TLS from another address of this machine, which is another client.
    pub(crate) async fn connect_from(&self, client: Ipv4Addr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((IpAddr::from(client), 0).into()).unwrap();
        within("a connection", socket.connect(self.address))
            .await
            .unwrap()
    }

    /// A connection without TLS whose client has little room for what it does not read.
    pub(crate) async fn connect_small(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(2048).unwrap();
        within("a connection", socket.connect(self.address))
            .await
            .unwrap()
    }

    /// A connection with TLS.
    pub(crate) async fn connect(&self) -> TlsStream<TcpStream> {
        self.connect_with(client_settings(&self.certificate(), rustls::ALL_VERSIONS))
            .await
            .unwrap()
    }

    pub(crate) async fn connect_with(
        &self,
        settings: Arc<ClientConfig>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = self.connect_plain().await;
        handshake(tcp, settings, "localhost").await
    }
}

/// Runs the handshake of a client that requests `name`.
pub(crate) async fn handshake(
    tcp: TcpStream,
    settings: Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = TlsConnector::from(settings);
    within("a handshake", connector.connect(name, tcp)).await
}

/// Settings of a client that trusts one certificate.
pub(crate) fn client_settings(
    certificate: &Path,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(certificate).unwrap())
        .unwrap();
    let provider = Arc::new(ring::default_provider());
    let settings = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap();
    Arc::new(settings.with_root_certificates(roots).with_no_client_auth())
}

/// Writes a new certificate with its key. Files that exist are replaced, as certbot does.
pub(crate) fn write_pair(directory: &Path, file: &str, names: &[&str]) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let pair = rcgen::generate_simple_self_signed(names).unwrap();
    let [certificate, key] = paths(directory, file);
    replace(&certificate, &pair.cert.pem());
    replace(&key, &pair.signing_key.serialize_pem());
}

/// Replaces a file at once.
pub(crate) fn replace(path: &str, contents: &str) {
    let directory = Path::new(path).parent().unwrap();
    let mut new = tempfile::NamedTempFile::new_in(directory).unwrap();
    new.write_all(contents.as_bytes()).unwrap();
    fs::rename(new.path(), path).unwrap();
    // Its file has another name now.
    let _ = new.keep();
}

/// The paths of a certificate and its key.
pub(crate) fn paths(directory: &Path, file: &str) -> [String; 2] {
    ["pem", "key"].map(|kind| {
        directory
            .join(format!("{file}.{kind}"))
            .display()
            .to_string()
    })
}
