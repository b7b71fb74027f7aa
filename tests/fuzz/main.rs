//! libFuzzer's entrance to the target that `PARLOR_FUZZ_TARGET` names.

#![no_main]

#[path = "targets/mod.rs"]
#[expect(dead_code, reason = "the seeds are for the tests")]
mod targets;

use std::sync::LazyLock;

use targets::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("PARLOR_FUZZ_TARGET").unwrap_or_default();
    let target = TARGETS.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("PARLOR_FUZZ_TARGET={name:?} is none of tests/fuzz/corpus"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (TARGET.run)(bytes);
});
