//! Why a command failed: in words for people, with a code for programs and an exit code.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use parlor_common::device_list::DeviceListError;
use parlor_common::id::{MessageId, Username};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::ErrorCode;
use thiserror::Error;

use crate::account::{AccountError, ParseRecoveryCodeError};
use crate::archive::LineError;
use crate::driver::EngineError;
use crate::net::{CallError, ConnectError};
use crate::node::input::ServerDown;
use crate::node::output::IntentError;
use crate::opaque::OpaqueError;
use crate::profile::{ExportError, LockError, ProfileError};
use crate::store::{CommitError, ReadError, Salvaged};

/// Why a command failed. The messages say what to do next where there is something to do.
#[derive(Debug, Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the demo came to an unexpected end: {0}")]
    Demo(&'static str),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{} cannot be used: {}", .0.display(), .1)]
    File(PathBuf, io::Error),
    #[error("{0}")]
    Host(String),
    #[error("{}: line {line}: {error}; nothing was imported", .path.display())]
    ImportLine { path: PathBuf, line: u64, error: LineError },
    #[error(transparent)]
    Intent(#[from] IntentError),
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("this platform has no data folder; give one with --home DIR")]
    NoHome,
    #[error("{} is there already, and is not overwritten", .0.display())]
    OutputExists(PathBuf),
    #[error(
        "the link is for another rendezvous ({theirs}) than your own ({own}); Parlor talks through one rendezvous so far"
    )]
    OtherServer { theirs: String, own: String },
    #[error("the account's device list in this profile does not hold: {0}")]
    OwnDevices(DeviceListError),
    #[error("{0}")]
    Password(String),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("wrong recovery code: {0}")]
    RecoveryCode(#[from] ParseRecoveryCodeError),
    #[error("{}", server_down(*.0))]
    Server(ServerDown),
    #[error("{0}")]
    Text(String),
    #[error("{}", not_all_saved(.0))]
    NotAllSaved(Salvaged),
    #[error("nothing was changed")]
    NotConfirmed,
    #[error("this cannot be undone: give --yes where there is no terminal to ask")]
    NotAsked,
    #[error("{0} is the beginning of more than one device's id; give more of it")]
    SeveralDevices(String),
    #[error("the account has no device {0}; parlor devices lists them")]
    UnknownDevice(String),
    #[error(
        "the connection was lost before the rendezvous answered: whether the account has its new \
         key shows at the next start"
    )]
    RekeyUnknown,
    #[error("there is no conversation with {0}")]
    UnknownContact(String),
    #[error("there is no message {0} in the conversation with {1}")]
    UnknownMessage(MessageId, Username),
}

impl From<CommitError> for CliError {
    fn from(error: CommitError) -> Self {
        Self::Profile(error.into())
    }
}

impl From<ExportError> for CliError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Profile(error) => Self::Profile(error),
            ExportError::Write(error) => Self::Io(error),
        }
    }
}

fn not_all_saved(Salvaged { saved, lost }: &Salvaged) -> String {
    let lost = lost.map_or_else(|| "an unknown number".to_owned(), |lost| lost.to_string());
    format!(
        "the database is damaged: {saved} messages were saved, {lost} could not be read; parlor \
         doctor says what can be done"
    )
}

const fn server_down(reason: ServerDown) -> &'static str {
    match reason {
        ServerDown::Closed | ServerDown::Unreachable => {
            "the rendezvous cannot be reached; is it running, and is this machine online?"
        }
        ServerDown::UnknownDevice => {
            "the rendezvous does not know this device: it was removed from the account, or the \
             account has another key, was disabled or deleted. Log in again with another --home, \
             or ask whoever runs the rendezvous"
        }
        ServerDown::WrongKey => {
            "the rendezvous has another key than the one that is pinned; nothing was sent"
        }
    }
}

/// The exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Exit {
    Failed = 1,
    Usage = 2,
    Refused = 3,
    Unreachable = 4,
    KeyMismatch = 6,
}

/// What `send` ends with when the message was not delivered in time.
pub(super) const NOT_DELIVERED: u8 = 5;

impl CliError {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self.exit() {
            Exit::Failed => ExitCode::from(1),
            Exit::Usage => ExitCode::from(2),
            Exit::Refused => ExitCode::from(3),
            Exit::Unreachable => ExitCode::from(4),
            Exit::KeyMismatch => ExitCode::from(6),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Account(
                AccountError::Opaque(OpaqueError::WrongPassword) | AccountError::WrongRecoveryCode,
            )
            | Self::Call(CallError::Refused(_))
            | Self::RecoveryCode(_) => Exit::Refused,
            Self::Call(CallError::Lost)
            | Self::Connect(ConnectError::Unreachable)
            | Self::RekeyUnknown => Exit::Unreachable,
            Self::Connect(ConnectError::WrongKey) => Exit::KeyMismatch,
            Self::Connect(ConnectError::NoKey) | Self::Text(_) => Exit::Usage,
            Self::Intent(error) => exit_of_intent(error),
            Self::Server(reason) => exit_of_server(*reason),
            Self::Account(_)
            | Self::Call(CallError::Malformed)
            | Self::Connect(_)
            | Self::Demo(_)
            | Self::Engine(_)
            | Self::File(..)
            | Self::Host(_)
            | Self::ImportLine { .. }
            | Self::Interrupted
            | Self::Io(_)
            | Self::Lock(_)
            | Self::NoHome
            | Self::NotAllSaved(_)
            | Self::NotAsked
            | Self::NotConfirmed
            | Self::OtherServer { .. }
            | Self::OutputExists(_)
            | Self::OwnDevices(_)
            | Self::Password(_)
            | Self::Profile(_)
            | Self::Read(_)
            | Self::SeveralDevices(_)
            | Self::UnknownContact(_)
            | Self::UnknownDevice(_)
            | Self::UnknownMessage(..) => Exit::Failed,
        }
    }

    /// When the next try is taken, where the rendezvous has said so.
    pub(super) const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Call(CallError::Refused(reply)) => reply.until,
            _ => None,
        }
    }

    /// The code for programs.
    pub(super) fn code(&self) -> String {
        let code = match self {
            Self::Call(CallError::Refused(reply)) => return reply.code.to_string(),
            Self::Intent(IntentError::Refused { code, .. }) => return code.clone(),
            Self::Account(AccountError::Opaque(OpaqueError::WrongPassword)) => {
                return ErrorCode::WrongPassword.to_string();
            }
            Self::Account(AccountError::WrongRecoveryCode) | Self::RecoveryCode(_) => {
                "wrong_recovery_code"
            }
            Self::Profile(
                ProfileError::Locked | ProfileError::Passphrase(_) | ProfileError::WrongPassphrase,
            ) => "passphrase",
            Self::NotAllSaved(_)
            | Self::Engine(
                EngineError::Read(ReadError::Damaged) | EngineError::Save(CommitError::Damaged),
            )
            | Self::Profile(
                ProfileError::Damaged(_)
                | ProfileError::Read(ReadError::Damaged)
                | ProfileError::Write(CommitError::Damaged),
            )
            | Self::Read(ReadError::Damaged) => "damaged",
            Self::Profile(ProfileError::Config(_)) => "config",
            Self::ImportLine { .. } => "import",
            Self::Lock(LockError::Held { .. }) => "profile_in_use",
            Self::Profile(_) | Self::Lock(_) | Self::Read(_) | Self::NoHome => "profile",
            Self::Intent(IntentError::UnknownContact(_)) | Self::UnknownContact(_) => {
                "unknown_contact"
            }
            Self::Interrupted => "interrupted",
            Self::Password(_) => "password",
            Self::Text(_) => "text",
            _ => match self.exit() {
                Exit::Failed => "failed",
                Exit::Usage => "usage",
                Exit::Refused => "refused",
                Exit::Unreachable => "unreachable",
                Exit::KeyMismatch => "key_mismatch",
            },
        };
        code.to_owned()
    }
}

fn exit_of_intent(error: &IntentError) -> Exit {
    match error {
        IntentError::EmptyText | IntentError::TextTooLong(_) => Exit::Usage,
        IntentError::Refused { .. } => Exit::Refused,
        IntentError::Unreachable => Exit::Unreachable,
        IntentError::KeyChanged(_) | IntentError::KeyMismatch(_) | IntentError::WrongServerKey => {
            Exit::KeyMismatch
        }
        IntentError::Blocked(_)
        | IntentError::ConfirmElsewhere
        | IntentError::DevicesChanged
        | IntentError::NoKey(_)
        | IntentError::NoRequest(_)
        | IntentError::NotAccepted(_)
        | IntentError::NotQueued
        | IntentError::NothingToConfirm
        | IntentError::Oneself(_)
        | IntentError::UnknownContact(_)
        | IntentError::Unsound(..) => Exit::Failed,
    }
}

const fn exit_of_server(reason: ServerDown) -> Exit {
    match reason {
        ServerDown::Closed | ServerDown::Unreachable => Exit::Unreachable,
        ServerDown::UnknownDevice => Exit::Refused,
        ServerDown::WrongKey => Exit::KeyMismatch,
    }
}
