//! What is sealed: whatever opens must be what its maker sealed.

use std::sync::LazyLock;

use parlor::account::RecoveryCode;
use parlor::account::sealed::{self, Opener};
use parlor::crypto::aead::{self, AeadKey};
use parlor::crypto::padding;
use parlor::node::content::{Content, IdRange, Lists};
use parlor::node::record::Carrier;
use parlor_common::Blob;
use parlor_common::id::{Incarnation, MessageId};
use rand::SeedableRng;
use rand::rngs::StdRng;
use zeroize::Zeroizing;

use super::edits::{edited, flip};
use super::people::{self, NOW, alice};
use super::{Outcome, Seed, refused, taken};

/// What an opened envelope holds.
pub(super) fn content(bytes: &[u8]) -> Outcome {
    let Ok(content) = Content::parse(bytes) else { return Outcome::Refused };
    assert_eq!(Content::parse(&content.encode()), Ok(content));
    Outcome::Taken
}

pub(super) fn content_seeds() -> Vec<Seed> {
    let id = |number| MessageId::new(Incarnation([7; 8]), number);
    let ids = || IdRange::cover(&[id(1), id(2), id(9)].into());
    let [own, seen] = people::device_lists().map(|list| people::verified(&list).mark());
    let lists = Some(Lists { own, seen: Some(seen) });
    let text = "héllo\u{1b}[2J".to_owned();
    let (after, disappears, timer) = (Some(id(9)), Some(60), Some(60));
    let text =
        Content::Text { id: id(1), sent_at: NOW, text, after, disappears, timer, lists: None };
    let receipt =
        Content::Receipt { delivered: ids(), carrier: Some(Carrier::Mailbox), read: ids(), lists };
    let resend = Content::Resend { received: ids(), lists };
    let backwards = r#"{"v":1,"type":"receipt","delivered":[["0707070707070707",3,2]]}"#;
    vec![
        taken("text", text.encode().to_vec()),
        taken("receipt", receipt.encode().to_vec()),
        taken("resend", resend.encode().to_vec()),
        taken("unknown", r#"{"v":1,"type":"song","x":1}"#),
        refused("newer-version", r#"{"v":2,"type":"text"}"#),
        refused("backwards-range", backwards),
        refused(
            "empty-text",
            r#"{"v":1,"type":"text","id":"07070707070707070000000000000001","sent_at":5,"text":""}"#,
        ),
    ]
}

static KEY: LazyLock<AeadKey> = LazyLock::new(|| AeadKey::new(Zeroizing::new([7; AeadKey::LEN])));

/// What stands under a tag that holds, as padded plaintext.
pub(super) fn padding(bytes: &[u8]) -> Outcome {
    let opened = |padded: &[u8]| {
        let sealed = aead::seal(&KEY, &[9; 16], &[], padded);
        aead::open(&KEY, &[9; 16], &[], &sealed).expect("it was just sealed")
    };
    let ours = padding::unpad(opened(&padded(bytes)));
    assert_eq!(ours.as_deref(), Some(bytes));

    let Some(plaintext) = padding::unpad(opened(bytes)) else { return Outcome::Refused };
    let (kept, removed) = bytes.split_at(plaintext.len());
    assert_eq!(*plaintext, *kept);
    assert!(matches!(removed, [0x80, zeros @ ..] if zeros.iter().all(|byte| *byte == 0)));
    Outcome::Taken
}

fn padded(plaintext: &[u8]) -> Vec<u8> {
    let mut padded = Vec::new();
    padding::pad(plaintext, &mut padded);
    padded
}

pub(super) fn padding_seeds() -> Vec<Seed> {
    vec![
        taken("padded", padded(b"hello")),
        taken("of-nothing", padded(b"")),
        refused("zeros", [0; 256]),
        refused("no-mark", [1; 256]),
        refused("nothing", []),
    ]
}

/// A box with Alice's account key, and the code that opens it.
static BOX: LazyLock<(Blob, RecoveryCode)> = LazyLock::new(|| {
    let code: RecoveryCode = CODE.parse().unwrap();
    let rng = &mut StdRng::seed_from_u64(1);
    (sealed::seal(&people::account(), &alice(), Opener::Recovery(&code), rng), code)
});

/// The account key as the rendezvous keeps it; edits of a genuine box.
pub(super) fn account_box(edits: &[u8]) -> Outcome {
    let (genuine, code) = &*BOX;
    let bytes = edited(&genuine.0, edits);
    let opened = sealed::open(&Blob(bytes.clone()), &alice(), Opener::Recovery(code)).ok();
    assert_eq!(opened.is_some(), bytes == genuine.0);
    Outcome::of(opened.inspect(|key| assert_eq!(key.public(), people::account().public())))
}

pub(super) fn account_box_seeds() -> Vec<Seed> {
    vec![
        taken("unchanged", []),
        taken("changed-and-back", flip(20, 1).repeat(2)),
        refused("iv", flip(0, 0x80)),
        refused("ciphertext", flip(16, 1)),
        refused("tag", flip(79, 1)),
        refused("cut", flip(79, 0)),
        refused("no-tag", flip(64, 0)),
    ]
}

const CODE: &str = "ABCD-EFGH-IJKL-MNOP-QRST-UVWX-YA";

/// What people type to recover an account.
pub(super) fn recovery_code(bytes: &[u8]) -> Outcome {
    let Ok(text) = str::from_utf8(bytes) else { return Outcome::Refused };
    let Ok(code) = text.parse::<RecoveryCode>() else { return Outcome::Refused };
    let shown = code.expose_text();
    let bare = |text: &str| text.to_ascii_uppercase().replace(|c: char| !c.is_alphanumeric(), "");
    assert_eq!(bare(&shown), bare(text));
    assert!(shown.parse::<RecoveryCode>().is_ok());
    Outcome::Taken
}

pub(super) fn recovery_code_seeds() -> Vec<Seed> {
    vec![
        taken("as-shown", CODE),
        taken("typed", CODE.to_lowercase().replace('-', " ")),
        refused("a-group-short", &CODE[..27]),
        refused("other-digits", CODE.replace('A', "1")),
    ]
}
