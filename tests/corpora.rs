//! The fuzz targets over their kept corpora: what once broke, or led far into a parser, is tried
//! again by every run of the tests.

#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use targets::{TARGETS, Target};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

fn targets() -> impl Iterator<Item = (&'static Target, PathBuf)> {
    TARGETS.iter().map(|target| (target, corpus().join(target.name)))
}

#[test]
fn every_kept_input_is_handled() {
    for (target, folder) in targets() {
        for name in names(&folder) {
            println!("{}/{name}", target.name); // shown where it fails
            (target.run)(&fs::read(folder.join(name)).unwrap());
        }
    }
}

/// So that `fuzz/run`, which takes the targets from the folders, leaves none out.
#[test]
fn every_corpus_has_its_target() {
    let mut targets: Vec<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    targets.sort_unstable();
    assert_eq!(names(&corpus()), targets);
}

/// A seed that is refused, but should lead into a parser, leaves the parser unfuzzed.
#[test]
fn seeds_are_taken_or_refused_as_they_should() {
    for target in TARGETS {
        for seed in (target.seeds)() {
            let outcome = (target.run)(&seed.bytes);
            assert_eq!(outcome, seed.outcome, "{}/{}", target.name, seed.name);
        }
    }
}

/// Writes the seeds anew if `PARLOR_WRITE_SEEDS` is set: after a change of a format.
#[test]
fn the_corpora_hold_todays_seeds() {
    let write = std::env::var_os("PARLOR_WRITE_SEEDS").is_some();
    for (target, folder) in targets() {
        for seed in (target.seeds)() {
            let file = folder.join(seed.name);
            if write {
                fs::create_dir_all(&folder).unwrap();
                fs::write(&file, &seed.bytes).unwrap();
            }
            let kept = fs::read(&file).unwrap_or_default();
            assert!(kept == seed.bytes, "{file:?} is not as it is made: set PARLOR_WRITE_SEEDS=1");
        }
    }
}
