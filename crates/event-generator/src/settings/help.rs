//! Headings of the flags, and the text after them in `--help`.

pub(super) const SCHEDULE: &str = "Schedule";
pub(super) const EVENTS: &str = "Events";
pub(super) const REQUESTS: &str = "Requests";
pub(super) const OUTPUT: &str = "Output";

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0  done, or stopped by Ctrl-C, SIGTERM or a closed stdout; some events may have failed
  1  failed: of the events sent none was acknowledged, the recording has a bad line,
     or the record or the report cannot be written
  2  misused: the command line is wrong

Examples:
  The tutorial's events, one a second, to a server on this machine:
    event-generator
  Ten events a second for a minute, four views for each click:
    event-generator --rate 10 --duration 1m --actions view=8,click=2
  A thousand events as fast as 500 a second, the same ones every time:
    event-generator --rate 500 --count 1000 --seed 7
  Keep a record to count loss with, together with `listener --record received.ndjson`:
    event-generator --rate 50 --duration 30s --channel orders --record sent.ndjson
  Every event once, also when the server is restarted meanwhile:
    event-generator --rate 50 --duration 30s --retry 20 --record sent.ndjson
  Users with sessions, to analyse; independent of one another, more and more of them:
    event-generator --payload session --users 1000 --ramp 10..500/5m --arrivals poisson
  The same users in real time, and a day of them as fast as it goes:
    event-generator --payload session --users 1000 --rate 18.7
    event-generator --payload session --users 1000 --rate max --count 1615680
  Load, in batches, with its figures as JSON:
    event-generator --payload sequenced --rate 100000 --batch 100 --count 1000000 --report out.json
  Play a recorded stream again:
    listener --format json > recorded.ndjson
    event-generator --replay recorded.ndjson --rate 100
  Another server: Mercure, with its token in the environment (GENERATOR_BEARER):
    event-generator --url http://127.0.0.1:3000 --path /.well-known/mercure \\
      --header 'Content-Type: application/x-www-form-urlencoded' \\
      --body 'topic={channel:url}&type={action:url}&data={data:url}'
  Nchan:
    event-generator --url http://127.0.0.1:8080 --path '/pub?id={channel}' \\
      --header 'X-EventSource-Event: {action}'
  Completions of the flags in bash, in this shell:
    source <(event-generator --completions bash)
  The smallest thing to try:
    event-generator --count 1";
