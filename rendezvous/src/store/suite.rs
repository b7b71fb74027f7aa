//! What any database must do to be the rendezvous' store: a test for each interface, of what it
//! promises, with many at once. An implementation runs them all by [`passes`], each on a place of
//! its own that several connections share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parlor_common::device_list::{DeviceList, VerifiedDeviceList};
use parlor_common::id::DeviceId;
use parlor_common::prekey::PrekeyUse;
use parlor_common::time::Timestamp;
use parlor_common::wire::rendezvous::{Argon2Params, HeldKind, WaitingEnvelope};

use super::{Database, Store};
use crate::admin::Waiting;
use crate::audit::{AuditEvent, Chain, Entry};
use crate::bucket::Rate;
use crate::email::EmailCodeHash;
use crate::invitation::InvitationHash;
use crate::limits::{Limits, MailLimits};
use crate::opaque::{CredentialId, Record};
use crate::server::testing::{account, card, entry, first_list, name, prekey, secret, verified};
use crate::server::{
    Admission, Answer, Answering, Asking, Blocking, BundlesAsked, CodeAsking, ContactAsked,
    Creation, EmailCodeAsked, EmailCodeTried, EnvelopesPosted, InvitationMade, ListChange,
    LoginAttempt, LoginStart, NewAccount, Origin, PasswordChange, Posting, PrekeysPut, Query,
    QueryId, RegistrationStart, Rekey, Share, Source, Taking, Way,
};

/// Connections that work at the same time.
const THREADS: u8 = 6;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Opens a connection to a place; every call another one to the same.
pub(super) type Open<'a, D> = &'a (dyn Fn() -> Store<D> + Sync);

/// One test.
type Test<'a, D> = &'a dyn Fn(Open<'_, D>);

/// Runs everything, each test on a place of its own.
pub(super) fn passes<D: Database>(mut with_place: impl FnMut(Test<'_, D>)) {
    let tests: [Test<'_, D>; 18] = [
        &a_name_and_a_device_are_given_out_once,
        &a_deleted_name_is_not_given_out_again,
        &a_new_password_leaves_nothing_of_the_old_one,
        &of_lists_that_follow_the_same_one_the_first_wins,
        &a_new_key_comes_with_its_list_or_not_at_all,
        &a_one_time_pair_leaves_once,
        &two_who_ask_each_other_at_once_become_contacts,
        &what_a_blocked_account_sends_is_not_held,
        &envelopes_are_numbered_once_and_wait_until_they_are_forgotten,
        &a_mailbox_takes_as_much_as_it_may_and_no_more,
        &a_sender_posts_so_much_in_a_day,
        &what_waits_goes_with_its_device_and_its_account_s_key,
        &an_invitation_lets_in_as_many_as_it_says,
        &a_mailed_code_lets_in_once,
        &so_many_mails_leave_and_no_more,
        &every_try_is_counted,
        &a_bucket_gives_what_it_holds,
        &rows_of_the_trail_follow_each_other,
    ];
    for test in tests {
        with_place(test);
    }
}

/// Asks until the database is free to answer.
fn ask<D: Database>(store: &mut Store<D>, query: impl Fn() -> Query) -> Answer {
    loop {
        let answer = store.answer(vec![(QueryId(1), query())]).pop().unwrap().1;
        if !matches!(answer, Answer::Unavailable) {
            return answer;
        }
    }
}

/// Lets every thread do something with a connection of its own, at the same time.
fn at_once<D: Database, T: Send>(
    open: Open<'_, D>,
    work: impl Fn(u8, &mut Store<D>) -> T + Sync,
) -> Vec<T> {
    let (work, barrier) = (&work, &std::sync::Barrier::new(THREADS.into()));
    // All of them are there before the first one works.
    let mut stores = Vec::new();
    stores.extend((0..THREADS).map(|number| (number, open())));
    std::thread::scope(|scope| {
        let start = |(number, mut store): (u8, Store<D>)| {
            scope.spawn(move || {
                barrier.wait();
                work(number, &mut store)
            })
        };
        let mut threads = Vec::new();
        threads.extend(stores.into_iter().map(start));
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn origin(device: u8) -> Origin {
    let remote = [192, 0, 2, 7].into();
    Origin { remote, source: Source::of(remote), device: secret(device).public(), at: NOW }
}

fn new_account(of: &str, device: u8, admission: Admission) -> Query {
    Query::CreateAccount(Box::new(NewAccount {
        devices: verified(of, first_list(of, device)),
        credential: CredentialId([device; 32]),
        record: Record(vec![device; 192]),
        argon2: Argon2Params::DEFAULT,
        account_box: vec![device; 80].into(),
        recovery_box: vec![device; 80].into(),
        admission,
        origin: origin(device),
    }))
}

fn create<D: Database>(store: &mut Store<D>, of: &str, device: u8) -> Creation {
    let Answer::Created(creation) = ask(store, || new_account(of, device, Admission::Open)) else {
        panic!("no creation")
    };
    creation
}

fn attempt(of: &str, device: u8, limits: Limits) -> Box<LoginAttempt> {
    Box::new(LoginAttempt { name: name(of), way: Way::Password, origin: origin(device), limits })
}

fn count<T: PartialEq>(all: &[T], one: &T) -> usize {
    all.iter().filter(|it| *it == one).count()
}

fn a_name_and_a_device_are_given_out_once<D: Database>(open: Open<'_, D>) {
    let same_name = at_once(open, |number, store| create(store, "alice", number));
    assert_eq!(count(&same_name, &Creation::Created), 1);
    assert_eq!(count(&same_name, &Creation::NameTaken), same_name.len() - 1);
    let same_device = at_once(open, |number, store| create(store, &format!("user{number}"), 100));
    assert_eq!(count(&same_device, &Creation::Created), 1);
    assert_eq!(count(&same_device, &Creation::DeviceTaken), same_device.len() - 1);
}

fn a_deleted_name_is_not_given_out_again<D: Database>(open: Open<'_, D>) {
    create(&mut open(), "alice", 1);
    let entry = || Box::new(Entry::new(AuditEvent::AccountDeleted, NOW));
    let deleted = at_once(open, |_, store| {
        let delete = || Query::DeleteAccount { name: name("alice"), entry: entry() };
        matches!(ask(store, delete), Answer::Deleted(Some(gone)) if gone.devices.len() == 1)
    });
    assert_eq!(count(&deleted, &true), 1);
    assert_eq!(create(&mut open(), "alice", 2), Creation::NameTaken);
    assert_eq!(create(&mut open(), "bob", 1), Creation::Created);
}

fn a_new_password_leaves_nothing_of_the_old_one<D: Database>(open: Open<'_, D>) {
    create(&mut open(), "alice", 1);
    let changed = at_once(open, |number, store| {
        let change = || {
            Query::ChangePassword(Box::new(PasswordChange {
                name: name("alice"),
                credential: CredentialId([50 + number; 32]),
                record: Record(vec![50 + number; 192]),
                argon2: Argon2Params::DEFAULT,
                account_box: vec![50 + number; 80].into(),
                origin: origin(1),
            }))
        };
        matches!(ask(store, change), Answer::PasswordChanged(true))
    });
    assert_eq!(count(&changed, &true), changed.len());
    let mut store = open();
    let start = ask(&mut store, || Query::StartLogin(attempt("alice", 1, Limits::default())));
    let Answer::LoginStarted(LoginStart::Allowed(Some(known))) = start else { panic!() };
    let finish = ask(&mut store, || Query::FinishLogin(attempt("alice", 1, Limits::default())));
    let Answer::Account(Some(account)) = finish else { panic!() };
    // All of it is of one change, whichever was the last.
    let number = known.credential.0[0];
    assert!(number >= 50);
    assert_eq!(known.credential.0, [number; 32]);
    assert_eq!(known.record.0, vec![number; 192]);
    assert_eq!(account.account_box.0, vec![number; 80]);
}

fn next(list: DeviceList) -> VerifiedDeviceList {
    verified("alice", list.sign(&account("alice"), None))
}

fn of_lists_that_follow_the_same_one_the_first_wins<D: Database>(open: Open<'_, D>) {
    create(&mut open(), "alice", 1);
    create(&mut open(), "bob", 90);
    let first = verified("alice", first_list("alice", 1));
    let replace = |store: &mut Store<D>, devices: &VerifiedDeviceList| {
        let change = || ListChange {
            after: first.mark().hash,
            devices: devices.clone(),
            entry: Entry::new(AuditEvent::DeviceAdded, NOW),
        };
        let answer = ask(store, || Query::ReplaceDevices(Box::new(change())));
        let Answer::Replaced(left) = answer else { panic!("{answer:?}") };
        left.is_some()
    };
    let theirs = next(first.with_device(entry(90), NOW));
    assert!(!replace(&mut open(), &theirs));
    let replaced = at_once(open, |number, store| {
        replace(store, &next(first.with_device(entry(20 + number), NOW)))
    });
    assert_eq!(count(&replaced, &true), 1);
    let answer = ask(&mut open(), || Query::NamedDevices { name: name("alice") });
    assert!(matches!(answer, Answer::NamedDevices(devices) if devices.len() == 2));
    let label = Some("laptop".to_owned());
    for (of, named) in [("alice", true), ("bob", false)] {
        let device = DeviceId::of(&secret(1).public());
        let query = || Query::NameDevice { name: name(of), device, label: label.clone() };
        assert!(matches!(ask(&mut open(), query), Answer::DeviceNamed(it) if it == named));
    }
}

fn a_new_key_comes_with_its_list_or_not_at_all<D: Database>(open: Open<'_, D>) {
    create(&mut open(), "alice", 1);
    let first = verified("alice", first_list("alice", 1));
    let rekeyed = at_once(open, |number, store| {
        let key = account(&format!("key {number}"));
        let devices = first.rekeyed(key.public(), entry(1), NOW).sign(&key, None);
        let devices = devices.verify(&name("alice"), &key.public()).unwrap();
        let rekey = || Rekey {
            after: first.mark().hash,
            devices: devices.clone(),
            account_box: vec![number; 80].into(),
            recovery_box: vec![number; 80].into(),
            origin: origin(1),
        };
        let answer = ask(store, || Query::Rekey(Box::new(rekey())));
        let Answer::Replaced(left) = answer else { panic!("{answer:?}") };
        left.map(|_| (number, key.public()))
    });
    let [(number, key)] = rekeyed.into_iter().flatten().collect::<Vec<_>>()[..] else { panic!() };
    let start = ask(&mut open(), || Query::StartLogin(attempt("alice", 1, Limits::default())));
    let Answer::LoginStarted(LoginStart::Allowed(Some(known))) = start else { panic!() };
    assert_eq!((known.account_key, &known.recovery_box.0), (key, &vec![number; 80]));
}

fn a_one_time_pair_leaves_once<D: Database>(open: Open<'_, D>) {
    const PAIRS: u32 = 20;
    let mut store = open();
    create(&mut store, "alice", 100);
    let put = || PrekeysPut {
        device: secret(100).public(),
        signed: Some(prekey(100, PrekeyUse::Signed, 1, NOW)),
        one_time: (1..=PAIRS).map(|id| prekey(100, PrekeyUse::OneTime, id, NOW)).collect(),
        replace: false,
        at: NOW,
        max_one_time: 100,
    };
    ask(&mut store, || Query::PutPrekeys(Box::new(put())));
    for number in 0..THREADS {
        create(&mut store, &format!("user{number}"), number);
    }
    let limits = Limits { one_time_prekeys_per_day: 1000, ..Limits::default() }.of_prekeys();
    let taken = at_once(open, |number, store| {
        let asker = secret(number).public();
        let wish = || BundlesAsked { asker, of: name("alice"), at: NOW, limits };
        let take = |_| {
            let answer = ask(store, || Query::TakeBundles(Box::new(wish())));
            let Answer::Bundles(Taking::Taken(bundles)) = answer else { panic!("{answer:?}") };
            bundles.into_iter().next().unwrap().one_time.map(|pair| pair.id)
        };
        (0..5).filter_map(take).collect::<Vec<_>>()
    });
    let mut taken: Vec<u32> = taken.into_iter().flatten().collect();
    taken.sort_unstable();
    assert_eq!(taken, (1..=PAIRS).collect::<Vec<_>>());
    // Put again they do not leave again.
    let kept = ask(&mut store, || Query::PutPrekeys(Box::new(put())));
    assert!(matches!(kept, Answer::PrekeysKept(Some(kept)) if kept.one_time == 0), "{kept:?}");
}

fn contact_asked((from, device): (&str, u8), to: &str) -> Query {
    let (card, limits) = (card(from, device, to), Limits::default().of_contacts());
    let (from, to) = (name(from), name(to));
    Query::AskContact(Box::new(ContactAsked { from, to, card, at: NOW, limits }))
}

fn are_mutual<D: Database>(open: Open<'_, D>, one: &str, other: &str) -> bool {
    let query = || Query::AreMutual { one: name(one), other: name(other) };
    matches!(ask(&mut open(), query), Answer::AreMutual(true))
}

fn two_who_ask_each_other_at_once_become_contacts<D: Database>(open: Open<'_, D>) {
    create(&mut open(), "alice", 1);
    create(&mut open(), "bob", 2);
    let asked = at_once(open, |number, store| {
        let (from, to) =
            if number % 2 == 0 { (("alice", 1), "bob") } else { (("bob", 2), "alice") };
        let Answer::Asked(asking) = ask(store, || contact_asked(from, to)) else { panic!() };
        asking
    });
    let accepted = asked.iter().filter(|asking| matches!(asking, Asking::Accepted(_))).count();
    assert_eq!((accepted, count(&asked, &Asking::Held)), (1, 1), "{asked:?}");
    assert!(are_mutual(open, "alice", "bob") && are_mutual(open, "bob", "alice"));
    for of in ["alice", "bob"] {
        let Answer::Held(held) = ask(&mut open(), || Query::Held { of: name(of) }) else {
            panic!()
        };
        let [held] = &held[..] else { panic!("{held:?}") };
        assert!(matches!(held.what, HeldKind::Accepted { .. }));
    }
}

fn what_a_blocked_account_sends_is_not_held<D: Database>(open: Open<'_, D>) {
    let mut store = open();
    create(&mut store, "alice", 1);
    create(&mut store, "bob", 2);
    let block = || Query::Block { owner: name("alice"), other: name("bob") };
    assert!(matches!(ask(&mut store, block), Answer::Blocked(Blocking::Strangers)));
    let ask_alice = || contact_asked(("bob", 2), "alice");
    assert!(matches!(ask(&mut store, ask_alice), Answer::Asked(Asking::Held)));
    let held = |store: &mut Store<D>| {
        let answer = ask(store, || Query::Held { of: name("alice") });
        let Answer::Held(items) = answer else { panic!("{answer:?}") };
        items.len()
    };
    assert_eq!(held(&mut store), 0);
    let unblock = || Query::Unblock { owner: name("alice"), other: name("bob") };
    ask(&mut store, unblock);
    ask(&mut store, ask_alice);
    assert_eq!(held(&mut store), 1);
    let answer = || Query::AnswerContact {
        asker: name("bob"),
        by: name("alice"),
        card: Some(Box::new(card("alice", 1, "bob"))),
        max_contacts: 1,
    };
    assert!(matches!(ask(&mut store, answer), Answer::Answered(Answering::Accepted(_))));
    assert!(matches!(ask(&mut store, block), Answer::Blocked(Blocking::Contacts(_))));
    assert!(!are_mutual(open, "alice", "bob"));
    ask(&mut store, unblock);
    assert!(are_mutual(open, "alice", "bob"));
}

/// Alice (device 1), and as many others (devices from 50 on) as there are threads, her contacts.
fn with_contacts<D: Database>(open: Open<'_, D>) {
    let mut store = open();
    create(&mut store, "alice", 1);
    for number in 0..THREADS {
        let (of, device) = (format!("user{number}"), 50 + number);
        create(&mut store, &of, device);
        ask(&mut store, || contact_asked((&of, device), "alice"));
        ask(&mut store, || contact_asked(("alice", 1), &of));
    }
}

/// What becomes of two envelopes for alice, each of 500 bytes and unlike any other.
fn post<D: Database>(store: &mut Store<D>, from: u8, at: Timestamp, limits: Limits) -> Posting {
    static POSTED: AtomicU64 = AtomicU64::new(0);
    let number = POSTED.fetch_add(2, Ordering::Relaxed);
    let envelopes = vec![envelope(number), envelope(number + 1)];
    let posted = || EnvelopesPosted {
        from: name(&format!("user{from}")),
        to: name("alice"),
        device: DeviceId::of(&secret(1).public()),
        share: Share([from; 32]),
        envelopes: envelopes.clone(),
        at,
        limits: limits.of_mailboxes(),
    };
    let answer = ask(store, || Query::PostEnvelopes(Box::new(posted())));
    let Answer::Posted(posting) = answer else { panic!("{answer:?}") };
    posting
}

/// The envelope of a number, of 500 bytes.
fn envelope(number: u64) -> Vec<u8> {
    let mut envelope = vec![0; 500];
    envelope[..8].copy_from_slice(&number.to_be_bytes());
    envelope
}

fn number_of(waiting: &WaitingEnvelope) -> u64 {
    u64::from_be_bytes(waiting.envelope.0[..8].try_into().unwrap())
}

fn envelopes_after<D: Database>(store: &mut Store<D>, after: u64) -> Vec<WaitingEnvelope> {
    let answer = ask(store, || Query::Envelopes { of: secret(1).public(), after });
    let Answer::Envelopes(envelopes) = answer else { panic!("{answer:?}") };
    envelopes
}

/// What of the mailbox of alice counts.
fn counted<D: Database>(store: &mut Store<D>) -> Waiting {
    let answer = ask(store, || Query::User { name: name("alice"), at: NOW });
    let Answer::User(Some(user)) = answer else { panic!("{answer:?}") };
    user.mailbox
}

fn envelopes_are_numbered_once_and_wait_until_they_are_forgotten<D: Database>(open: Open<'_, D>) {
    const POSTS: u8 = 10;
    let all = 2 * usize::from(POSTS) * usize::from(THREADS);
    with_contacts(open);
    let held = Posting::Held(secret(1).public());
    let posted = at_once(open, |number, store| {
        (0..POSTS).all(|_| post(store, number, NOW, Limits::default()) == held)
    });
    assert_eq!(count(&posted, &true), posted.len());
    let mut store = open();
    let waiting = envelopes_after(&mut store, 0);
    assert_eq!(waiting.len(), all);
    assert!(waiting.is_sorted_by(|a, b| a.id < b.id));
    // Nobody's stand between two that were posted together.
    for pair in waiting.chunks(2) {
        assert_eq!((pair[1].id, number_of(&pair[1])), (pair[0].id + 1, number_of(&pair[0]) + 1));
    }
    assert_eq!(envelopes_after(&mut store, waiting[9].id), waiting[10..]);
    let ids: Vec<u64> = waiting.iter().map(|it| it.id).collect();
    let forget = |store: &mut Store<D>, device: u8, ids: &[u64]| {
        let query = || Query::ForgetEnvelopes { of: secret(device).public(), ids: ids.to_vec() };
        assert!(matches!(ask(store, query), Answer::Forgotten));
    };
    forget(&mut store, 50, &ids);
    assert_eq!(envelopes_after(&mut store, 0).len(), all);
    at_once(open, |_, store| forget(store, 1, &ids[1..]));
    assert_eq!(envelopes_after(&mut store, 0), waiting[..1]);
    assert_eq!(counted(&mut store), Waiting { messages: 1, bytes: 500 });
    forget(&mut store, 1, &ids);
    assert_eq!(counted(&mut store), Waiting::default());
    post(&mut store, 0, NOW, Limits::default());
    assert!(envelopes_after(&mut store, 0)[0].id > *ids.last().unwrap());
}

fn a_mailbox_takes_as_much_as_it_may_and_no_more<D: Database>(open: Open<'_, D>) {
    with_contacts(open);
    let limits =
        Limits { mailbox_messages: 40, mailbox_messages_per_sender: 11, ..Limits::default() };
    let posted = at_once(open, |number, store| {
        (0..10).map(|_| post(store, number, NOW, limits)).collect::<Vec<_>>()
    });
    for of_sender in &posted {
        assert!(count(of_sender, &Posting::Held(secret(1).public())) <= 5);
        assert!(count(of_sender, &Posting::Full) + count(of_sender, &Posting::ShareFull) >= 5);
    }
    let posted: Vec<Posting> = posted.into_iter().flatten().collect();
    assert_eq!(count(&posted, &Posting::Held(secret(1).public())), 20);
    assert_eq!(counted(&mut open()), Waiting { messages: 40, bytes: 20_000 });
}

fn a_sender_posts_so_much_in_a_day<D: Database>(open: Open<'_, D>) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    with_contacts(open);
    let limits = Limits { mailbox_posts_per_day: 21, ..Limits::default() };
    let posted =
        at_once(open, |_, store| (0..5).map(|_| post(store, 0, NOW, limits)).collect::<Vec<_>>());
    let posted: Vec<Posting> = posted.into_iter().flatten().collect();
    let too_many = Posting::TooMany { until: NOW + DAY };
    assert_eq!(count(&posted, &Posting::Held(secret(1).public())), 10);
    assert_eq!(count(&posted, &too_many), posted.len() - 10);
    let mut store = open();
    assert_ne!(post(&mut store, 1, NOW, limits), too_many);
    assert_ne!(post(&mut store, 0, NOW + DAY, limits), too_many);
}

fn what_waits_goes_with_its_device_and_its_account_s_key<D: Database>(open: Open<'_, D>) {
    with_contacts(open);
    let mut store = open();
    post(&mut store, 0, NOW, Limits::default());
    let first = verified("alice", first_list("alice", 1));
    let key = account("another key");
    let rekeyed = first.rekeyed(key.public(), entry(1), NOW).sign(&key, None);
    let rekeyed = rekeyed.verify(&name("alice"), &key.public()).unwrap();
    let rekey = || Rekey {
        after: first.mark().hash,
        devices: rekeyed.clone(),
        account_box: vec![1; 80].into(),
        recovery_box: vec![1; 80].into(),
        origin: origin(1),
    };
    ask(&mut store, || Query::Rekey(Box::new(rekey())));
    assert_eq!((envelopes_after(&mut store, 0), counted(&mut store)), (vec![], Waiting::default()));
    // The device is still there, and is written to again.
    post(&mut store, 0, NOW, Limits::default());
    assert_eq!(envelopes_after(&mut store, 0).len(), 2);
    let others = rekeyed.with_device(entry(9), NOW).sign(&key, None);
    let others = others.verify(&name("alice"), &key.public()).unwrap();
    let alone = others.without(&[DeviceId::of(&secret(1).public())], NOW).sign(&key, None);
    let alone = alone.verify(&name("alice"), &key.public()).unwrap();
    for (after, devices) in [(rekeyed.mark().hash, others.clone()), (others.mark().hash, alone)] {
        let entry = || Entry::new(AuditEvent::DeviceAdded, NOW);
        let change = || ListChange { after, devices: devices.clone(), entry: entry() };
        let answer = ask(&mut store, || Query::ReplaceDevices(Box::new(change())));
        assert!(matches!(answer, Answer::Replaced(Some(_))));
    }
    assert_eq!((envelopes_after(&mut store, 0), counted(&mut store)), (vec![], Waiting::default()));
    assert_eq!(post(&mut store, 0, NOW, Limits::default()), Posting::NoDevice);
}

fn an_invitation_lets_in_as_many_as_it_says<D: Database>(open: Open<'_, D>) {
    const USES: u32 = 10;
    let hash = InvitationHash([7; 32]);
    let expires_at = NOW + Duration::from_secs(1);
    let made = || InvitationMade { hash, uses: USES, by: None, max_open: 0, at: NOW, expires_at };
    let kept = ask(&mut open(), || Query::CreateInvitation(Box::new(made())));
    assert!(matches!(kept, Answer::InvitationKept(true)));
    let created = at_once(open, |number, store| {
        let create = |turn: u8| {
            let of = format!("user{number}.{turn}");
            let query = || new_account(&of, number * 10 + turn, Admission::Invitation(hash));
            matches!(ask(store, query), Answer::Created(Creation::Created))
        };
        (0..5).map(create).collect::<Vec<_>>()
    });
    let created: Vec<bool> = created.into_iter().flatten().collect();
    assert_eq!(count(&created, &true), usize::try_from(USES).unwrap());
}

fn code_asked(of: &str, address: &str, hash: EmailCodeHash, per_domain: u32) -> Query {
    let limits = MailLimits { per_address: 1000, per_domain, in_all: 1000 };
    Query::AskEmailCode(Box::new(EmailCodeAsked {
        name: name(of),
        address: address.parse().unwrap(),
        hash,
        expires_at: NOW + Duration::from_secs(1),
        origin: origin(1),
        limits,
    }))
}

fn a_mailed_code_lets_in_once<D: Database>(open: Open<'_, D>) {
    let (hash, address) = (EmailCodeHash([7; 32]), "x@chat.example");
    let asked = ask(&mut open(), || code_asked("alice", address, hash, 1000));
    assert!(matches!(asked, Answer::EmailCodeAsked(CodeAsking::Kept)), "{asked:?}");
    let register = |number: u8, store: &mut Store<D>, hash| {
        let address = address.parse().unwrap();
        let tried = EmailCodeTried { address, hash, max_attempts: 3 };
        let of = format!("user{number}");
        let query = || new_account(&of, number, Admission::Email(tried.clone()));
        matches!(ask(store, query), Answer::Created(Creation::Created))
    };
    assert!(!register(50, &mut open(), EmailCodeHash([8; 32])));
    let created = at_once(open, |number, store| register(number, store, hash));
    assert_eq!(count(&created, &true), 1);
    // Another code, of which every wrong try counts, whoever makes it.
    ask(&mut open(), || code_asked("alice", address, hash, 1000));
    at_once(open, |number, store| register(60 + number, store, EmailCodeHash([8; 32])));
    assert!(!register(70, &mut open(), hash));
}

fn so_many_mails_leave_and_no_more<D: Database>(open: Open<'_, D>) {
    let kept = at_once(open, |number, store| {
        let keep = |turn: u8| {
            let (address, hash) =
                (format!("x{number}.{turn}@chat.example"), EmailCodeHash([turn; 32]));
            let answer = ask(store, || code_asked("alice", &address, hash, 10));
            matches!(answer, Answer::EmailCodeAsked(CodeAsking::Kept))
        };
        (0..5).map(keep).collect::<Vec<_>>()
    });
    let kept: Vec<bool> = kept.into_iter().flatten().collect();
    assert_eq!(count(&kept, &true), 10);
}

fn every_try_is_counted<D: Database>(open: Open<'_, D>) {
    const TRIES: u32 = 20;
    let all = TRIES * u32::from(THREADS);
    let limits = Limits {
        logins_at_once: 10_000,
        login_failures_free: 10_000,
        login_failures_to_lock: all + 1,
        ..Limits::default()
    };
    let start = |store: &mut Store<D>| {
        let answer = ask(store, || Query::StartLogin(attempt("ghost", 1, limits)));
        let Answer::LoginStarted(start) = answer else { panic!("{answer:?}") };
        matches!(start, LoginStart::Allowed(None))
    };
    let allowed = at_once(open, |_, store| (0..TRIES).all(|_| start(store)));
    assert_eq!(count(&allowed, &true), allowed.len());
    // One more is the last, and the one after it finds the name locked.
    assert!(start(&mut open()));
    assert!(!start(&mut open()));
}

fn a_bucket_gives_what_it_holds<D: Database>(open: Open<'_, D>) {
    let limits = Limits { registrations_at_once: 25, ..Limits::default() };
    assert_eq!(limits.registrations(), Rate { at_once: 25, per_minute: 1 });
    let allowed = at_once(open, |_, store| {
        let start = || RegistrationStart { name: name("alice"), origin: origin(1), limits };
        let charge = |_| {
            let answer = ask(store, || Query::StartRegistration(Box::new(start())));
            let Answer::RegistrationStarted(until) = answer else { panic!("{answer:?}") };
            until.is_none()
        };
        (0..10).map(charge).collect::<Vec<_>>()
    });
    let allowed: Vec<bool> = allowed.into_iter().flatten().collect();
    assert_eq!(count(&allowed, &true), 25);
}

fn rows_of_the_trail_follow_each_other<D: Database>(open: Open<'_, D>) {
    const ROWS: u64 = 20;
    at_once(open, |number, store| {
        for turn in 0..ROWS {
            let at = NOW + Duration::from_millis(turn * u64::from(number));
            let entry = || Box::new(Entry::new(AuditEvent::UserEnabled, at));
            ask(store, || Query::Record(entry()));
        }
    });
    let query = || Query::AuditAfter { seq: 0, limit: 1000 };
    let Answer::Audit(page) = ask(&mut open(), query) else { panic!() };
    assert_eq!(page.rows.len(), usize::try_from(ROWS).unwrap() * usize::from(THREADS));
    let mut chain = Chain::new(None);
    for row in &page.rows {
        chain.feed(row).unwrap();
    }
    chain.finish(page.head).unwrap();
}
