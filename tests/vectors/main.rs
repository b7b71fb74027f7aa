//! Makes the vectors of `docs/vectors/` from their fixed seeds, or checks that they are what is
//! there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use parlor::crypto::vectors::{VectorFile, vector_files};

/// Makes docs/vectors anew, or compares.
#[derive(Debug, Parser)]
struct Args {
    /// Compare with what is there, and change nothing
    #[arg(long)]
    check: bool,
}

fn main() -> anyhow::Result<()> {
    let Args { check } = Args::parse();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors");
    let files = vector_files()?;
    if check {
        let expected = files.iter().map(|file| file.name.to_owned()).collect::<Vec<_>>();
        compare_names(&folder, &expected)?;
    }
    for VectorFile { name, json } in files {
        let made = serde_json::to_string_pretty(&json)? + "\n";
        let path = folder.join(name);
        if check {
            let found = fs::read_to_string(&path).with_context(|| format!("{name} is missing"))?;
            if found != made {
                bail!("{name} differs from what is made today");
            }
        } else {
            fs::create_dir_all(&folder)?;
            fs::write(&path, made)?;
        }
        println!("{name}: {}", if check { "the same" } else { "written" });
    }
    Ok(())
}

/// Nothing stands there that is not made here.
fn compare_names(folder: &PathBuf, expected: &[String]) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).context("docs/vectors is missing")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".json") && !expected.contains(&name) {
            bail!("{name} is not made here");
        }
    }
    Ok(())
}
