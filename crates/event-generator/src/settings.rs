//! The command line: every setting, its default, its environment twin, and the help that teaches it.
//!
//! What is wrong is refused here, before anything is sent, with exit code 2.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use sse_proto::{Channel, units};

use crate::{
    actions::Actions,
    base_url::BaseUrl,
    pace::{Pace, Rate},
};

/// Up to this rate status codes are printed without being asked for.
const PRINTED_RATE_MAX: f64 = 100.0;

const AFTER_HELP: &str = "\
Exit codes:
  0  done, or stopped by Ctrl-C, SIGTERM or a closed stdout; some events may have failed
  1  failed: of the events sent none was acknowledged, or the record cannot be written
  2  misused: the command line is wrong

Examples:
  The tutorial's events, one a second, to a server on this machine:
    event-generator
  Ten events a second for a minute, four views for each click:
    event-generator --rate 10 --duration 1m --actions view=8,click=2
  A thousand events as fast as 500 a second, the same ones every time:
    event-generator --rate 500 --count 1000 --seed 7
  Keep a record to count loss with, together with `listener --record received.ndjson`:
    event-generator --rate 50 --duration 30s --channel orders --record sent.ndjson";

/// Posts events to a Server-Sent Events server at a steady rate, and counts what was acknowledged
///
/// Each event is an action of a random user, sent as `POST {url}/event/{action}` with the JSON string of the tutorial,
/// `"user_id: …, timestamp: …"`. The rate is kept by schedule: event n is due n / rate after the start, and a slow
/// answer does not delay the next event, until 256 requests wait for their answers. stdout has the status code of each
/// answer; stderr has what failed, and at the end a summary. Latency is measured from when an event was due.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Settings {
    /// Address of the server
    ///
    /// http or https. A path is a prefix: with `https://example.org/live`, events go to
    /// `https://example.org/live/event/view`. A user name and a password in it are sent as basic authentication.
    /// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` are honoured, but not for this machine's own addresses.
    #[arg(
        long,
        env = "GENERATOR_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:5000",
        value_name = "URL"
    )]
    pub(crate) url: BaseUrl,

    /// Events a second, more than 0 and at most 1000000; 0.5 is one every two seconds
    #[arg(long, env = "GENERATOR_RATE", default_value = "1", allow_negative_numbers = true, value_name = "EVENTS")]
    pub(crate) rate: Rate,

    /// Stop after this many events, those that failed included; without it, go on until stopped
    #[arg(long, env = "GENERATOR_COUNT", value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true, value_name = "EVENTS")]
    pub(crate) count: Option<u64>,

    /// Stop after this long, like 500ms, 10s, 5m or 1h
    ///
    /// Answers that are still missing are waited for. With --count as well, whichever comes first ends the run.
    #[arg(long, env = "GENERATOR_DURATION", value_parser = units::parse_positive_duration, allow_negative_numbers = true, value_name = "DURATION")]
    pub(crate) duration: Option<Duration>,

    /// Channel to publish to; without it none is named, and the server takes "sse"
    #[arg(long, env = "GENERATOR_CHANNEL", value_name = "NAME")]
    pub(crate) channel: Option<Channel>,

    /// The actions of the users, separated by commas, each with an optional weight
    ///
    /// An action is the event's type: `addEventListener("click", …)` in a browser hears it. Without weights all are
    /// equally frequent; view=8,click=2 makes four of five events a view. A weight of 0 switches an action off.
    #[arg(long, env = "GENERATOR_ACTIONS", default_value = "view,click,close", value_name = "NAME[=WEIGHT],…")]
    pub(crate) actions: Actions,

    /// Draw the same actions and user ids again: the same number gives the same events, in the same order
    ///
    /// Times differ, and so does the publisher id of a record: two runs can always be told apart.
    #[arg(long, env = "GENERATOR_SEED", value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,

    /// Write a line of JSON to this file for every event that must arrive, or may
    ///
    /// That is: for every acknowledged event, with its id, and for every event whose outcome could not be learnt (no
    /// answer in time, a broken connection, a server error). Refused events have no line. The file is emptied first.
    /// Events then carry publisher, sequence and send time, by which `listener --record` names them:
    /// what is acknowledged here and missing there was lost.
    #[arg(long, env = "GENERATOR_RECORD", value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// Print the status code of each answer at any rate
    ///
    /// Without it, they are printed up to 100 events a second. --print-status=false never prints them.
    #[arg(
        long,
        env = "GENERATOR_PRINT_STATUS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = parse_switch,
        value_name = "BOOL"
    )]
    pub(crate) print_status: Option<bool>,
}

impl Settings {
    /// The schedule that was asked for.
    pub(crate) fn pace(&self) -> Pace {
        Pace::new(self.rate, self.count, self.duration)
    }

    /// Whether to print status codes: as said, or by the rate.
    pub(crate) fn prints_status(&self) -> bool {
        self.print_status.unwrap_or(self.rate.per_second() <= PRINTED_RATE_MAX)
    }
}

fn parse_switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err("write 1 or true, 0 or false"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn settings(arguments: &[&str]) -> Settings {
        Settings::try_parse_from([&["event-generator"], arguments].concat()).unwrap()
    }

    #[test]
    fn the_command_is_well_formed_and_every_flag_has_its_twin() {
        let command = Settings::command();
        command.clone().debug_assert();
        for flag in command.get_arguments().filter(|flag| !["help", "version"].contains(&flag.get_id().as_str())) {
            let twin = format!("GENERATOR_{}", flag.get_id().as_str().to_uppercase());
            assert_eq!(flag.get_env().and_then(|env| env.to_str()), Some(twin.as_str()));
        }
    }

    #[test]
    fn status_codes_are_printed_up_to_a_hundred_a_second_unless_said_otherwise() {
        for (arguments, printed) in [
            (&[][..], true),
            (&["--rate", "100"], true),
            (&["--rate", "100.5"], false),
            (&["--rate", "5000", "--print-status"], true),
            (&["--print-status=0"], false),
        ] {
            assert_eq!(settings(arguments).prints_status(), printed, "{arguments:?}");
        }
    }

    #[test]
    fn misuse_is_refused() {
        for bad in [
            &["--rate", "0"][..],
            &["--rate", "-1"],
            &["--rate", "1000001"],
            &["--count", "0"],
            &["--duration", "10"],
            &["--duration", "0s"],
            &["--url", "ftp://127.0.0.1"],
            &["--channel", "a b"],
            &["--actions", "view=0"],
            &["--seed", "x"],
            &["--print-status=maybe"],
            &["events"],
        ] {
            let error = Settings::try_parse_from([&["event-generator"], bad].concat()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad:?}");
        }
    }
}
