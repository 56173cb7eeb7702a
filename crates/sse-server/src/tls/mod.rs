//! TLS: the certificates of the server, and sessions without sockets.
//!
//! A `TlsSession` turns what a client sent into plaintext, and plaintext into records. It belongs
//! to no socket and no runtime, so it moves with its connection from HTTP to a fan-out thread.
//!
//! | file | contents |
//! |---|---|
//! | `certificate` | one certificate with its private key, read from PEM files |
//! | `certificates` | all of them: which one a client gets, and which is replaced |
//! | `validity` | how long certificates can still be used |
//! | `refresh` | reads files again that have changed, and warns before certificates expire |
//! | `server_settings` | how rustls is set up |
//! | `session` | the session of one connection |
//! | `scratch` | buffers that the sessions of a thread share |

mod certificate;
mod certificates;
mod refresh;
mod scratch;
mod server_settings;
mod session;
#[cfg(test)]
pub(crate) mod test_support;
mod validity;

pub use self::{
    certificate::{CertificateError, CertificateFiles},
    certificates::Certificates,
    validity::ExpiryWarning,
};
pub(crate) use self::{
    refresh::refresh_certificates,
    scratch::{RECORD_BYTES, with_scratch},
    server_settings::server_settings,
    session::{SendResult, TlsSession},
};
