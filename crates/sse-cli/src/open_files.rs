//! The limit of open files, which limits the number of connections.

/// Raises the soft limit of open files to the hard limit, and returns the limit that holds now;
/// `None` if there is no limit.
///
/// A sandbox may forbid raising the limit: the limit then stays as it was.
#[must_use]
pub fn raise_limit() -> Option<u64> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

        let maximum = getrlimit(Resource::Nofile).maximum;
        let current = maximum;
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
        getrlimit(Resource::Nofile).current
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

        assert_eq!(raise_limit(), getrlimit(Resource::Nofile).maximum);
    }
}
