//! A profile that was restored from an old copy in the middle of a conversation.

use std::fs;
use std::path::Path;

use crate::rpc::{Rpc, friends};

/// Copies the files of a folder, in place of those that are there.
pub(super) fn copy_folder(from: &Path, to: &Path) {
    // Fails where there is none.
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_restored_profile_talks_again_and_nothing_comes_twice() {
    let stage = friends();
    let mut bob = Rpc::start(&stage, "bob");
    let mut alice = Rpc::start(&stage, "alice");
    let mut said = Vec::new();
    let mut exchange = |alice: &mut Rpc, bob: &mut Rpc, when: &str| {
        let (one, two) = (format!("alice {when}"), format!("bob {when}"));
        alice.delivers("bob", &one);
        bob.delivers("alice", &two);
        said.extend([one, two]);
    };
    exchange(&mut alice, &mut bob, "before the copy");
    assert!(alice.finish().1.success());
    copy_folder(&stage.path("alice"), &stage.path("copy"));

    let mut alice = Rpc::start(&stage, "alice");
    exchange(&mut alice, &mut bob, "after the copy");
    alice.kill();
    copy_folder(&stage.path("copy"), &stage.path("alice"));

    let mut alice = Rpc::start(&stage, "alice");
    exchange(&mut alice, &mut bob, "restored");
    exchange(&mut alice, &mut bob, "and on");
    assert_eq!(bob.history("alice"), said);
    let restored: Vec<_> =
        said.iter().filter(|text| !text.ends_with("after the copy")).cloned().collect();
    assert_eq!(alice.history("bob"), restored);
}
