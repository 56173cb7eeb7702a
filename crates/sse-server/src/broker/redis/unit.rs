//! Commands that one node carries out together, in the form in which they are sent.

use redis::{Cmd, Pipeline, Script, Value};

use super::{replicated::Append, replies::value_pipeline};

/// Commands that one node carries out: one command, or a transaction.
pub(super) struct Unit<'a> {
    pub(super) commands: Pipeline,
    /// What an `EVALSHA` runs.
    pub(super) script: Option<&'a Script>,
}

impl<'a> Unit<'a> {
    pub(super) fn of_command(command: &Cmd) -> Self {
        Self {
            commands: value_pipeline([command.clone()]),
            script: None,
        }
    }

    pub(super) fn of_script(command: Cmd, script: &'a Script) -> Self {
        Self {
            commands: value_pipeline([command]),
            script: Some(script),
        }
    }

    /// The appends, as a transaction if they are one.
    pub(super) fn of_append(append: Append) -> Self {
        let word = |word: &str| append.is_atomic.then(|| redis::cmd(word));
        let (multi, exec) = (word("MULTI"), word("EXEC"));
        let commands = multi.into_iter().chain(append.commands).chain(exec);
        Self {
            commands: value_pipeline(commands),
            script: None,
        }
    }

    /// Returns how many replies it has.
    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Adds a command that is no part of the transaction.
    pub(super) fn followed_by(mut self, command: Cmd) -> Self {
        self.commands.add_command(command);
        self
    }

    /// Separates the commands from the one that follows them.
    pub(super) fn split_last(&self) -> (Self, Option<Self>) {
        let first = self.len().saturating_sub(1);
        let first = self.commands.cmd_iter().take(first).cloned();
        let unit = Self {
            commands: value_pipeline(first),
            script: self.script,
        };
        (unit, self.commands.cmd_iter().last().map(Self::of_command))
    }

    /// The same commands for a node that is about to own their slot. The permission lasts for one
    /// command, or for a transaction.
    pub(super) fn asking(&self) -> Self {
        let commands = self.commands.cmd_iter().cloned();
        let asking = redis::cmd("ASKING");
        Self {
            commands: value_pipeline([asking].into_iter().chain(commands)),
            script: self.script,
        }
    }

    /// Returns the results of the commands in `replies`, or the one error that rejected a transaction.
    pub(super) fn results(mut replies: Vec<Value>, is_atomic: bool) -> Vec<Value> {
        if !is_atomic {
            return replies;
        }
        let is_error = |reply: &Value| matches!(reply, Value::ServerError(_));
        match replies.pop() {
            Some(Value::Array(results)) => results,
            Some(rejected) => {
                // The first error is the cause.
                let cause = replies.into_iter().find(is_error);
                vec![cause.unwrap_or(rejected)]
            }
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(commands: usize) -> Append {
        Append {
            stream: "s".to_owned(),
            commands: vec![redis::cmd("XADD"); commands],
            is_atomic: commands > 1,
        }
    }

    fn error(code: &str) -> Value {
        redis::parse_redis_value(format!("-{code} x\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn several_appends_are_one_transaction() {
        assert_eq!(Unit::of_append(append(1)).len(), 1);
        let unit = Unit::of_append(append(2));
        assert_eq!((unit.len(), unit.asking().len()), (4, 5));
        let (appends, notification) = unit.followed_by(redis::cmd("PUBLISH")).split_last();
        assert_eq!((appends.len(), notification.unwrap().len()), (4, 1));
    }

    #[test]
    fn a_rejected_transaction_has_the_error_that_is_its_cause() {
        let ok = || Value::SimpleString("OK".into());
        let results = vec![Value::Int(1), Value::Int(2)];
        let stored = vec![ok(), ok(), ok(), Value::Array(results.clone())];
        assert_eq!(Unit::results(stored, true), results);
        let rejected = vec![ok(), error("OOM"), ok(), error("EXECABORT")];
        assert_eq!(Unit::results(rejected, true), [error("OOM")]);
        let moved = vec![ok(), ok(), ok(), error("MOVED")];
        assert_eq!(Unit::results(moved, true), [error("MOVED")]);
        assert_eq!(Unit::results(vec![error("OOM")], false), [error("OOM")]);
    }
}
