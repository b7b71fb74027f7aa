//! How a command reaches the core: over the socket of a running server, or itself where none runs.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::CommandError;
use crate::admin::{AdminAnswer, AdminReply, AdminRequest};
use crate::config::{Config, DataPlace};
use crate::driver::{Offline, StartError};
use crate::folder::FolderError;
use crate::store;

/// A server that starts or stops is waited for this often, for this long each time: 5 s.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// The core, wherever it is.
pub(super) struct Core<'a> {
    config: &'a Config,
    way: Way,
}

enum Way {
    #[cfg(unix)]
    Running(socket::Running),
    Offline(Box<Offline>),
}

impl<'a> Core<'a> {
    pub(super) fn reach(config: &'a Config) -> Result<Self, CommandError> {
        Ok(Self { config, way: Way::find(config)? })
    }

    /// Whether a server runs.
    pub(super) const fn is_running(&self) -> bool {
        match self.way {
            #[cfg(unix)]
            Way::Running(_) => true,
            Way::Offline(_) => false,
        }
    }

    pub(super) fn ask(&mut self, request: &AdminRequest) -> Result<AdminAnswer, CommandError> {
        let mut reply = self.way.ask(request)?;
        for _ in 0..TRIES {
            if reply.is_some() || !request.may_be_repeated() {
                break;
            }
            // The server is ending: its socket may be there a moment longer, and the next one's
            // after that.
            thread::sleep(PAUSE);
            self.way = Way::find(self.config)?;
            reply = self.way.ask(request)?;
        }
        match reply {
            Some(AdminReply::Ok(answer)) => Ok(answer),
            Some(AdminReply::Error(error)) => Err(CommandError::Refused(error)),
            None => Err(CommandError::NoAnswer),
        }
    }
}

impl Way {
    fn find(config: &Config) -> Result<Self, CommandError> {
        let DataPlace::Folder(folder) = &config.data else { return Err(CommandError::NoServer) };
        if !folder.join(store::FILE).exists() {
            return Err(CommandError::NoServer);
        }
        for _ in 0..TRIES {
            if let Some(way) = Self::try_find(folder, config)? {
                return Ok(way);
            }
            // A server has the folder, and no socket: it is starting, or stopping.
            thread::sleep(PAUSE);
        }
        Err(FolderError::Silent(folder.clone()).into())
    }

    fn try_find(folder: &Path, config: &Config) -> Result<Option<Self>, CommandError> {
        #[cfg(unix)]
        if let Some(running) = socket::Running::find(folder)? {
            return Ok(Some(Self::Running(running)));
        }
        match Offline::open(config) {
            Ok(offline) => Ok(Some(Self::Offline(Box::new(offline)))),
            Err(StartError::Folder(FolderError::InUse(_))) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The reply; nothing if the server ended before.
    fn ask(&mut self, request: &AdminRequest) -> Result<Option<AdminReply>, CommandError> {
        match self {
            #[cfg(unix)]
            Self::Running(running) => Ok(running.ask(request)?),
            Self::Offline(offline) => Ok(offline.ask(request.clone())),
        }
    }
}

#[cfg(unix)]
mod socket {
    use std::io::{self, BufRead, BufReader, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::time::Duration;

    use crate::admin::{AdminReply, AdminRequest, MAX_ADMIN_REPLY};
    use crate::driver::SocketPath;

    /// How long a running server may take to answer.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A running server.
    pub(in crate::commands) struct Running(SocketPath);

    impl Running {
        /// The server that runs on a folder, if one does and takes requests.
        pub(super) fn find(folder: &Path) -> io::Result<Option<Self>> {
            let at = SocketPath::within(folder)?;
            match UnixStream::connect(at.path()) {
                Ok(_) => Ok(Some(Self(at))),
                Err(error) if is_nobody(&error) => Ok(None),
                Err(error) => Err(error),
            }
        }

        /// Its reply; nothing if it ended before.
        pub(super) fn ask(&self, request: &AdminRequest) -> io::Result<Option<AdminReply>> {
            match self.exchange(request) {
                Ok(reply) if reply.is_empty() => Ok(None),
                Ok(reply) => Ok(Some(serde_json::from_slice(&reply)?)),
                Err(error) if is_nobody(&error) || has_gone(&error) => Ok(None),
                Err(error) => Err(error),
            }
        }

        fn exchange(&self, request: &AdminRequest) -> io::Result<Vec<u8>> {
            let mut stream = UnixStream::connect(self.0.path())?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let mut line = serde_json::to_vec(request)?;
            line.push(b'\n');
            stream.write_all(&line)?;
            let bound = u64::try_from(MAX_ADMIN_REPLY).unwrap_or(u64::MAX);
            let mut reply = Vec::new();
            BufReader::new(stream).take(bound).read_until(b'\n', &mut reply)?;
            Ok(reply)
        }
    }

    /// Whether who listened there has ended.
    fn has_gone(error: &io::Error) -> bool {
        matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
    }

    /// Whether nobody listens there.
    fn is_nobody(error: &io::Error) -> bool {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    }
}
