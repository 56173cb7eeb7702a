//! What operators ask of a server and about its machine: `sse-server health`, `check` and `backup`.
//!
//! | file | contents |
//! |---|---|
//! | `backup` | lets a running server copy its log |
//! | `connect` | how a running server is asked |
//! | `health` | asks a running server whether it is ready |
//! | `check` | what will cause trouble with these settings on this machine |
//! | `target` | where that server is |

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod connect;
pub(crate) mod health;
pub(crate) mod target;
