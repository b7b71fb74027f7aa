//! The vectors that are published are the ones that this build makes.

use std::fs;
use std::path::Path;

use parlor::crypto::vectors::vector_files;

#[test]
fn the_published_vectors_are_made_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors");
    for file in vector_files().unwrap() {
        let found = fs::read_to_string(folder.join(file.name)).unwrap();
        let found: serde_json::Value = serde_json::from_str(&found).unwrap();
        assert!(found == file.json, "{} differs", file.name);
    }
}
