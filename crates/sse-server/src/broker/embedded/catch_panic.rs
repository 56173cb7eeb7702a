//! Turns a panic of redb into an error: redb panics on some damaged files.
//!
//! The panic hook runs before a panic can be caught, so a caught panic would still print what looks
//! like a crash. The hook belongs to the program, and a library must not replace it. A hook can ask
//! [`is_catching_panic`] instead, and print nothing.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    static IS_CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` and returns its result, or the message of its panic.
pub(super) fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let was_catching = IS_CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    IS_CATCHING.set(was_catching);
    result.map_err(|panic| log_panic(&*panic))
}

/// Logs a caught panic, and returns its message.
fn log_panic(panic: &(dyn Any + Send)) -> String {
    let message = panic_message(panic);
    tracing::debug!("caught a panic of redb: {message}");
    message.to_owned()
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref().copied())
        .unwrap_or("it is damaged")
}

/// Returns true if a panic of the current thread becomes an error of the embedded log.
///
/// The log reports the error, so the program's panic hook can ignore the panic.
#[must_use]
pub fn is_catching_panic() -> bool {
    IS_CATCHING.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_panic_becomes_an_error_with_its_message() {
        assert_eq!(catch_panic(|| 7), Ok(7));
        assert_eq!(
            catch_panic(|| -> () { panic!("page {} is not there", 5) }),
            Err("page 5 is not there".to_owned())
        );
    }

    #[test]
    fn a_hook_can_ask_whether_the_panic_is_caught() {
        assert!(!is_catching_panic());
        let nested = catch_panic(|| {
            let inner = catch_panic(|| -> () { panic!("inner") });
            (inner, is_catching_panic())
        });
        assert_eq!(nested, Ok((Err("inner".to_owned()), true)));
        assert!(!is_catching_panic());
        // Only the thread that catches is affected.
        let other = catch_panic(|| std::thread::spawn(is_catching_panic).join());
        assert_eq!(
            other.map(|is_catching| is_catching.expect("no panic")),
            Ok(false)
        );
    }
}
