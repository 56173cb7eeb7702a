//! Panics that are errors: redb panics on some damaged files. What it said goes into the error, and not to stderr, where
//! it would look like a crash. All other panics are told as ever.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook},
    sync::Once,
};

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The result of `work`, or what it said when it panicked.
pub(super) fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(install);
    let was_quiet = IS_QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    IS_QUIET.set(was_quiet);
    result.map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref().copied());
        text.unwrap_or("it is damaged").to_owned()
    })
}

/// Puts a hook before the one that is there.
fn install() {
    let others = take_hook();
    set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        if IS_QUIET.get() {
            tracing::debug!("caught: {panic}");
        } else {
            others(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn what_a_panic_said_is_in_the_error_and_quiet_ends_with_it() {
        assert_eq!(quietly(|| 7), Ok(7));
        assert_eq!(
            quietly(|| -> () { panic!("page {} is not there", 5) }),
            Err("page 5 is not there".to_owned())
        );
        let within = quietly(|| (quietly(|| -> () { panic!("inner") }), IS_QUIET.get()));
        assert_eq!(within, Ok((Err("inner".to_owned()), true)));
        assert!(!IS_QUIET.get());
    }

    #[test]
    fn only_what_is_quiet_is_not_told() {
        let told = Arc::new(Mutex::new(String::new()));
        let (tells, others) = (told.clone(), take_hook());
        set_hook(Box::new(move |panic| {
            tells.lock().unwrap().push_str(&panic.to_string());
            others(panic);
        }));
        install();
        assert!(quietly(|| panic!("of a damaged file")).is_err());
        assert!(
            std::thread::spawn(|| panic!("of somebody else"))
                .join()
                .is_err()
        );
        let told = told.lock().unwrap();
        assert!(
            told.contains("of somebody else") && !told.contains("of a damaged file"),
            "{told}"
        );
    }
}
