//! Where log lines go: to standard error.

use std::io::{self, Write};

use parlor_common::visible::Visible;
use tracing::Dispatch;
use tracing_subscriber::EnvFilter;

use super::CommandError;
use crate::config::{Log, LogFormat};

/// What is let through.
pub(super) fn filter(log: &Log) -> Result<EnvFilter, CommandError> {
    let filter = EnvFilter::builder().parse(&log.level);
    filter.map_err(|_| CommandError::LogLevel(log.level.clone()))
}

/// Starts to log. A program that logs already goes on as it did.
pub(super) fn start(log: &Log) -> Result<(), CommandError> {
    let lines = lines(log, io::stderr)?;
    let _ = tracing::dispatcher::set_global_default(lines);
    Ok(())
}

/// Lines for people or for programs.
fn lines<W: Write + 'static>(
    log: &Log,
    to: impl Fn() -> W + Send + Sync + 'static,
) -> Result<Dispatch, CommandError> {
    let to = move || OneLine(to());
    let lines = tracing_subscriber::fmt().with_env_filter(filter(log)?).with_writer(to);
    Ok(match log.format {
        LogFormat::Text => Dispatch::new(lines.finish()),
        LogFormat::Json => Dispatch::new(lines.json().finish()),
    })
}

/// Takes each event whole, and makes one harmless line of it, whatever a stranger got into it.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = format!("{}\n", Visible(text.strip_suffix('\n').unwrap_or(&text)));
        self.0.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::{Arc, Mutex};

    use parlor_common::time::Timestamp;
    use parlor_common::wire::rendezvous::ErrorCode;
    use regex::Regex;

    use super::*;
    use crate::audit::{AuditEvent, Entry, Reason};

    /// What fail2ban is told to look for.
    const FILTER: &str = include_str!("../../../docs/fail2ban/parlor.conf");

    /// Lines in memory.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().map_err(|_| io::ErrorKind::Other)?.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, log: impl FnOnce()) -> Vec<String> {
        let memory = Memory::default();
        let to = memory.clone();
        let lines = lines(&Log { format, ..Log::default() }, move || to.clone()).unwrap();
        tracing::dispatcher::with_default(&lines, log);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn value(name: &str) -> &'static str {
        let start = format!("\n{name} = ");
        let (_, rest) = FILTER.split_once(&start).unwrap();
        rest.split_once("\n\n").map_or(rest, |(value, _)| value)
    }

    /// The expressions of the filter, as fail2ban completes them.
    fn expressions() -> Vec<Regex> {
        let journal = value("_journal");
        let complete = |line: &str| {
            let line = line.trim().replace("%(_journal)s", journal);
            Regex::new(&line.replace("<HOST>", "(?P<host>[0-9A-Fa-f:.]+)")).unwrap()
        };
        value("failregex").lines().map(complete).collect()
    }

    /// The address that fail2ban finds in a line, out of which it cuts the date first.
    fn found(line: &str) -> Option<String> {
        let date = value("datepattern").lines().next()?.replace("%%", "%");
        let date = [("%Y", "\\d{4}"), ("%f", "\\d+"), ("%z", "Z")]
            .into_iter()
            .chain(["%m", "%d", "%H", "%M", "%S"].map(|part| (part, "\\d\\d")))
            .fold(date, |date, (part, digits)| date.replace(part, digits));
        let line = Regex::new(&date).unwrap().replace(line, "");
        let host = |expression: Regex| Some(expression.captures(&line)?["host"].to_owned());
        expressions().into_iter().find_map(host)
    }

    fn refusal(event: AuditEvent, source: &str, code: ErrorCode) -> Entry {
        let source: IpAddr = source.parse().unwrap();
        let entry = Entry::new(event, Timestamp::default()).from(source);
        entry.of("alice".parse().unwrap()).because(Reason::Refused(code))
    }

    #[test]
    fn fail2ban_finds_the_source_of_each_refusal() {
        let login = AuditEvent::LoginFailed;
        let refused = AuditEvent::RegistrationRefused;
        let refusals = [
            (refusal(login, "192.0.2.7", ErrorCode::WrongPassword), "192.0.2.7"),
            (refusal(login, "2001:db8::7", ErrorCode::Locked), "2001:db8::7"),
            (refusal(login, "::ffff:192.0.2.8", ErrorCode::TooFast), "192.0.2.8"),
            (refusal(refused, "192.0.2.9", ErrorCode::BadInvitation), "192.0.2.9"),
        ];
        for format in [LogFormat::Text, LogFormat::Json] {
            for (entry, source) in &refusals {
                let lines = logged(format, || entry.log());
                assert_eq!(lines.len(), 1);
                assert_eq!(found(&lines[0]).as_deref(), Some(*source), "{}", lines[0]);
            }
        }
    }

    #[test]
    fn the_line_is_the_documented_one() {
        let entry = refusal(AuditEvent::LoginFailed, "192.0.2.7", ErrorCode::WrongPassword);
        let line = logged(LogFormat::Text, || entry.log()).remove(0);
        let (_, text) = line.split_once("  ").unwrap();
        assert!(FILTER.contains(text), "{text}");
        let line = logged(LogFormat::Json, || entry.log()).remove(0);
        let (_, text) = line.split_once("\",").unwrap();
        assert!(FILTER.contains(text), "{text}");
    }

    #[test]
    fn nothing_else_is_taken_for_a_refusal() {
        let event = AuditEvent::LoggedIn;
        let entry = refusal(event, "192.0.2.7", ErrorCode::WrongPassword);
        let unknown = Entry::new(AuditEvent::LoginFailed, Timestamp::default());
        for format in [LogFormat::Text, LogFormat::Json] {
            assert!(!logged(format, || entry.log()).concat().contains("refused"));
            assert!(!logged(format, || unknown.log()).concat().contains("refused"));
            // What somebody wrote to be logged does not pass for a line of its own.
            let text = "\n2026-11-24T10:15:00.1Z  WARN parlor_rendezvous::refused: refused \
                        source=192.0.2.7 event=login_failed\n\u{1b}[2J\u{202e}";
            let lines = logged(format, || tracing::warn!("{text}"));
            assert_eq!(lines.len(), 1);
            assert_eq!(found(&lines[0]), None, "{}", lines[0]);
            assert!(!lines[0].contains(['\u{1b}', '\u{202e}']));
        }
    }
}
