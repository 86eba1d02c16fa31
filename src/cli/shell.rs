//! `willowmq completions` and `willowmq man`: what shells and `man` have to know, from the definition of the command line.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{FAILURE, Failure, Outcome, SUCCESS, print};

const NAME: &str = "willowmq";

/// For which shell.
#[derive(Args)]
pub(super) struct Completions {
    /// bash, zsh, fish, elvish or powershell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, mut command: Command) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, NAME, &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}

/// Where the pages go.
#[derive(Args)]
pub(super) struct Manual {
    /// Write a page for every subcommand into this directory, instead of printing that of the program
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Manual {
    pub(super) fn run(self, command: Command) -> Outcome {
        match self.dir {
            Some(directory) => write_all(command, &directory)
                .map(|()| SUCCESS)
                .map_err(|error| Failure::new(format!("{}: {error}", directory.display()), FAILURE)),
            None => print(&page(command)),
        }
    }
}

/// A page for the program and for each of its subcommands, in a directory that is made where it is missing.
fn write_all(command: Command, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command, directory)
}

fn page(command: Command) -> String {
    let mut page = Vec::new();
    // Memory takes everything.
    let _ = Man::new(command.disable_help_subcommand(true)).render(&mut page);
    String::from_utf8_lossy(&page).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Arguments;

    /// The names of all subcommands at all depths, as a manual page is called: `willowmq-ctl-kick`.
    fn all(command: &Command, before: &str) -> Vec<String> {
        let visible =
            command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
        let named = visible.map(|command| (format!("{before}-{}", command.get_name()), command));
        named.flat_map(|(name, command)| [vec![name.clone()], all(command, &name)].concat()).collect()
    }

    #[test]
    fn there_is_a_page_for_every_subcommand() {
        let directory = std::env::temp_dir().join(format!("willowmq-man-{}", std::process::id()));
        write_all(Arguments::command(), &directory).unwrap();
        let names = all(&Arguments::command(), NAME);
        assert!(names.contains(&"willowmq-ctl-retained-set".to_owned()), "{names:?}");
        for name in names.iter().map(String::as_str).chain([NAME]) {
            let page = std::fs::read_to_string(directory.join(format!("{name}.1"))).unwrap_or_default();
            assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn completions_name_every_subcommand() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), NAME, &mut script);
            let script = String::from_utf8(script).unwrap();
            for name in all(&Arguments::command(), NAME) {
                let last = name.rsplit('-').next().unwrap_or_default();
                assert!(script.contains(last), "{shell}: {name}");
            }
        }
    }
}
