//! Code that the command lines of `sse-server`, `listener` and `event-generator` share.
//!
//! Nothing here knows an event stream: these are the parts of a command line and of its process.
//! It contains no server code, and depends on no other crate of the workspace.
//!
//! | module | contents |
//! |---|---|
//! | [`backoff`] | pauses that double up to a limit (pure) |
//! | [`environment`] | variables that are probably mistyped |
//! | [`log_throttle`] | how often a condition that repeats is logged (pure) |
//! | [`loopback`] | whether an address or a URL is of this machine (pure) |
//! | [`manual`] | man pages |
//! | [`number`] | whole numbers in a range (pure) |
//! | [`open_files`] | the process's limit of open files |
//! | [`private_file`] | files for their owner only, never through a link |
//! | [`short_help`] | the flags in `-h` |
//! | [`switch`] | the values of a flag that is on or off (pure) |
//!
//! The feature `client` adds what only the clients need:
//!
//! | module | contents |
//! |---|---|
//! | [`authorization`] | at most one flag may set `Authorization` (pure) |
//! | [`header`] | the values of `--header` and `--bearer` (pure) |
//! | [`proxy`] | the proxy that the environment sets for a server |
//! | [`record_file`] | a file with one JSON object per line |
//! | [`retry_after`] | the header `Retry-After` (pure) |
//! | [`secret`] | values that no error message may quote (pure) |
//! | [`signals`] | Ctrl-C and SIGTERM |
//! | [`stderr`] | messages for people |
//! | [`terminal`] | control characters made visible (pure) |
//! | [`tls`] | the certificates to trust, and errors of a handshake |
//! | [`tls_client`] | TLS of a client that uses rustls without reqwest |

pub mod backoff;
pub mod environment;
pub mod log_throttle;
pub mod loopback;
pub mod manual;
pub mod number;
pub mod open_files;
pub mod private_file;
pub mod short_help;
pub mod switch;

#[cfg(feature = "client")]
pub mod authorization;
#[cfg(feature = "client")]
pub mod header;
#[cfg(feature = "client")]
pub mod proxy;
#[cfg(feature = "client")]
pub mod record_file;
#[cfg(feature = "client")]
pub mod retry_after;
#[cfg(feature = "client")]
pub mod secret;
#[cfg(feature = "client")]
pub mod signals;
#[cfg(feature = "client")]
pub mod stderr;
#[cfg(feature = "client")]
pub mod terminal;
#[cfg(feature = "client")]
pub mod tls;
#[cfg(feature = "client")]
pub mod tls_client;
