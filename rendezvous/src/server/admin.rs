//! What who runs the server asks of it: every request is one query, and what it changes holds at
//! once for who is connected.

use parlor_common::id::{DeviceId, Username};
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{AccountChange, Invitation};
use rand::CryptoRng;

use super::bus::Notice;
use super::output::{AdminId, CloseReason, Output};
use super::query::{Answer, Query};
use super::{Pending, Server, invitations};
use crate::admin::{
    AdminAnswer, AdminError, AdminErrorCode, AdminReply, AdminRequest, PAGE, Status, User,
    UserChange, UserLine,
};
use crate::audit::{AuditEvent, Entry};

/// Where a request goes on when the store has answered.
#[derive(Debug)]
pub(super) enum AfterAdmin {
    UserList,
    UserShow,
    UserChange(UserChange),
    UserDelete(Username),
    InviteCreate(Invitation),
    InviteList,
    InviteRevoke,
    Audit,
    Status,
}

type Outcome = Result<AdminAnswer, AdminErrorCode>;

impl Server {
    /// Who runs the server asks something. The reply is [`Output::Admin`] of the same number.
    pub fn handle_admin(
        &mut self,
        id: AdminId,
        request: AdminRequest,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) {
        let limit = PAGE;
        let (query, after) = match request {
            AdminRequest::UserList { after } => {
                (Query::Users { after, limit }, AfterAdmin::UserList)
            }
            AdminRequest::UserShow { name } => {
                (Query::User { name, at: now }, AfterAdmin::UserShow)
            }
            AdminRequest::UserChange { name, change } => {
                (Query::ChangeUser { name, change, at: now }, AfterAdmin::UserChange(change))
            }
            AdminRequest::UserDelete { name } => delete_user(name, now),
            AdminRequest::InviteCreate { uses, days } => invite(uses, days, now, rng),
            AdminRequest::InviteList { after } => {
                (Query::Invitations { after, limit }, AfterAdmin::InviteList)
            }
            AdminRequest::InviteRevoke { id } => {
                (Query::RevokeInvitation { id, at: now }, AfterAdmin::InviteRevoke)
            }
            AdminRequest::AuditNewest { limit } => {
                (Query::AuditNewest { limit: limit.min(PAGE) }, AfterAdmin::Audit)
            }
            AdminRequest::AuditAfter { seq } => {
                (Query::AuditAfter { seq, limit }, AfterAdmin::Audit)
            }
            AdminRequest::Status {} => (Query::CountAccounts, AfterAdmin::Status),
        };
        self.query(query, Pending::Admin(id, after));
    }

    /// The driver cut a connection off by itself: it is counted with the others.
    pub fn note_cut(&mut self, reason: CloseReason) {
        self.counters.cut(reason);
    }

    /// The store has answered.
    pub(super) fn resume_admin(&mut self, id: AdminId, after: AfterAdmin, answer: Answer) {
        let reply = match self.admin_outcome(after, answer) {
            Ok(answer) => AdminReply::Ok(answer),
            Err(code) => AdminReply::Error(AdminError { code, message: say(code).to_owned() }),
        };
        self.outputs.push_back(Output::Admin { id, reply });
    }

    fn admin_outcome(&mut self, after: AfterAdmin, answer: Answer) -> Outcome {
        match (after, answer) {
            (AfterAdmin::UserList, Answer::Users(users)) => Ok(self.users_listed(users)),
            (AfterAdmin::UserShow, Answer::User(user)) => {
                Ok(self.user_shown(user.ok_or(AdminErrorCode::UnknownUser)?))
            }
            (AfterAdmin::UserChange(change), Answer::UserChanged(devices)) => {
                let devices = devices.ok_or(AdminErrorCode::UnknownUser)?;
                if change == UserChange::Disable {
                    self.publish(Notice::CutOff { devices, change: AccountChange::Disabled });
                }
                Ok(AdminAnswer::Done)
            }
            (AfterAdmin::UserDelete(name), Answer::Deleted(deleted)) => {
                self.tell_deleted(&name, *deleted.ok_or(AdminErrorCode::UnknownUser)?);
                Ok(AdminAnswer::Done)
            }
            (AfterAdmin::InviteCreate(invitation), Answer::InvitationKept(true)) => {
                Ok(AdminAnswer::Invitation(invitation))
            }
            (AfterAdmin::InviteList, Answer::Invitations(list)) => {
                Ok(AdminAnswer::Invitations(list))
            }
            (AfterAdmin::InviteRevoke, Answer::InvitationRevoked(known)) => {
                if known {
                    Ok(AdminAnswer::Done)
                } else {
                    Err(AdminErrorCode::UnknownInvitation)
                }
            }
            (AfterAdmin::Audit, Answer::Audit(page)) => Ok(AdminAnswer::Audit(page)),
            (AfterAdmin::Status, Answer::Counted(accounts)) => Ok(self.status(accounts)),
            _ => Err(AdminErrorCode::Unavailable),
        }
    }

    fn users_listed(&self, mut users: Vec<UserLine>) -> AdminAnswer {
        for user in &mut users {
            user.online = self.present.is_online(&user.name);
        }
        AdminAnswer::Users(users)
    }

    fn user_shown(&self, mut user: Box<User>) -> AdminAnswer {
        let online = self.present.devices(&user.line.name);
        let ids: Vec<_> = online.iter().map(DeviceId::of).collect();
        user.line.online = !ids.is_empty();
        for device in &mut user.known_devices {
            device.online = ids.contains(&device.device);
        }
        AdminAnswer::User(user)
    }

    fn status(&self, accounts: u64) -> AdminAnswer {
        AdminAnswer::Status(Box::new(Status {
            connections: count(self.connections.ids().len()),
            accounts,
            online: count(self.present.count()),
            counters: self.counters.clone(),
        }))
    }
}

fn delete_user(name: Username, at: Timestamp) -> (Query, AfterAdmin) {
    let entry = Box::new(Entry::new(AuditEvent::UserDeleted, at).of(name.clone()));
    (Query::DeleteAccount { name: name.clone(), entry }, AfterAdmin::UserDelete(name))
}

fn invite(uses: u32, days: u32, at: Timestamp, rng: &mut dyn CryptoRng) -> (Query, AfterAdmin) {
    let (made, invitation) = invitations::draw(uses, days, at, rng);
    (Query::CreateInvitation(Box::new(made)), AfterAdmin::InviteCreate(invitation))
}

const fn say(code: AdminErrorCode) -> &'static str {
    match code {
        AdminErrorCode::Malformed => "that is no request of this version: is it the same program?",
        AdminErrorCode::UnknownUser => "nobody has that name",
        AdminErrorCode::UnknownInvitation => "there is no such invitation",
        AdminErrorCode::Unavailable => "the database cannot answer now; try again in a moment",
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use parlor_common::wire::rendezvous::{Event, Present, Request, User as WireUser};

    use super::super::invitations::DAY;
    use super::super::testing::{
        PASSWORD, World, account, entry, first_list, name, presence, verified,
    };
    use super::*;
    use crate::invitation::InvitationCode;

    fn change(
        world: &mut World,
        of: &str,
        change: UserChange,
    ) -> Result<AdminAnswer, AdminErrorCode> {
        world.try_admin(AdminRequest::UserChange { name: name(of), change })
    }

    fn delete(world: &mut World, of: &str) -> Result<AdminAnswer, AdminErrorCode> {
        world.try_admin(AdminRequest::UserDelete { name: name(of) })
    }

    fn count_events(world: &mut World, event: &str) -> usize {
        world.trail().iter().filter(|row| row.event == event).count()
    }

    #[test]
    fn a_disabled_user_is_cut_off_and_a_stranger_until_it_is_enabled() {
        let (mut world, alice, bob) = World::friends();
        world.call::<Present>(bob, &Request::PresenceWatch {});
        change(&mut world, "alice", UserChange::Disable).unwrap();
        let told = Event::AccountChanged { change: AccountChange::Disabled };
        assert_eq!(world.events(alice), [told]);
        assert_eq!(world.closed(alice), Some(CloseReason::CutOff));
        assert_eq!(world.events(bob), [presence("alice", false)]);

        let again = world.connect(1);
        let welcome = world.events(again);
        assert!(matches!(&welcome[..], [Event::Welcome { name: None, .. }]), "{welcome:?}");
        assert!(world.login(again, "alice", PASSWORD).is_err());
        let known = world.try_call::<WireUser>(again, &Request::UserGet { name: name("bob") });
        assert!(known.is_err());

        change(&mut world, "alice", UserChange::Enable).unwrap();
        let back = world.connect(1);
        let welcome = world.events(back);
        assert!(matches!(&welcome[..], [Event::Welcome { name: Some(_), .. }]), "{welcome:?}");
        assert!(world.login(back, "alice", PASSWORD).is_ok());
        assert_eq!(count_events(&mut world, "user_disabled"), 1);
        assert_eq!(count_events(&mut world, "user_enabled"), 1);
    }

    #[test]
    fn a_login_that_was_finished_before_gives_a_disabled_user_no_new_device() {
        let mut world = World::new();
        world.register("alice", 1);
        let other = world.connect(2);
        world.login(other, "alice", PASSWORD).unwrap();
        change(&mut world, "alice", UserChange::Disable).unwrap();
        let first = verified("alice", first_list("alice", 1));
        let devices = first.with_device(entry(2), world.now).sign(&account("alice"), None);
        world.refused(other, &Request::DeviceAdd { devices });
        assert_eq!(count_events(&mut world, "device_added"), 0);
    }

    #[test]
    fn a_deleted_user_is_cut_off_and_its_name_is_not_given_out_again() {
        let (mut world, alice, bob) = World::friends();
        world.call::<Present>(bob, &Request::PresenceWatch {});
        delete(&mut world, "alice").unwrap();
        assert_eq!(world.closed(alice), Some(CloseReason::CutOff));
        assert!(world.events(bob).contains(&presence("alice", false)));
        let newcomer = world.connect(7);
        assert!(world.try_register(newcomer, "alice", first_list("alice", 7)).is_err());
        assert_eq!(delete(&mut world, "alice"), Err(AdminErrorCode::UnknownUser));
        assert_eq!(count_events(&mut world, "user_deleted"), 1);
    }

    #[test]
    fn nobody_is_nobody_and_nothing_is_written_down() {
        let mut world = World::new();
        for wanted in [UserChange::Disable, UserChange::Enable, UserChange::Unlock] {
            assert_eq!(change(&mut world, "ghost", wanted), Err(AdminErrorCode::UnknownUser));
        }
        let show = AdminRequest::UserShow { name: name("ghost") };
        assert_eq!(world.try_admin(show), Err(AdminErrorCode::UnknownUser));
        assert_eq!(world.trail(), []);
    }

    #[test]
    fn users_are_shown_with_their_devices() {
        let mut world = World::new();
        let alice = world.register("alice", 1);
        let shown = |world: &mut World| {
            let answer = world.admin(AdminRequest::UserShow { name: name("alice") });
            let AdminAnswer::User(user) = answer else { panic!("{answer:?}") };
            let devices: Vec<_> = user.known_devices.iter().map(|device| device.online).collect();
            (user.line.online, devices, user.line.created_at)
        };
        let now = world.now;
        assert_eq!(shown(&mut world), (true, vec![true], now));
        world.disconnect(alice);
        assert_eq!(shown(&mut world), (false, vec![false], now));
        let answer = world.admin(AdminRequest::UserList { after: None });
        let AdminAnswer::Users(users) = answer else { panic!("{answer:?}") };
        assert_eq!((users.len(), users[0].devices, users[0].online), (1, 1, false));
    }

    #[test]
    fn an_invitation_is_made_listed_and_revoked() {
        let mut world = World::new();
        let answer = world.admin(AdminRequest::InviteCreate { uses: 3, days: 7 });
        let AdminAnswer::Invitation(invitation) = answer else { panic!("{answer:?}") };
        assert_eq!((invitation.uses, invitation.expires_at), (3, world.now + DAY * 7));
        let id = invitation.code.parse::<InvitationCode>().unwrap().hash().id();
        let listed = |world: &mut World| {
            let answer = world.admin(AdminRequest::InviteList { after: None });
            let AdminAnswer::Invitations(list) = answer else { panic!("{answer:?}") };
            list.into_iter().map(|known| (known.id, known.uses, known.revoked)).collect::<Vec<_>>()
        };
        assert_eq!(listed(&mut world), [(id.clone(), 3, false)]);
        world.admin(AdminRequest::InviteRevoke { id: id.clone() });
        assert_eq!(listed(&mut world), [(id.clone(), 3, true)]);
        let unknown = AdminRequest::InviteRevoke { id: "00000000".parse().unwrap() };
        assert_eq!(world.try_admin(unknown), Err(AdminErrorCode::UnknownInvitation));
        let trail = world.trail();
        let reasons: Vec<_> = trail.iter().map(|row| row.reason.as_deref()).collect();
        assert_eq!(reasons, [Some(id.as_str()); 2]);
    }

    #[test]
    fn what_is_refused_and_cut_is_counted() {
        let (mut world, alice, _) = World::friends();
        world.send(alice, b"junk");
        world.settle();
        let stranger = world.connect(9);
        world.refused(stranger, &Request::UserGet { name: name("bob") });
        change(&mut world, "alice", UserChange::Disable).unwrap();
        let answer = world.admin(AdminRequest::Status {});
        let AdminAnswer::Status(status) = answer else { panic!("{answer:?}") };
        assert_eq!((status.connections, status.accounts, status.online), (2, 2, 1));
        assert_eq!(status.counters.refused["malformed"], 1);
        assert_eq!(status.counters.refused["unknown_device"], 1);
        assert_eq!(status.counters.cut["cut_off"], 1);
    }
}
