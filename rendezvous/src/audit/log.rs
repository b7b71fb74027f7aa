//! A line for each entry, in one place; and the one that fail2ban reads, for each try that failed or
//! was refused.
//!
//! `WARN parlor_rendezvous::refused: refused source=192.0.2.7 event=login_failed
//! reason=wrong_password account=alice` is a contract with `docs/fail2ban/parlor.conf`.

use super::Entry;

/// The target of the line; also its place in `log.level`.
const TARGET: &str = "parlor_rendezvous::refused";

impl Entry {
    /// Logs the entry: a refusal of somebody with an address by the line that does not change.
    pub fn log(&self) {
        let Self { event, source, reason, account, .. } = self;
        let reason = reason.as_ref().map(ToString::to_string).map(tracing::field::display);
        let account = account.as_ref().map(tracing::field::display);
        if let Some(source) = source.filter(|_| event.is_refusal()) {
            tracing::warn!(target: TARGET, %source, %event, reason, account, "refused");
        } else {
            let source = source.map(tracing::field::display);
            tracing::info!(%event, account, source, reason, "audit");
        }
    }
}
