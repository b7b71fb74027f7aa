//! Takes the messages out of a profile, also of a damaged one.

use std::io;

use parlor_common::id::Username;
use thiserror::Error;

use super::{DATABASE, Home, ProfileError};
use crate::archive::ArchivedMessage;
use crate::store::{Salvage, SalvageError, Salvaged};

/// Why messages could not be taken out.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The profile does not open, or nothing of it.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Where they were to be put took no more.
    #[error(transparent)]
    Write(#[from] io::Error),
}

impl Home {
    /// Gives all messages, or those of one conversation, in the order in which they came, whoever
    /// has the profile. What cannot be read is left out.
    pub fn export(
        &self,
        contact: Option<&Username>,
        mut give: impl FnMut(&ArchivedMessage) -> io::Result<()>,
    ) -> Result<Salvaged, ExportError> {
        let (key, path) = (self.key()?, self.path.join(DATABASE));
        if let Err(error) = self.catch_up() {
            // What is in the database counts; of a damaged one, what is left of it.
            tracing::warn!(%error, "the last commits are not in the database");
        }
        let failed = |error| match error {
            SalvageError::Open(error) => ExportError::Profile(self.cannot_open(error)),
            SalvageError::Write(error) => ExportError::Write(error),
        };
        let salvage = Salvage::open(&path, &key).map_err(failed)?;
        let own = salvage.own_name().map_err(failed)?;
        let give = |message| give(&ArchivedMessage::of(message, &own));
        salvage.messages(contact, give).map_err(failed)
    }
}
