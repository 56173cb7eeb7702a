//! The limit of open files, which limits the number of connections.

use sse_cli::open_files;

/// File descriptors for everything else: standard streams, the report, the event loop.
const RESERVE: usize = 32;

/// The limit of open files is too low.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} connections need more open files than the {limit} that this process may have: \
     raise the hard limit (`ulimit -Hn`, LimitNOFILE= of systemd, --ulimit nofile= of a container), \
     or use fewer --connections"
)]
pub struct TooFewFiles {
    wanted: usize,
    limit: u64,
}

/// Raises the soft limit to the hard one, and checks that it is enough.
pub(crate) fn raise_limit_for(connections: usize) -> Result<(), TooFewFiles> {
    // If the limit cannot be raised, the current one counts.
    let _ = open_files::raise_limit();
    let Some(limit) = open_files::current_limit() else {
        return Ok(());
    };
    let needed = connections.saturating_add(RESERVE);
    if u64::try_from(needed).is_ok_and(|needed| needed <= limit) {
        Ok(())
    } else {
        Err(TooFewFiles {
            wanted: connections,
            limit,
        })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_is_reported_with_a_remedy() {
        assert_eq!(raise_limit_for(1), Ok(()));
        if open_files::current_limit().is_some() {
            let error = raise_limit_for(usize::MAX)
                .expect_err("no machine has as many")
                .to_string();
            assert!(
                error.contains("ulimit -Hn") && error.contains("--connections"),
                "{error}"
            );
        }
    }
}
