//! `willowmq passwd`: looks after a password file.
//!
//! A password comes from standard input: typed twice without being shown where that is a terminal, and the first line where it is not. It
//! never stands on the command line, which everybody on the machine can see.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, ErrorKind, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use willowmq::security::password::{Cost, Hash, PasswordFile, Scratch, User, check_username, with_user, without_user};
use willowmq::security::scram::{ITERATIONS, Verifier};

/// The password is wrong, or there is no such user.
const NO: u8 = 1;
const YES: u8 = 0;
/// Ctrl-C, where the terminal does not make a signal of it.
const INTERRUPT: char = '\u{3}';

/// What to do with a password file.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Give a user a password, which is read from standard input; a new file is for its owner alone
    Add {
        #[command(flatten)]
        place: Place,
        /// User Name
        user: String,
        /// Store what SCRAM-SHA-256 needs, too; the password must be printable ASCII
        #[arg(long)]
        scram: bool,
        /// Memory that a check of the password takes, in KiB; less lets more clients in at a time, and is easier to guess for who has
        /// the file
        #[arg(long, value_name = "KIB", default_value_t = Cost::default().kib)]
        memory: u32,
        /// Passes over that memory
        #[arg(long, value_name = "N", default_value_t = Cost::default().passes)]
        passes: u32,
    },
    /// Remove a user
    Remove {
        #[command(flatten)]
        place: Place,
        /// User Name
        user: String,
    },
    /// Tell whether a password, which is read from standard input, is that of the user: exit code 0 if it is, and 1 if not
    Verify {
        #[command(flatten)]
        place: Place,
        /// User Name
        user: String,
    },
    /// Print the users, and how their passwords are kept
    List {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Args)]
pub(crate) struct Place {
    /// The password file: ours, or one of mosquitto_passwd
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

/// Does it; the exit code of the process.
///
/// # Errors
/// What is to be said.
pub(crate) fn run(action: &Action) -> Result<u8, String> {
    match action {
        Action::Add { place, user, scram, memory, passes } => {
            let cost = Cost { kib: *memory, passes: *passes, lanes: 1 };
            cost.check()?;
            check_username(user)?;
            let password = new_password()?;
            let credentials = credentials(&password, cost, *scram)?;
            change(&place.file, |text| Some(with_user(text, user, &credentials)))?;
            Ok(YES)
        }
        Action::Remove { place, user } => match change(&place.file, |text| without_user(text, user))? {
            true => Ok(YES),
            false => Err(format!("{}: there is no user {user:?}", place.file.display())),
        },
        Action::Verify { place, user } => {
            let users = parse(&read(&place.file)?, &place.file)?;
            match users.verify(user, password("Password: ")?.as_bytes(), &mut Scratch::default()) {
                Some(true) => Ok(YES),
                Some(false) | None => Ok(NO),
            }
        }
        Action::List { place } => list(&parse(&read(&place.file)?, &place.file)?),
    }
}

fn credentials(password: &str, cost: Cost, scram: bool) -> Result<Vec<String>, String> {
    let mut credentials = vec![Hash::argon2id(password.as_bytes(), &salt()?, cost).to_string()];
    if scram {
        if !password.chars().all(|character| matches!(character, ' '..='~')) {
            return Err(
                "for SCRAM the password must be printable ASCII: clients would prepare others in ways that differ"
                    .into(),
            );
        }
        credentials.push(Verifier::new(password.as_bytes(), &salt()?, ITERATIONS).to_string());
    }
    Ok(credentials)
}

fn salt() -> Result<[u8; 16], String> {
    let mut salt = [0; 16];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| "the system has no random bytes")?;
    Ok(salt)
}

fn list(users: &PasswordFile) -> Result<u8, String> {
    let mut lines: Vec<_> = users.users().map(|(name, user)| format!("{name}\t{}\n", kinds(user))).collect();
    lines.sort();
    match io::stdout().lock().write_all(lines.concat().as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("cannot print the users: {error}")),
        _ => Ok(YES), // `head` may stop early.
    }
}

fn kinds(user: &User) -> String {
    let hash = user.hash.as_ref().map(Hash::kind);
    let scram = user.scram.as_ref().map(|_| "scram-sha-256");
    hash.into_iter().chain(scram).collect::<Vec<_>>().join(", ")
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn parse(text: &str, path: &Path) -> Result<PasswordFile, String> {
    PasswordFile::parse(text.as_bytes(), &path.display().to_string()).map_err(|error| error.to_string())
}

/// Replaces the content of the file by what `edit` makes of it; whether it made anything.
///
/// The new content is in a file of its own before it takes the place of the old one, so nobody ever sees half of it. That file is also
/// how two of us stay out of each other's way: it must not be there before.
fn change(path: &Path, edit: impl FnOnce(&str) -> Option<String>) -> Result<bool, String> {
    // Behind a symbolic link it is the file that changes, not the link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let fail = |what: &str, path: &Path, error: io::Error| format!("cannot {what} {}: {error}", path.display());
    let name = path.file_name().ok_or_else(|| format!("{} is no file", path.display()))?;
    let mut name_of_new = name.to_owned();
    name_of_new.push(".new");
    let new_path = path.with_file_name(name_of_new);
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new_path);
    let new = new.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => format!(
            "{} is there: another change is under way, or was interrupted. Remove it in the latter case",
            new_path.display()
        ),
        _ => fail("write", &new_path, error),
    })?;
    let result = (|| {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.map_err(|error| fail("read", path, error))?,
        };
        parse(&text, path)?; // A file that is broken is not ours to change.
        let Some(changed) = edit(&text) else {
            return Ok(false);
        };
        write(&new, &changed, path).map_err(|error| fail("write", &new_path, error))?;
        fs::rename(&new_path, path).map_err(|error| fail("replace", path, error))?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| fail("sync", directory, error))?;
        Ok(true)
    })();
    if !matches!(result, Ok(true)) {
        let _ = fs::remove_file(&new_path); // After the rename it is not there any more.
    }
    result
}

/// Fills the new file, and gives it to whom the old one belongs.
fn write(mut new: &File, text: &str, old: &Path) -> io::Result<()> {
    match fs::metadata(old) {
        Ok(of_old) => {
            let of_new = new.metadata()?;
            if (of_new.uid(), of_new.gid()) != (of_old.uid(), of_old.gid()) {
                std::os::unix::fs::fchown(new, Some(of_old.uid()), Some(of_old.gid()))?;
            }
            new.set_permissions(fs::Permissions::from_mode(of_old.mode() & 0o777))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    new.write_all(text.as_bytes())?;
    new.sync_all()
}

fn new_password() -> Result<String, String> {
    let first = password("Password: ")?;
    if first.is_empty() {
        return Err("the password is empty".into());
    }
    if io::stdin().is_terminal() && password("The same again: ")? != first {
        return Err("the two differ".into());
    }
    Ok(first)
}

/// A line of standard input; where that is a terminal it is asked for and not shown.
fn password(prompt: &str) -> Result<String, String> {
    let mut line = String::new();
    let stdin = io::stdin();
    let fail = |error: io::Error| format!("cannot read the password: {error}");
    if stdin.is_terminal() {
        eprint!("{prompt}");
        let before = tcgetattr(&stdin).map_err(|error| fail(error.into()))?;
        let mut silent = before.clone();
        // Without signals, so that nothing ends us before the terminal is as it was.
        silent.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
        tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(|error| fail(error.into()))?;
        let read = stdin.lock().read_line(&mut line);
        tcsetattr(&stdin, OptionalActions::Now, &before).map_err(|error| fail(error.into()))?;
        eprintln!();
        read.map_err(fail)?;
        if line.contains(INTERRUPT) {
            return Err("interrupted".into());
        }
    } else {
        stdin.lock().read_line(&mut line).map_err(fail)?;
    }
    if line.is_empty() {
        return Err("there is no password on standard input".into());
    }
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("willowmq-passwd-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    fn line() -> Vec<String> {
        credentials("secret", Cost { kib: 8, passes: 1, lanes: 1 }, true).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_new_file_is_for_its_owner_alone_and_an_old_one_keeps_its_mode() {
        let directory = directory("mode");
        let path = directory.join("users");
        assert_eq!(change(&path, |text| Some(with_user(text, "anna", &line()))), Ok(true));
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(change(&path, |text| Some(with_user(text, "bert", &line()))), Ok(true));
        assert_eq!(mode(&path), 0o640);
        let users = parse(&read(&path).unwrap(), &path).unwrap();
        let verify = |name, password: &[u8]| users.verify(name, password, &mut Scratch::default());
        assert_eq!((verify("anna", b"secret"), verify("bert", b"other")), (Some(true), Some(false)));
        assert!(users.scram("anna").is_some());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_change_that_fails_leaves_everything_as_it_was() {
        let directory = directory("fail");
        let path = directory.join("users");
        fs::write(&path, "# mine\nanna\n").unwrap();
        let error = change(&path, |text| Some(with_user(text, "bert", &line()))).unwrap_err();
        assert!(error.ends_with("users:2: there is no colon: a line is \"user name:hash\""), "{error}");
        assert_eq!(read(&path).unwrap(), "# mine\nanna\n");
        fs::write(&path, "# mine\n").unwrap();
        assert_eq!(change(&path, |text| without_user(text, "anna")), Ok(false));
        fs::write(directory.join("users.new"), "").unwrap();
        assert!(change(&path, |text| Some(text.to_owned())).unwrap_err().contains("another change is under way"));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_link_stays_a_link() {
        let directory = directory("link");
        let (path, link) = (directory.join("users"), directory.join("link"));
        fs::write(&path, "").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(change(&link, |text| Some(with_user(text, "anna", &line()))), Ok(true));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(read(&path).unwrap().starts_with("anna:$argon2id$"));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_password_that_clients_may_prepare_differently_has_no_verifier() {
        let cost = Cost { kib: 8, passes: 1, lanes: 1 };
        assert!(credentials("pässword", cost, true).unwrap_err().contains("ASCII"));
        assert_eq!(credentials("pässword", cost, false).unwrap().len(), 1);
    }
}
