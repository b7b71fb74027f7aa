//! Prekeys of devices: kept for them, and handed out to who wants to start a session. What they
//! are as keys only the peers know.

use std::time::Duration;

use parlor_common::id::Username;
use parlor_common::identity::DeviceKey;
use parlor_common::prekey::{MAX_PREKEY_AGE, PrekeyError, PrekeyPair, PrekeyUse};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{Bundles, ErrorCode, ErrorReply, MAX_PAIRS_AT_ONCE};

use super::output::Asker;
use super::query::{Answer, BundlesAsked, PrekeysPut, Query, Taking};
use super::reply::{Handled, ok, refusal, too_fast, unavailable, unknown_device};
use super::{After, Server, devices};

/// A device's clock may be ahead of the server's by this: the wrong time zone, not the wrong year,
/// which would keep a pair from ever growing too old.
const MAX_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

impl Server {
    /// Keeps prekeys of this connection's device, after a look at their signatures: what contacts
    /// would refuse takes no room.
    pub(super) fn prekeys_put(
        &mut self,
        asker: Asker,
        signed: Option<Box<PrekeyPair>>,
        one_time: Vec<PrekeyPair>,
        replace: bool,
        now: Timestamp,
    ) -> Handled {
        let device = self.own_device(asker)?;
        if one_time.len() > MAX_PAIRS_AT_ONCE {
            return Err(bad_prekeys("too many one-time prekeys at once; put fewer"));
        }
        if let Some(pair) = &signed {
            check(pair, &device, PrekeyUse::Signed, now)?;
        }
        for pair in &one_time {
            check(pair, &device, PrekeyUse::OneTime, now)?;
        }
        let (signed, max_one_time) =
            (signed.map(|pair| *pair), self.params.limits.one_time_prekeys);
        let put = PrekeysPut { device, signed, one_time, replace, at: now, max_one_time };
        self.ask(asker, Query::PutPrekeys(Box::new(put)), After::PrekeysPut)
    }

    pub(super) fn prekeys_kept(answer: &Answer) -> Handled {
        let Answer::PrekeysKept(kept) = answer else { return Err(unavailable()) };
        ok(kept.ok_or_else(unknown_device)?)
    }

    pub(super) fn prekeys_count(&mut self, asker: Asker, now: Timestamp) -> Handled {
        let device = self.own_device(asker)?;
        self.ask(asker, Query::CountPrekeys { device, at: now }, After::PrekeysCount)
    }

    pub(super) fn prekeys_counted(answer: &Answer) -> Handled {
        let Answer::PrekeysHeld(held) = answer else { return Err(unavailable()) };
        ok(held.ok_or_else(unknown_device)?)
    }

    /// Hands out bundles of anybody's devices: of contacts, and of those about to be asked. Under
    /// one's own name they are those of the other own devices.
    pub(super) fn prekeys_get(&mut self, asker: Asker, of: Username, now: Timestamp) -> Handled {
        let device = self.own_device(asker)?;
        let wish =
            BundlesAsked { asker: device, of, at: now, limits: self.params.limits.of_prekeys() };
        self.ask(asker, Query::TakeBundles(Box::new(wish)), After::PrekeysGet)
    }

    pub(super) fn prekeys_got(answer: Answer) -> Handled {
        let Answer::Bundles(taking) = answer else { return Err(unavailable()) };
        match taking {
            Taking::Taken(bundles) => ok(Bundles { bundles }),
            Taking::NoAccount => Err(unknown_device()),
            Taking::TooMany { until } => {
                Err(too_fast("that is enough requests for prekeys for a day", until))
            }
            Taking::UnknownUser => Err(devices::unknown_user()),
        }
    }

    /// A device tells how often it has started, and hears what it told before: one that was copied
    /// or put back to an earlier state notices.
    pub(super) fn device_start(&mut self, asker: Asker, count: u64) -> Handled {
        let device = self.own_device(asker)?;
        self.ask(asker, Query::DeviceStart { device, count }, After::DeviceStart)
    }

    pub(super) fn device_started(answer: &Answer) -> Handled {
        let Answer::Started(started) = answer else { return Err(unavailable()) };
        ok(started.ok_or_else(unknown_device)?)
    }

    /// The connection's device, which belongs to an account. The store looks again: the device may
    /// have been taken off the account's list since.
    pub(super) fn own_device(&self, asker: Asker) -> Result<DeviceKey, ErrorReply> {
        self.identity(asker)?;
        self.device(asker)
    }
}

/// Checks that a pair is `device`'s for this use, and of a time that contacts would accept.
fn check(
    pair: &PrekeyPair,
    device: &DeviceKey,
    used: PrekeyUse,
    now: Timestamp,
) -> Result<(), ErrorReply> {
    if pair.made_at.since(now) > MAX_AHEAD {
        return Err(bad_prekeys("a prekey is of a time to come; set this device's clock"));
    }
    pair.verify(device, used, now).map_err(|error| match error {
        PrekeyError::TooOld => bad_prekeys(&format!(
            "a prekey is older than {} days; make new ones, or set this device's clock",
            MAX_PREKEY_AGE.as_secs() / 86_400
        )),
        PrekeyError::BadSignature | PrekeyError::RolledBack | PrekeyError::WrongDevice => {
            bad_prekeys(&error.to_string())
        }
    })
}

fn bad_prekeys(message: &str) -> ErrorReply {
    refusal(ErrorCode::BadPrekeys, message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use parlor_common::prekey::{PrekeyBundle, VerifiedBundle};
    use parlor_common::wire::rendezvous::{
        Done, MAX_REQUEST, PrekeysHeld, PrekeysKept, Request, Started,
    };

    use super::super::ConnId;
    use super::super::testing::{
        PASSWORD, World, account, entry, first_list, name, prekey, secret, verified,
    };
    use super::*;
    use crate::limits::Limits;
    use crate::store::Store;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Puts the signed pair 7 and one-time pairs of these ids, all made now.
    fn put(world: &mut World, conn: ConnId, device: u8, ids: &[u32]) -> u32 {
        let signed = Some(Box::new(prekey(device, PrekeyUse::Signed, 7, world.now)));
        let pair = |id: &u32| prekey(device, PrekeyUse::OneTime, *id, world.now);
        let one_time = ids.iter().map(pair).collect();
        world
            .call::<PrekeysKept>(conn, &Request::PrekeysPut { signed, one_time, replace: false })
            .one_time
    }

    fn count(world: &mut World, conn: ConnId) -> PrekeysHeld {
        world.call(conn, &Request::PrekeysCount {})
    }

    fn get(world: &mut World, conn: ConnId, of: &str) -> Vec<PrekeyBundle> {
        world.call::<Bundles>(conn, &Request::PrekeysGet { name: name(of) }).bundles
    }

    /// The id of the one-time pair in the only bundle of somebody with one device.
    fn get_one_time(world: &mut World, conn: ConnId, of: &str) -> Option<u32> {
        let [bundle] = &get(world, conn, of)[..] else { panic!("no bundle") };
        bundle.one_time.as_ref().map(|pair| pair.id)
    }

    fn two() -> (World, ConnId, ConnId) {
        two_limited(Limits::default())
    }

    fn two_limited(limits: Limits) -> (World, ConnId, ConnId) {
        let mut world = World::limited(limits);
        let (alice, bob) = (world.register("alice", 1), world.register("bob", 2));
        (world, alice, bob)
    }

    /// Logs in with `device` as alice, under a list of these devices that follows `list`.
    fn follow(
        world: &mut World,
        list: &parlor_common::device_list::VerifiedDeviceList,
        devices: &[u8],
        device: u8,
    ) -> (ConnId, parlor_common::device_list::VerifiedDeviceList) {
        let conn = world.connect(device);
        world.login(conn, "alice", PASSWORD).unwrap();
        let mut next = list.with_device(entry(device), world.now);
        next.devices = devices.iter().map(|device| entry(*device)).collect();
        let signed = next.sign(&account("alice"), None);
        world.call::<Done>(conn, &Request::DeviceAdd { devices: signed.clone() });
        (conn, verified("alice", signed))
    }

    #[test]
    fn what_a_device_put_is_counted_and_makes_a_bundle_that_its_contacts_accept() {
        let (mut world, alice, bob) = two();
        assert_eq!(count(&mut world, alice), PrekeysHeld { one_time: 0, signed: None });
        assert_eq!(get(&mut world, bob, "alice"), []);
        assert_eq!(put(&mut world, alice, 1, &[1, 2]), 2);
        assert_eq!(count(&mut world, alice), PrekeysHeld { one_time: 2, signed: Some(7) });

        let bundle: PrekeyBundle = get(&mut world, bob, "alice").pop().unwrap();
        let bundle: VerifiedBundle = bundle.verify(&entry(1), None, world.now).unwrap();
        assert_eq!(bundle.signed(), &prekey(1, PrekeyUse::Signed, 7, world.now));
        assert_eq!(bundle.one_time(), Some(&prekey(1, PrekeyUse::OneTime, 2, world.now)));
        assert_eq!(count(&mut world, alice), PrekeysHeld { one_time: 1, signed: Some(7) });
        // What is another's is not counted, nor given.
        assert_eq!(count(&mut world, bob), PrekeysHeld { one_time: 0, signed: None });
        assert_eq!(get(&mut world, alice, "bob"), []);
    }

    #[test]
    fn a_signed_pair_takes_the_place_of_the_one_before_and_one_time_pairs_are_added() {
        let (mut world, alice, bob) = two();
        put(&mut world, alice, 1, &[1]);
        let signed = Some(Box::new(prekey(1, PrekeyUse::Signed, 8, world.now)));
        let next = Request::PrekeysPut { signed, one_time: Vec::new(), replace: false };
        assert_eq!(world.call::<PrekeysKept>(alice, &next).one_time, 1);
        let one_time = vec![prekey(1, PrekeyUse::OneTime, 2, world.now)];
        let next = Request::PrekeysPut { signed: None, one_time, replace: false };
        assert_eq!(world.call::<PrekeysKept>(alice, &next).one_time, 2);
        assert_eq!(get(&mut world, bob, "alice")[0].signed.id, 8);
    }

    #[test]
    fn a_device_that_was_put_back_replaces_its_one_time_pairs() {
        let (mut world, alice, bob) = two();
        put(&mut world, alice, 1, &[1, 2, 3]);
        let signed = Some(Box::new(prekey(1, PrekeyUse::Signed, 8, world.now)));
        let one_time = vec![prekey(1, PrekeyUse::OneTime, 9, world.now)];
        let anew = Request::PrekeysPut { signed, one_time, replace: true };
        assert_eq!(world.call::<PrekeysKept>(alice, &anew).one_time, 1);
        let bundle = get(&mut world, bob, "alice").remove(0);
        assert_eq!((bundle.signed.id, bundle.one_time.unwrap().id), (8, 9));
    }

    #[test]
    fn no_two_askers_get_the_same_one_time_pair_even_at_once() {
        let mut world = World::new();
        let alice = world.register("alice", 1);
        put(&mut world, alice, 1, &[1, 2, 3, 4, 5]);
        let askers = ["bob", "carol", "dave"].into_iter().zip(2..);
        let askers: Vec<_> = askers.map(|(name, device)| world.register(name, device)).collect();
        let request = serde_json::to_vec(&Request::PrekeysGet { name: name("alice") }).unwrap();
        let mut sent = Vec::new();
        for _ in 0..2 {
            sent.extend(askers.iter().map(|conn| (*conn, world.send(*conn, &request))));
        }
        world.settle();
        let mut left = BTreeSet::new();
        let mut without = 0;
        for (conn, stream) in sent {
            let bundles = world.reply::<Bundles>(conn, stream).unwrap().bundles;
            match &bundles[0].one_time {
                Some(pair) => assert!(left.insert(pair.id), "{} left twice", pair.id),
                None => without += 1,
            }
        }
        assert_eq!((left.len(), without), (5, 1));
        assert_eq!(count(&mut world, alice).one_time, 0);
    }

    #[test]
    fn an_account_gets_so_many_one_time_pairs_of_a_device_in_a_day() {
        let (mut world, alice, bob) = two();
        let carol = world.register("carol", 3);
        put(&mut world, alice, 1, &[1, 2, 3, 4, 5, 6]);
        for expected in [Some(6), Some(5), Some(4), None, None] {
            assert_eq!(get_one_time(&mut world, bob, "alice"), expected);
        }
        assert_eq!(count(&mut world, alice).one_time, 3);
        assert_eq!(get_one_time(&mut world, carol, "alice"), Some(3));
        let over = world.now + DAY;
        world.now = over - MILLISECOND;
        assert_eq!(get_one_time(&mut world, bob, "alice"), None);
        world.now = over;
        assert_eq!(get_one_time(&mut world, bob, "alice"), Some(2));
    }

    #[test]
    fn the_days_count_is_of_the_account_whatever_its_device() {
        let limits = Limits { one_time_prekeys_per_day: 1, ..Limits::default() };
        let (mut world, alice, bob) = two_limited(limits);
        put(&mut world, bob, 2, &[1, 2, 3]);
        assert_eq!(get_one_time(&mut world, alice, "bob"), Some(3));
        let first = verified("alice", first_list("alice", 1));
        let (other, _) = follow(&mut world, &first, &[1, 3], 3);
        assert_eq!(get_one_time(&mut world, other, "bob"), None);
    }

    #[test]
    fn a_pair_that_has_left_never_leaves_again_even_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let open = || World::over(Store::open(&path).unwrap(), Limits::default());
        let mut world = open();
        let alice = world.register("alice", 1);
        let bob = world.register("bob", 2);
        put(&mut world, alice, 1, &[1]);
        assert_eq!(get_one_time(&mut world, bob, "alice"), Some(1));
        // The reply was lost, and the device puts the pair again.
        assert_eq!(put(&mut world, alice, 1, &[1]), 0);
        world.store.close().unwrap();

        let mut world = open();
        let (alice, bob) = (world.connect(1), world.connect(2));
        assert_eq!(put(&mut world, alice, 1, &[1]), 0);
        assert_eq!(get_one_time(&mut world, bob, "alice"), None);
    }

    #[test]
    fn a_pair_that_is_kept_already_stays_as_it_is() {
        let (mut world, alice, bob) = two();
        let first = world.now;
        put(&mut world, alice, 1, &[1]);
        world.wait(MILLISECOND);
        assert_eq!(put(&mut world, alice, 1, &[1, 2, 2]), 2);
        assert_eq!(get_one_time(&mut world, bob, "alice"), Some(2));
        let bundle = get(&mut world, bob, "alice").pop().unwrap();
        assert_eq!(bundle.one_time, Some(prekey(1, PrekeyUse::OneTime, 1, first)));
        assert_eq!(count(&mut world, alice).one_time, 0);
    }

    #[test]
    fn beyond_what_is_kept_the_oldest_go() {
        let limits = Limits { one_time_prekeys: 3, ..Limits::default() };
        let (mut world, alice, bob) = two_limited(limits);
        assert_eq!(put(&mut world, alice, 1, &[9, 8]), 2);
        world.wait(MILLISECOND);
        assert_eq!(put(&mut world, alice, 1, &[1, 2]), 3);
        for expected in [Some(2), Some(1), Some(8)] {
            assert_eq!(get_one_time(&mut world, bob, "alice"), expected);
        }
        // More than fit in one go.
        world.wait(MILLISECOND);
        assert_eq!(put(&mut world, alice, 1, &[21, 22, 23, 24]), 3);
    }

    #[test]
    fn pairs_that_are_too_old_are_neither_counted_nor_given() {
        let (mut world, alice, bob) = two();
        put(&mut world, alice, 1, &[1, 2, 3]);
        world.wait(MAX_PREKEY_AGE);
        assert_eq!(count(&mut world, alice), PrekeysHeld { one_time: 3, signed: Some(7) });
        assert_eq!(get_one_time(&mut world, bob, "alice"), Some(3));
        world.wait(MILLISECOND);
        assert_eq!(count(&mut world, alice), PrekeysHeld { one_time: 0, signed: None });
        assert_eq!(get(&mut world, bob, "alice"), []);
        // A new signed pair makes a bundle, and nothing old comes with it.
        assert_eq!(put(&mut world, alice, 1, &[]), 0);
        assert_eq!(get_one_time(&mut world, bob, "alice"), None);
    }

    #[test]
    fn what_contacts_would_refuse_is_not_kept() {
        let (mut world, alice, _) = two();
        let now = world.now;
        let one_time = |device, at| prekey(device, PrekeyUse::OneTime, 1, at);
        let signed = |device, at| prekey(device, PrekeyUse::Signed, 1, at);
        let changed = |change: fn(&mut PrekeyPair)| {
            let mut pair = one_time(1, now);
            change(&mut pair);
            pair
        };
        let (old, future) = (now - MAX_PREKEY_AGE - MILLISECOND, now + DAY + MILLISECOND);
        let of_two = PrekeyPair {
            kem: prekey(1, PrekeyUse::OneTime, 2, now).kem,
            ..prekey(1, PrekeyUse::OneTime, 1, now)
        };
        let bad_one_time = [
            one_time(2, now),
            signed(1, now),
            one_time(1, old),
            one_time(1, future),
            one_time(1, Timestamp::from_millis(u64::MAX)),
            prekey(1, PrekeyUse::OneTime, 0, now),
            changed(|pair| std::mem::swap(&mut pair.dh_signature, &mut pair.kem_signature)),
            changed(|pair| pair.id = 2),
            changed(|pair| pair.made_at = pair.made_at + MILLISECOND),
            changed(|pair| pair.dh.0[0] ^= 1),
            of_two,
        ];
        for bad in bad_one_time {
            // A good one beside it does not go in alone.
            let one_time = vec![prekey(1, PrekeyUse::OneTime, 5, now), bad];
            let put = Request::PrekeysPut { signed: None, one_time, replace: false };
            assert_eq!(world.refused(alice, &put), ErrorCode::BadPrekeys, "{put:?}");
        }
        for bad in [signed(2, now), one_time(1, now), signed(1, old), signed(1, future)] {
            let one_time = vec![prekey(1, PrekeyUse::OneTime, 5, now)];
            let put = Request::PrekeysPut { signed: Some(Box::new(bad)), one_time, replace: false };
            assert_eq!(world.refused(alice, &put), ErrorCode::BadPrekeys, "{put:?}");
        }
        assert_eq!(count(&mut world, alice), PrekeysHeld { one_time: 0, signed: None });
        // At the edges all is well.
        let edges = [now - MAX_PREKEY_AGE, now + DAY].into_iter().zip(1..);
        let edges = edges.map(|(at, id)| prekey(1, PrekeyUse::OneTime, id, at)).collect();
        let put = Request::PrekeysPut { signed: None, one_time: edges, replace: false };
        assert_eq!(world.call::<PrekeysKept>(alice, &put).one_time, 2);
    }

    #[test]
    fn as_many_as_fit_a_request_are_taken_at_once_and_no_more() {
        let (mut world, alice, _) = two();
        let most = u32::try_from(MAX_PAIRS_AT_ONCE).unwrap();
        let pairs = |ids| -> Vec<_> {
            let pair = |id| prekey(1, PrekeyUse::OneTime, id, world.now);
            std::ops::RangeInclusive::map(ids, pair).collect()
        };
        let signed = Some(Box::new(prekey(1, PrekeyUse::Signed, 7, world.now)));
        let too_many =
            Request::PrekeysPut { signed: None, one_time: pairs(1..=most + 1), replace: false };
        let fits = Request::PrekeysPut { signed, one_time: pairs(1..=most), replace: false };
        assert_eq!(world.refused(alice, &too_many), ErrorCode::BadPrekeys);
        assert!(serde_json::to_vec(&fits).unwrap().len() <= MAX_REQUEST);
        assert_eq!(world.call::<PrekeysKept>(alice, &fits).one_time, most);
    }

    #[test]
    fn a_pair_of_the_wrong_shape_is_malformed() {
        let (mut world, alice, _) = two();
        let pair = prekey(1, PrekeyUse::OneTime, 1, world.now);
        for (field, value) in [
            ("id", serde_json::json!(4_294_967_296_u64)),
            ("id", (-1).into()),
            ("made_at", "yesterday".into()),
            ("dh", "AAAA".into()),
            ("kem", pair.dh.to_string().into()),
            ("dh_signature", serde_json::Value::Null),
        ] {
            let mut json = serde_json::to_value(&pair).unwrap();
            json[field] = value;
            let request = serde_json::json!({ "request": "prekeys.put", "one_time": [json] });
            let stream = world.send(alice, request.to_string().as_bytes());
            world.settle();
            let refused = world.reply::<PrekeysKept>(alice, stream).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Malformed, "{field}");
        }
    }

    #[test]
    fn each_device_has_its_bundle_and_under_ones_own_name_come_the_others() {
        let (mut world, alice, bob) = two();
        let first = verified("alice", first_list("alice", 1));
        put(&mut world, alice, 1, &[1]);
        let (second, list) = follow(&mut world, &first, &[1, 3], 3);
        put(&mut world, second, 3, &[1]);
        // A third that has put nothing has no bundle.
        follow(&mut world, &list, &[1, 3, 4], 4);
        let of = |bundles: &[PrekeyBundle]| -> BTreeSet<_> {
            bundles.iter().map(|bundle| bundle.device).collect()
        };
        let (one, other) = (secret(1).public(), secret(3).public());
        assert_eq!(of(&get(&mut world, alice, "alice")), [other].into());
        assert_eq!(count(&mut world, alice).one_time, 1);
        let bundles = get(&mut world, bob, "alice");
        assert_eq!(of(&bundles), [one, other].into());
        assert!(bundles.iter().all(|bundle| {
            let entry = entry(if bundle.device == one { 1 } else { 3 });
            bundle.clone().verify(&entry, None, world.now).is_ok()
        }));
    }

    #[test]
    fn what_is_kept_of_a_removed_device_goes_with_it_and_of_the_others_stays() {
        let (mut world, alice, bob) = two();
        put(&mut world, alice, 1, &[1, 2]);
        let first = verified("alice", first_list("alice", 1));
        let (second, list) = follow(&mut world, &first, &[1, 3], 3);
        assert_eq!(put(&mut world, second, 3, &[1, 2, 3]), 3);
        world.call::<Started>(second, &Request::DeviceStart { count: 5 });
        assert_eq!(count(&mut world, alice), PrekeysHeld { one_time: 2, signed: Some(7) });

        follow(&mut world, &list, &[3, 4], 4);
        let bundles = get(&mut world, bob, "alice");
        assert_eq!(bundles.len(), 1);
        assert_eq!(bundles[0].device, secret(3).public());
        assert_eq!(count(&mut world, second), PrekeysHeld { one_time: 2, signed: Some(7) });
        let start = Request::DeviceStart { count: 6 };
        assert_eq!(world.call::<Started>(second, &start), Started { largest: 5 });
        // The removed device is still connected, and puts nothing more.
        let signed = Some(Box::new(prekey(1, PrekeyUse::Signed, 9, world.now)));
        for request in [
            Request::PrekeysPut { signed, one_time: Vec::new(), replace: false },
            Request::PrekeysCount {},
            Request::PrekeysGet { name: name("bob") },
            Request::DeviceStart { count: 1 },
        ] {
            assert_eq!(world.refused(alice, &request), ErrorCode::UnknownDevice);
        }
    }

    #[test]
    fn an_account_asks_so_often_in_a_day() {
        let limits = Limits { prekey_requests_per_day: 2, ..Limits::default() };
        let (mut world, alice, bob) = two_limited(limits);
        put(&mut world, alice, 1, &[1, 2, 3]);
        get(&mut world, bob, "alice");
        // Asking for nobody counts, too.
        let ghost = Request::PrekeysGet { name: name("ghost") };
        assert_eq!(world.refused(bob, &ghost), ErrorCode::UnknownUser);
        let again = Request::PrekeysGet { name: name("alice") };
        let refused = world.try_call::<Bundles>(bob, &again).unwrap_err();
        assert_eq!((refused.code, refused.until), (ErrorCode::TooFast, Some(world.now + DAY)));
        assert_eq!(count(&mut world, alice).one_time, 2);
        assert!(world.try_call::<Bundles>(alice, &again).is_ok());
        world.wait(DAY);
        assert_eq!(get_one_time(&mut world, bob, "alice"), Some(2));
    }

    #[test]
    fn a_device_hears_the_largest_count_that_it_told_before() {
        let (mut world, alice, bob) = two();
        for (count, largest) in [(3, 0), (4, 3), (4, 4), (2, 4), (9, 4)] {
            let started = world.call::<Started>(alice, &Request::DeviceStart { count });
            assert_eq!(started, Started { largest });
        }
        let started = world.call::<Started>(bob, &Request::DeviceStart { count: u64::MAX });
        assert_eq!(started, Started { largest: 0 });
        // The largest number that the database has stands for all above it.
        let started = world.call::<Started>(bob, &Request::DeviceStart { count: 1 });
        assert_eq!(started, Started { largest: u64::MAX / 2 });
    }

    #[test]
    fn a_device_without_an_account_puts_and_gets_nothing() {
        let (mut world, alice, _) = two();
        put(&mut world, alice, 1, &[1]);
        let stranger = world.connect(9);
        let signed = Some(Box::new(prekey(9, PrekeyUse::Signed, 1, world.now)));
        for request in [
            Request::PrekeysPut { signed, one_time: Vec::new(), replace: false },
            Request::PrekeysCount {},
            Request::PrekeysGet { name: name("alice") },
            Request::DeviceStart { count: 1 },
        ] {
            assert_eq!(world.refused(stranger, &request), ErrorCode::UnknownDevice);
        }
        assert_eq!(count(&mut world, alice).one_time, 1);
    }
}
