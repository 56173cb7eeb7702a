//! stdout at the operating system: whether it is still read, and whether its data is on disk.

use std::io;

/// Waits until stdout is a closed pipe. Waits forever if that cannot be detected.
///
/// A write would detect it too, but the next event may be days away, and the stream would stay open
/// without a reader.
pub async fn wait_until_closed() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // The thread may outlive the receiver.
    std::thread::spawn(move || sender.send(poll_until_closed()));
    match receiver.await {
        Ok(true) => {}
        _ => std::future::pending().await,
    }
}

/// Makes written data durable if stdout is a file, because a stored position must not be newer than
/// the data.
///
/// # Errors
/// The disk fails.
pub fn sync_to_disk() -> io::Result<()> {
    #[cfg(unix)]
    {
        let stdout = io::stdout();
        if is_regular_file(&stdout) {
            rustix::fs::fdatasync(&stdout)?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn is_regular_file(stdout: &io::Stdout) -> bool {
    use rustix::fs::FileType;

    rustix::fs::fstat(stdout)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

/// Returns `true` when stdout is closed, `false` if it cannot be watched.
#[cfg(unix)]
fn poll_until_closed() -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let stdout = io::stdout();
    loop {
        // Errors and hang-ups are reported without being requested.
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        match poll(&mut watched, None) {
            Ok(_) => {
                return watched[0]
                    .revents()
                    .intersects(PollFlags::ERR | PollFlags::HUP);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(not(unix))]
fn poll_until_closed() -> bool {
    false
}
