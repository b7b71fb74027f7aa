//! A contact's device that floods: it costs itself the link, and not the recipient's core.

use std::time::Duration;

use harness::world::Rogue;
use harness::{Stage, World};
use parlor::node::output::Event;
use parlor_common::envelope::{Envelope, FirstHeader, Header};
use parlor_common::id::SessionId;
use parlor_common::identity::DeviceKey;
use parlor_common::prekey::{DhPublicBytes, KemCiphertext, PrekeyBundle};
use parlor_common::wire::frame;
use parlor_common::wire::peer::{Hello, PeerFrame};

const SECOND: Duration = Duration::from_secs(1);

/// Whoever holds the keys of Alice's device, in her place.
struct Flood {
    world: World,
    key: DeviceKey,
    /// Alice's session with Bob.
    session: SessionId,
    rogue: Rogue,
}

impl Flood {
    /// Alice has talked with Bob, and Carol is to.
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        for name in ["alice", "bob", "carol"] {
            world.register(name);
        }
        world.befriend("alice", "bob");
        world.befriend("carol", "bob");
        world.says("alice", "bob", "hi from alice");
        world.sees("bob", &["hi from alice"]);
        // His receipt carries his ratchet key, which is the latest.
        world.all_delivered("alice");
        world.kill("alice");
        let agreed = world.told("bob").iter().find_map(|event| match event {
            Event::Agreed { contact, session } if contact.as_str() == "alice" => Some(*session),
            _ => None,
        });
        let key = world.device("alice").public();
        let rogue = links(&mut world, key);
        let flood = Self { world, key, session: agreed.unwrap(), rogue };
        assert!(!flood.is_closed());
        flood
    }

    /// Links with Bob again. Returns whether he lets it.
    fn links(&mut self) -> bool {
        self.rogue = links(&mut self.world, self.key);
        !self.is_closed()
    }

    fn is_closed(&self) -> bool {
        self.world.rogue_heard(self.rogue).is_closed
    }

    fn frame(&mut self, what: &PeerFrame) {
        self.world.rogue_sends(self.rogue, &frame(&what.encode()));
    }

    /// What Bob gives to whoever holds the key of a contact's device.
    fn bundle(&mut self) -> PrekeyBundle {
        self.frame(&PeerFrame::BundleRequest);
        self.world.run_for(SECOND);
        let heard = self.world.rogue_heard(self.rogue);
        let given = heard.frames.iter().find_map(|frame| match frame {
            PeerFrame::Bundle(bundle) => Some((**bundle).clone()),
            _ => None,
        });
        given.expect("it is given a bundle")
    }

    fn send(&mut self, count: u32, header: impl Fn(u32) -> Header) {
        for number in 0..count {
            let header = header(number);
            let bytes = header.encode();
            let envelope = Envelope::new(header, &bytes, &[0; 16], &[0; 272]);
            self.frame(&PeerFrame::Envelope(envelope));
        }
    }

    /// So many in a second are borne, and one more costs the link. What Carol sends meanwhile
    /// comes through, her first message included.
    fn costs_the_link(&mut self, bound: u32, header: impl Fn(u32) -> Header) {
        self.send(bound, &header);
        self.world.run_for(SECOND * 5);
        assert!(!self.is_closed(), "{bound} in a second are borne");

        self.world.says("carol", "bob", "hi from carol");
        self.send(bound + 1, |number| header(100 + number));
        self.world.run_for(SECOND * 2);
        assert!(self.is_closed(), "{} in a second are not", bound + 1);
        assert_eq!(self.world.texts("bob"), ["hi from alice", "hi from carol"]);
        self.world.all_delivered("carol");
    }

    /// For a minute there is no link for this device; others keep theirs.
    fn is_shut_out_for_a_minute(&mut self) {
        for pause in [1, 20, 20, 10] {
            assert!(!self.links(), "not again so soon");
            self.world.run_for(SECOND * pause);
        }
        self.world.says("carol", "bob", "still there?");
        self.world.run_for(SECOND * 10);
        assert_eq!(self.world.texts("bob").last(), Some(&"still there?"));
        assert!(self.links(), "after that it is given one again");
    }

    /// Alice herself comes back, and Bob opens what she says.
    fn ends(mut self) {
        self.world.start("alice");
        self.world.says("alice", "bob", "it was not me");
        self.world.all_delivered("alice");
        assert_eq!(self.world.texts("bob").last(), Some(&"it was not me"));
    }
}

fn links(world: &mut World, key: DeviceKey) -> Rogue {
    let rogue = world.rogue_dials(key, "bob");
    world.rogue_sends(rogue, &frame(&PeerFrame::Hello(Hello { version: 1 }).encode()));
    world.run_for(SECOND);
    rogue
}

/// A public value that is in range, another for each number.
fn value(number: u32) -> DhPublicBytes {
    let mut bytes = [2; DhPublicBytes::LEN];
    bytes[8..12].copy_from_slice(&number.to_be_bytes());
    DhPublicBytes(Box::new(bytes))
}

/// Under a ratchet key that the recipient has not seen.
fn following(session: SessionId, number: u32) -> Header {
    Header { session, first: None, ratchet: value(number), previous: 0, number: 0 }
}

#[test]
fn new_ratchet_keys_each_of_which_costs_an_exponentiation() {
    let mut flood = Flood::new(70);
    let session = flood.session;
    flood.costs_the_link(10, |number| following(session, number));
    flood.is_shut_out_for_a_minute();
    flood.ends();
}

#[test]
fn first_messages_each_of_which_costs_six_exponentiations() {
    let mut flood = Flood::new(71);
    let signed_prekey = flood.bundle().signed.id;
    let first = |number| FirstHeader {
        ephemeral: value(number),
        signed_prekey,
        one_time_prekey: None,
        kem: KemCiphertext(Box::new([5; KemCiphertext::LEN])),
        sealed_sender: vec![6; 48],
    };
    let session = SessionId([9; 16]);
    flood.costs_the_link(10, |number| Header {
        first: Some(first(number)),
        ..following(session, number)
    });
    flood.is_shut_out_for_a_minute();
    flood.ends();
}

#[test]
fn garbage_of_a_session_that_there_is_not() {
    let mut flood = Flood::new(72);
    // Twice a window: who was put back to a copy gets a window of them from honest friends.
    flood.costs_the_link(1024, |number| following(SessionId([8; 16]), number));
    flood.is_shut_out_for_a_minute();
    flood.ends();
}
