//! How much is too much. Every number here has a default that honest use never meets, and a name
//! in the configuration's `[limits]`.

use crate::bucket::Rate;
use serde::{Deserialize, Serialize};

/// The `[limits]` of the configuration.
///
/// What is counted by the minute is a bucket of two numbers: `…_at_once` tokens when it is full (0:
/// nothing is allowed; beyond a million counts as a million), and `…_per_minute` that come back (0
/// counts as 1). Whoever finds it empty is told until when. The defaults let a script run `parlor send` four
/// times a second.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections in all: 20,000 of them stay within 1 GiB.
    pub connections: usize,
    /// Connections from one source (an IPv4 address, or an IPv6 /64): a large office behind one
    /// address.
    pub connections_per_source: usize,
    /// Connections of one account, the devices' one each: beyond them the newcomer is closed.
    pub connections_per_account: usize,
    /// Parts of a wider prefix (addresses of an IPv4 /24, /64s of an IPv6 /56, /56s of a /48) that
    /// were refused something within ten minutes, from which on the prefix is one source for an
    /// hour; 0, or more than the 256 that there are: never.
    pub parts_before_widening: usize,
    /// Handshakes in progress; beyond them newcomers are refused.
    pub handshakes: usize,
    /// Handshakes in progress beyond which a newcomer first proves its address by QUIC Retry
    /// (RFC 9000 §8.1.2), which costs the server nothing and honest clients a round trip.
    pub handshakes_before_retry: usize,
    /// Milliseconds in which a handshake has ended: one that takes longer was given up by the
    /// client, or is none.
    pub handshake_timeout_ms: u64,
    /// Handshakes that one source begins, apart for addresses that were proved; beyond them it has
    /// to prove its address, and is refused.
    pub handshakes_at_once: u32,
    /// See `handshakes_at_once`.
    pub handshakes_per_minute: u32,
    /// MiB of requests in progress that are longer than 4 KiB, a quarter of it for one source;
    /// beyond them requests wait, and are cut as if they stalled. A request of full size (64 KiB)
    /// has room in any case.
    pub request_memory_mib: usize,
    /// Milliseconds in which a request has arrived whole, and in which its reply is taken.
    pub request_timeout_ms: u64,
    /// Contacts that an account may hold.
    pub contacts: u32,
    /// New contact requests that an account may make in 24 hours.
    pub contact_requests_per_day: u32,
    /// Contact requests that may be held for one account.
    pub held_requests: u32,
    /// One-time prekey pairs that are kept for a device; beyond them the oldest go. A client tops
    /// them up to 100.
    pub one_time_prekeys: u32,
    /// One-time pairs of a device that leave for the same account in 24 hours, so that nobody
    /// uses them up; then its bundles come without.
    pub one_time_prekeys_per_day: u32,
    /// Times that an account may ask for prekeys in 24 hours.
    pub prekey_requests_per_day: u32,
    /// Accounts that the open invitations of one user are good for; 0: only an admin invites.
    pub invitations_per_user: u32,
    /// Days that a user's invitation is good for.
    pub invitation_days: u32,
    /// Requests of any kind by one account, or of one source by devices without an account.
    pub requests_at_once: u32,
    /// See `requests_at_once`.
    pub requests_per_minute: u32,
    /// Accounts that one account may look up, by `user.get` or `prekeys.get`: all of its contacts,
    /// twice over.
    pub lookups_at_once: u32,
    /// See `lookups_at_once`.
    pub lookups_per_minute: u32,
    /// Contact requests of one account, repetitions included.
    pub contact_requests_at_once: u32,
    /// See `contact_requests_at_once`.
    pub contact_requests_per_minute: u32,
    /// Path offers of one account: one to each contact, twice over.
    pub offers_at_once: u32,
    /// See `offers_at_once`.
    pub offers_per_minute: u32,
    /// `prekeys.put` of one account, up to 64 KiB each.
    pub prekeys_put_at_once: u32,
    /// See `prekeys_put_at_once`.
    pub prekeys_put_per_minute: u32,
    /// Invitations that one account makes.
    pub invitations_at_once: u32,
    /// See `invitations_at_once`.
    pub invitations_per_minute: u32,
    /// Registrations that one source may begin at once, kept across a restart.
    pub registrations_at_once: u32,
    /// Registrations that one source may begin in a minute after that.
    pub registrations_per_minute: u32,
    /// Registrations that all sources together may begin in a minute.
    pub registrations_per_minute_in_all: u32,
    /// Logins that one source may begin at once, kept across a restart.
    pub logins_at_once: u32,
    /// Logins that one source may begin in a minute after that.
    pub logins_per_minute: u32,
    /// Logins that all sources together may begin in a minute.
    pub logins_per_minute_in_all: u32,
    /// Failed logins to a name from a source after which the next try does not wait yet.
    pub login_failures_free: u32,
    /// Failed logins to a name from a source, within the window, that lock it for that source.
    pub login_failures_to_lock: u32,
    /// The window, in minutes.
    pub login_window_minutes: u32,
    /// Minutes that the first lock lasts; each further one lasts twice as long as the one before.
    pub login_lock_minutes: u32,
    /// Hours that the longest lock lasts.
    pub login_longest_lock_hours: u32,
    /// Failed logins to a name in 24 hours, from sources that it never logged in from, that lock
    /// it for all of those.
    pub login_failures_per_name_per_day: u32,
    /// Names and sources that are remembered for this; beyond them those go that were not heard of
    /// for the longest time, but for those that are locked.
    pub login_tries_kept: u32,
    /// Refused registrations and logins of one source that are written into the audit trail at
    /// once, so that nobody fills the disk.
    pub audited_refusals_at_once: u32,
    /// And in a minute after that.
    pub audited_refusals_per_minute: u32,
    /// Days for which the rows of the audit trail are kept.
    pub audit_days: u32,
    /// Minutes that a code by e-mail is good for.
    pub email_code_minutes: u32,
    /// Wrong codes after which the right one is refused, too.
    pub email_code_attempts: u32,
    /// Mails that leave for one address in 24 hours.
    pub mails_per_address_per_day: u32,
    /// Mails that leave for all addresses of one domain in 24 hours.
    pub mails_per_domain_per_day: u32,
    /// Mails that leave in 24 hours.
    pub mails_per_day: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_source: 1_000,
            connections_per_account: 32,
            parts_before_widening: 16,
            handshakes: 1_000,
            handshakes_before_retry: 100,
            handshake_timeout_ms: 10_000,
            handshakes_at_once: 3_000,
            handshakes_per_minute: 6_000,
            request_memory_mib: 64,
            request_timeout_ms: 10_000,
            contacts: 1_000,
            contact_requests_per_day: 20,
            held_requests: 500,
            one_time_prekeys: 100,
            one_time_prekeys_per_day: 3,
            prekey_requests_per_day: 10_000,
            invitations_per_user: 0,
            invitation_days: 7,
            requests_at_once: 6_000,
            requests_per_minute: 12_000,
            lookups_at_once: 2_000,
            lookups_per_minute: 1_200,
            contact_requests_at_once: 60,
            contact_requests_per_minute: 30,
            offers_at_once: 2_000,
            offers_per_minute: 1_200,
            prekeys_put_at_once: 600,
            prekeys_put_per_minute: 300,
            invitations_at_once: 30,
            invitations_per_minute: 10,
            registrations_at_once: 30,
            registrations_per_minute: 1,
            registrations_per_minute_in_all: 6_000,
            logins_at_once: 60,
            logins_per_minute: 6,
            logins_per_minute_in_all: 60_000,
            login_failures_free: 3,
            login_failures_to_lock: 10,
            login_window_minutes: 15,
            login_lock_minutes: 15,
            login_longest_lock_hours: 24,
            login_failures_per_name_per_day: 1_000,
            login_tries_kept: 100_000,
            audited_refusals_at_once: 200,
            audited_refusals_per_minute: 20,
            audit_days: 365,
            email_code_minutes: 15,
            email_code_attempts: 5,
            mails_per_address_per_day: 5,
            mails_per_domain_per_day: 1_000,
            mails_per_day: 2_000,
        }
    }
}

impl Limits {
    /// Those of them that contact requests meet.
    pub const fn of_contacts(&self) -> ContactLimits {
        ContactLimits {
            contacts: self.contacts,
            requests_per_day: self.contact_requests_per_day,
            held_requests: self.held_requests,
        }
    }

    /// How fast one source may begin handshakes.
    pub const fn handshakes(&self) -> Rate {
        Rate { at_once: self.handshakes_at_once, per_minute: self.handshakes_per_minute }
    }

    /// How fast one source may begin registrations.
    pub const fn registrations(&self) -> Rate {
        Rate { at_once: self.registrations_at_once, per_minute: self.registrations_per_minute }
    }

    /// How fast one source may begin logins.
    pub const fn logins(&self) -> Rate {
        Rate { at_once: self.logins_at_once, per_minute: self.logins_per_minute }
    }

    /// How many refusals of one source are written down.
    pub const fn audited_refusals(&self) -> Rate {
        let per_minute = self.audited_refusals_per_minute;
        Rate { at_once: self.audited_refusals_at_once, per_minute }
    }

    /// Those of them that prekeys meet.
    pub const fn of_prekeys(&self) -> PrekeyLimits {
        PrekeyLimits {
            one_time: self.one_time_prekeys,
            one_time_per_day: self.one_time_prekeys_per_day,
            requests_per_day: self.prekey_requests_per_day,
        }
    }

    /// Those of them that mails meet.
    pub const fn of_mails(&self) -> MailLimits {
        MailLimits {
            per_address: self.mails_per_address_per_day,
            per_domain: self.mails_per_domain_per_day,
            in_all: self.mails_per_day,
        }
    }
}

/// The limits that contact requests meet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ContactLimits {
    /// Contacts that an account may hold.
    pub contacts: u32,
    /// New requests that an account may make in 24 hours.
    pub requests_per_day: u32,
    /// Requests that may be held for one account.
    pub held_requests: u32,
}

/// The limits that prekeys meet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PrekeyLimits {
    /// One-time pairs that are kept for a device.
    pub one_time: u32,
    /// One-time pairs of a device that leave for the same account in 24 hours.
    pub one_time_per_day: u32,
    /// Times that an account may ask for prekeys in 24 hours.
    pub requests_per_day: u32,
}

/// The limits that mails meet, each in 24 hours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MailLimits {
    /// To one address.
    pub per_address: u32,
    /// To all addresses of one domain.
    pub per_domain: u32,
    /// In all.
    pub in_all: u32,
}
