//! The promises of the server, each in a file, on every broker, over real sockets.

mod broker_contract;
mod common;
mod faults;
mod limits;
mod requests;
mod resume;
mod settings;
mod shutdown;
mod stream;
