//! The limit of open files, which is the limit of connections.

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

/// Raises the soft limit to the hard one, and looks whether it is enough.
pub(crate) fn make_room_for(connections: usize) -> Result<(), TooFewFiles> {
    let Some(limit) = raised() else { return Ok(()) };
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

/// The limit; none if there is none.
#[cfg(unix)]
fn raised() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, what it is now counts.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    getrlimit(Resource::Nofile).current
}

#[cfg(not(unix))]
fn raised() -> Option<u64> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_fine_and_what_does_not_is_said_with_what_to_do() {
        assert_eq!(make_room_for(1), Ok(()));
        if raised().is_some() {
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
