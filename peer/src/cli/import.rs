//! `parlor import`: brings exported messages back into a profile.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::Context;
use super::error::CliError;
use crate::archive;
use crate::driver::EngineError;
use crate::store::Imported;

pub(super) fn run(context: &Context, path: &Path) -> Result<ExitCode, CliError> {
    // A profile that is not there is said before its folder is made.
    let own = context.home.open_read_only()?.identity()?.name;
    let file = File::open(path).map_err(|error| CliError::File(path.to_owned(), error))?;
    let lock = context.home.lock("parlor import")?;
    let mut store = lock.open()?;
    let messages = archive::messages(BufReader::new(file), &own).map(|(line, message)| {
        message.map_err(|error| CliError::ImportLine { path: path.to_owned(), line, error })
    });
    let imported = store.import(messages);
    store.close().map_err(EngineError::Save)?;
    let Imported { messages, new } = imported?;
    let text = format!("{messages} messages, {new} of them were not here");
    context.printer.line(&json!({ "messages": messages, "new": new }), &text)?;
    Ok(ExitCode::SUCCESS)
}
