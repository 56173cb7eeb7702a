//! Carries out the requests of a batch in its transaction, and replies after the commit.

use super::{
    commit::{CommitBatch, StagedWrite},
    error::{AppendError, StoreError},
    request::Request,
    shared::Shared,
};
use crate::broker::{BrokerError, lifecycle::Tombstone};

/// What a request gets.
pub(super) enum Outcome {
    Done,
    Written(StagedWrite),
    Deleted(Option<Tombstone>),
    Configured { created: bool },
}

/// The result of a request.
pub(super) type Reply = Result<Outcome, BrokerError>;

/// Carries out the requests of a batch. A rejected request leaves the others unaffected.
pub(super) fn stage_requests(
    staged: &mut CommitBatch<'_>,
    batch: &[Request],
    room: &Result<(), BrokerError>,
) -> Result<Vec<Reply>, StoreError> {
    let mut replies = Vec::with_capacity(batch.len());
    for request in batch {
        replies.push(match stage_request(staged, request, room) {
            Ok(outcome) => Ok(outcome),
            Err(error) => Err(error.into_rejection()?),
        });
    }
    Ok(replies)
}

fn stage_request(
    staged: &mut CommitBatch<'_>,
    request: &Request,
    room: &Result<(), BrokerError>,
) -> Result<Outcome, AppendError> {
    match request {
        Request::Write {
            publisher,
            channel,
            write,
            ..
        } => {
            let written = staged.write(*publisher, channel, write, room)?;
            return Ok(Outcome::Written(written));
        }
        Request::Delete { channel, .. } => return Ok(Outcome::Deleted(staged.delete(channel))),
        Request::Configure {
            publisher,
            channel,
            settings,
            ..
        } => {
            let created = staged.configure(*publisher, channel, *settings, room)?;
            return Ok(Outcome::Configured { created });
        }
        Request::KeepAlive {
            channel,
            incarnation,
            ..
        } => staged.keep_alive(channel, *incarnation)?,
        Request::Check { .. } => room.clone()?,
        Request::ChangeRevocations { change, .. } => staged.change_revocations(change)?,
        Request::AdvanceClock { bound, .. } => staged.advance_clock_past(*bound),
    }
    Ok(Outcome::Done)
}

/// Sends the replies in order, and notifies the watchers of channels that have changed.
pub(super) fn reply_all(shared: &Shared, batch: Vec<Request>, replies: Vec<Reply>) {
    let mut events_count = 0;
    for (request, result) in batch.into_iter().zip(replies) {
        events_count += reply(shared, request, result);
    }
    if events_count > 0 {
        shared.metrics.batch_committed(events_count);
    }
}

/// Sends one reply. Returns how many events the request added.
fn reply(shared: &Shared, request: Request, result: Reply) -> usize {
    // Sending fails if the caller is gone. What it asked for is in the log all the same.
    match request {
        Request::Write {
            channel,
            write,
            reply,
            ..
        } => {
            let result = result.and_then(into_staged);
            let added = result
                .as_ref()
                .map_or(0, |staged| shared.hand_over(&channel, &write.items, staged));
            let _ = reply.send(result.map(|staged| staged.written));
            return added;
        }
        Request::Delete { channel, reply } => {
            shared.notifier.notify(&channel);
            let _ = reply.send(result.and_then(|outcome| match outcome {
                Outcome::Deleted(tombstone) => Ok(tombstone),
                _ => Err(wrong_outcome()),
            }));
        }
        Request::Configure { reply, .. } => {
            let _ = reply.send(result.and_then(|outcome| match outcome {
                Outcome::Configured { created } => Ok(created),
                _ => Err(wrong_outcome()),
            }));
        }
        Request::ChangeRevocations { reply, .. } => {
            shared.revocation_version.advance();
            let _ = reply.send(result.map(|_| ()));
        }
        Request::Check { reply }
        | Request::AdvanceClock { reply, .. }
        | Request::KeepAlive { reply, .. } => {
            let _ = reply.send(result.map(|_| ()));
        }
    }
    0
}

fn into_staged(outcome: Outcome) -> Result<StagedWrite, BrokerError> {
    match outcome {
        Outcome::Written(staged) => Ok(staged),
        _ => Err(wrong_outcome()),
    }
}

fn wrong_outcome() -> BrokerError {
    BrokerError::OutcomeUnknown("the log sent the reply to another request".to_owned())
}
