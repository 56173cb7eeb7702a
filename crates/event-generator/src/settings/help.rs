//! Headings of the flags, the flags in `-h`, and the text after them.

pub(super) const SCHEDULE: &str = "Schedule";
pub(super) const EVENTS: &str = "Events";
pub(super) const REQUESTS: &str = "Requests";
pub(super) const OUTPUT: &str = "Output";

/// The flags that a first user needs, which are those in `-h`.
pub(super) const SHORT_HELP: [&str; 9] = [
    "url", "channel", "rate", "count", "duration", "payload", "actions", "replay", "record",
];

pub(super) const SHORT_EXAMPLES: &str = "\
Exit codes: 0 done, 1 failed, 2 misused. --help explains all flags, with more examples.

Examples:
  The events of the tutorial, one per second, to a server on this machine:
    event-generator
  Ten events per second for a minute, four views per click:
    event-generator --rate 10 --duration 1m --actions view=8,click=2";

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0  done, or interrupted by Ctrl-C, SIGTERM or a closed stdout; some events may have failed
  1  failed: no event was acknowledged, the recording has an invalid line, or the record or the
     report cannot be written
  2  misused: the command line is wrong

Examples:
  The events of the tutorial, one per second, to a server on this machine:
    event-generator
  Ten events per second for a minute, four views per click:
    event-generator --rate 10 --duration 1m --actions view=8,click=2
  1000 events at 500 per second, the same ones in every run:
    event-generator --rate 500 --count 1000 --seed 7
  A record to count loss with by ids, together with `listener --record received.ndjson`:
    event-generator --rate 50 --duration 30s --channel orders --record sent.ndjson
  Every event exactly once, even if the server restarts meanwhile:
    event-generator --rate 50 --duration 30s --retry 20 --stamp --record sent.ndjson
  Simulated users with sessions, at a growing rate:
    event-generator --payload session --users 1000 --ramp 10..500/5m --arrivals poisson
  The same users in real time, and one day of them as fast as possible:
    event-generator --payload session --users 1000 --rate 18.7
    event-generator --payload session --users 1000 --rate max --count 1615680
  Load in batches, with the figures as JSON:
    event-generator --payload sequenced --rate 100000 --batch 100 --count 1000000 --report out.json
  A recorded stream, sent again:
    listener --format json > recorded.ndjson
    event-generator --replay recorded.ndjson --rate 100
  Mercure, with its token in the environment (GENERATOR_BEARER):
    event-generator --url http://127.0.0.1:3000 --path /.well-known/mercure \\
      --header 'Content-Type: application/x-www-form-urlencoded' \\
      --body 'topic={channel:url}&type={action:url}&data={data:url}'
  Nchan:
    event-generator --url http://127.0.0.1:8080 --path '/pub?id={channel}' \\
      --header 'X-EventSource-Event: {action}'
  Completion of the flags in this shell (bash):
    source <(event-generator --completions bash)
  One event:
    event-generator --count 1";
