//! The limit of open files, which is the limit of connections.

use sse_cli::open_files;

/// Descriptors for everything else: standard streams, the report, the event loop.
const RESERVE: usize = 32;

/// There may not be as many connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} connections need more open files than the {limit} that this process may have: \
     raise the hard limit (`ulimit -Hn`, LimitNOFILE= of systemd, --ulimit nofile= of a container), or take fewer --connections"
)]
pub struct TooFewFiles {
    wanted: usize,
    limit: u64,
}

/// Raises the soft limit to the hard one, and checks that it is enough.
pub(crate) fn make_room_for(connections: usize) -> Result<(), TooFewFiles> {
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
    fn what_fits_is_fine_and_what_does_not_is_said_with_what_to_do() {
        assert_eq!(make_room_for(1), Ok(()));
        if open_files::current_limit().is_some() {
            let said = make_room_for(usize::MAX)
                .expect_err("no machine has as many")
                .to_string();
            assert!(
                said.contains("ulimit -Hn") && said.contains("--connections"),
                "{said}"
            );
        }
    }
}
