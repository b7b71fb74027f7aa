//! Who may know whom, read from the sources: what keeps the cores pure and each room to itself.

use std::fs;
use std::path::{Path, PathBuf};

/// Each row: the code under this path mentions none of these words.
const RULES: &[(&str, &[&str])] = &[
    ("common/src", &["tokio", "quinn::", "std::fs", "println!", "SystemTime", "Instant"]),
    (
        "peer/src/node",
        &[
            "tokio",
            "quinn",
            "std::fs",
            "rusqlite",
            "SystemTime",
            "Instant",
            "crate::net",
            "crate::store",
            "crate::profile",
            "crate::driver",
            "crate::account",
            "crate::cli",
        ],
    ),
    (
        "peer/src/crypto",
        &[
            "tokio",
            "quinn",
            "std::fs",
            "rusqlite",
            "SystemTime",
            "Instant",
            "crate::node",
            "crate::net",
            "crate::store",
        ],
    ),
    (
        "peer/src/account",
        &["tokio", "quinn", "std::fs", "crate::net", "crate::store", "crate::cli"],
    ),
    ("peer/src/store", &["tokio", "quinn", "crate::net", "crate::driver", "crate::cli"]),
    ("peer/src/net", &["crate::crypto", "crate::store", "crate::driver", "crate::cli", "rusqlite"]),
    ("peer/src/cli", &["rusqlite", "quinn::", "crate::crypto::session", "crate::crypto::ratchet"]),
    (
        "rendezvous/src/server",
        &[
            "tokio",
            "quinn",
            "std::fs",
            "rusqlite",
            "SystemTime",
            "Instant",
            "crate::driver",
            "crate::store",
            "crate::folder",
            "crate::config",
        ],
    ),
    ("rendezvous/src/store", &["tokio", "quinn", "crate::driver"]),
    ("rendezvous/src", &["parlor::", "parlor_peer", "aes::", "cbc::", "crypto_bigint"]),
];

/// Each row: this word stands in these files under this folder, and in no other.
const ONLY: &[(&str, &str, &[&str])] = &[
    ("peer/src", "parlor_rendezvous", &["host.rs", "demo.rs"]),
    ("peer/src", "opaque_ke", &["opaque.rs"]),
    ("peer/src", "rusqlite", &["store.rs", "store/"]),
    ("peer/src", "SystemTime::now", &["driver/clock.rs", "cli/"]),
    ("peer/src", "Instant::now", &["driver/clock.rs", "cli/"]),
    ("rendezvous/src", "opaque_ke", &["opaque.rs"]),
];

#[test]
fn every_room_keeps_to_its_neighbours() {
    let mut broken = Vec::new();
    for (place, words) in RULES {
        for (file, code) in sources(place) {
            let found = words.iter().filter(|word| code.contains(**word));
            broken.extend(found.map(|word| format!("{file} mentions {word}")));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn some_things_have_one_place() {
    let mut broken = Vec::new();
    for (place, word, files) in ONLY {
        let allowed = |file: &str| files.iter().any(|known| file.contains(&format!("/{known}")));
        let others = sources(place).into_iter().filter(|(file, _)| !allowed(file));
        let found = others.filter(|(_, code)| code.contains(word));
        broken.extend(found.map(|(file, _)| format!("{file} mentions {word}")));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_rule_is_about_something() {
    for place in RULES.iter().map(|(place, _)| place).chain(ONLY.iter().map(|(place, ..)| place)) {
        assert!(!sources(place).is_empty(), "{place} has no sources");
    }
}

#[test]
fn no_function_is_longer_than_a_hundred_lines() {
    let mut long = Vec::new();
    for place in ["common/src", "peer/src", "rendezvous/src", "tests"] {
        for file in rust_files(&root().join(place)) {
            let source = fs::read_to_string(&file).unwrap();
            let functions = function_lengths(&source).into_iter();
            let too_long = functions.filter(|(_, lines)| *lines > 100);
            long.extend(too_long.map(|(start, lines)| format!("{file:?}:{start}: {lines} lines")));
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

/// The first line of each function, and how many it has: to the brace that stands where the
/// function starts.
fn function_lengths(source: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = source.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lengths = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let words = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let words = words.trim_start_matches("pub(super) ").trim_start_matches("const ");
        if !words.trim_start_matches("async ").starts_with("fn ") || line.trim_end().ends_with('}')
        {
            continue;
        }
        let is_end = |line: &&str| indent(line) == indent(lines[start]) && line.trim() == "}";
        let rest = lines.iter().skip(start);
        let signature_ends = rest.clone().find(|line| line.trim_end().ends_with(['{', ';']));
        if signature_ends.is_some_and(|line| line.trim_end().ends_with(';')) {
            continue; // a trait's, without a body
        }
        if let Some(length) = rest.clone().position(is_end) {
            lengths.push((start + 1, length + 1));
        }
    }
    lengths
}

/// The code under a path, without comments and tests: each file's path and text.
fn sources(place: &str) -> Vec<(String, String)> {
    let path = root().join(place);
    let mut files = rust_files(&path);
    files.extend(Some(path.with_extension("rs")).filter(|file| file.is_file()));
    files.retain(|file| !file.ends_with("testing.rs"));
    let read = |file: PathBuf| {
        let source = fs::read_to_string(&file).unwrap();
        let source = source.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        (file.display().to_string(), code.collect::<Vec<_>>().join("\n"))
    };
    files.into_iter().map(read).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let files = paths.flat_map(|path| {
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        if path.is_dir() { rust_files(&path) } else { Vec::from_iter(is_rust.then_some(path)) }
    });
    files.collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
