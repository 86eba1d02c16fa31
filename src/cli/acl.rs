//! `willowmq acl`: what clients may do, and why.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use willowmq::config::{RightsFormat, Security};
use willowmq::net::read_rights;
use willowmq::security::rights::Explanation;
use willowmq::security::{self, Identity, Rights, Who};
use willowmq::topic::{Subscribed, TopicName};

/// Exit code where the answer is no.
const DENIED: u8 = 1;

/// What to do with the rights.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Tell whether a client may do something, and which rule decides
    ///
    /// Exits with 0 where it may, with 1 where it may not, and with 2 where the question or the rights file is wrong.
    Explain {
        #[command(flatten)]
        source: Source,
        /// User Name; without one the client is anonymous
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Client Identifier
        #[arg(long, value_name = "ID")]
        client: String,
        /// What is known about the client, such as cert.cn=door-7; can be repeated
        #[arg(long, value_name = "NAME=VALUE", value_parser = parse_field)]
        field: Vec<(String, String)>,
        /// What the client wants to do
        what: What,
        /// Topic Name; for subscribe, a Topic Filter
        topic: String,
    },
    /// Read a rights file and say what is wrong with it
    Check {
        #[command(flatten)]
        source: Source,
    },
}

/// Which rights file.
#[derive(Args)]
pub(crate) struct Source {
    /// Rights file, instead of the one that the configuration names
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How this file is written
    #[arg(long, value_name = "FORMAT", requires = "file", default_value = "willowmq")]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Willowmq,
    Mosquitto,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum What {
    Publish,
    Subscribe,
    Receive,
    Will,
}

fn parse_field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a field is given as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Does it; `security` names the rights file of the configuration. The exit code of the process.
///
/// # Errors
/// What is wrong with the question or the rights file.
pub(crate) fn run(action: &Action, security: &Security) -> Result<u8, String> {
    match action {
        Action::Check { source } => {
            let (file, format) = source.file(security).ok_or("there is no rights file: name one with --file")?;
            let rights = read_rights(file, format)?;
            tell(&format!("{}: {}", file.display(), count(rights.rules().len())))?;
            Ok(0)
        }
        Action::Explain { source, user, client, field, what, topic } => {
            let rights = match source.file(security) {
                Some((file, format)) => read_rights(file, format)?,
                None => Rights::default(),
            };
            let identity = identity(user.as_deref(), field);
            explain(&rights, Who { identity: &identity, client_id: client }, *what, topic)
        }
    }
}

impl Source {
    /// The file, and how it is written; nothing where there is none.
    fn file<'a>(&'a self, security: &'a Security) -> Option<(&'a Path, RightsFormat)> {
        let format = match self.format {
            Format::Willowmq => RightsFormat::Willow,
            Format::Mosquitto => RightsFormat::Mosquitto,
        };
        let given = self.file.as_deref().map(|file| (file, format));
        given.or_else(|| Some((security.rights_file.as_deref()?, security.rights_format)))
    }
}

/// How many rules there are, and what it means where there are none.
fn count(rules: usize) -> String {
    match rules {
        0 => "no rules, so nothing is allowed".to_owned(),
        1 => "1 rule".to_owned(),
        many => format!("{many} rules"),
    }
}

fn identity(user: Option<&str>, fields: &[(String, String)]) -> Identity {
    let mut fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
    fields.sort_unstable();
    Identity { username: user.map(Into::into), fields: fields.into(), granted: None }
}

fn explain(rights: &Rights, who: Who<'_>, what: What, topic: &str) -> Result<u8, String> {
    let name = || TopicName::parse(topic).map_err(|error| format!("{topic:?} is no Topic Name: {error}"));
    let explanation = match what {
        What::Publish => rights.explain(who, security::Action::Publish, name()?),
        What::Receive => rights.explain(who, security::Action::Receive, name()?),
        What::Will => rights.explain_will(who, name()?),
        What::Subscribe => {
            let subscribed =
                Subscribed::parse(topic).map_err(|error| format!("{topic:?} is no Topic Filter: {error}"))?;
            let explanation = rights.explain_subscribe(who, subscribed.filter());
            say(&explanation, topic)?;
            if explanation.is_allowed && !rights.may_receive_all(who, subscribed.filter()) {
                tell("\nNot all that it matches may be received; what may not is not delivered.")?;
            }
            return Ok(exit_code(&explanation));
        }
    };
    say(&explanation, topic)?;
    Ok(exit_code(&explanation))
}

fn say(explanation: &Explanation<'_>, topic: &str) -> Result<(), String> {
    tell(&format!("{} {topic:?}: {explanation}", explanation.action.name()))
}

fn tell(line: &str) -> Result<(), String> {
    super::print(&format!("{line}\n")).map(drop).map_err(|failure| failure.said)
}

fn exit_code(explanation: &Explanation<'_>) -> u8 {
    if explanation.is_allowed { 0 } else { DENIED }
}
