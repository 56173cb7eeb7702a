//! The server's guarantees, tested over real sockets against real server processes.
//!
//! Most cases run on every broker (`on_every_broker!`). The target `attached` runs the files that
//! are marked with (a) a second time with `--fanout-threads 0`.
//!
//! | file | what it tests |
//! |---|---|
//! | `access` (a) | Each caller gets what its rights allow, over both versions of HTTP and on open streams. |
//! | `access_log` (a) | Each request and the end of each stream has a line, and a log that cannot be written delays no request. |
//! | `backup` | A copy is whole or does not exist, and readers that cross a restore get a gap. |
//! | `batch_channels` | A batch for several channels stores the lines of each all or none. |
//! | `blocked` (a) | Slow streams share a bound of memory, and one that is closed loses nothing. |
//! | `broken_stderr` | A log that cannot be written costs lines and nothing else. |
//! | `broker_contract` | The contract of `broker/mod.rs` holds on every broker, without HTTP. |
//! | `channels` | Channels are listed, configured, closed and deleted, and each stream gets the end once. |
//! | `check` | `sse-server check` finds what will cause trouble, and writes nothing. |
//! | `client_shares` | A client that takes what it can get of a limit leaves a part for others. |
//! | `common` | The harness: servers, Redis, a TCP proxy and a subscriber that reads the wire. |
//! | `compressing_proxy` | A proxy that compresses streams does not hold back a part of an event. |
//! | `copy` | A log is copied to Redis with its ids, and readers resume there. |
//! | `contrib` | The alerts and the dashboard name metrics that a server has. |
//! | `connections` | Slow, idle or too many connections are closed, and other clients notice nothing. |
//! | `drain` (a) | Before a stop, streams end one after another, and their clients lose nothing. |
//! | `data_profile` (a) | A stream of data only has `[DONE]` and statuses in place of events. |
//! | `damaged` (a) | A damaged log file costs only the damaged events, and a gap reports them. |
//! | `dashboard` | The dashboard is for its operator only, and its feed shows what happens. |
//! | `failover` (a) | A wiped or shortened log is reported to each subscriber that it affects. |
//! | `fanout` (a) | A slow, stalled or talkative client does not affect the other streams. |
//! | `faults` (a) | Acknowledged events survive crashes and outages, and the server recovers. |
//! | `flask_sse` | Messages of Flask-SSE and events cross once each, whatever happens to a node. |
//! | `footprint` (a) | Memory and open files stay bounded under load. |
//! | `health` | `sse-server health` asks a server over TCP, TLS and a unix socket. |
//! | `http2` | Streams and publishes share a connection, and have the responses of HTTP/1. |
//! | `http2_floods` | Hostile frames take bounded memory. |
//! | `idempotency` | A publish that is sent again with its key is stored once. |
//! | `lifecycle_contract` | Conditions, the end, deletion, settings and expiry of channels, without HTTP. |
//! | `limits` (a) | Each limit (history, channels, connections) has its documented effect. |
//! | `listen` | Each of several addresses is announced and serves the same channels. |
//! | `listen_unix` (a) | HTTP over a unix socket is HTTP over TCP, and its file is never in the way. |
//! | `lost_tail` (a) | Events that a Redis failover lost are reported by a `lost-tail` gap. |
//! | `metrics_formats` | `/metrics` has every documented metric from the start, in two valid formats. |
//! | `multi_channel` (a) | A stream of several channels is exact in each channel. |
//! | `multi_history` | The history of several channels is in order, and leads to their stream. |
//! | `notices` (a) | A stream reports about itself to clients that ask for it. |
//! | `protocol_errors` | Clients that do not speak HTTP are logged with their address, once. |
//! | `proxy_header` | A PROXY header names the client where it is required, and nowhere else. |
//! | `quotas` | A client that exceeds a limit of its own waits, and other clients notice nothing. |
//! | `redis_connection` | Silent and broken connections to Redis are detected and replaced. |
//! | `redis_errors` | Errors that Redis returns (full, replica) never become a 500. |
//! | `redis_foreign` | Entries of other programs in Redis forge nothing, and cost only a gap. |
//! | `redis_maintenance` | One node at a time trims and expires channels, and only when they are due. |
//! | `redis_overload` | Many channels, outages and endless replies delay no publish and take bounded memory. |
//! | `redis_rejections` | Each error reply of a real Redis has the response of the table. |
//! | `redis_setup` | Redis settings that can lose events are reported as warnings. |
//! | `redis_tls` | A Redis that requires TLS and certificates is used, and a wrong certificate is not. |
//! | `redis_wait` | A publish is acknowledged when a replica has it. |
//! | `requests` | Valid publish requests are stored as sent; invalid ones are rejected with help. |
//! | `resume` (a) | A client that resumes by `Last-Event-ID` gets each event once. |
//! | `searches` | Searches of one client delay no other client. |
//! | `sentinel` | A planned failover loses nothing, and after any other publishing continues. |
//! | `service_manager` | The service manager learns each step of the server, and its sockets are used. |
//! | `settings` | A wrong flag or variable ends the server with code 2 and a helpful message. |
//! | `shutdown` (a) | Streams end between two blocks and requests in progress finish. |
//! | `slow` (a) | A slow subscriber gets every kept event in order, or a gap. |
//! | `stalled_node` | A node that missed a trim or a wipe sends each subscriber the right gap. |
//! | `slow_bodies` | Bodies that arrive slowly delay no publish of another client. |
//! | `start_params` (a) | A stream starts at `from`, `since` or `last`. |
//! | `start_table` (a) | Every start × every state of the log has the first block and event of its table. |
//! | `stream` (a) | A stream has the documented head, first block, frames and heartbeats. |
//! | `stream_life` (a) | A stream ends between two blocks when its time is over. |
//! | `streaming_publish` | Lines are stored while their body is open, and its end is always reported. |
//! | `tails` (a) | The newest events of all channels share a bound, and nothing is lost beyond it. |
//! | `tls` (a) | Requests and streams over TLS are those without it, and stalled handshakes delay no one else. |
//! | `tls_certificates` | A name chooses a certificate, and a new certificate cuts no stream. |
//! | `trimming` (a) | Trimming never removes an unread event without a gap. |
//! | `upgrade` (a) | A request that asks for another protocol is answered as if it did not. |
//! | `trusted_proxies` (a) | Limits and logs use the client that a trusted proxy reports. |
//! | `until` (a) | A stream with `until` ends there, and a reconnecting client gets a 204. |
//! | `vanished` (a) | A client that vanishes from the network is closed as unreachable. |

#![expect(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod access;
mod access_log;
mod backup;
mod batch_channels;
mod blocked;
mod broken_stderr;
mod broker_contract;
mod channels;
mod check;
mod client_shares;
mod cluster;
mod common;
mod compressing_proxy;
mod connections;
mod contrib;
mod copy;
mod damaged;
mod dashboard;
mod data_profile;
mod drain;
mod failover;
mod fanout;
mod faults;
mod flask_sse;
mod footprint;
mod health;
mod http2;
mod http2_floods;
mod idempotency;
mod lifecycle_contract;
mod limits;
mod listen;
mod listen_unix;
mod lost_tail;
mod metrics_formats;
mod multi_channel;
mod multi_history;
mod notices;
mod protocol_errors;
mod proxy_header;
mod quotas;
mod redis_connection;
mod redis_errors;
mod redis_foreign;
mod redis_maintenance;
mod redis_overload;
mod redis_rejections;
mod redis_setup;
mod redis_tls;
mod redis_wait;
mod requests;
mod resume;
mod searches;
mod sentinel;
mod service_manager;
mod settings;
mod shutdown;
mod slow;
mod slow_bodies;
mod stalled_node;
mod start_params;
mod start_table;
mod stream;
mod stream_life;
mod streaming_publish;
mod tails;
mod tls;
mod tls_certificates;
mod trimming;
mod trusted_proxies;
mod until;
mod upgrade;
#[cfg(target_os = "linux")]
mod vanished;
