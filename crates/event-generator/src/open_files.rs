//! How many connections the system allows: the soft limit of open files is raised to what is needed, if it may be.

/// Files besides the connections.
const OTHERS: u64 = 64;

/// Makes room for so many connections, up to the hard limit. Beyond it, connecting fails, and the events say so.
#[cfg(unix)]
pub(crate) fn make_room_for(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = connections as u64 + OTHERS;
    // None is no limit.
    if current.is_some_and(|current| current < needed) {
        let raised = maximum.map_or(needed, |maximum| needed.min(maximum));
        // Fails where a sandbox forbids it, which is as it was.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(raised),
                maximum,
            },
        );
    }
}

/// There is no such limit.
#[cfg(not(unix))]
pub(crate) fn make_room_for(_connections: usize) {}
