//! Envelopes for contacts that cannot be reached: held until the device that they are for has saved
//! them. The server sees who posts to whom when they do; it neither keeps that nor writes it into a
//! log.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use parlor_common::envelope::MAX_ENVELOPE;
use parlor_common::id::{DeviceId, Username};
use parlor_common::identity::DeviceKey;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{
    Envelopes, ErrorCode, Event, MAX_ENVELOPE_BYTES_AT_ONCE, MAX_ENVELOPES_AT_ONCE,
};
use parlor_common::{Blob, Fields};
use rand::CryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::bus::Notice;
use super::output::{Asker, ConnId};
use super::query::{Answer, EnvelopesPosted, Posting, Query, Share};
use super::reply::{Handled, done, malformed, ok, refusal, too_fast, unavailable};
use super::{After, Server};

/// Makes a hash of sender and recipient of which the store's tables tell nothing. Its key is drawn
/// when it is first needed, and is nowhere but in memory: after a restart, and at another node, the
/// same two have another hash, and what a sender left before is no longer counted as the sender's.
#[derive(Default)]
pub(super) struct Shares(Option<Hmac<Sha256>>);

/// Shows nothing of the key.
impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares").finish_non_exhaustive()
    }
}

impl Shares {
    /// The sender's part of the recipient's mailbox.
    fn of(&mut self, sender: &Username, recipient: &Username, rng: &mut dyn CryptoRng) -> Share {
        let mut mac = self.0.get_or_insert_with(|| draw(rng)).clone();
        let fields = Fields::new().field(sender.as_str()).field(recipient.as_str());
        mac.update(fields.as_bytes());
        Share(mac.finalize().into_bytes().into())
    }
}

fn draw(rng: &mut dyn CryptoRng) -> Hmac<Sha256> {
    let mut key = Zeroizing::new([0; 64]);
    rng.fill_bytes(key.as_mut_slice());
    Hmac::new((&*key).into())
}

/// Whether these are envelopes that one request may have: as many as one reply gives back, or one
/// that is longer alone.
fn is_group(envelopes: &[Blob]) -> bool {
    let len = |Blob(envelope): &Blob| envelope.len();
    let all: usize = envelopes.iter().map(len).sum();
    let fit = match envelopes {
        [] => false,
        [_] => all <= MAX_ENVELOPE,
        _ => all <= MAX_ENVELOPE_BYTES_AT_ONCE && envelopes.len() <= MAX_ENVELOPES_AT_ONCE,
    };
    fit && envelopes.iter().all(|envelope| len(envelope) > 0)
}

impl Server {
    pub(super) fn envelope_post(
        &mut self,
        asker: Asker,
        (to, device): (Username, DeviceId),
        envelopes: Vec<Blob>,
        (now, rng): (Timestamp, &mut dyn CryptoRng),
    ) -> Handled {
        let from = self.name(asker)?;
        if !is_group(&envelopes) {
            return Err(malformed("those are no envelopes, or more than are taken at once"));
        }
        let envelopes = envelopes.into_iter().map(|Blob(envelope)| envelope).collect();
        let share = self.shares.of(&from, &to, rng);
        let limits = self.params.limits.of_mailboxes();
        let posted = EnvelopesPosted { from, to, device, share, envelopes, at: now, limits };
        self.ask(asker, Query::PostEnvelopes(Box::new(posted)), After::EnvelopePost)
    }

    /// The device for which it is hears that something is there, wherever it is connected.
    pub(super) fn envelope_posted(&mut self, answer: &Answer) -> Handled {
        let Answer::Posted(posting) = answer else { return Err(unavailable()) };
        match *posting {
            Posting::Held(device) => {
                self.publish(Notice::Envelopes { device });
                done()
            }
            Posting::Dropped => done(),
            Posting::NoContact => Err(refusal(
                ErrorCode::NoContact,
                "envelopes are taken for contacts only, who hold you as one, too",
            )),
            Posting::NoDevice => Err(refusal(
                ErrorCode::NoDevice,
                "that device is not on their list now; look their devices up again",
            )),
            Posting::Blocked => {
                Err(refusal(ErrorCode::Blocked, "you have blocked them; unblock them first"))
            }
            Posting::Full => Err(refusal(
                ErrorCode::MailboxFull,
                "their mailbox is full: it takes no more until they have fetched some of it",
            )),
            Posting::ShareFull => Err(refusal(
                ErrorCode::MailboxFull,
                "their mailbox takes no more from you until they have fetched some of it",
            )),
            Posting::TooMany { until } => {
                Err(too_fast("that is enough in mailboxes for a day", until))
            }
        }
    }

    pub(super) fn envelope_get(&mut self, asker: Asker, after: u64) -> Handled {
        let of = self.own_device(asker)?;
        // What is posted from here on is worth another word.
        if let Some(connection) = self.connections.get_mut(asker.conn) {
            connection.knows_of_envelopes = false;
        }
        self.ask(asker, Query::Envelopes { of, after }, After::EnvelopeGet)
    }

    pub(super) fn envelopes_got(answer: Answer) -> Handled {
        let Answer::Envelopes(envelopes) = answer else { return Err(unavailable()) };
        ok(Envelopes { envelopes })
    }

    pub(super) fn envelope_ack(&mut self, asker: Asker, ids: Vec<u64>) -> Handled {
        let of = self.own_device(asker)?;
        if ids.len() > MAX_ENVELOPES_AT_ONCE {
            return Err(malformed("acknowledge fewer envelopes at once"));
        }
        self.ask(asker, Query::ForgetEnvelopes { of, ids }, After::EnvelopeAck)
    }

    pub(super) fn envelopes_acked(&mut self, answer: &Answer, now: Timestamp) -> Handled {
        let Answer::Forgotten = answer else { return Err(unavailable()) };
        self.housekeeping.erased(now);
        done()
    }

    /// Tells a device that is connected here that something is in its mailbox, once: however much
    /// is posted, it hears nothing more before it has asked.
    pub(super) fn tell_of_envelopes(&mut self, device: &DeviceKey) {
        if let Some(conn) = self.connections.of_device(device)
            && self.has_news(conn)
        {
            self.tell(conn, &Event::Envelopes {});
        }
    }

    /// Whether a connection's device does not know yet that something is in its mailbox. One that
    /// is still being greeted asks by itself.
    fn has_news(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.connections.get_mut(conn) else { return false };
        connection.identity().is_some()
            && !std::mem::replace(&mut connection.knows_of_envelopes, true)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::time::Duration;

    use parlor_common::device_list::SignedDeviceList;
    use parlor_common::wire::rendezvous::{Done, MAX_POST, MAX_REQUEST, Request};

    use super::super::testing::{
        PASSWORD, World, account, entry, first_list, name, secret, verified,
    };
    use super::super::{ConnId, ServerParams};
    use super::*;
    use crate::admin::{AdminAnswer, AdminRequest, Waiting};
    use crate::limits::Limits;
    use crate::store::Store;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn id(device: u8) -> DeviceId {
        DeviceId::of(&secret(device).public())
    }

    /// An envelope of bytes for bob's device 2.
    fn post(envelope: impl Into<Vec<u8>>) -> Request {
        group(vec![envelope.into()])
    }

    fn group(envelopes: Vec<Vec<u8>>) -> Request {
        let envelopes = envelopes.into_iter().map(Blob).collect();
        Request::EnvelopePost { name: name("bob"), device: id(2), envelopes }
    }

    fn get(world: &mut World, conn: ConnId, after: u64) -> Vec<(u64, Vec<u8>)> {
        let Envelopes { envelopes } = world.call(conn, &Request::EnvelopeGet { after });
        envelopes.into_iter().map(|waiting| (waiting.id, waiting.envelope.0)).collect()
    }

    fn bytes(world: &mut World, conn: ConnId) -> Vec<Vec<u8>> {
        get(world, conn, 0).into_iter().map(|(_, envelope)| envelope).collect()
    }

    fn ack(world: &mut World, conn: ConnId, ids: &[u64]) {
        world.call::<Done>(conn, &Request::EnvelopeAck { ids: ids.to_vec() });
    }

    fn waiting(world: &mut World, of: &str) -> Waiting {
        let answer = world.admin(AdminRequest::UserShow { name: name(of) });
        let AdminAnswer::User(user) = answer else { panic!("{answer:?}") };
        user.mailbox
    }

    /// The same two, and a server that allows something else.
    fn friends_limited(limits: Limits) -> (World, ConnId, ConnId) {
        let world = World::friends().0;
        let mut world = world.restart(|params| ServerParams { limits, ..params });
        let conns = (world.connect(1), world.connect(2));
        world.events(conns.1);
        (world, conns.0, conns.1)
    }

    #[test]
    fn what_is_posted_waits_in_order_until_it_is_acknowledged() {
        let (mut world, alice, bob) = World::friends();
        world.disconnect(bob);
        for envelope in ["one", "two", "three"] {
            world.call::<Done>(alice, &post(envelope));
        }
        let bob = world.connect(2);
        let all = get(&mut world, bob, 0);
        let texts: Vec<_> = all.iter().map(|(_, envelope)| envelope.as_slice()).collect();
        assert_eq!(texts, [b"one".as_slice(), b"two", b"three"]);
        let ids: Vec<_> = all.iter().map(|(id, _)| *id).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert_eq!(get(&mut world, bob, ids[1]), [all[2].clone()]);
        ack(&mut world, bob, &ids[..1]);
        assert_eq!(get(&mut world, bob, 0), all[1..]);
        ack(&mut world, bob, &ids);
        assert_eq!(get(&mut world, bob, 0), []);
        assert_eq!((world.rows("envelopes"), world.rows("mailboxes")), (0, 0));
        // A number is not used again, though nothing is there that has it.
        world.call::<Done>(alice, &post("four"));
        assert!(get(&mut world, bob, 0)[0].0 > ids[2]);
    }

    #[test]
    fn no_row_names_the_sender_nor_the_minute() {
        let (mut world, alice, bob) = World::friends();
        world.wait(Duration::from_secs(90 * 60));
        world.call::<Done>(alice, &post("for bob"));
        let row = world.dump("envelopes");
        let sql = "SELECT account, posted_at FROM envelopes JOIN accounts a ON a.id = account
                   WHERE a.name = 'bob'";
        let connection = &world.store.database.connection;
        let row_of_bob = connection.query_row(sql, [], |row| row.get::<_, i64>(1)).unwrap();
        assert_eq!(row_of_bob % (60 * 60 * 1000), 0);
        let key = format!("{:?}", secret(1).public().as_bytes());
        assert!(!row.contains(&key) && !row.contains("alice"), "{row}");
        // Nor does the trail.
        assert!(world.trail().iter().all(|row| row.event == "registered"));
        ack(&mut world, bob, &[1]);
    }

    #[test]
    fn the_share_of_a_sender_is_known_to_this_run_alone() {
        let shares = |world: &World| world.dump("mailboxes");
        let (mut world, alice, _) = World::friends();
        world.call::<Done>(alice, &post("x"));
        let first = shares(&world);
        world.call::<Done>(alice, &post("y"));
        assert_eq!(world.rows("mailboxes"), 1);
        let mut world = world.restart(|params| params);
        // The key is drawn from what the driver gives, which in tests is the same again.
        world.server.shares = Shares(Some(Hmac::<Sha256>::new(&[7; 64].into())));
        let alice = world.connect(1);
        world.call::<Done>(alice, &post("z"));
        assert_eq!(world.rows("mailboxes"), 2, "{first} {}", shares(&world));
        assert!(!format!("{:?}", world.server.shares).contains('7'));
    }

    #[test]
    fn only_the_device_that_it_is_for_hears_of_it_and_once_until_it_asks() {
        let (mut world, alice, bob) = World::friends();
        let second = add_device(&mut world, bob, 4);
        world.events(bob);
        for number in 0..10 {
            world.call::<Done>(alice, &post([number]));
        }
        assert_eq!(world.events(bob), [Event::Envelopes {}]);
        assert_eq!((world.events(second), world.events(alice)), (vec![], vec![]));
        assert_eq!(get(&mut world, second, 0), []);
        assert_eq!(get(&mut world, bob, 0).len(), 10);
        world.call::<Done>(alice, &post("y"));
        world.call::<Done>(alice, &post("z"));
        assert_eq!(world.events(bob), [Event::Envelopes {}]);
        // Another connection of the device has heard nothing yet.
        let again = world.connect(2);
        world.events(again);
        world.call::<Done>(alice, &post("w"));
        assert_eq!(world.events(again), [Event::Envelopes {}]);
    }

    #[test]
    fn a_device_that_is_being_greeted_is_greeted_first() {
        let (mut world, alice, bob) = World::friends();
        world.disconnect(bob);
        let bob = world.begin_connect(2);
        world.server.tell_of_envelopes(&secret(2).public());
        world.settle();
        assert!(matches!(world.events(bob)[..], [Event::Welcome { .. }]));
        world.call::<Done>(alice, &post("x"));
        assert_eq!(world.events(bob), [Event::Envelopes {}]);
    }

    /// Adds a device to bob's account; returns its connection.
    fn add_device(world: &mut World, bob: ConnId, device: u8) -> ConnId {
        let conn = world.connect(device);
        world.login(conn, "bob", PASSWORD).unwrap();
        let devices = with_device(device, world.now);
        world.call::<Done>(conn, &Request::DeviceAdd { devices });
        world.events(conn);
        world.events(bob);
        conn
    }

    fn with_device(device: u8, at: Timestamp) -> SignedDeviceList {
        let list = verified("bob", first_list("bob", 2)).with_device(entry(device), at);
        list.sign(&account("bob"), Some(&secret(2)))
    }

    #[test]
    fn a_mailbox_is_its_devices_own() {
        let (mut world, alice, bob) = World::friends();
        let second = add_device(&mut world, bob, 4);
        world.call::<Done>(alice, &post("x"));
        let ids: Vec<_> = get(&mut world, bob, 0).into_iter().map(|(id, _)| id).collect();
        for other in [alice, second] {
            assert_eq!(get(&mut world, other, 0), []);
            ack(&mut world, other, &ids);
        }
        assert_eq!(get(&mut world, bob, 0).len(), 1);
        let stranger = world.connect(9);
        for request in [post("x"), Request::EnvelopeGet { after: 0 }, Request::EnvelopeAck { ids }]
        {
            assert_eq!(world.refused(stranger, &request), ErrorCode::UnknownDevice);
        }
        let many = Request::EnvelopeAck { ids: vec![0; MAX_ENVELOPES_AT_ONCE + 1] };
        assert_eq!(world.refused(bob, &many), ErrorCode::Malformed);
    }

    #[test]
    fn only_a_mutual_contact_s_device_is_posted_to() {
        let (mut world, alice, bob) = World::friends();
        let carol = world.register("carol", 3);
        world.ask(carol, ("carol", 3), "bob");
        assert_eq!(world.refused(carol, &post("x")), ErrorCode::NoContact);
        for (of, device) in [("ghost", 2), ("alice", 1), ("carol", 3)] {
            assert_eq!(world.refused(alice, &to(of, device)), ErrorCode::NoContact);
        }
        assert_eq!(world.refused(alice, &to("bob", 3)), ErrorCode::NoDevice);
        world.call::<Done>(bob, &Request::ContactRemove { name: name("alice") });
        assert_eq!(world.refused(alice, &post("x")), ErrorCode::NoContact);
        assert_eq!((world.rows("envelopes"), world.rows("posted")), (0, 0));
    }

    fn to(to: &str, device: u8) -> Request {
        Request::EnvelopePost { name: name(to), device: id(device), envelopes: vec![Blob(vec![1])] }
    }

    #[test]
    fn a_group_is_taken_in_its_order_with_numbers_that_follow_each_other() {
        let (mut world, alice, bob) = World::friends();
        let all: Vec<_> = (0..MAX_ENVELOPES_AT_ONCE).map(|at| at.to_be_bytes().to_vec()).collect();
        world.call::<Done>(alice, &group(all.clone()));
        assert_eq!(world.events(bob), [Event::Envelopes {}]);
        let got = get(&mut world, bob, 0);
        assert!(got.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0));
        assert_eq!(got.into_iter().map(|(_, envelope)| envelope).collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_group_is_as_large_as_what_one_reply_gives_or_one_long_envelope() {
        let (mut world, alice, bob) = World::friends();
        let half = MAX_ENVELOPE_BYTES_AT_ONCE / 2;
        let large = [vec![vec![0; half], vec![1; half]], vec![vec![0; MAX_ENVELOPE]]];
        for envelopes in large {
            world.call::<Done>(alice, &group(envelopes));
        }
        let kept = get(&mut world, bob, 0).len();
        let wrong = [
            vec![],
            vec![vec![]],
            vec![vec![1], vec![], vec![1]],
            vec![vec![1]; MAX_ENVELOPES_AT_ONCE + 1],
            vec![vec![0; half], vec![0; half], vec![1]],
            vec![vec![0; MAX_ENVELOPE], vec![1]],
            vec![vec![0; MAX_ENVELOPE + 1]],
        ];
        for envelopes in wrong {
            assert_eq!(world.refused(alice, &group(envelopes)), ErrorCode::Malformed);
        }
        assert_eq!((get(&mut world, bob, 0).len(), kept), (2, 2));
    }

    #[test]
    fn of_a_group_for_which_there_is_no_room_nothing_is_taken() {
        let some = |numbers: Range<u8>| group(numbers.map(|number| vec![number]).collect());
        let limits = [
            Limits { mailbox_messages: 5, ..Limits::default() },
            Limits { mailbox_messages_per_sender: 5, ..Limits::default() },
            Limits { mailbox_posts_per_day: 5, ..Limits::default() },
        ];
        for limits in limits {
            let (mut world, alice, bob) = friends_limited(limits);
            world.call::<Done>(alice, &some(0..3));
            let code = world.refused(alice, &some(3..6));
            assert!(matches!(code, ErrorCode::MailboxFull | ErrorCode::TooFast));
            assert_eq!(bytes(&mut world, bob).len(), 3);
            world.call::<Done>(alice, &some(3..5));
            assert_eq!(waiting(&mut world, "bob"), Waiting { messages: 5, bytes: 5 });
        }
    }

    #[test]
    fn who_is_blocked_is_told_that_it_is_done_and_nothing_is_kept() {
        let (mut world, alice, bob) = World::friends();
        world.call::<Done>(alice, &post("before"));
        get(&mut world, bob, 0);
        world.events(bob);
        world.call::<Done>(bob, &Request::ContactBlock { name: name("alice") });
        world.call::<Done>(alice, &post("after"));
        assert_eq!(bytes(&mut world, bob), [b"before"]);
        assert_eq!(world.events(bob), []);
        assert_eq!(world.refused(bob, &to("alice", 1)), ErrorCode::Blocked);
        world.call::<Done>(bob, &Request::ContactUnblock { name: name("alice") });
        world.call::<Done>(alice, &post("later"));
        assert_eq!(bytes(&mut world, bob).len(), 2);
    }

    #[test]
    fn one_who_is_blocked_has_the_day_of_one_who_is_not() {
        let limits = Limits { mailbox_posts_per_day: 1, ..Limits::default() };
        let (mut world, alice, bob) = friends_limited(limits);
        world.call::<Done>(bob, &Request::ContactBlock { name: name("alice") });
        world.call::<Done>(alice, &post("x"));
        assert_eq!(world.refused(alice, &post("x")), ErrorCode::TooFast);
    }

    #[test]
    fn a_mailbox_has_room_for_so_many_and_for_so_much() {
        let limits = Limits { mailbox_messages: 3, mailbox_mib: 1, ..Limits::default() };
        let (mut world, alice, bob) = friends_limited(limits);
        for envelope in ["one", "two", "three"] {
            world.call::<Done>(alice, &post(envelope));
        }
        assert_eq!(waiting(&mut world, "bob"), Waiting { messages: 3, bytes: 11 });
        let refused = world.try_call::<Done>(alice, &post("four")).unwrap_err();
        assert_eq!((refused.code, refused.until), (ErrorCode::MailboxFull, None));
        assert!(refused.message.contains("full"));
        ack(&mut world, bob, &[1, 2, 3]);
        let half = |number| post(vec![number; 400 * 1024]);
        world.call::<Done>(alice, &half(1));
        world.call::<Done>(alice, &half(2));
        assert_eq!(world.refused(alice, &half(3)), ErrorCode::MailboxFull);
        world.call::<Done>(alice, &post("small"));
        ack(&mut world, bob, &[4]);
        world.call::<Done>(alice, &half(3));
        assert_eq!(waiting(&mut world, "bob").messages, 3);
    }

    #[test]
    fn nobody_fills_a_mailbox_for_the_others() {
        let limits = Limits {
            mailbox_messages_per_sender: 2,
            mailbox_mib_per_sender: 1,
            ..Limits::default()
        };
        let (mut world, alice, bob) = friends_limited(limits);
        let carol = world.register("carol", 3);
        world.ask(carol, ("carol", 3), "bob");
        world.accept(bob, ("bob", 2), "carol");
        world.call::<Done>(alice, &post("x"));
        world.call::<Done>(alice, &post("y"));
        let refused = world.try_call::<Done>(alice, &post("z")).unwrap_err();
        assert_eq!(refused.code, ErrorCode::MailboxFull);
        assert!(refused.message.contains("from you"));
        world.call::<Done>(carol, &half_a_mib(1));
        ack(&mut world, bob, &[1, 2]);
        world.call::<Done>(alice, &half_a_mib(2));
        world.call::<Done>(alice, &half_a_mib(3));
        ack(&mut world, bob, &[4]);
        world.call::<Done>(alice, &half_a_mib(4));
        ack(&mut world, bob, &[5]);
        assert_eq!(world.rows("mailboxes"), 2);
    }

    #[test]
    fn a_sender_s_bytes_in_a_mailbox_are_counted_too() {
        let limits = Limits { mailbox_mib_per_sender: 1, ..Limits::default() };
        let (mut world, alice, bob) = friends_limited(limits);
        world.call::<Done>(alice, &half_a_mib(1));
        world.call::<Done>(alice, &half_a_mib(2));
        assert_eq!(world.refused(alice, &half_a_mib(3)), ErrorCode::MailboxFull);
        ack(&mut world, bob, &[1]);
        world.call::<Done>(alice, &half_a_mib(3));
    }

    /// A little less than that.
    fn half_a_mib(number: u8) -> Request {
        post(vec![number; 448 * 1024])
    }

    #[test]
    fn what_waits_already_is_not_held_again_and_takes_no_room() {
        let limits = Limits { mailbox_messages: 3, ..Limits::default() };
        let (mut world, alice, bob) = friends_limited(limits);
        let both = group(vec![b"one".to_vec(), b"two".to_vec()]);
        for _ in 0..3 {
            world.call::<Done>(alice, &both);
        }
        world.call::<Done>(alice, &group(vec![b"three".to_vec(), b"two".to_vec()]));
        assert_eq!(world.refused(alice, &post("four")), ErrorCode::MailboxFull);
        assert_eq!(bytes(&mut world, bob), [b"one".as_slice(), b"two", b"three"]);
        ack(&mut world, bob, &[1]);
        // It is gone, and the sender does not know.
        world.call::<Done>(alice, &group(vec![b"one".to_vec(); 2]));
        assert_eq!(bytes(&mut world, bob), [b"two".as_slice(), b"three", b"one"]);
        let second = add_device(&mut world, bob, 4);
        ack(&mut world, bob, &[2]);
        let device = id(4);
        let envelopes = vec![Blob(b"three".to_vec())];
        world.call::<Done>(alice, &Request::EnvelopePost { name: name("bob"), device, envelopes });
        assert_eq!(bytes(&mut world, second), [b"three"], "each device has its own");
    }

    #[test]
    fn an_account_posts_so_many_and_so_much_in_a_day() {
        let limits =
            Limits { mailbox_posts_per_day: 2, mailbox_mib_per_day: 1, ..Limits::default() };
        let (mut world, alice, bob) = friends_limited(limits);
        let start = world.now;
        world.call::<Done>(alice, &post("x"));
        world.wait(Duration::from_secs(60));
        world.call::<Done>(alice, &post("x"));
        let refused = world.try_call::<Done>(alice, &post("x")).unwrap_err();
        assert_eq!((refused.code, refused.until), (ErrorCode::TooFast, Some(start + DAY)));
        // The other has a day of its own, and after this one there is another.
        world.call::<Done>(bob, &to("alice", 1));
        world.wait(DAY);
        world.call::<Done>(alice, &half_a_mib(1));
        world.call::<Done>(alice, &half_a_mib(2));
        world.wait(DAY);
        let limits = Limits { mailbox_mib_per_day: 1, ..Limits::default() };
        let mut world = world.restart(|params| ServerParams { limits, ..params });
        let alice = world.connect(1);
        for _ in 0..2 {
            world.call::<Done>(alice, &half_a_mib(1));
        }
        assert_eq!(world.refused(alice, &half_a_mib(1)), ErrorCode::TooFast, "it costs anyhow");
        world.call::<Done>(alice, &post("small"));
    }

    #[test]
    fn what_nobody_fetches_goes_in_its_time() {
        let limits = Limits { mailbox_days: 2, ..Limits::default() };
        let (mut world, alice, bob) = friends_limited(limits);
        world.call::<Done>(alice, &post("old"));
        world.wait(DAY);
        world.call::<Done>(alice, &post("new"));
        world.wait(DAY + Duration::from_secs(60 * 60));
        world.server.handle_timeout(world.now);
        world.settle();
        assert_eq!(bytes(&mut world, bob), [b"new"]);
        world.wait(DAY);
        world.server.handle_timeout(world.now);
        world.settle();
        assert_eq!((world.rows("envelopes"), world.rows("posted")), (0, 0));
    }

    #[test]
    fn a_reply_has_as_much_as_fits_and_one_at_least() {
        let (mut world, alice, bob) = World::friends();
        let sizes = [100, 200, 1, 448, 448, 10];
        for (number, kib) in (1..).zip(sizes) {
            world.call::<Done>(alice, &post(vec![number; kib * 1024]));
        }
        let mut after = 0;
        let mut numbers = Vec::new();
        loop {
            let part = get(&mut world, bob, after);
            let Some((last, _)) = part.last() else { break };
            after = *last;
            numbers.push(part.into_iter().map(|(_, envelope)| envelope[0]).collect::<Vec<_>>());
        }
        assert_eq!(numbers, [vec![1], vec![2, 3], vec![4], vec![5], vec![6]]);
        for number in 0..=MAX_ENVELOPES_AT_ONCE {
            world.call::<Done>(alice, &post(number.to_be_bytes()));
        }
        assert_eq!(get(&mut world, bob, after).len(), MAX_ENVELOPES_AT_ONCE);
    }

    #[test]
    fn the_longest_envelope_fits_in_a_post_and_nothing_else_is_as_long() {
        let (mut world, alice, bob) = World::friends();
        let longest = post(vec![7; MAX_ENVELOPE]);
        let len = serde_json::to_vec(&longest).unwrap().len();
        assert!(len <= MAX_POST && len > MAX_REQUEST, "{len}");
        world.call::<Done>(alice, &longest);
        assert_eq!(bytes(&mut world, bob)[0].len(), MAX_ENVELOPE);
        let mut other = serde_json::to_vec(&Request::EnvelopeGet { after: 0 }).unwrap();
        other.resize(MAX_REQUEST + 1, b' ');
        let stream = world.send(bob, &other);
        world.settle();
        let refused = world.reply::<Envelopes>(bob, stream).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Malformed);
        let stranger = world.connect(9);
        let longest = [alice, stranger].map(|conn| world.server.longest_request(conn));
        assert_eq!(longest, [Some(MAX_POST), Some(MAX_REQUEST)]);
        let new = world.begin_connect(1);
        assert_eq!(world.server.longest_request(new), None);
    }

    #[test]
    fn it_goes_with_its_device() {
        let (mut world, alice, bob) = World::friends();
        let second = add_device(&mut world, bob, 4);
        for device in [2, 4] {
            world.call::<Done>(alice, &to("bob", device));
        }
        let list = verified("bob", with_device(4, world.now)).without(&[id(4)], world.now);
        let devices = list.sign(&account("bob"), Some(&secret(2)));
        world.login(bob, "bob", PASSWORD).unwrap();
        world.call::<Done>(bob, &Request::DeviceRemove { devices });
        assert!(world.closed(second).is_some());
        assert_eq!((world.rows("envelopes"), world.rows("mailboxes")), (1, 1));
        assert_eq!(get(&mut world, bob, 0).len(), 1);
        assert_eq!(world.refused(alice, &to("bob", 4)), ErrorCode::NoDevice);
    }

    #[test]
    fn it_goes_with_the_account() {
        let (mut world, alice, bob) = World::friends();
        world.call::<Done>(alice, &post("x"));
        world.call::<Done>(bob, &to("alice", 1));
        world.login(bob, "bob", PASSWORD).unwrap();
        world.call::<Done>(bob, &Request::AccountDelete {});
        let tables = ["envelopes", "mailboxes", "posted"].map(|table| world.rows(table));
        assert_eq!(tables, [1, 1, 1]);
        assert_eq!(get(&mut world, alice, 0).len(), 1);
        assert_eq!(world.refused(alice, &post("x")), ErrorCode::NoContact);
    }

    #[test]
    fn what_was_answered_is_there_after_the_server_was_killed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut world = World::over(Store::open(&path).unwrap(), Limits::default());
        let (alice, bob) = (world.register("alice", 1), world.register("bob", 2));
        world.ask(alice, ("alice", 1), "bob");
        world.accept(bob, ("bob", 2), "alice");
        let stream = world.send(alice, &serde_json::to_vec(&post("kept")).unwrap());
        // The reply has not left yet: nothing of it is in the files, and none is given.
        let mut beside = World::over(Store::open(&path).unwrap(), Limits::default());
        let bob = beside.connect(2);
        assert_eq!(bytes(&mut beside, bob).len(), 0);
        world.settle();
        assert_eq!(world.reply::<Done>(alice, stream), Ok(Done {}));
        // As a killed process leaves them.
        let copy = tempfile::tempdir().unwrap();
        for file in ["db", "db-wal"] {
            std::fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
        }
        let store = Store::open(&copy.path().join("db")).unwrap();
        let mut again = World::over(store, Limits::default());
        let bob = again.connect(2);
        assert_eq!(bytes(&mut again, bob), [b"kept"]);
    }

    #[test]
    fn a_post_that_the_store_does_not_take_is_not_answered_with_done() {
        let (mut world, alice, bob) = World::friends();
        world.store.database.connection.execute_batch("DROP TABLE posted").unwrap();
        assert_eq!(world.refused(alice, &post("x")), ErrorCode::Unavailable);
        assert_eq!((world.rows("envelopes"), world.events(bob)), (0, vec![]));
    }
}
