//! stdout as the operating system has it: whether somebody still reads it, and whether it is on disk.

use std::io;

/// Waits until nobody can read stdout any more (a pipe whose reader has gone); for ever if that cannot be told.
///
/// A write would find out too, but the next event may be days away, and the stream would be held open for nobody.
pub async fn wait_until_closed() {
    let (tell, told) = tokio::sync::oneshot::channel();
    // Waits as long as the process lives; nobody listens any more when that is over.
    std::thread::spawn(move || tell.send(poll_until_closed()));
    match told.await {
        Ok(true) => {}
        _ => std::future::pending().await,
    }
}

/// Makes what was written durable, if stdout is a file: a position must not be newer than what it stands for.
///
/// # Errors
/// The disk fails.
pub fn sync_to_disk() -> io::Result<()> {
    #[cfg(unix)]
    {
        let stdout = io::stdout();
        let is_file = rustix::fs::fstat(&stdout).is_ok_and(|stat| {
            rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile
        });
        if is_file {
            rustix::fs::fdatasync(&stdout)?;
        }
    }
    Ok(())
}

/// Whether it was closed; false if it cannot be watched.
#[cfg(unix)]
fn poll_until_closed() -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let stdout = io::stdout();
    loop {
        // No events are asked for: an error and a hang-up are always told.
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
