//! How much is too much. Every number here has a default that honest use never meets, and a name
//! in the configuration's `[limits]`.

use serde::{Deserialize, Serialize};

/// The `[limits]` of the configuration.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections in all: 20,000 of them stay within 1 GiB.
    pub connections: usize,
    /// Connections from one source (an IPv4 address, or an IPv6 /64): a large office behind one
    /// address.
    pub connections_per_source: usize,
    /// Handshakes in progress; beyond them newcomers are refused.
    pub handshakes: usize,
    /// Handshakes in progress beyond which a newcomer first proves its address by QUIC Retry
    /// (RFC 9000 §8.1.2), which costs the server nothing and honest clients a round trip.
    pub handshakes_before_retry: usize,
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
            handshakes: 1_000,
            handshakes_before_retry: 100,
            request_timeout_ms: 10_000,
            contacts: 1_000,
            contact_requests_per_day: 20,
            held_requests: 500,
            one_time_prekeys: 100,
            one_time_prekeys_per_day: 3,
            prekey_requests_per_day: 10_000,
            invitations_per_user: 0,
            invitation_days: 7,
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
