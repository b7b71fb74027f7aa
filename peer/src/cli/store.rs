//! `parlor store passphrase`: whether the key of the profile's database stands in its file as it is.

use std::process::ExitCode;

use serde_json::json;

use super::Context;
use super::error::CliError;
use super::password::{self, Chosen};
use crate::args::PassphraseArgs;
use crate::driver::os_rng;
use crate::profile::KeyProtection;

pub(super) fn passphrase(context: &Context, args: &PassphraseArgs) -> Result<ExitCode, CliError> {
    // A profile that is not there is said before its folder is made.
    let identity = context.home.open_read_only()?.identity()?;
    let lock = context.home.lock("parlor store passphrase")?;
    let passphrase = if args.remove {
        None
    } else {
        let whose = (&identity.name, &identity.server);
        Some(password::chosen(args.passphrase_file.as_deref(), Chosen::Passphrase, whose)?)
    };
    lock.protect_key(passphrase.as_ref(), &mut os_rng())?;
    let (word, text) = match context.home.key_protection()? {
        KeyProtection::Passphrase => (
            "passphrase",
            "the profile opens with this passphrase from now on; nobody can tell it back",
        ),
        KeyProtection::PlainFile => (
            "plain_file",
            "the profile opens without a passphrase: whoever reads its folder reads it all",
        ),
    };
    context.printer.line(&json!({ "key": word }), text)?;
    Ok(ExitCode::SUCCESS)
}
