//! What operators ask about a server and its machine: `sse-server health` and `sse-server check`.
//!
//! | file | contents |
//! |---|---|
//! | `health` | asks a running server whether it is ready |
//! | `check` | what will cause trouble with these settings on this machine |
//! | `target` | where that server is |

pub(crate) mod check;
pub(crate) mod health;
pub(crate) mod target;
