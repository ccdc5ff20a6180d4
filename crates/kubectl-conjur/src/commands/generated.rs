//! `completion` and `man`: what the definition of the arguments says, for shells and readers.

use std::{fs, path::Path};

use anstream::{print, println};
use clap::CommandFactory as _;

use crate::{
    Ended, Error,
    cli::{Cli, Shell},
};

/// Prints a script.
pub fn completion(shell: Shell) -> Ended {
    let mut command = Cli::command();
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::Powershell => clap_complete::Shell::PowerShell,
        Shell::Zsh => clap_complete::Shell::Zsh,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "kubectl-conjur", &mut script);
    print!("{}", String::from_utf8_lossy(&script));
    Ended::Well
}

/// Writes a page a command.
///
/// # Errors
/// That the folder can't be written.
pub fn man(folder: &Path) -> Result<Ended, Error> {
    let failed =
        |error: std::io::Error| Error::new(format!("{} can't be written: {error}", folder.display()));
    fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(failed)?;
    println!("{}", folder.display());
    Ok(Ended::Well)
}
