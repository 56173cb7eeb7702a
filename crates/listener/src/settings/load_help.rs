//! The flags in `listener bench -h`, and the text after the flags in `-h` and `--help`.

/// The end of `listener bench --help`.
pub(super) const EXAMPLES: &str = "\
Exit codes:
  0  success: --duration or --count is reached, Ctrl-C, SIGTERM (a second one ends at once)
  1  failure: no connection could be opened, the report cannot be written, too few open files; with --expect-no-loss,
     an event was lost, received twice or out of order
  2  misuse: a flag or an environment variable is wrong

Examples:
  sse-server and numbered events: ten thousand streams for a minute, with an account of every event:
    event-generator --rate 100 --payload sequenced &
    listener bench --connections 10000 --duration 1m --report bench.json
  A reconnect storm: every 5 seconds a tenth of the streams is cut and resumes at once with its last event id:
    listener bench --connections 1000 --duration 1m --cut-every 5s --cut-share 10% --expect-no-loss
  A thousand streams on ten connections over HTTP/2:
    listener bench --url https://localhost:8443 --cacert ca.pem --connections 1000 --http2-streams 100 --duration 1m
  Nchan (a location with nchan_subscriber; set nchan_subscriber_first_message newest to begin with the next event):
    listener bench --url http://127.0.0.1:8080/sub/news --connections 5000 --ramp 10s --duration 1m
  Mercure, with a token:
    LISTENER_BEARER=\"$(cat token)\" listener bench --url 'http://127.0.0.1:3000/.well-known/mercure?topic=news' \\
      --connections 1000 --duration 1m
  Flask-SSE, whose events have no ids, so that a cut loses events:
    listener bench --url http://127.0.0.1:8000/stream --connections 100 --duration 1m --cut-every 10s
  Events of any server, timed by a key of their JSON data:
    listener bench --url http://127.0.0.1:8000/ticks --time-field timestamp --count 1000";

/// The end of `listener bench -h`.
pub(super) const SHORT_EXAMPLES: &str = "\
Exit codes: 0 success, 1 failure, 2 misuse. --help explains all flags, with more examples.

Example:
    listener bench --connections 10000 --duration 1m --report bench.json";

/// The flags that a first user needs, which are those in `-h`.
pub(super) const SHORT_HELP: [&str; 7] = [
    "url",
    "channel",
    "connections",
    "duration",
    "cut-every",
    "report",
    "expect-no-loss",
];
