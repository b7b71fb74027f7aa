//! What is asked at a terminal and is no password: codes, and whether something is meant.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use zeroize::Zeroizing;

/// No answer is longer, in bytes.
const MAX_LINE: u64 = 4096;

/// Whether there is somebody to ask.
pub(super) fn is_possible() -> bool {
    io::stdin().is_terminal()
}

/// Asks a question on standard error, and reads one line, without the blanks around it.
pub(super) fn ask(question: &str) -> io::Result<Zeroizing<String>> {
    let mut error = io::stderr();
    write!(error, "{question}")?;
    error.flush()?;
    let mut line = Zeroizing::new(String::new());
    io::stdin().lock().take(MAX_LINE).read_line(&mut line)?;
    Ok(Zeroizing::new(line.trim().to_owned()))
}
