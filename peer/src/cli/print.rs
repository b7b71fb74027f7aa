//! Where lines go: results to standard output, errors and logs to standard error.

use std::io::{self, Write};
use std::process::ExitCode;

use parlor_common::visible::Visible;
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

use super::error::CliError;

/// Prints results as text or as JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    json: bool,
}

impl Printer {
    pub(super) const fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints one result: `json` with `--json`, else `text`, whose parts from others must have
    /// been made visible.
    pub(super) fn line(self, json: &Value, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{json}")?;
        } else {
            writeln!(out, "{text}")?;
        }
        out.flush()
    }

    /// Prints text that JSON readers do not need.
    pub(super) fn text(self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { self.line(&Value::Null, text) }
    }

    /// Says why a command failed.
    pub(super) fn error(self, error: &CliError) {
        let mut fields = json!({ "code": error.code(), "message": error.to_string() });
        if let (Some(until), Some(fields)) = (error.until(), fields.as_object_mut()) {
            fields.insert("until".to_owned(), until.to_string().into());
        }
        self.complain(&fields, &error.to_string());
    }

    /// Says something on standard error that is not the result.
    #[expect(clippy::unused_self, reason = "all that is printed goes through a printer")]
    pub(super) fn note(self, message: &str) {
        // Nothing can be done where standard error is closed.
        let _ = writeln!(io::stderr(), "parlor: {}", Visible(message));
    }

    fn complain(self, fields: &Value, message: &str) {
        if self.json {
            let _ = writeln!(io::stderr(), "{}", json!({ "error": fields }));
        } else {
            self.note(message);
        }
    }
}

/// Says what is wrong with what was typed; help and version go to standard output.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|arg| arg == "--json");
    if error.use_stderr() && json {
        let message = error.to_string();
        let message = message.trim_start_matches("error: ").trim_end();
        let fields = json!({ "code": "usage", "message": message });
        Printer::new(true).complain(&fields, message);
    } else {
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Logs go to standard error: warnings, or what `PARLOR_LOG` asks for.
pub(super) fn start_logs() {
    let filter = EnvFilter::try_from_env("PARLOR_LOG");
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("warn,quinn=error,quinn_proto=error"));
    // Fails only if logs were started before, as in tests.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).try_init();
}
