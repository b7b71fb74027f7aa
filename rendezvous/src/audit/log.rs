//! The line that fail2ban reads: one for each try that failed or was refused, and in one place.
//!
//! `WARN parlor_rendezvous::refused: refused source=192.0.2.7 event=login_failed
//! reason=wrong_password account=alice` is a contract with `docs/fail2ban/parlor.conf`.

use super::Entry;

/// The target of the line; also its place in `log.level`.
const TARGET: &str = "parlor_rendezvous::refused";

impl Entry {
    /// Logs the entry if it is a refusal of somebody with an address.
    pub fn log_refusal(&self) {
        let Some(source) = self.source.filter(|_| self.event.is_refusal()) else { return };
        let Self { event, reason, account, .. } = self;
        let (reason, account) = (reason.as_ref().map(ToString::to_string), account.as_ref());
        tracing::warn!(
            target: TARGET,
            %source,
            %event,
            reason = reason.map(tracing::field::display),
            account = account.map(tracing::field::display),
            "refused"
        );
    }
}
