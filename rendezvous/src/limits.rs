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
    /// Handshakes that one source begins without a proof of its address; beyond them it is asked
    /// for one, as above.
    pub unproved_handshakes_at_once: u32,
    /// See `unproved_handshakes_at_once`.
    pub unproved_handshakes_per_minute: u32,
    /// Handshakes that one source begins from addresses that were proved; beyond them it is
    /// refused.
    pub handshakes_at_once: u32,
    /// See `handshakes_at_once`.
    pub handshakes_per_minute: u32,
    /// MiB of requests in progress that are longer than 4 KiB, a quarter of it for one source;
    /// beyond them requests wait, and are cut as if they stalled. A request of full size (an
    /// envelope, 600 KiB) has room in any case.
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
    /// `envelope.post` of one account, of up to 256 envelopes each.
    pub posts_at_once: u32,
    /// See `posts_at_once`.
    pub posts_per_minute: u32,
    /// Envelopes that may wait in one account's mailbox, for all its devices together; beyond them
    /// senders are told `mailbox_full` and keep theirs.
    pub mailbox_messages: u32,
    /// MiB of envelopes that may wait in one account's mailbox.
    pub mailbox_mib: u32,
    /// Envelopes of one sender that may wait in one account's mailbox, so that no contact fills it
    /// for the others. A restart of the server begins to count anew.
    pub mailbox_messages_per_sender: u32,
    /// MiB of envelopes of one sender that may wait in one account's mailbox.
    pub mailbox_mib_per_sender: u32,
    /// Envelopes that one account may post in 24 hours.
    pub mailbox_posts_per_day: u32,
    /// MiB of envelopes that one account may post in 24 hours.
    pub mailbox_mib_per_day: u32,
    /// Days after which an envelope that nobody has fetched is erased.
    pub mailbox_days: u32,
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
            unproved_handshakes_at_once: 100,
            unproved_handshakes_per_minute: 1_200,
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
            posts_at_once: 4_000,
            posts_per_minute: 6_000,
            mailbox_messages: 20_000,
            mailbox_mib: 128,
            mailbox_messages_per_sender: 10_000,
            mailbox_mib_per_sender: 64,
            mailbox_posts_per_day: 100_000,
            mailbox_mib_per_day: 512,
            mailbox_days: 30,
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

    /// How fast one source may begin handshakes without a proof of its address.
    pub const fn unproved_handshakes(&self) -> Rate {
        let per_minute = self.unproved_handshakes_per_minute;
        Rate { at_once: self.unproved_handshakes_at_once, per_minute }
    }

    /// How fast one source may begin handshakes from addresses that were proved.
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

    /// Those of them that envelopes meet.
    pub fn of_mailboxes(&self) -> MailboxLimits {
        let bytes = |mib: u32| u64::from(mib) * 1024 * 1024;
        MailboxLimits {
            messages: self.mailbox_messages,
            bytes: bytes(self.mailbox_mib),
            messages_per_sender: self.mailbox_messages_per_sender,
            bytes_per_sender: bytes(self.mailbox_mib_per_sender),
            posts_per_day: self.mailbox_posts_per_day,
            bytes_per_day: bytes(self.mailbox_mib_per_day),
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

/// The limits that envelopes meet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MailboxLimits {
    /// Envelopes that may wait for one account.
    pub messages: u32,
    /// Bytes that may wait for one account.
    pub bytes: u64,
    /// Envelopes of one sender that may wait for one account.
    pub messages_per_sender: u32,
    /// Bytes of one sender that may wait for one account.
    pub bytes_per_sender: u64,
    /// Envelopes that an account may post in 24 hours.
    pub posts_per_day: u32,
    /// Bytes that an account may post in 24 hours.
    pub bytes_per_day: u64,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The test that reaches each limit, and its file.
    const REACHED: &[(&str, &str, &str)] = &[
        ("connections", LOOPBACK, "there_are_so_many_connections_and_no_more"),
        (
            "connections_per_source",
            LOOPBACK,
            "a_source_with_too_many_connections_is_refused_until_one_ends",
        ),
        (
            "connections_per_account",
            "server/arrivals.rs",
            "an_account_has_so_many_connections_and_the_newcomer_goes",
        ),
        (
            "parts_before_widening",
            BUCKETS,
            "a_prefix_of_which_many_parts_are_refused_has_one_bucket",
        ),
        ("handshakes", LOOPBACK, "a_handshake_that_never_ends_is_cut_and_makes_room"),
        (
            "handshakes_before_retry",
            LOOPBACK,
            "under_load_an_address_is_proved_by_a_retry_and_an_honest_client_comes_in",
        ),
        ("handshake_timeout_ms", LOOPBACK, "a_handshake_that_never_ends_is_cut_and_makes_room"),
        ("unproved_handshakes_at_once", ADMISSION, UNPROVED),
        ("unproved_handshakes_per_minute", ADMISSION, UNPROVED),
        ("handshakes_at_once", ADMISSION, HANDSHAKES),
        ("handshakes_per_minute", ADMISSION, HANDSHAKES),
        ("request_memory_mib", LOOPBACK, "large_requests_wait_for_room_and_small_ones_do_not"),
        (
            "request_timeout_ms",
            LOOPBACK,
            "a_request_that_never_ends_is_cut_and_the_connection_stays",
        ),
        ("contacts", "server/contacts.rs", "contacts_and_what_is_held_have_bounds"),
        (
            "contact_requests_per_day",
            "server/contacts.rs",
            "one_request_is_open_for_a_pair_and_so_many_are_new_in_a_day",
        ),
        ("held_requests", "server/contacts.rs", "contacts_and_what_is_held_have_bounds"),
        ("one_time_prekeys", "server/prekeys.rs", "beyond_what_is_kept_the_oldest_go"),
        (
            "one_time_prekeys_per_day",
            "server/prekeys.rs",
            "the_days_count_is_of_the_account_whatever_its_device",
        ),
        ("prekey_requests_per_day", "server/prekeys.rs", "an_account_asks_so_often_in_a_day"),
        (
            "invitations_per_user",
            "server/invitations.rs",
            "a_user_s_invitation_is_good_for_as_many_and_as_long_as_it_is_configured",
        ),
        (
            "invitation_days",
            "server/invitations.rs",
            "a_user_s_invitation_is_good_for_as_many_and_as_long_as_it_is_configured",
        ),
        ("requests_at_once", BUCKETS, "requests_of_any_kind_have_their_bound_by_account"),
        ("requests_per_minute", BUCKETS, "requests_of_any_kind_have_their_bound_by_account"),
        ("lookups_at_once", BUCKETS, LOOKUPS),
        ("lookups_per_minute", BUCKETS, LOOKUPS),
        ("contact_requests_at_once", BUCKETS, "contact_requests_have_their_bound"),
        ("contact_requests_per_minute", BUCKETS, "contact_requests_have_their_bound"),
        ("offers_at_once", BUCKETS, "offers_have_their_bound"),
        ("offers_per_minute", BUCKETS, "offers_have_their_bound"),
        ("prekeys_put_at_once", BUCKETS, "prekeys_that_are_put_have_their_bound"),
        ("prekeys_put_per_minute", BUCKETS, "prekeys_that_are_put_have_their_bound"),
        ("invitations_at_once", BUCKETS, "invitations_that_are_made_have_their_bound"),
        ("invitations_per_minute", BUCKETS, "invitations_that_are_made_have_their_bound"),
        ("posts_at_once", BUCKETS, "envelopes_that_are_posted_have_their_bound"),
        ("posts_per_minute", BUCKETS, "envelopes_that_are_posted_have_their_bound"),
        ("mailbox_messages", MAILBOX, "a_mailbox_has_room_for_so_many_and_for_so_much"),
        ("mailbox_mib", MAILBOX, "a_mailbox_has_room_for_so_many_and_for_so_much"),
        ("mailbox_messages_per_sender", MAILBOX, "nobody_fills_a_mailbox_for_the_others"),
        ("mailbox_mib_per_sender", MAILBOX, "a_sender_s_bytes_in_a_mailbox_are_counted_too"),
        ("mailbox_posts_per_day", MAILBOX, "an_account_posts_so_many_and_so_much_in_a_day"),
        ("mailbox_mib_per_day", MAILBOX, "an_account_posts_so_many_and_so_much_in_a_day"),
        ("mailbox_days", MAILBOX, "what_nobody_fetches_goes_in_its_time"),
        ("registrations_at_once", LOGIN, OF_A_SOURCE),
        ("registrations_per_minute", LOGIN, OF_A_SOURCE),
        (
            "registrations_per_minute_in_all",
            LOGIN,
            "a_source_has_so_many_registrations_across_a_restart",
        ),
        ("logins_at_once", LOGIN, OF_A_SOURCE),
        ("logins_per_minute", LOGIN, OF_A_SOURCE),
        (
            "logins_per_minute_in_all",
            LOGIN,
            "all_sources_together_have_so_many_logins_and_known_devices_are_not_among_them",
        ),
        ("login_failures_free", "guard.rs", GUARD),
        ("login_failures_to_lock", "guard.rs", GUARD),
        ("login_window_minutes", "guard.rs", GUARD),
        ("login_lock_minutes", "guard.rs", GUARD),
        ("login_longest_lock_hours", "guard.rs", GUARD),
        (
            "login_failures_per_name_per_day",
            LOGIN,
            "a_far_higher_bound_holds_for_the_name_alone_but_not_where_it_has_logged_in_before",
        ),
        (
            "login_tries_kept",
            LOGIN,
            "what_is_remembered_of_tries_is_bounded_and_those_who_are_locked_stay",
        ),
        ("audited_refusals_at_once", LOGIN, "refusals_of_one_source_do_not_fill_the_trail"),
        ("audited_refusals_per_minute", LOGIN, "refusals_of_one_source_do_not_fill_the_trail"),
        ("audit_days", "server/housekeeping.rs", "old_rows_of_the_audit_trail_go"),
        ("email_code_minutes", EMAIL, "a_code_is_its_address_s_and_has_its_time"),
        ("email_code_attempts", EMAIL, "wrong_codes_are_counted_though_nothing_else_changes"),
        (
            "mails_per_address_per_day",
            EMAIL,
            "mails_have_limits_and_one_that_did_not_leave_is_none",
        ),
        ("mails_per_domain_per_day", EMAIL, "so_many_mails_leave_for_a_domain_and_in_all"),
        ("mails_per_day", EMAIL, "so_many_mails_leave_for_a_domain_and_in_all"),
    ];

    const ADMISSION: &str = "driver/admission.rs";
    const BUCKETS: &str = "server/buckets.rs";
    const EMAIL: &str = "server/email.rs";
    const GUARD: &str = "each_number_of_the_configuration_has_its_say";
    const HANDSHAKES: &str = "a_source_begins_so_many_handshakes_at_once_and_then_one_by_one";
    const LOGIN: &str = "server/login.rs";
    const LOOKUPS: &str = "look_ups_have_their_bound_and_others_are_not_kept_from_theirs";
    const LOOPBACK: &str = "driver/loopback.rs";
    const MAILBOX: &str = "server/mailbox.rs";
    const OF_A_SOURCE: &str = "buckets_of_a_source_are_as_large_and_as_fast_as_it_is_configured";
    const UNPROVED: &str = "who_forges_an_address_makes_its_owner_prove_it_and_no_more";

    #[test]
    fn each_limit_is_reached_by_a_test() {
        let limits = serde_json::to_value(Limits::default()).unwrap();
        let names: BTreeSet<&str> =
            limits.as_object().unwrap().keys().map(String::as_str).collect();
        let reached: BTreeSet<&str> = REACHED.iter().map(|(limit, ..)| *limit).collect();
        assert_eq!(reached, names);
        let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for (limit, file, test) in REACHED {
            let text = std::fs::read_to_string(sources.join(file)).unwrap();
            let body = text.split_once(&format!("fn {test}(")).expect(test).1;
            let body = body.split("\n    }\n").next().unwrap();
            let body = body.split("\n}\n").next().unwrap();
            assert!(body.contains(limit), "{test} does not set {limit}");
        }
    }

    #[test]
    fn a_file_sets_some_of_them_and_names_none_that_is_not_there() {
        let limits: Limits = toml::from_str("contacts = 5").unwrap();
        assert_eq!(limits, Limits { contacts: 5, ..Limits::default() });
        assert!(toml::from_str::<Limits>("contact = 5").is_err());
        assert!(toml::from_str::<Limits>("contacts = -1").is_err());
    }
}
