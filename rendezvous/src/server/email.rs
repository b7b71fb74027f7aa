//! Registration by e-mail: a code goes to the address, and must come back.
//!
//! A mail is the dearest thing that a stranger can have done here, so it is the last: it leaves
//! after every other check has passed, in the order of their price, and it is counted.

use std::time::Duration;

use parlor_common::id::Username;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{ErrorCode, ErrorReply};
use rand::CryptoRng;

use super::output::{Asker, MailId, Output};
use super::query::{Answer, CodeAsking, EmailCodeAsked, EmailCodeTried, Origin, Query, UnsentMail};
use super::registration::name_taken;
use super::reply::{Handled, Step, refusal, too_fast, unavailable};
use super::{After, Pending, Server};
use crate::audit::{AuditEvent, Reason};
use crate::email::{Address, EmailCode, EmailCodeHash, EmailPolicy, Filled, Mail, NotSent};

/// A mail on its way, and who waits for it.
#[derive(Debug)]
pub(super) struct Mailing {
    asker: Asker,
    name: Username,
    address: Address,
    hash: EmailCodeHash,
    origin: Origin,
}

impl Server {
    /// A mail has left, or has not.
    pub fn handle_mailed(&mut self, id: MailId, result: Result<(), NotSent>, now: Timestamp) {
        let Some(Mailing { asker, name, address, hash, mut origin }) = self.mails.remove(&id)
        else {
            return;
        };
        origin.at = now;
        let entry = origin.entry(AuditEvent::RegistrationRefused).of(name);
        if result.is_ok() {
            self.record_refusal(entry.because(Reason::Refused(ErrorCode::EmailCodeNeeded)));
            return self.conclude(asker, Err(email_code_needed()));
        }
        let entry = entry.because(Reason::Refused(ErrorCode::MailFailed));
        let unsent = Box::new(UnsentMail { address, hash, entry });
        self.query(Query::TakeMailBack(unsent), Pending::Request(asker, After::MailTakenBack));
    }

    /// An address that may register here.
    pub(super) fn mailable(&self, address: &str) -> Result<Address, ErrorReply> {
        let address: Address = address.parse().map_err(|error| {
            refusal(ErrorCode::BadEmail, &format!("that is no e-mail address: {error}"))
        })?;
        if self.email_policy()?.domains.allow(address.domain()) {
            Ok(address)
        } else {
            Err(domain_not_allowed(&address))
        }
    }

    /// What the store checks a code by.
    pub(super) fn email_code(
        &self,
        address: Address,
        code: &str,
    ) -> Result<EmailCodeTried, ErrorReply> {
        let code: EmailCode = code.parse().map_err(|_| bad_email_code())?;
        let hash = code.hash(&address);
        let max_attempts = self.params.limits.email_code_attempts;
        Ok(EmailCodeTried { address, hash, max_attempts })
    }

    /// Draws a code and has the store keep it, if the name is free and not too many mails left.
    pub(super) fn mail_code(
        &mut self,
        asker: Asker,
        name: Username,
        address: Address,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Handled {
        let (origin, limits) = (self.origin(asker, now)?, self.params.limits);
        let EmailPolicy { template, server, .. } = self.email_policy()?;
        let code = EmailCode::generate(rng);
        let body = template.fill(Filled { code: &code, name: &name, server });
        let mail = Box::new(Mail { to: address.clone(), body });
        let hash = code.hash(&address);
        let good_for = Duration::from_secs(60 * u64::from(limits.email_code_minutes));
        let wish = EmailCodeAsked {
            name: name.clone(),
            address: address.clone(),
            hash,
            expires_at: now + good_for,
            origin,
            limits: limits.of_mails(),
        };
        let mailing = Box::new(Mailing { asker, name, address, hash, origin });
        let after = After::EmailCode { mailing, mail };
        self.ask(asker, Query::AskEmailCode(Box::new(wish)), after)
    }

    /// Sends the mail, now that its code is kept.
    pub(super) fn send_code(&mut self, mailing: Mailing, mail: Mail, answer: &Answer) -> Handled {
        let Answer::EmailCodeAsked(asking) = answer else { return Err(unavailable()) };
        match asking {
            CodeAsking::NameTaken => Err(name_taken()),
            CodeAsking::TooMany { until } => Err(too_many_mails(*until)),
            CodeAsking::Kept => {
                self.last_mail += 1;
                let id = MailId(self.last_mail);
                self.mails.insert(id, mailing);
                self.outputs.push_back(Output::Mail { id, mail });
                Ok(Step::Wait)
            }
        }
    }

    /// Without one nobody is let in by e-mail.
    fn email_policy(&self) -> Result<&EmailPolicy, ErrorReply> {
        self.params.email.as_ref().ok_or_else(unavailable)
    }
}

pub(super) fn email_needed() -> ErrorReply {
    let message = "registration here needs an e-mail address, to which a code is sent: --email";
    refusal(ErrorCode::EmailNeeded, message)
}

pub(super) fn bad_email_code() -> ErrorReply {
    let message = "the code is not the one that was sent to the address, or was used, is too old \
                   or was tried too often; ask for another";
    refusal(ErrorCode::BadEmailCode, message)
}

pub(super) fn mail_failed() -> ErrorReply {
    refusal(ErrorCode::MailFailed, "the mail with the code could not be sent; try again later")
}

fn email_code_needed() -> ErrorReply {
    let message = "a code was sent to the address: register again with it";
    refusal(ErrorCode::EmailCodeNeeded, message)
}

fn domain_not_allowed(address: &Address) -> ErrorReply {
    let message = format!("addresses of {} may not register here", address.domain());
    refusal(ErrorCode::BadEmail, &message)
}

fn too_many_mails(until: Timestamp) -> ErrorReply {
    too_fast("so many mails have left already that this one has to wait", until)
}

#[cfg(test)]
mod tests {
    use parlor_common::wire::rendezvous::{Done, Request, Ticket};

    use super::super::testing::{World, first_list, name};
    use super::super::{ConnId, ServerParams, StreamId};
    use super::*;
    use crate::config::Registration;
    use crate::limits::Limits;

    const ADDRESS: &str = "alice@isb.nu.edu.pk";

    fn by_email(params: ServerParams, limits: Limits) -> ServerParams {
        let policy = EmailPolicy {
            domains: vec!["isb.nu.edu.pk".parse().unwrap()].into(),
            template: "{code}\nfor {name} at {server}\n".parse().unwrap(),
            server: "chat.example".to_owned(),
        };
        let registration = Registration::Email;
        ServerParams { registration, email: Some(policy), limits, ..params }
    }

    fn world(limits: Limits) -> World {
        World::with(|params| by_email(params, limits))
    }

    fn ticket(address: &str, code: Option<&str>) -> Ticket {
        let (address, code) = (address.to_owned(), code.map(str::to_owned));
        Ticket::Email { address, code }
    }

    /// A request that waits for its mail to leave.
    #[derive(Debug)]
    struct Waiting {
        stream: StreamId,
        id: MailId,
        mail: Mail,
    }

    /// Asks for a code as alice.
    #[expect(clippy::unwrap_in_result, reason = "what is no reply fails the test")]
    fn ask(world: &mut World, conn: ConnId, address: &str) -> Result<Waiting, ErrorReply> {
        let message = vec![].into();
        let request = Request::RegisterStart {
            name: name("alice"),
            message,
            ticket: Some(ticket(address, None)),
        };
        let stream = world.send(conn, &serde_json::to_vec(&request).unwrap());
        world.settle();
        let mut mails = world.mails();
        assert!(mails.len() < 2);
        match mails.pop() {
            Some((id, mail)) => Ok(Waiting { stream, id, mail }),
            None => Err(world.reply::<Done>(conn, stream).unwrap_err()),
        }
    }

    fn code_in(mail: &Mail) -> &str {
        mail.body.lines().next().unwrap()
    }

    /// Has a code mailed to an address.
    fn mailed(world: &mut World, conn: ConnId, address: &str) -> String {
        let Waiting { id, mail, .. } = ask(world, conn, address).unwrap();
        world.mailed(id, Ok(()));
        code_in(&mail).to_owned()
    }

    fn finish(
        world: &mut World,
        conn: ConnId,
        address: &str,
        code: &str,
    ) -> Result<Done, ErrorCode> {
        let ticket = Some(ticket(address, Some(code)));
        let done = world.register_with(conn, "alice", first_list("alice", 1), ticket);
        done.map_err(|error| error.code)
    }

    #[test]
    fn a_code_is_mailed_and_lets_its_reader_in_once() {
        let mut world = world(Limits::default());
        let conn = world.connect(1);
        let Waiting { stream, id, mail } = ask(&mut world, conn, ADDRESS).unwrap();
        assert_eq!(mail.to, ADDRESS.parse().unwrap());
        let (code, rest) = mail.body.split_once('\n').unwrap();
        assert_eq!(rest, "for alice at chat.example\n");
        world.mailed(id, Ok(()));
        let refused = world.reply::<Done>(conn, stream).unwrap_err();
        assert_eq!(refused.code, ErrorCode::EmailCodeNeeded);

        assert!(finish(&mut world, conn, ADDRESS, &code.to_lowercase().replace('-', "")).is_ok());
        let other = world.connect(2);
        let list = first_list("bob", 2);
        let again = world.register_with(other, "bob", list, Some(ticket(ADDRESS, Some(code))));
        assert_eq!(again.unwrap_err().code, ErrorCode::BadEmailCode);
        let sql = "SELECT email FROM accounts WHERE name = 'alice'";
        let connection = &world.store.database.connection;
        let email: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(email, ADDRESS);
        assert_eq!((world.audited("registered"), world.audited("registration_refused")), (1, 2));
    }

    #[test]
    fn nothing_is_mailed_but_after_every_other_check() {
        let mut world = world(Limits::default());
        let conn = world.connect(1);
        let mut refused = |address: &str| ask(&mut world, conn, address).unwrap_err().code;
        for address in [
            "x@isb.nu.edu.pk.evil.example",
            "\"a@isb.nu.edu.pk\"@evil.example",
            "x@isb.nu.edu.pk\r\nBcc: y@evil.example",
            "x",
            &format!("{}@isb.nu.edu.pk", "x".repeat(60_000)),
        ] {
            assert_eq!(refused(address), ErrorCode::BadEmail, "{address}");
        }
        let without = world.register_with(conn, "alice", first_list("alice", 1), None);
        assert_eq!(without.unwrap_err().code, ErrorCode::EmailNeeded);
        let invitation = Some(Ticket::Invite { code: "ABCD-EFGH-JKLM-NPQR".to_owned() });
        let invited = world.register_with(conn, "alice", first_list("alice", 1), invitation);
        assert_eq!(invited.unwrap_err().code, ErrorCode::EmailNeeded);

        let code = mailed(&mut world, conn, ADDRESS);
        finish(&mut world, conn, ADDRESS, &code).unwrap();
        let other = world.connect(2);
        let taken = ask(&mut world, other, "bob@isb.nu.edu.pk").unwrap_err();
        assert_eq!(taken.code, ErrorCode::NameTaken);
        assert_eq!(world.audited("registration_refused"), 9);
    }

    #[test]
    fn a_code_is_its_address_s_and_has_its_time() {
        let mut world = world(Limits { email_code_minutes: 10, ..Limits::default() });
        let conn = world.connect(1);
        let code = mailed(&mut world, conn, ADDRESS);
        for (address, code) in [("bob@isb.nu.edu.pk", code.as_str()), (ADDRESS, "x"), (ADDRESS, "")]
        {
            let refused = finish(&mut world, conn, address, code);
            assert_eq!(refused, Err(ErrorCode::BadEmailCode), "{address} {code}");
        }
        world.wait(Duration::from_secs(10 * 60));
        assert_eq!(finish(&mut world, conn, ADDRESS, &code), Err(ErrorCode::BadEmailCode));
        let code = mailed(&mut world, conn, "Alice@ISB.nu.edu.pk");
        world.wait(Duration::from_secs(10 * 60 - 1));
        assert!(finish(&mut world, conn, "Alice@isb.nu.edu.pk", &code).is_ok());
    }

    #[test]
    fn wrong_codes_are_counted_though_nothing_else_changes() {
        let limits = Limits { email_code_attempts: 2, ..Limits::default() };
        let mut world = world(limits);
        let conn = world.connect(1);
        let code = mailed(&mut world, conn, ADDRESS);
        for _ in 0..2 {
            let wrong = finish(&mut world, conn, ADDRESS, "AAAA-AAAA");
            assert_eq!(wrong, Err(ErrorCode::BadEmailCode));
        }
        assert_eq!(finish(&mut world, conn, ADDRESS, &code), Err(ErrorCode::BadEmailCode));
        let code = mailed(&mut world, conn, ADDRESS);
        assert!(finish(&mut world, conn, ADDRESS, &code).is_ok());
    }

    #[test]
    fn a_name_that_was_taken_meanwhile_uses_no_code_up() {
        let mut world = world(Limits::default());
        let (conn, other) = (world.connect(1), world.connect(2));
        let code = mailed(&mut world, conn, ADDRESS);
        let others = mailed(&mut world, other, "other@isb.nu.edu.pk");
        let ticket_of_other = Some(ticket("other@isb.nu.edu.pk", Some(&others)));
        world.register_with(other, "alice", first_list("alice", 2), ticket_of_other).unwrap();
        assert_eq!(finish(&mut world, conn, ADDRESS, &code), Err(ErrorCode::NameTaken));
        let list = first_list("carol", 1);
        assert!(
            world.register_with(conn, "carol", list, Some(ticket(ADDRESS, Some(&code)))).is_ok()
        );
    }

    #[test]
    fn mails_have_limits_and_one_that_did_not_leave_is_none() {
        let limits = Limits { mails_per_address_per_day: 2, ..Limits::default() };
        let mut world = world(limits);
        let conn = world.connect(1);
        let Waiting { stream, id, mail } = ask(&mut world, conn, ADDRESS).unwrap();
        world.mailed(id, Err(NotSent));
        let failed = world.reply::<Done>(conn, stream).unwrap_err();
        assert_eq!(failed.code, ErrorCode::MailFailed);
        assert_eq!(finish(&mut world, conn, ADDRESS, code_in(&mail)), Err(ErrorCode::BadEmailCode));

        mailed(&mut world, conn, ADDRESS);
        let code = mailed(&mut world, conn, ADDRESS);
        let refused = ask(&mut world, conn, "ALICE@isb.nu.edu.pk").unwrap_err();
        assert_eq!(refused.code, ErrorCode::TooFast);
        assert_eq!(refused.until, Some(world.now + Duration::from_secs(24 * 3600)));
        assert!(ask(&mut world, conn, "bob@isb.nu.edu.pk").is_ok());
        assert!(finish(&mut world, conn, ADDRESS, &code).is_ok());
    }

    #[test]
    fn so_many_mails_leave_for_a_domain_and_in_all() {
        for limits in [
            Limits { mails_per_domain_per_day: 2, ..Limits::default() },
            Limits { mails_per_day: 2, ..Limits::default() },
        ] {
            let mut world = world(limits);
            let conn = world.connect(1);
            mailed(&mut world, conn, "a@isb.nu.edu.pk");
            mailed(&mut world, conn, "b@isb.nu.edu.pk");
            let refused = ask(&mut world, conn, "c@isb.nu.edu.pk").unwrap_err();
            assert_eq!(refused.code, ErrorCode::TooFast);
            world.wait(Duration::from_secs(24 * 3600));
            mailed(&mut world, conn, "c@isb.nu.edu.pk");
        }
    }

    #[test]
    fn a_mail_that_nobody_waits_for_any_more_does_no_harm() {
        let mut world = world(Limits::default());
        let conn = world.connect(1);
        let Waiting { id, mail, .. } = ask(&mut world, conn, ADDRESS).unwrap();
        world.disconnect(conn);
        world.mailed(id, Ok(()));
        world.mailed(id, Err(NotSent));
        let conn = world.connect(1);
        assert!(finish(&mut world, conn, ADDRESS, code_in(&mail)).is_ok());
        assert_eq!(world.audited("registration_refused"), 1);
    }
}
