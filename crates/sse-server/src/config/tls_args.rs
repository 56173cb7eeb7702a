//! The flags about TLS.

use std::path::PathBuf;

use clap::Args;

/// The flags about TLS.
#[derive(Args)]
pub(super) struct TlsArgs {
    /// Use this certificate on https addresses: a PEM file that also contains the intermediate
    /// certificates
    ///
    /// The file and that of --tls-key are read again when they change. Further certificates, which
    /// are chosen by the name that the client requests, are tables [[tls]] of the configuration
    /// file.
    #[arg(long, env = "SSE_TLS_CERT", value_name = "FILE")]
    pub(super) tls_cert: Option<PathBuf>,

    /// Use this private key for the certificate of --tls-cert: a PEM file
    #[arg(long, env = "SSE_TLS_KEY", value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,
}
