//! How often anybody may ask: which requests draw from which buckets.
//!
//! They are forgotten at a restart. What has to outlast one (registrations and logins of a source)
//! is the store's.

use parlor_common::id::Username;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{ErrorCode, ErrorReply, Request};

use super::Server;
use super::output::Asker;
use super::reply::{Handled, too_fast, unavailable};
use super::sources::Source;
use crate::bucket::{Buckets, Rate};
use crate::limits::Limits;

/// Buckets that are not full, of all kinds and holders, at about 150 bytes.
const MAX_BUCKETS: usize = 100_000;

/// What is counted.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    Requests,
    Lookups,
    ContactRequests,
    Offers,
    PrekeysPut,
    Invitations,
    Posts,
}

/// Whose bucket it is.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Holder {
    Account(Username),
    /// Of devices that belong to no account.
    Source(Source),
}

/// The buckets of the requests.
pub(super) type RequestBuckets = Buckets<(Kind, Holder)>;

/// Full ones.
pub(super) const fn full() -> RequestBuckets {
    Buckets::new(MAX_BUCKETS)
}

impl Kind {
    /// What a request counts as besides being one.
    const fn of(request: &Request) -> Option<Self> {
        match request {
            Request::UserGet { .. } | Request::PrekeysGet { .. } => Some(Self::Lookups),
            Request::ContactRequest { .. } => Some(Self::ContactRequests),
            Request::PathOffer { .. } => Some(Self::Offers),
            Request::PrekeysPut { .. } => Some(Self::PrekeysPut),
            Request::InviteCreate { .. } => Some(Self::Invitations),
            Request::EnvelopePost { .. } => Some(Self::Posts),
            // Registrations and logins have their buckets in the store; what changes an account
            // follows a login.
            Request::RegisterStart { .. }
            | Request::RegisterFinish(_)
            | Request::LoginStart { .. }
            | Request::LoginFinish { .. }
            | Request::RecoveryStart { .. }
            | Request::RecoveryFinish { .. }
            | Request::PasswordStart { .. }
            | Request::PasswordFinish { .. }
            | Request::AccountRekey(_)
            | Request::AccountDelete {}
            | Request::DeviceAdd { .. }
            | Request::DeviceRemove { .. }
            | Request::DeviceList {}
            | Request::DeviceName { .. }
            | Request::DeviceCosign { .. }
            | Request::ContactList {}
            | Request::ContactAnswer { .. }
            | Request::ContactRemove { .. }
            | Request::ContactBlock { .. }
            | Request::ContactUnblock { .. }
            | Request::HeldGet {}
            | Request::HeldAck { .. }
            | Request::PresenceWatch {}
            | Request::PrekeysCount {}
            | Request::DeviceStart { .. }
            | Request::EnvelopeGet { .. }
            | Request::EnvelopeAck { .. }
            | Request::Unknown => None,
        }
    }

    const fn rate(self, limits: &Limits) -> Rate {
        let (at_once, per_minute) = match self {
            Self::Requests => (limits.requests_at_once, limits.requests_per_minute),
            Self::Lookups => (limits.lookups_at_once, limits.lookups_per_minute),
            Self::ContactRequests => {
                (limits.contact_requests_at_once, limits.contact_requests_per_minute)
            }
            Self::Offers => (limits.offers_at_once, limits.offers_per_minute),
            Self::PrekeysPut => (limits.prekeys_put_at_once, limits.prekeys_put_per_minute),
            Self::Invitations => (limits.invitations_at_once, limits.invitations_per_minute),
            Self::Posts => (limits.posts_at_once, limits.posts_per_minute),
        };
        Rate { at_once, per_minute }
    }
}

impl Server {
    /// Draws what a request costs whoever asks, or says until when it is too much.
    pub(super) fn draw(
        &mut self,
        asker: Asker,
        request: &Request,
        now: Timestamp,
    ) -> Result<(), ErrorReply> {
        let connection = self.connections.get(asker.conn).ok_or_else(unavailable)?;
        let remote = connection.remote.ip();
        let holder = match connection.identity() {
            Some(identity) => Holder::Account(identity.name.clone()),
            None => Holder::Source(self.sources.of(remote, now)),
        };
        for kind in [Some(Kind::Requests), Kind::of(request)].into_iter().flatten() {
            let rate = kind.rate(&self.params.limits);
            let drawn = self.buckets.draw((kind, holder.clone()), rate, now);
            drawn.map_err(|until| too_fast("too many requests; try again later", until))?;
        }
        Ok(())
    }

    /// Remembers where somebody was who has no account here and asks too much.
    pub(super) fn blame(&mut self, asker: Asker, handled: &Handled, now: Timestamp) {
        let Err(ErrorReply { code: ErrorCode::TooFast | ErrorCode::Locked, .. }) = handled else {
            return;
        };
        let Some(connection) = self.connections.get(asker.conn) else { return };
        if connection.identity().is_none() {
            self.sources.blame(connection.remote.ip(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parlor_common::candidate::{Offer, OfferBody, OfferId};
    use parlor_common::id::DeviceId;
    use parlor_common::wire::rendezvous::HeldItems;
    use serde_json::Value;

    use super::super::testing::{World, card, name, secret};
    use super::super::{ConnId, ServerParams};
    use super::*;
    use crate::config::Registration;

    /// A bucket of two, of which one comes back every ten seconds.
    const TWO: (u32, u32) = (2, 6);

    fn look_up() -> Request {
        Request::UserGet { name: name("alice") }
    }

    /// Asks until it is too much, which has to be at the third time; then waits as long as told.
    fn is_let_through_twice(world: &mut World, conn: ConnId, request: &Request) {
        for _ in 0..2 {
            let reply = world.try_call::<Value>(conn, request);
            assert!(reply.is_ok(), "{reply:?}");
        }
        let refused = world.try_call::<Value>(conn, request).unwrap_err();
        assert_eq!(refused.code, ErrorCode::TooFast);
        assert_eq!(refused.until, Some(world.now + Duration::from_secs(10)));
        world.wait(Duration::from_secs(10));
        assert!(world.try_call::<Value>(conn, request).is_ok());
        assert_eq!(world.refused(conn, request), ErrorCode::TooFast);
    }

    #[test]
    fn look_ups_have_their_bound_and_others_are_not_kept_from_theirs() {
        let (lookups_at_once, lookups_per_minute) = TWO;
        let limits = Limits { lookups_at_once, lookups_per_minute, ..Limits::default() };
        let mut world = World::limited(limits);
        let (alice, bob) = (world.register("alice", 1), world.register("bob", 2));
        is_let_through_twice(&mut world, alice, &look_up());
        let bundles = Request::PrekeysGet { name: name("bob") };
        assert_eq!(world.refused(alice, &bundles), ErrorCode::TooFast);
        assert!(world.try_call::<HeldItems>(alice, &Request::HeldGet {}).is_ok());
        assert!(world.try_call::<Value>(bob, &look_up()).is_ok());
    }

    #[test]
    fn contact_requests_have_their_bound() {
        let (contact_requests_at_once, contact_requests_per_minute) = TWO;
        let limits = Limits::default();
        let mut world = World::limited(Limits {
            contact_requests_at_once,
            contact_requests_per_minute,
            ..limits
        });
        let alice = world.register("alice", 1);
        world.register("bob", 2);
        let card = Box::new(card("alice", 1, "bob"));
        let request = Request::ContactRequest { name: name("bob"), card };
        is_let_through_twice(&mut world, alice, &request);
    }

    #[test]
    fn offers_have_their_bound() {
        let (offers_at_once, offers_per_minute) = TWO;
        let mut world =
            World::limited(Limits { offers_at_once, offers_per_minute, ..Limits::default() });
        let alice = world.register("alice", 1);
        let body = OfferBody {
            id: OfferId(1),
            answers: None,
            from: name("alice"),
            to: DeviceId::of(&secret(2).public()),
            at: world.now,
            candidates: Vec::new(),
        };
        let offer = Box::new(Offer::sign(body, &secret(1)));
        let request = Request::PathOffer { name: name("bob"), offer };
        is_let_through_twice(&mut world, alice, &request);
    }

    #[test]
    fn prekeys_that_are_put_have_their_bound() {
        let (prekeys_put_at_once, prekeys_put_per_minute) = TWO;
        let limits = Limits { prekeys_put_at_once, prekeys_put_per_minute, ..Limits::default() };
        let mut world = World::limited(limits);
        let alice = world.register("alice", 1);
        let request = Request::PrekeysPut { signed: None, one_time: Vec::new(), replace: false };
        is_let_through_twice(&mut world, alice, &request);
    }

    #[test]
    fn invitations_that_are_made_have_their_bound() {
        let (invitations_at_once, invitations_per_minute) = TWO;
        let limits = Limits {
            invitations_at_once,
            invitations_per_minute,
            invitations_per_user: 10,
            ..Limits::default()
        };
        let mut world = World::limited(limits);
        let alice = world.register("alice", 1);
        let mut world = world.restart(|params| ServerParams {
            limits,
            registration: Registration::Invite,
            ..params
        });
        world.disconnect(alice);
        let alice = world.connect(1);
        is_let_through_twice(&mut world, alice, &Request::InviteCreate { uses: 1 });
    }

    #[test]
    fn envelopes_that_are_posted_have_their_bound() {
        let (posts_at_once, posts_per_minute) = TWO;
        let limits = Limits { posts_at_once, posts_per_minute, ..Limits::default() };
        let mut world = World::friends().0.restart(|params| ServerParams { limits, ..params });
        let alice = world.connect(1);
        is_let_through_twice(&mut world, alice, &post(1));
    }

    /// To bob's device.
    fn post(number: u64) -> Request {
        let device = DeviceId::of(&secret(2).public());
        let envelope = number.to_be_bytes().repeat(100);
        Request::EnvelopePost { name: name("bob"), device, envelopes: vec![envelope.into()] }
    }

    #[test]
    fn a_peer_that_posts_all_that_it_has_at_once_meets_no_bound() {
        let (mut world, alice, bob) = World::friends();
        for round in 0..4 {
            for sent in 0..1_000 {
                let reply = world.try_call::<Value>(alice, &post(sent));
                assert!(reply.is_ok(), "{round} {sent}: {reply:?}");
            }
            let ids: Vec<u64> = (round * 1_000 + 1..=round * 1_000 + 1_000).collect();
            for ids in ids.chunks(256) {
                world.call::<Value>(bob, &Request::EnvelopeAck { ids: ids.to_vec() });
            }
        }
        assert_eq!(world.rows("envelopes"), 0);
    }

    #[test]
    fn requests_of_any_kind_have_their_bound_by_account() {
        let (requests_at_once, requests_per_minute) = TWO;
        let mut world = World::friends().0;
        let limits = Limits { requests_at_once, requests_per_minute, ..Limits::default() };
        world = world.restart(|params| ServerParams { limits, ..params });
        let (alice, bob) = (world.connect(1), world.connect(2));
        is_let_through_twice(&mut world, alice, &look_up());
        // Another connection of hers has no bucket of its own.
        let again = world.connect(1);
        assert_eq!(world.refused(again, &Request::HeldGet {}), ErrorCode::TooFast);
        is_let_through_twice(&mut world, bob, &Request::HeldGet {});
    }

    #[test]
    fn devices_without_an_account_share_their_source_s_bucket() {
        let (requests_at_once, requests_per_minute) = TWO;
        let limits = Limits { requests_at_once, requests_per_minute, ..Limits::default() };
        let mut world = World::limited(limits);
        for (device, expected) in
            [(1, ErrorCode::UnknownDevice), (2, ErrorCode::UnknownDevice), (3, ErrorCode::TooFast)]
        {
            let conn = world.connect(device);
            assert_eq!(world.refused(conn, &look_up()), expected);
        }
        world.address = [192, 0, 2, 8].into();
        let elsewhere = world.connect(4);
        assert_eq!(world.refused(elsewhere, &look_up()), ErrorCode::UnknownDevice);
    }

    #[test]
    fn a_prefix_of_which_many_parts_are_refused_has_one_bucket() {
        let limits = Limits {
            requests_at_once: 1,
            requests_per_minute: 1,
            parts_before_widening: 3,
            ..Limits::default()
        };
        let mut world = World::limited(limits);
        for part in 1..=3 {
            world.address = [198, 51, 100, part].into();
            let conn = world.connect(part);
            assert_eq!(world.refused(conn, &look_up()), ErrorCode::UnknownDevice);
            assert_eq!(world.refused(conn, &look_up()), ErrorCode::TooFast);
        }
        for (part, expected) in [(4, ErrorCode::UnknownDevice), (5, ErrorCode::TooFast)] {
            world.address = [198, 51, 100, part].into();
            let conn = world.connect(part);
            assert_eq!(world.refused(conn, &look_up()), expected);
        }
    }

    #[test]
    fn a_prefix_of_which_many_parts_guess_is_one_source_for_logins() {
        let limits = Limits { logins_at_once: 1, parts_before_widening: 3, ..Limits::default() };
        let mut world = World::limited(limits);
        let mut guess = |part: u8| {
            world.address = [198, 51, 100, part].into();
            let conn = world.connect(part);
            world.login(conn, &format!("user{part}"), "wrong").unwrap_err()
        };
        for part in 1..=3 {
            assert_eq!(guess(part), ErrorCode::WrongPassword);
            assert_eq!(guess(part), ErrorCode::TooFast);
        }
        assert_eq!([guess(4), guess(5)], [ErrorCode::WrongPassword, ErrorCode::TooFast]);
    }

    #[test]
    fn a_script_that_sends_four_times_a_second_meets_no_bound() {
        let (mut world, ..) = World::friends();
        let offer = |world: &World| {
            let body = OfferBody {
                id: OfferId(1),
                answers: None,
                from: name("alice"),
                to: DeviceId::of(&secret(2).public()),
                at: world.now,
                candidates: Vec::new(),
            };
            Box::new(Offer::sign(body, &secret(1)))
        };
        // Ten minutes.
        for start in 0..2_400 {
            let alice = world.connect(1);
            for request in [
                Request::HeldGet {},
                Request::PresenceWatch {},
                Request::UserGet { name: name("bob") },
                Request::DeviceStart { count: start },
                Request::PrekeysCount {},
                Request::PathOffer { name: name("bob"), offer: offer(&world) },
                Request::EnvelopeGet { after: 0 },
                post(1),
            ] {
                let reply = world.try_call::<Value>(alice, &request);
                assert!(reply.is_ok(), "{request:?}: {reply:?}");
            }
            world.wait(Duration::from_millis(250));
        }
    }
}
