//! A database that was cut or has a flipped bit: every command works, or says what is wrong and
//! what to do.

use std::fs::{self, OpenOptions};
use std::path::Path;

use super::old_copy::copy_folder;
use crate::rpc::friends;
use crate::stage::{Stage, json};

/// What happens to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// It ends here.
    Cut(u64),
    /// This byte has another lowest bit.
    Flip(u64),
}

impl Damage {
    fn apply(self, file: &Path) {
        match self {
            Self::Cut(length) => {
                OpenOptions::new().write(true).open(file).unwrap().set_len(length).unwrap();
            }
            Self::Flip(at) => {
                let mut bytes = fs::read(file).unwrap();
                bytes[usize::try_from(at).unwrap()] ^= 1;
                fs::write(file, bytes).unwrap();
            }
        }
    }
}

/// Runs a command on a damaged profile: it works, or says what is wrong. Whether it worked.
fn runs(stage: &Stage, args: &[&str], damage: Damage) -> bool {
    let ended = stage.run("damaged", &[args, &["--json"]].concat());
    if ended.code == 0 {
        return true;
    }
    assert_eq!(ended.code, 1, "{damage:?} {args:?}: {ended:?}");
    let last = json(ended.err.lines().last().unwrap());
    let message = last["error"]["message"].as_str().unwrap();
    assert!(message.contains("damaged"), "{damage:?} {args:?}: {message}");
    assert!(message.contains("parlor doctor"), "{damage:?} {args:?}: {message}");
    false
}

#[test]
fn a_damaged_database_is_told_and_never_taken_for_a_sound_one() {
    let stage = friends();
    for number in 0..30 {
        let text = format!("{number} {}", "x".repeat(1000));
        let sent = stage.run("alice", &["send", "bob", &text, "--wait", "none"]);
        assert_eq!(sent.code, 0, "{sent:?}");
    }
    let history = ["history", "bob", "--limit", "1000"];
    let whole = stage.run("alice", &[&history[..], &["--json"]].concat()).out;
    let length = fs::metadata(stage.path("alice").join("profile.db")).unwrap().len();

    // Steps that have nothing in common with the size of a page.
    let flips = (0..16).map(|step| Damage::Flip(step * length / 16 + 37 * step));
    let cuts = [0, 1, 100, 4096, length / 2, length - 1].map(Damage::Cut);
    let mut told = 0;
    for damage in flips.chain(cuts) {
        copy_folder(&stage.path("alice"), &stage.path("damaged"));
        damage.apply(&stage.path("damaged").join("profile.db"));
        if runs(&stage, &history, damage) {
            let shown = stage.run("damaged", &[&history[..], &["--json"]].concat()).out;
            assert_eq!(shown, whole, "{damage:?}");
        } else {
            told += 1;
        }
        runs(&stage, &["send", "bob", "and on", "--wait", "none"], damage);
    }
    assert!(told >= 6, "too little was noticed: {told}");
}
