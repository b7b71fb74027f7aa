//! `parlor`: private chat between people's own machines.

use std::process::ExitCode;

fn main() -> ExitCode {
    parlor::cli::main()
}
