//! A listening unix socket and its file.
//!
//! The file of a socket stays when its server is killed, and nothing can listen at its path until
//! the file is removed. So a start looks at what is there:
//!
//! | at the path | connecting | the start |
//! |---|---|---|
//! | nothing | | creates the file |
//! | a socket | is refused, twice | replaces the file, which no server listens on |
//! | a socket | succeeds | fails: another server is running |
//! | a socket | fails otherwise | fails: the socket may be in use |
//! | anything else | | fails |
//!
//! No program can connect before the file has its permissions, because the server listens last.

use std::{
    fs::{self, Metadata, Permissions},
    io::{self, ErrorKind},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{Mode, RawMode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::time::sleep;

use super::listen::BACKLOG;

/// Time for a server that is starting to listen on the socket whose file it has created.
const START_TIME: Duration = Duration::from_millis(100);

/// Why the server cannot listen at a path, and what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum BindError {
    #[error("another server is running there: stop it, or choose another path with --bind")]
    InUse,
    #[error(
        "there is a file that is not a socket, and it stays: choose another path with --bind, or \
         remove the file"
    )]
    NotASocket,
    #[error(
        "a socket is there, and whether a server uses it is unknown: choose another path with \
         --bind, or remove the file if no server uses it"
    )]
    Unknown(#[source] io::Error),
    #[error("the directory does not exist: create it, or choose another path with --bind")]
    NoDirectory(#[source] io::Error),
    #[error(
        "this user may not create or replace that file: give the user the directory, or choose \
         another path with --bind"
    )]
    NoPermission(#[source] io::Error),
    #[error("choose another path with --bind")]
    Other(#[source] io::Error),
}

impl From<io::Error> for BindError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Another server has created the file a moment ago.
            ErrorKind::AddrInUse => Self::InUse,
            ErrorKind::NotFound | ErrorKind::NotADirectory => Self::NoDirectory(error),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::NoPermission(error)
            }
            _ => Self::Other(error),
        }
    }
}

/// Listens at `path` with a file that has the permissions `mode`.
///
/// # Errors
///
/// Something that may be in use is at the path, or the file cannot be created.
pub(super) async fn bind(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile), BindError> {
    remove_stale(path).await?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // On Linux the file inherits these permissions, less those of the umask, so that it never has
    // more. Other systems may ignore or reject the call.
    let _ = fchmod(&socket, Mode::from_raw_mode(mode as RawMode));
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::find(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((socket.into(), file))
}

/// Removes the file of a socket on which no server listens.
async fn remove_stale(path: &Path) -> Result<(), BindError> {
    let Some(found) = find(path)? else {
        return Ok(());
    };
    check_stale(path, &found)?;
    // A server that is starting creates the file before it listens.
    sleep(START_TIME).await;
    let Some(found_again) = find(path)? else {
        return Ok(());
    };
    check_stale(path, &found_again)?;
    if FileId::from(&found) != FileId::from(&found_again) {
        return Err(BindError::InUse);
    }
    fs::remove_file(path)?;
    tracing::info!(
        "replacing the socket of an ended server: {}",
        path.display()
    );
    Ok(())
}

/// Checks that a file is a socket on which no server listens.
fn check_stale(path: &Path, found: &Metadata) -> Result<(), BindError> {
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket);
    }
    match try_connect(path) {
        Ok(()) => Err(BindError::InUse),
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Ok(()),
            // The server has too many connections that wait to be accepted.
            ErrorKind::WouldBlock => Err(BindError::InUse),
            _ => Err(BindError::Unknown(error)),
        },
    }
}

/// Connects without waiting, and closes the connection.
fn try_connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// Returns what is at `path`, without following a link.
fn find(path: &Path) -> Result<Option<Metadata>, BindError> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Which file is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// The file of a listening socket, which is removed on drop.
///
/// A file that has replaced it stays. Drop it before the socket: the number of a file is given to
/// another one only after the socket is closed.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    id: FileId,
}

impl SocketFile {
    fn find(path: &Path) -> io::Result<Self> {
        // The working directory does not change, but an absolute path does not depend on that.
        Ok(Self {
            id: FileId::from(&fs::symlink_metadata(path)?),
            path: std::path::absolute(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| FileId::from(&found) == self.id)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "the socket's file stays: {}", self.path.display());
        }
    }
}
