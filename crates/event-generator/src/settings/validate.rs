//! Checks the combinations of settings. Each message names the change to make.

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
        reject_if(&[(
            self.curve() == Curve::ClosedLoop && self.arrivals != Spread::Constant,
            "--rate max has no schedule for --arrivals: set a rate, or remove --arrivals",
        )])
    }

    fn validate_events(&self) -> Result<(), String> {
        if self.replay.is_some() {
            return self.validate_replay();
        }
        let kind = self.payload.unwrap_or_default();
        reject_if(&[
            (
                kind == PayloadKind::Session && self.actions.is_some(),
                "the users of --payload session choose their own actions: remove --actions",
            ),
            (
                kind != PayloadKind::Session && self.users.is_some(),
                "--users is for --payload session: add that, or remove --users",
            ),
            (
                kind != PayloadKind::Sequenced && self.data_size.is_some(),
                "--data-size is for --payload sequenced: add that, or remove --data-size",
            ),
        ])
    }

    fn validate_replay(&self) -> Result<(), String> {
        reject_if(&[
            (
                self.payload.is_some(),
                "--replay sends recorded events: remove --payload",
            ),
            (
                self.actions.is_some(),
                "recorded events have their own types: remove --actions",
            ),
            (
                self.record.is_some(),
                "recorded events have no stamp, by which a record names events without an id: \
                 remove --replay or --record",
            ),
            (
                self.stamp,
                "--replay sends the data of recorded events as it is: remove --stamp",
            ),
            (
                self.data_size.is_some(),
                "--data-size is for --payload sequenced: remove it",
            ),
            (
                self.users.is_some(),
                "--users is for --payload session: remove it",
            ),
        ])
    }

    fn validate_requests(&self) -> Result<(), String> {
        let options = self.request_options();
        let other_api = !options.use_sse_server_api();
        let has_key = self
            .header
            .iter()
            .any(|header| header.name == IDEMPOTENCY_KEY);
        reject_if(&[
            (
                self.batch > 1 && other_api,
                "--batch needs the API of sse-server: remove it, or --method, --path and --body",
            ),
            (
                self.retry.is_some() && other_api,
                "--retry needs the API of sse-server: remove it, or --method, --path and --body",
            ),
            (
                self.retry.is_some() && has_key,
                "--retry sets the idempotency key of each request: remove --header idempotency-key",
            ),
            (
                self.record.is_some() && !options.include_data(),
                "--record needs the data of events in the requests: put {data} into --body, or remove --record",
            ),
            (
                self.stamp && !options.include_data(),
                "--stamp changes the data of events, which these requests do not contain: \
                 put {data} into --body, or remove --stamp",
            ),
        ])?;
        self.tls_trust().check()?;
        check_one_source(
            self.bearer.is_some(),
            self.header.iter().map(|header| &header.name),
            self.url.has_user(),
        )
    }
}

/// Returns the message of the first condition that holds.
fn reject_if(mistakes: &[(bool, &str)]) -> Result<(), String> {
    match mistakes.iter().find(|(is_made, _)| *is_made) {
        Some((_, message)) => Err((*message).to_owned()),
        None => Ok(()),
    }
}
