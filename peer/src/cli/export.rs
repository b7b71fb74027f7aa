//! `parlor export`: messages as lines of JSON. Of a damaged profile, what is left.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::Context;
use super::error::CliError;
use crate::args::ExportArgs;
use crate::profile::private;
use crate::store::Salvaged;

pub(super) fn run(context: &Context, args: &ExportArgs) -> Result<ExitCode, CliError> {
    let salvaged = match &args.output {
        None => write(context, args, &mut BufWriter::new(io::stdout().lock()))?,
        Some(path) => to_file(context, args, path)?,
    };
    match salvaged {
        Salvaged { saved: 0, lost: Some(0) } if let Some(contact) = &args.contact => {
            Err(CliError::UnknownContact(contact.to_string()))
        }
        Salvaged { lost: Some(0), .. } => Ok(ExitCode::SUCCESS),
        Salvaged { .. } => Err(CliError::NotAllSaved(salvaged)),
    }
}

fn to_file(context: &Context, args: &ExportArgs, path: &Path) -> Result<Salvaged, CliError> {
    let file = private::create(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CliError::OutputExists(path.to_owned()),
        _ => CliError::File(path.to_owned(), error),
    })?;
    let written = fill(context, args, &file);
    match written {
        Ok(Salvaged { saved: 0, .. }) | Err(_) => drop(fs::remove_file(path)),
        Ok(Salvaged { saved, .. }) => {
            let text = format!("{saved} messages are in {}", path.display());
            context.printer.line(&json!({ "messages": saved, "file": path }), &text)?;
        }
    }
    written
}

fn fill(context: &Context, args: &ExportArgs, file: &File) -> Result<Salvaged, CliError> {
    let salvaged = write(context, args, &mut BufWriter::new(file))?;
    file.sync_all()?;
    Ok(salvaged)
}

fn write(context: &Context, args: &ExportArgs, out: &mut impl Write) -> Result<Salvaged, CliError> {
    let salvaged = context
        .home
        .export(args.contact.as_ref(), |message| writeln!(out, "{}", message.to_line()?))?;
    out.flush()?;
    Ok(salvaged)
}
