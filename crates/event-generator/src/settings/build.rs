//! Builds the parts of a run from the settings.

use clap::ValueEnum;
use sse_cli::tls::TlsTrust;

use super::flags::{PayloadKind, Settings};
use crate::{
    payload::{
        Actions, AllowedTypes, Payload, Replay, ReplayError, Sequenced, Session, Stamper, Tutorial,
    },
    report::json::RunSetup,
    request::{RequestBuilder, RequestOptions},
    schedule::{Arrivals, Curve, Limits, Schedule},
};

/// Highest rate at which status codes are printed by default.
const PRINTED_RATE_MAX: f64 = 100.0;
/// Default actions: those of the tutorial.
const ACTIONS: &str = "view,click,close";
const USERS: u32 = 100;

impl Settings {
    /// Returns the rate over time.
    pub(crate) fn curve(&self) -> Curve {
        self.ramp.unwrap_or(self.rate)
    }

    /// Builds the schedule.
    pub(crate) fn build_schedule(&self) -> Schedule {
        let limits = Limits {
            count: self.count,
            duration: self.duration,
        };
        Schedule::new(
            self.curve(),
            Arrivals::new(self.arrivals, self.seed),
            limits,
        )
    }

    /// Returns whether to print status codes.
    pub(crate) fn prints_status(&self) -> bool {
        let is_slow = || {
            self.curve()
                .peak_rate()
                .is_some_and(|rate| rate <= PRINTED_RATE_MAX)
        };
        self.print_status.unwrap_or_else(is_slow)
    }

    /// Returns whether the data of events contains a stamp.
    pub(super) fn stamps_data(&self) -> bool {
        self.stamp || self.payload == Some(PayloadKind::Sequenced)
    }

    /// Builds the payload.
    ///
    /// # Errors
    ///
    /// The recording cannot be opened.
    pub(crate) fn build_payload(&self, stamper: Stamper) -> Result<Payload, ReplayError> {
        if let Some(recording) = &self.replay {
            return Replay::start(recording.clone(), self.replayed_types()).map(Payload::Replay);
        }
        let stamper = self.stamps_data().then_some(stamper);
        let actions = || self.actions.clone().unwrap_or_else(default_actions);
        Ok(match self.payload.unwrap_or_default() {
            PayloadKind::Tutorial => {
                Payload::Tutorial(Tutorial::new(actions(), self.seed, stamper))
            }
            PayloadKind::Sequenced => {
                let stamper = stamper.unwrap_or_else(Stamper::new);
                Payload::Sequenced(Sequenced::new(
                    actions(),
                    self.seed,
                    stamper,
                    self.data_size,
                ))
            }
            PayloadKind::Session => {
                let users = self.users.unwrap_or(USERS);
                Payload::Session(Box::new(Session::new(users, self.seed, stamper)))
            }
        })
    }

    fn replayed_types(&self) -> AllowedTypes {
        if self.request_options().use_sse_server_api() {
            AllowedTypes::SseServer
        } else {
            AllowedTypes::AnyServer
        }
    }

    /// Returns the number of events per request; `None` without batches.
    pub(crate) fn batch_size(&self) -> Option<usize> {
        (self.batch > 1).then_some(self.batch)
    }

    /// Builds the builder of requests.
    pub(crate) fn build_request_builder(&self) -> RequestBuilder {
        RequestBuilder::new(&self.url, self.channel.as_ref(), self.request_options())
    }

    /// Returns which certificates of the server are accepted.
    pub(crate) fn tls_trust(&self) -> TlsTrust<'_> {
        TlsTrust {
            insecure: self.insecure,
            trusted: self.cacert.as_ref(),
        }
    }

    /// Returns the options of the requests.
    pub(super) fn request_options(&self) -> RequestOptions {
        let Self {
            method,
            path,
            body,
            header,
            bearer,
            channels,
            ..
        } = self;
        RequestOptions {
            method: method.clone(),
            path: path.clone(),
            body: body.clone(),
            headers: header.clone(),
            bearer: bearer.clone(),
            channels: *channels,
        }
    }

    fn payload_name(&self) -> String {
        if self.replay.is_some() {
            "replay".to_owned()
        } else {
            value_name(&self.payload.unwrap_or_default())
        }
    }

    /// Returns the settings for the report.
    pub(crate) fn describe_run(&self) -> RunSetup {
        let curve = self.curve();
        let is_steady = matches!(curve, Curve::Steady(_));
        RunSetup {
            url: self.url.to_string(),
            payload: self.payload_name(),
            rate_asked: curve.peak_rate().filter(|_| is_steady),
            ramp: self.ramp.map(|ramp| ramp.to_string()),
            closed_loop: curve == Curve::ClosedLoop,
            arrivals: value_name(&self.arrivals),
            concurrency: self.concurrency,
            batch: self.batch,
            seed: self.seed,
        }
    }
}

/// Returns a value as on the command line.
fn value_name(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn default_actions() -> Actions {
    ACTIONS.parse().expect("three plain words are actions")
}
