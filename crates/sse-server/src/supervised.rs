//! Tasks and threads without which the server only seems to work.
//!
//! A panic ends one task or one thread. That is right for a request, whose client sees a broken
//! connection. If it is the task that feeds a channel, the channel is silent for ever, and every
//! health check still succeeds. So such parts run as *supervised*, and the panic hook of the program
//! asks [`supervised_part`]: if one of them panics, the server stops, and the process exits with an
//! error that a service manager notices.
//!
//! The log's writer thread reports its panics itself, and the fan-out threads restart.

use std::{cell::Cell, future::poll_fn, pin::pin};

thread_local! {
    static PART: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Runs a task of the server as supervised.
pub(crate) async fn supervised_task<T>(part: &'static str, task: impl Future<Output = T>) -> T {
    let mut task = pin!(task);
    poll_fn(move |cx| supervised(part, || task.as_mut().poll(cx))).await
}

/// Runs the work of a thread as supervised.
pub fn supervised<T>(part: &'static str, work: impl FnOnce() -> T) -> T {
    let outer = PART.replace(Some(part));
    let restore = Restore(outer);
    let result = work();
    drop(restore);
    result
}

/// Marks the thread as before, also after a panic that is caught.
struct Restore(Option<&'static str>);

impl Drop for Restore {
    fn drop(&mut self) {
        PART.set(self.0);
    }
}

/// Returns the name of the supervised part that the current thread runs, for a panic hook.
#[must_use]
pub fn supervised_part() -> Option<&'static str> {
    PART.get()
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[tokio::test]
    async fn a_task_is_marked_only_while_it_runs() {
        let task = supervised_task("outer", async {
            let before = supervised_part();
            tokio::task::yield_now().await;
            let inner = supervised("inner", supervised_part);
            (before, inner, supervised_part())
        });
        assert_eq!(supervised_part(), None);
        assert_eq!(task.await, (Some("outer"), Some("inner"), Some("outer")));
        assert_eq!(supervised_part(), None);
    }

    #[test]
    fn a_caught_panic_leaves_no_mark() {
        let work = || supervised("part", || panic!("a defect"));
        assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
        assert_eq!(supervised_part(), None);
    }
}
