//! `parlor-rendezvous`: arguments in, an exit code out. Everything else is the library's.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use parlor_rendezvous::args::Args;
use parlor_rendezvous::commands;
use serde_json::json;

/// What was typed is no command (as in sysexits and POSIX shells' custom).
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let json = std::env::args_os().any(|arg| arg == OsStr::new("--json"));
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error, json),
    };
    match commands::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error.code(), &error.to_string(), json);
            ExitCode::FAILURE
        }
    }
}

/// Prints help where it was asked for, and what is wrong otherwise.
fn usage(error: &clap::Error, json: bool) -> ExitCode {
    if error.use_stderr() && json {
        complain("usage", error.to_string().trim_end(), json);
    } else {
        // Where nothing can be printed the exit code has to do.
        let _ = error.print();
    }
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// The one place that prints errors.
fn complain(code: &str, message: &str, json: bool) {
    let line = if json {
        json!({ "error": { "code": code, "message": message } }).to_string()
    } else {
        format!("error: {message}")
    };
    // Where nothing can be printed the exit code has to do.
    let _ = writeln!(io::stderr(), "{line}");
}
