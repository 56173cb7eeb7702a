//! Who may send a request.

pub(crate) mod cors;
