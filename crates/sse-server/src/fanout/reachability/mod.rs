//! Closes the streams of clients that vanished from the network.
//!
//! A client whose network is gone sends neither data nor a reset. The server's kernel repeats what
//! the client does not acknowledge, and closes the connection after the TCP user timeout. This
//! timeout must be long, because Linux also applies it to a slow client that answers every probe of
//! its closed window. So a thread asks the kernel about each connection, to distinguish the two:
//!
//! ```text
//!          sock_diag                                       cookies
//!  kernel ───────────► sweep ──► suspects ──► verdict ──► ┬───────► mailbox ► reactor/unreachable
//!                     (list)    (earlier                  └───────► attached_sockets
//!                                sweeps)
//! ```
//!
//! The list has all connections of the listening port. A verdict about a connection that carries no
//! stream has no effect. If the kernel does not answer, the sweep logs one warning, and the user
//! timeout remains.
//!
//! # How long it takes
//!
//! `W` is `--write-timeout`, and two sweeps are at most `PAUSE_MAX` apart. Data that a client does
//! not acknowledge are sent again, usually within a second. The next sweep makes the client a
//! suspect, and the first sweep after `W` more closes the stream: `W` and a minute at most. With a
//! closed window, two probes must be unanswered too, which are up to two minutes apart.
//!
//! # What it costs
//!
//! The kernel looks at each socket of the machine, and copies 400 bytes per connection of the port.
//! The pause after a sweep is `PAUSE_FACTOR` times as long as the sweep, within limits.

mod kernel;
mod suspects;
mod sweep;
mod verdict;

pub use sweep::{SweepTargets, Sweeper};
