//! Checks the combinations of settings. Each message says what to change.

use sse_cli::authorization::check_one_source;

use super::flags::{PayloadKind, Settings};
use crate::{
    publisher::retry::IDEMPOTENCY_KEY,
    schedule::{Curve, Spread},
};

impl Settings {
    /// Checks that each setting has a meaning with the others.
    pub(super) fn validate(&self) -> Result<(), String> {
        self.validate_schedule()?;
        self.validate_events()?;
        self.validate_requests()
    }

    fn validate_schedule(&self) -> Result<(), String> {
        if self.curve() == Curve::ClosedLoop && self.arrivals != Spread::Constant {
            return Err(
                "--rate max has no schedule that --arrivals could spread: give a rate, or leave --arrivals out"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn validate_events(&self) -> Result<(), String> {
        let kind = self.payload.unwrap_or_default();
        let reject = |why: &str| Err(why.to_owned());
        if self.replay.is_some() {
            return match self {
                Self {
                    payload: Some(_), ..
                } => reject("--replay brings its own events: leave --payload out"),
                Self {
                    actions: Some(_), ..
                } => reject("recorded events have their own types: leave --actions out"),
                Self {
                    record: Some(_), ..
                } => reject(
                    "recorded events cannot carry the stamp by which --record names them: leave one of them out",
                ),
                Self {
                    data_size: Some(_), ..
                } => reject("--data-size is for --payload sequenced: leave it out"),
                Self { users: Some(_), .. } => {
                    reject("--users is for --payload session: leave it out")
                }
                _ => Ok(()),
            };
        }
        if kind == PayloadKind::Session && self.actions.is_some() {
            return reject(
                "the users of --payload session choose their own actions: leave --actions out",
            );
        }
        if kind != PayloadKind::Session && self.users.is_some() {
            return reject("--users is for --payload session: add that, or leave it out");
        }
        if kind != PayloadKind::Sequenced && self.data_size.is_some() {
            return reject("--data-size is for --payload sequenced: add that, or leave it out");
        }
        Ok(())
    }

    fn validate_requests(&self) -> Result<(), String> {
        let options = self.request_options();
        if self.batch > 1 && !options.use_sse_server_api() {
            return Err(
                "--batch is for the batches of our API: leave it out, or --method, --path and --body".to_owned()
            );
        }
        if self.retry.is_some() && !options.use_sse_server_api() {
            return Err(
                "--retry needs the keys of our API: leave it out, or --method, --path and --body"
                    .to_owned(),
            );
        }
        if self.retry.is_some()
            && self
                .header
                .iter()
                .any(|header| header.name == IDEMPOTENCY_KEY)
        {
            return Err(
                "--retry gives each request a key of its own: leave --header idempotency-key out"
                    .to_owned(),
            );
        }
        if self.record.is_some() && !options.include_data() {
            return Err(
                "a record counts events by their data, which these requests do not carry: put {data} into --body, \
                        or leave --record out"
                    .to_owned(),
            );
        }
        check_one_source(
            self.bearer.is_some(),
            self.header.iter().map(|header| &header.name),
            self.url.has_user(),
        )
    }
}
