//! The settings of `--exec`.

use std::{num::NonZeroU32, path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use sse_proto::units::parse_positive_duration;

/// The settings of a command that handles events.
#[derive(Debug, Clone, Args)]
pub struct ExecSettings {
    /// Run this command for each event, one at a time, instead of printing it
    ///
    /// The command is run by sh. It gets the event as one JSON line on stdin, and the variables
    /// `SSE_ID`, `SSE_EVENT` and, if it is known, `SSE_CHANNEL`. Exit code 0 means that the event is
    /// done. After any other code the command is run again, after 1s, 2s, and so on up to 1m. With
    /// --state, an event that is done is not handled again by the next run; only after a crash
    /// between the two it is.
    #[arg(long, env = "LISTENER_EXEC", value_name = "COMMAND")]
    pub exec: Option<String>,

    /// End a command that runs for longer, and run it again
    #[arg(
        long,
        env = "LISTENER_EXEC_TIMEOUT",
        value_name = "DURATION",
        value_parser = parse_positive_duration,
        default_value = "1m"
    )]
    pub exec_timeout: Duration,

    /// After this many attempts, append the event to a file and continue; by default, never give up
    ///
    /// The file gets the JSON line that the command got.
    #[arg(
        long,
        env = "LISTENER_EXEC_GIVE_UP",
        value_names = ["N", "FILE"],
        num_args = 2,
        value_delimiter = ' ',
        requires = "exec"
    )]
    exec_give_up: Vec<String>,
}

/// When to give up, and where the events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GiveUpSettings {
    /// Attempts per event.
    pub attempts: NonZeroU32,
    /// The file, which is appended to.
    pub file: PathBuf,
}

impl ExecSettings {
    /// Returns when to give up; `None` if never.
    ///
    /// # Errors
    ///
    /// The two values are not a number and a file.
    pub fn give_up(&self) -> Result<Option<GiveUpSettings>, String> {
        match &*self.exec_give_up {
            [] => Ok(None),
            [attempts, file] if !file.is_empty() => {
                let attempts = NonZeroU32::from_str(attempts).map_err(|_| {
                    format!("--exec-give-up {attempts:?} is not a number of attempts from 1")
                })?;
                let file = file.into();
                Ok(Some(GiveUpSettings { attempts, file }))
            }
            _ => {
                Err("--exec-give-up needs a number of attempts and a file: 5 failed.ndjson".into())
            }
        }
    }
}
