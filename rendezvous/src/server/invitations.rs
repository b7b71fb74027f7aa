//! Invitations that users make, where they may. Of a code only its hash is kept.

use std::time::Duration;

use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{ErrorCode, ErrorReply, Invitation};
use rand::CryptoRng;

use super::output::Asker;
use super::query::{Answer, InvitationMade, Query};
use super::reply::{Handled, malformed, ok, refusal, unavailable};
use super::{After, Server};
use crate::invitation::InvitationCode;

pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Server {
    pub(super) fn invite_create(
        &mut self,
        asker: Asker,
        uses: u32,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Handled {
        let (by, limits) = (self.name(asker)?, &self.params.limits);
        if uses == 0 {
            return Err(malformed("an invitation is good for one account at least"));
        }
        if uses > limits.invitations_per_user {
            return Err(closed());
        }
        let (max_open, days) = (limits.invitations_per_user, limits.invitation_days);
        let (made, invitation) = draw(uses, days, now, rng);
        let made = InvitationMade { by: Some(by), max_open, ..made };
        let after = After::InviteCreate(Box::new(invitation));
        self.ask(asker, Query::CreateInvitation(Box::new(made)), after)
    }

    pub(super) fn invited(invitation: Invitation, answer: &Answer) -> Handled {
        let Answer::InvitationKept(kept) = answer else { return Err(unavailable()) };
        if *kept { ok(invitation) } else { Err(closed()) }
    }
}

/// Draws an admin's invitation: what is kept of it, and what is passed on.
pub(super) fn draw(
    uses: u32,
    days: u32,
    at: Timestamp,
    rng: &mut dyn CryptoRng,
) -> (InvitationMade, Invitation) {
    let code = InvitationCode::generate(rng);
    let expires_at = at + DAY.saturating_mul(days);
    let hash = code.hash();
    let made = InvitationMade { hash, uses, by: None, max_open: u32::MAX, at, expires_at };
    (made, Invitation { code: code.expose(), uses, expires_at })
}

fn closed() -> ErrorReply {
    let message = "you may not invite so many here; ask who runs the server for an invitation";
    refusal(ErrorCode::InvitationsClosed, message)
}

#[cfg(test)]
mod tests {
    use parlor_common::wire::rendezvous::{Done, Request, Ticket};

    use super::super::testing::{World, first_list};
    use super::super::{ConnId, ServerParams};
    use super::*;
    use crate::config::Registration;
    use crate::limits::Limits;

    fn world() -> World {
        let limits = Limits { invitations_per_user: 2, ..Limits::default() };
        World::with(|params| ServerParams { limits, ..params })
    }

    fn close(world: World) -> World {
        world.restart(|params| ServerParams { registration: Registration::Invite, ..params })
    }

    fn invite(world: &mut World, conn: ConnId, uses: u32) -> Result<Invitation, ErrorReply> {
        world.try_call(conn, &Request::InviteCreate { uses })
    }

    fn register(
        world: &mut World,
        (name, device): (&str, u8),
        code: Option<&str>,
    ) -> Result<Done, ErrorCode> {
        let conn = world.connect(device);
        let ticket = code.map(|code| Ticket::Invite { code: code.to_owned() });
        let list = first_list(name, device);
        world.register_with(conn, name, list, ticket).map_err(|error| error.code)
    }

    #[test]
    fn an_invitation_lets_in_as_many_as_it_says_until_its_time() {
        let mut world = world();
        let alice = world.register("alice", 1);
        let Invitation { code, uses, expires_at } = invite(&mut world, alice, 2).unwrap();
        assert_eq!((uses, expires_at), (2, world.now + DAY * 7));
        let mut world = close(world);
        assert_eq!(register(&mut world, ("bob", 2), None), Err(ErrorCode::InvitationNeeded));
        for bad in ["", "x", "ABCD-EFGH-JKLM-NPQR", &"A".repeat(60_000)] {
            let refused = register(&mut world, ("bob", 2), Some(bad));
            assert_eq!(refused, Err(ErrorCode::BadInvitation), "{bad}");
        }
        assert!(register(&mut world, ("bob", 2), Some(&code)).is_ok());
        // A name that is taken uses nothing up.
        let taken = register(&mut world, ("bob", 3), Some(&code));
        assert_eq!(taken, Err(ErrorCode::NameTaken));
        let lower = code.to_lowercase();
        assert!(register(&mut world, ("carol", 3), Some(&lower)).is_ok());
        let used_up = register(&mut world, ("dave", 4), Some(&code));
        assert_eq!(used_up, Err(ErrorCode::BadInvitation));
        assert_eq!(world.audited("registration_refused"), 7);
        assert_eq!(world.audited("invitation_created"), 1);
    }

    #[test]
    fn an_expired_invitation_lets_nobody_in() {
        let mut world = world();
        let alice = world.register("alice", 1);
        let code = invite(&mut world, alice, 1).unwrap().code;
        let mut world = close(world);
        world.wait(DAY * 7);
        let refused = register(&mut world, ("bob", 2), Some(&code));
        assert_eq!(refused, Err(ErrorCode::BadInvitation));
    }

    #[test]
    fn users_invite_where_they_may_and_no_more_than_they_may() {
        let mut world = World::new();
        let alice = world.register("alice", 1);
        let refused = invite(&mut world, alice, 1).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvitationsClosed);

        let mut world = self::world();
        let alice = world.register("alice", 1);
        assert!(invite(&mut world, alice, 1).is_ok());
        assert!(invite(&mut world, alice, 2).is_err());
        assert_eq!(invite(&mut world, alice, 0).unwrap_err().code, ErrorCode::Malformed);
        assert!(invite(&mut world, alice, 1).is_ok());
        assert!(invite(&mut world, alice, 1).is_err());
        let stranger = world.connect(2);
        assert_eq!(invite(&mut world, stranger, 1).unwrap_err().code, ErrorCode::UnknownDevice);
    }

    #[test]
    fn a_user_s_invitation_is_good_for_as_many_and_as_long_as_it_is_configured() {
        let limits = Limits { invitations_per_user: 1, invitation_days: 2, ..Limits::default() };
        let mut world = World::limited(limits);
        let alice = world.register("alice", 1);
        assert!(invite(&mut world, alice, 2).is_err());
        let invitation = invite(&mut world, alice, 1).unwrap();
        assert_eq!(invitation.expires_at, world.now + DAY * 2);
    }
}
