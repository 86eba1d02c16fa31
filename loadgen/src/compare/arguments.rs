//! The command lines of the single runs, checked before anything is started.

use std::time::Duration;

use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow, bail};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::options::Common;

/// Options of every scenario that `compare` has as well, in its own meaning.
const SHARED: [&str; 4] = ["json", "report", "quiet", "cpu"];
/// Options that `compare` gives to every run.
const GIVEN: [&str; 7] = ["broker", "pid", "label", "json", "report", "quiet", "cpu"];

/// Takes the options that mean nothing to a comparison out of the help of `compare`.
///
/// They are there all the same, so that they can be refused with a reason.
pub fn hide_those_of_single_runs(compare: Command) -> Command {
    compare.args(those_of_single_runs().map(|option| option.hide(true)))
}

fn those_of_single_runs() -> impl Iterator<Item = Arg> {
    let options = Common::augment_args(Command::new("common")).get_arguments().cloned().collect::<Vec<_>>();
    options.into_iter().filter(|option| !SHARED.contains(&option.get_id().as_str()))
}

/// Refuses options of every scenario that mean nothing to a comparison.
///
/// # Errors
///
/// When there is one.
pub(super) fn refuse_those_of_single_runs(matches: &ArgMatches) -> Result<()> {
    let found = those_of_single_runs().find(|option| is_given(matches, option.get_id().as_str()));
    match found {
        Some(option) => bail!(
            "--{} is an option of single runs: compare sets it itself, or it belongs into the args of a scenario",
            option.get_long().unwrap_or_default()
        ),
        None => Ok(()),
    }
}

fn is_given(matches: &ArgMatches, id: &str) -> bool {
    matches.try_contains_id(id).unwrap_or(false) && matches.value_source(id) == Some(ValueSource::CommandLine)
}

/// Checks `args` by the command line of `program`, and puts in `duration` if they take one.
///
/// # Errors
///
/// When they would be refused, or contain what is not theirs to say.
pub(super) fn prepare(program: &Command, args: &mut Vec<String>, duration: Option<Duration>) -> Result<()> {
    let name = subcommand(program, args)?;
    let subcommand = program.find_subcommand(&name).context("a scenario that there is not")?;
    let takes_duration = subcommand.get_arguments().any(|argument| argument.get_long() == Some("duration"));
    if let Some(duration) = duration.filter(|_| takes_duration) {
        remove_option(args, "--duration");
        args.push(format!("--duration={}", humantime::format_duration(duration)));
    }
    Ok(())
}

/// What `args`, which go with a broker and not with a scenario, say of the broker at `address`.
///
/// # Errors
///
/// When they are none, or say what is not theirs to say.
pub(super) fn of_broker(args: &[String], address: SocketAddr) -> Result<Common> {
    let command = Common::augment_args(Command::new("args"));
    let words = std::iter::once("args".to_owned()).chain(args.iter().cloned());
    let matches = command.try_get_matches_from(words).map_err(|error| first_line(&error))?;
    if let Some(id) = GIVEN.iter().find(|id| is_given(&matches, id)) {
        bail!("--{id} is set by compare");
    }
    let mut common = Common::from_arg_matches(&matches).map_err(|error| first_line(&error))?;
    common.broker = address.to_string();
    Ok(common)
}

fn first_line(error: &clap::Error) -> anyhow::Error {
    let text = error.to_string();
    anyhow!("{}", text.lines().next().unwrap_or_default().trim_start_matches("error: "))
}

/// The subcommand that `args` call.
fn subcommand(program: &Command, args: &[String]) -> Result<String> {
    let words = std::iter::once(program.get_name().to_owned()).chain(args.iter().cloned());
    let matches = program.clone().try_get_matches_from(words).map_err(|error| first_line(&error))?;
    let (name, _) = matches.subcommand().context("args name no scenario")?;
    if name == "compare" {
        bail!("a comparison cannot compare comparisons");
    }
    match GIVEN.iter().find(|id| is_given(&matches, id)) {
        Some(id) => bail!("--{id} is set by compare"),
        None => Ok(name.to_owned()),
    }
}

/// Removes the option `name` and its value.
fn remove_option(args: &mut Vec<String>, name: &str) {
    let with_value = format!("{name}=");
    let mut is_value = false;
    args.retain(|arg| {
        let is_name = arg == name;
        !(std::mem::replace(&mut is_value, is_name) || is_name || arg.starts_with(&with_value))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program like ours, with one scenario that takes a duration and one that does not.
    fn program() -> Command {
        let takes_duration = Command::new("publish").arg(Arg::new("duration").long("duration"));
        let compare = hide_those_of_single_runs(Command::new("compare"));
        let subcommands = [takes_duration, Command::new("storm"), compare];
        Common::augment_args(Command::new("loadgen").subcommand_required(true).subcommands(subcommands))
    }

    fn prepared(args: &[&str], duration: Option<u64>) -> Result<Vec<String>> {
        let mut args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        prepare(&program(), &mut args, duration.map(Duration::from_secs)).map(|()| args)
    }

    #[test]
    fn a_duration_replaces_another_where_there_can_be_one() {
        assert_eq!(prepared(&["publish", "--duration", "9s"], None).unwrap(), ["publish", "--duration", "9s"]);
        assert_eq!(prepared(&["publish", "--duration", "9s"], Some(1)).unwrap(), ["publish", "--duration=1s"]);
        assert_eq!(prepared(&["publish", "--duration=9s"], Some(1)).unwrap(), ["publish", "--duration=1s"]);
        assert_eq!(prepared(&["storm", "--mqtt", "5"], Some(1)).unwrap(), ["storm", "--mqtt", "5"]);
    }

    #[test]
    fn what_would_be_refused_is_refused_at_once() {
        for (args, expected) in [
            (&["storm", "--clints", "1"][..], "--clints"),
            (&[], "subcommand"),
            (&["compare"], "cannot compare"),
            (&["storm", "--pid", "1"], "--pid is set by compare"),
            (&["-q", "storm"], "--quiet is set by compare"),
        ] {
            let error = prepared(args, None).unwrap_err().to_string();
            assert!(error.contains(expected), "{args:?}: {error}");
        }
    }

    #[test]
    fn what_goes_with_a_broker_says_how_to_reach_it() {
        let address = SocketAddr::from(([127, 0, 0, 1], 8883));
        let of = |args: &[&str]| of_broker(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>(), address);
        let common = of(&["--transport", "wss", "--insecure", "--username", "load"]).unwrap();
        assert_eq!((common.broker.as_str(), common.username.as_deref()), ("127.0.0.1:8883", Some("load")));
        for (args, expected) in
            [(&["--pid", "1"][..], "--pid is set by compare"), (&["publish"], "publish"), (&["--x"], "--x")]
        {
            let error = of(args).unwrap_err().to_string();
            assert!(error.contains(expected), "{args:?}: {error}");
        }
    }

    #[test]
    fn options_of_single_runs_are_none_of_a_comparison() {
        let refused = |args: &[&str]| {
            let words = std::iter::once("loadgen").chain(args.iter().copied());
            refuse_those_of_single_runs(&program().get_matches_from(words))
        };
        assert!(refused(&["--json", "x", "--report", "y", "--quiet", "compare"]).is_ok());
        let error = refused(&["compare", "--client-prefix", "x"]).unwrap_err().to_string();
        assert!(error.starts_with("--client-prefix is an option of single runs"), "{error}");
        assert!(refused(&["--pid", "1", "compare"]).is_err());
    }
}
