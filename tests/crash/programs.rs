//! The programs that people run, built as this one is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Has cargo bring both up to date, in the profile that this program has.
    pub fn build() -> anyhow::Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        build.args(["build", "--quiet", "-p", "parlor", "-p", "parlor-rendezvous"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        ensure!(build.status()?.success(), "the programs cannot be built");
        let own = std::env::current_exe()?;
        let folder = own.ancestors().find(|folder| folder.join("parlor").is_file());
        Ok(Self { folder: folder.context("the programs are not where this one is")?.to_owned() })
    }

    /// `parlor` on a profile, with nothing of this process's settings.
    pub fn peer(&self, home: &Path) -> Command {
        let mut command = self.program("parlor");
        command.arg("--home").arg(home).arg("--json");
        command
    }

    /// `parlor rpc` on a profile.
    pub fn rpc(&self, home: &Path) -> Command {
        let mut command = self.peer(home);
        command.arg("rpc");
        command
    }

    /// `parlor-rendezvous serve` on a folder.
    pub fn rendezvous(&self, data: &Path, listen: &str) -> Command {
        let mut command = self.program("parlor-rendezvous");
        command.args(["serve", "--json", "--listen", listen, "--data"]).arg(data);
        command
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join(name));
        for (variable, _) in std::env::vars_os() {
            if variable.to_str().is_some_and(|name| name.starts_with("PARLOR_")) {
                command.env_remove(variable);
            }
        }
        command
    }
}
