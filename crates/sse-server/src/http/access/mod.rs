//! Who may send a request.

pub(crate) mod caller;
pub(crate) mod cors;
