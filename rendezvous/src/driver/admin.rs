//! The admin's socket in the data folder, its owner's alone: a line of JSON in, a line out.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::turns::Input;
use crate::admin::{AdminError, AdminErrorCode, AdminReply, AdminRequest, MAX_ADMIN_REQUEST};

/// The socket's file within the data folder.
const SOCKET: &str = "admin.sock";

/// The longest path that fits into a socket's address everywhere (`sun_path`, with its end).
const MAX_PATH: usize = 100;

/// Clients at once; more wait until one has gone.
const MAX_CLIENTS: usize = 16;

/// How long a client may take to ask, and to take its reply.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the socket is: a path that fits, as long as the value lives.
#[derive(Debug)]
pub(crate) struct SocketPath {
    path: PathBuf,
    /// Where the folder's own path is too long, it is reached by its descriptor.
    _folder: Option<File>,
}

impl SocketPath {
    pub(crate) fn within(folder: &Path) -> io::Result<Self> {
        let path = folder.join(SOCKET);
        if path.as_os_str().len() <= MAX_PATH {
            return Ok(Self { path, _folder: None });
        }
        let folder = File::open(folder)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(SOCKET);
        if fs::symlink_metadata("/proc/self/fd").is_err() {
            let text =
                "the path of the data folder is too long for a socket: give a shorter --data";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Self { path, _folder: Some(folder) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The socket of a running server. It is removed with its value.
#[derive(Debug)]
pub(super) struct AdminSocket {
    listener: UnixListener,
    at: SocketPath,
}

impl AdminSocket {
    /// Listens in a folder that this process has locked: a socket that is there is of a server that
    /// was killed.
    pub(super) fn bind(folder: &Path) -> io::Result<Self> {
        let at = SocketPath::within(folder)?;
        match fs::symlink_metadata(at.path()) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(at.path())?,
            Ok(_) => {
                let text = format!("{} is in the way: remove it", folder.join(SOCKET).display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(at.path())?;
        // Until here the folder, which is of mode 0700, kept others out.
        fs::set_permissions(at.path(), Permissions::from_mode(0o600))?;
        Ok(Self { listener, at })
    }

    /// Serves as long as it is polled.
    pub(super) async fn serve(self, inputs: mpsc::Sender<Input>) {
        let room = Arc::new(Semaphore::new(MAX_CLIENTS));
        // Nobody closes the room.
        while let Ok(place) = Arc::clone(&room).acquire_owned().await {
            match self.listener.accept().await {
                Ok((client, _)) => {
                    let inputs = inputs.clone();
                    tokio::spawn(async move {
                        answer(client, &inputs).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin socket takes nobody");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // One that stays is replaced at the next start.
        let _ = fs::remove_file(self.at.path());
    }
}

/// Answers one request.
async fn answer(mut client: UnixStream, inputs: &mpsc::Sender<Input>) {
    let Ok(Some(line)) = timeout(PATIENCE, read_line(&mut client)).await else { return };
    let reply = match serde_json::from_slice(&line) {
        Ok(request) => {
            let Some(reply) = ask(request, inputs).await else { return };
            reply
        }
        Err(error) => malformed(&error.to_string()),
    };
    let Ok(mut reply) = serde_json::to_vec(&reply) else { return };
    reply.push(b'\n');
    // Whoever does not take the reply does without.
    let _ = timeout(PATIENCE, client.write_all(&reply)).await;
}

/// A line without its end, at most as long as a request; nothing if the client has left.
async fn read_line(client: &mut UnixStream) -> Option<Vec<u8>> {
    let bound = u64::try_from(MAX_ADMIN_REQUEST).ok()?.saturating_add(1);
    let mut line = Vec::new();
    BufReader::new(client).take(bound).read_until(b'\n', &mut line).await.ok()?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.is_empty() {
        return None;
    }
    Some(line)
}

async fn ask(request: AdminRequest, inputs: &mpsc::Sender<Input>) -> Option<AdminReply> {
    let (reply, answer) = oneshot::channel();
    inputs.send(Input::Admin { request, reply }).await.ok()?;
    answer.await.ok()
}

fn malformed(message: &str) -> AdminReply {
    let message = format!("that is no request: {message}");
    AdminReply::Error(AdminError { code: AdminErrorCode::Malformed, message })
}
