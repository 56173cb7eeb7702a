//! Sends groups of appends with one `WAIT` each.

use std::{collections::HashSet, time::Duration};

use redis::{Pipeline, Value};

use super::{Append, Confirmed, Job, Jobs, NotConfirmed};
use crate::broker::redis::{
    dial::CommandConnection,
    names::Names,
    scripts::{CONFIGURE, DELETE, WRITE},
};

/// Sends the appends of `jobs`, until the last sender is gone.
///
/// `replicas` must confirm each group within four fifths of `timeout`.
pub(in crate::broker::redis) async fn run(
    mut jobs: Jobs,
    mut connection: CommandConnection,
    replicas: u32,
    (timeout, names): (Duration, Names),
) {
    let wait_ms = u64::try_from(timeout.as_millis() * 4 / 5)
        .unwrap_or(u64::MAX)
        .max(1);
    let mut load_scripts = redis::pipe();
    for script in [&WRITE, &DELETE, &CONFIGURE] {
        let text = &script.with_text(&names).text;
        load_scripts.cmd("SCRIPT").arg("LOAD").arg(text);
    }
    // If this fails, so do the writes that need a script.
    let _: redis::RedisResult<()> = load_scripts.query_async(&mut connection).await;
    while let Some(group) = jobs.next_group().await {
        if group.is_empty() {
            continue;
        }
        let commands = group_commands(&group, replicas, wait_ms);
        let replies = commands.query_async(&mut connection).await;
        let notifications = notifications(&group, &names);
        answer(group, replies, replicas);
        // A failed notification fails nothing: a node that misses it polls.
        let _: redis::RedisResult<Vec<Value>> = notifications.query_async(&mut connection).await;
    }
}

fn group_commands(group: &[Job], replicas: u32, wait_ms: u64) -> Pipeline {
    let mut commands = redis::pipe();
    for Job { append, .. } in group {
        if append.is_atomic {
            commands.cmd("MULTI");
        }
        for command in &append.commands {
            commands.add_command(command.clone());
        }
        if append.is_atomic {
            commands.cmd("EXEC");
        }
    }
    commands.cmd("WAIT").arg(replicas).arg(wait_ms);
    commands.ignore_errors();
    commands
}

/// One notification per stream.
fn notifications(group: &[Job], names: &Names) -> Pipeline {
    let mut commands = redis::pipe();
    let streams: HashSet<&str> = group.iter().map(|job| job.append.stream.as_str()).collect();
    for stream in streams {
        commands.cmd(names.publish_command()).arg(stream).arg("");
    }
    commands.ignore_errors();
    commands
}

/// Sends each publisher its replies.
fn answer(group: Vec<Job>, replies: redis::RedisResult<Vec<Value>>, replicas: u32) {
    let mut replies = match replies {
        Ok(replies) => replies.into_iter(),
        Err(error) => {
            for job in group {
                // A publisher that is gone needs no reply.
                let _ = job
                    .reply
                    .send(Err(NotConfirmed::Unknown(error.to_string())));
            }
            return;
        }
    };
    let wait = replies.next_back();
    for job in group {
        let of_job = replies.by_ref().take(reply_count(&job.append)).collect();
        let confirmed = confirm(of_job, job.append.is_atomic, wait.as_ref(), replicas);
        let _ = job.reply.send(confirmed);
    }
}

fn reply_count(append: &Append) -> usize {
    append.commands.len() + if append.is_atomic { 2 } else { 0 }
}

/// Whether an append is confirmed, by its replies and that of `WAIT`.
///
/// An append that Redis rejected was not stored, whatever the replicas confirm.
fn confirm(
    mut replies: Vec<Value>,
    is_atomic: bool,
    wait: Option<&Value>,
    replicas: u32,
) -> Confirmed {
    if is_atomic {
        replies = match replies.pop() {
            Some(Value::Array(replies)) => replies,
            Some(rejected) => vec![rejected],
            None => Vec::new(),
        };
    }
    if let Some(rejected) = replies.iter().position(is_error) {
        return Ok(vec![replies.swap_remove(rejected)]);
    }
    match wait {
        Some(Value::Int(confirmed)) if *confirmed >= i64::from(replicas) => Ok(replies),
        Some(Value::Int(confirmed)) => Err(NotConfirmed::Unknown(format!(
            "{confirmed} of {replicas} replicas have confirmed (--redis-wait)"
        ))),
        Some(Value::ServerError(error)) => Err(NotConfirmed::Unknown(format!(
            "WAIT was rejected: {} {}",
            error.code(),
            error.details().unwrap_or_default()
        ))),
        _ => Err(NotConfirmed::Unknown("WAIT got no reply".to_owned())),
    }
}

const fn is_error(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(_))
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;
    use tokio::{sync::oneshot, time::Instant};

    use super::*;

    fn job(commands: usize, is_atomic: bool) -> (Job, oneshot::Receiver<Confirmed>) {
        let (reply, confirmed) = oneshot::channel();
        let append = Append {
            stream: "s".to_owned(),
            commands: vec![redis::cmd("XADD"); commands],
            is_atomic,
        };
        let deadline = Instant::now();
        let job = Job {
            append,
            deadline,
            reply,
        };
        (job, confirmed)
    }

    fn error() -> Value {
        parse_redis_value(b"-READONLY no\r\n").unwrap()
    }

    fn id(id: &str) -> Value {
        Value::BulkString(id.into())
    }

    #[test]
    fn every_append_gets_its_own_replies_and_shares_the_wait() {
        let (one, mut first) = job(1, false);
        let (two, mut second) = job(2, true);
        let (three, mut third) = job(1, false);
        let ok = || Value::SimpleString("OK".into());
        let replies = vec![
            id("1-0"),
            ok(),
            ok(),
            ok(),
            Value::Array(vec![id("2-0"), id("3-0")]),
            error(),
            Value::Int(1),
        ];
        let group = vec![one, two, three];
        assert_eq!(group_commands(&group, 1, 5).len(), replies.len());
        answer(group, Ok(replies), 1);
        assert_eq!(first.try_recv().unwrap(), Ok(vec![id("1-0")]));
        assert_eq!(second.try_recv().unwrap(), Ok(vec![id("2-0"), id("3-0")]));
        assert_eq!(third.try_recv().unwrap(), Ok(vec![error()]));
    }

    #[test]
    fn without_enough_replicas_the_outcome_is_unknown_but_a_rejection_is_certain() {
        let stored = || vec![id("1-0")];
        let enough = confirm(stored(), false, Some(&Value::Int(2)), 2);
        assert_eq!(enough, Ok(stored()));
        for wait in [Some(Value::Int(1)), Some(error()), Some(Value::Nil), None] {
            let confirmed = confirm(stored(), false, wait.as_ref(), 2);
            assert!(
                matches!(confirmed, Err(NotConfirmed::Unknown(_))),
                "{wait:?}"
            );
            let rejected = confirm(vec![error()], false, wait.as_ref(), 2);
            assert_eq!(rejected, Ok(vec![error()]));
            let rejected = confirm(vec![Value::Nil, error()], true, wait.as_ref(), 2);
            assert_eq!(rejected, Ok(vec![error()]));
        }
        let (job, mut confirmed) = job(1, false);
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        answer(vec![job], Err(broken.into()), 1);
        assert!(matches!(
            confirmed.try_recv().unwrap(),
            Err(NotConfirmed::Unknown(_))
        ));
    }
}
