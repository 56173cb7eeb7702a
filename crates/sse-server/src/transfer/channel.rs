//! The copy of one channel.

use super::{CopyError, Copying};
use crate::broker::{
    redis::copy_target::{CopyWork, Refusal, Step, StepReply, plan_work},
    transfer::SourceChannel,
};

/// How often a channel is looked at again because it has changed meanwhile.
const ATTEMPTS_MAX: usize = 100;

/// Checks that the channel can be copied to the target.
pub(super) async fn check_channel(
    copying: &Copying,
    listed: &SourceChannel,
) -> Result<(), CopyError> {
    let found = copying.target.find(&listed.channel).await;
    let plan = plan_work(listed, &found.map_err(CopyError::Target)?);
    plan.map(drop).map_err(|refusal| refused(refusal, listed))
}

/// Copies what the target lacks of a channel, and its state.
pub(super) async fn copy_channel(
    copying: &Copying,
    listed: SourceChannel,
) -> Result<(), CopyError> {
    let name = listed.channel.to_string();
    let mut listed = listed;
    for _ in 0..ATTEMPTS_MAX {
        match copy_once(copying, &listed).await? {
            None => return Ok(()),
            Some(changed) => listed = changed,
        }
    }
    Err(CopyError::Unsettled(name))
}

/// Copies a channel. Returns the channel as it is now, if it has changed so that the copy must look at
/// the target again.
async fn copy_once(
    copying: &Copying,
    listed: &SourceChannel,
) -> Result<Option<SourceChannel>, CopyError> {
    let channel = &listed.channel;
    let found = copying
        .target
        .find(channel)
        .await
        .map_err(CopyError::Target)?;
    let plan = plan_work(listed, &found).map_err(|refusal| refused(refusal, listed))?;
    let (mut after, mut replaces) = match plan {
        CopyWork::Nothing => {
            copying.report.add_deletion();
            return Ok(None);
        }
        CopyWork::Delete => {
            let is_done = write(copying, &Step::of_state(listed, found.last)).await?;
            copying.report.add_deletion();
            return Ok((!is_done).then(|| listed.clone()));
        }
        CopyWork::Copy { after, replaces } => (after, replaces),
    };
    let mut expected = found.last;
    let last = listed.state.as_ref().map(|state| state.last);
    if expected.is_some() && expected == last && !replaces {
        let is_done = write(copying, &Step::of_state(listed, expected)).await?;
        copying.report.add_channel(listed);
        return Ok((!is_done).then(|| listed.clone()));
    }
    loop {
        let page = copying.source.page(channel, after).await?;
        if page.channel.deletion != listed.deletion || page.channel.state.is_none() {
            return Ok(Some(page.channel));
        }
        if !page.continues {
            return Err(CopyError::OtherLog(channel.to_string()));
        }
        if !write(copying, &Step::of_page(&page, expected, replaces)).await? {
            return Ok(Some(page.channel));
        }
        copying.report.add_page(&page);
        if !page.more {
            copying.report.add_channel(&page.channel);
            return Ok(None);
        }
        (after, expected, replaces) = (page.end, Some(page.end), false);
    }
}

/// Carries out a step. Returns false if the target is not what the step expects.
async fn write(copying: &Copying, step: &Step<'_>) -> Result<bool, CopyError> {
    let name = || step.channel.channel.to_string();
    match copying
        .target
        .write(step)
        .await
        .map_err(CopyError::Target)?
    {
        StepReply::Copied { .. } => Ok(true),
        StepReply::Moved => Ok(false),
        StepReply::NotEmpty => Err(CopyError::NotEmpty(name())),
        StepReply::Differs { records } => Err(CopyError::Differs {
            channel: name(),
            copied: records,
            expected: step.channel.state.as_ref().map_or(0, |state| state.records),
        }),
    }
}

fn refused(refusal: Refusal, listed: &SourceChannel) -> CopyError {
    let name = listed.channel.to_string();
    match refusal {
        Refusal::NotEmpty => CopyError::NotEmpty(name),
        Refusal::OtherLog => CopyError::OtherLog(name),
    }
}
