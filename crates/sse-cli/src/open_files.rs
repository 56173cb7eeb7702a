//! The limit of open files, which limits the number of connections.

use std::io;

/// Raises the soft limit of open files to the hard limit.
///
/// # Errors
///
/// The system does not allow it, for example in a sandbox. The limit stays as it was.
pub fn raise_limit() -> io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current != maximum {
            let current = maximum;
            setrlimit(Resource::Nofile, Rlimit { current, maximum })?;
        }
    }
    Ok(())
}

/// Returns the soft limit of open files; `None` if there is no limit.
#[must_use]
pub fn current_limit() -> Option<u64> {
    #[cfg(unix)]
    {
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current
    }
    #[cfg(not(unix))]
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_limit() {
        use rustix::process::{Resource, getrlimit};

        raise_limit().expect("the soft limit may always be raised to the hard one");
        assert_eq!(current_limit(), getrlimit(Resource::Nofile).maximum);
    }
}
