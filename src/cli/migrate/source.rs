//! A configuration of Mosquitto as it is written: its settings by section, each with the line it stands in.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::options::{self, Kind, OPTIONS, Opt, Scope};

/// Files within folders within files; Mosquitto stops there as well.
const DEPTH_MAX: usize = 10;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: Rc<str>,
    /// Counted from 1.
    pub(super) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) name: String,
    /// As it is written, without the spaces around it.
    pub(super) value: String,
    pub(super) at: Place,
    scope_is_security: bool,
}

impl Setting {
    /// Whether it is one of those that `per_listener_settings` moves to listeners.
    pub(super) fn is_security(&self) -> bool {
        self.scope_is_security
    }

    /// The value of a flag; the reader has made sure that it is one.
    pub(super) fn flag(&self) -> bool {
        matches!(self.value.as_str(), "true" | "1")
    }

    /// The value of a number; the reader has made sure that it is one.
    pub(super) fn number(&self) -> i64 {
        self.value.parse().unwrap_or_default()
    }
}

/// Settings that belong together.
#[derive(Debug, Clone, Default)]
pub(super) struct Section {
    /// The line that begins it; the default listener has none.
    pub(super) opening: Option<Setting>,
    pub(super) settings: Vec<Setting>,
}

impl Section {
    /// The last setting of this name, which is the one that counts.
    pub(super) fn get(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().rfind(|setting| setting.name == name)
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(Setting::flag)
    }
}

/// All that a configuration says.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) global: Section,
    /// Settings of a listener that stand before the first one: those of the default listener.
    pub(super) default_listener: Section,
    pub(super) listeners: Vec<Section>,
    pub(super) bridges: Vec<Section>,
}

/// Why a configuration cannot be read: Mosquitto would not start with it either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Source {
    /// Reads a file, and those in the folders that it includes.
    ///
    /// # Errors
    /// The first line that Mosquitto would not understand, or the file that cannot be read.
    pub(super) fn read(path: &Path) -> Result<Self, Unreadable> {
        let mut source = Self::default();
        source.read_file(path, 0)?;
        Ok(source)
    }

    /// As [`Source::read`], of a text.
    #[cfg(test)]
    pub(super) fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut source = Self::default();
        source.read_text(text, "mosquitto.conf", 0)?;
        Ok(source)
    }

    fn read_file(&mut self, path: &Path, depth: usize) -> Result<(), Unreadable> {
        // A comment may be in any encoding.
        let bytes = fs::read(path).map_err(|error| Unreadable(format!("cannot read {}: {error}", path.display())))?;
        self.read_text(&String::from_utf8_lossy(&bytes), &path.display().to_string(), depth)
    }

    /// Every file begins outside of any section, as for Mosquitto.
    fn read_text(&mut self, text: &str, file: &str, depth: usize) -> Result<(), Unreadable> {
        let file: Rc<str> = file.into();
        let (mut listener, mut bridge) = (None, None);
        for (line, number) in text.lines().zip(1..) {
            let at = Place { file: Rc::clone(&file), line: number };
            let Some((option, setting)) = setting(line, at)? else { continue };
            let wrong = |what: &str| Err(Unreadable(format!("{}: {what}", setting.at)));
            match (option.scope, option.name) {
                (_, "include_dir") if depth == DEPTH_MAX => return wrong("folders are included too deep"),
                (_, "include_dir") => self.read_folder(&setting, depth)?,
                (_, "listener") => {
                    self.listeners.push(Section { opening: Some(setting), ..Section::default() });
                    listener = Some(self.listeners.len() - 1);
                }
                (_, "connection") => {
                    self.bridges.push(Section { opening: Some(setting), ..Section::default() });
                    bridge = Some(self.bridges.len() - 1);
                }
                (_, "per_listener_settings") if self.has_security() => {
                    return wrong("per_listener_settings must stand before all security settings");
                }
                (Scope::Global, _) => self.global.settings.push(setting),
                (Scope::Bridge, name) => match bridge {
                    Some(bridge) => self.bridges[bridge].settings.push(setting),
                    None => return wrong(&format!("{name} belongs to a bridge, and no connection stands above it")),
                },
                // These two are about the default listener, wherever they stand.
                (_, "port" | "bind_address") => self.default_listener.settings.push(setting),
                (Scope::Listener | Scope::Security, _) => match listener {
                    Some(listener) => self.listeners[listener].settings.push(setting),
                    None => self.default_listener.settings.push(setting),
                },
            }
        }
        Ok(())
    }

    fn has_security(&self) -> bool {
        let mut sections = self.listeners.iter().chain([&self.default_listener]);
        sections.any(|section| section.settings.iter().any(Setting::is_security))
    }

    /// The files of a folder whose names end in `.conf`, by their names.
    fn read_folder(&mut self, setting: &Setting, depth: usize) -> Result<(), Unreadable> {
        let fail = |error| Unreadable(format!("{}: cannot read {}: {error}", setting.at, setting.value));
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&setting.value).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_some_and(|extension| extension == "conf") {
                files.push(path);
            }
        }
        files.sort();
        files.iter().try_for_each(|file| self.read_file(file, depth + 1))
    }
}

/// The setting of a line; none where it is blank or a comment.
fn setting(line: &str, at: Place) -> Result<Option<(Opt, Setting)>, Unreadable> {
    let trimmed = line.trim();
    if line.starts_with('#') || trimmed.is_empty() {
        return Ok(None);
    }
    let (name, value) = trimmed.split_once([' ', '\t']).map_or((trimmed, ""), |(name, value)| (name, value.trim()));
    let wrong = |what: String| Unreadable(format!("{at}: {what}"));
    let Some(option) = options::find(name) else {
        let hint = similar(name).map_or(String::new(), |known| format!("; did you mean {known}?"));
        return Err(wrong(format!("Mosquitto has no option {name:?}{hint}")));
    };
    match option.kind {
        Kind::Anything => {}
        _ if value.is_empty() => return Err(wrong(format!("{name} has no value"))),
        Kind::Text => {}
        Kind::Flag if matches!(value, "true" | "false" | "1" | "0") => {}
        Kind::Flag => return Err(wrong(format!("{name} is true or false, not {value:?}"))),
        Kind::Number => {
            value.parse::<i64>().map_err(|_| wrong(format!("{name} is a whole number, not {value:?}")))?;
        }
    }
    check_place(name, value).map_err(wrong)?;
    let scope_is_security = option.scope == Scope::Security;
    Ok(Some((option, Setting { name: name.to_owned(), value: value.to_owned(), at, scope_is_security })))
}

/// Whether a listener can be there: a port, or 0 and the path of a Unix socket.
fn check_place(name: &str, value: &str) -> Result<(), String> {
    let (port, place) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
    match (name, port.parse::<u16>()) {
        ("listener", Ok(0)) if place.trim().is_empty() => {
            Err("port 0 needs the path of a Unix socket behind it".into())
        }
        ("port", Ok(0)) | ("listener" | "port", Err(_)) => Err(format!("{port:?} is no port")),
        _ => Ok(()),
    }
}

/// The known option that has most of its letters in the same places, from either end, if that is nearly all of them.
fn similar(name: &str) -> Option<&'static str> {
    let common = |known: &str| {
        let forwards = name.bytes().zip(known.bytes()).take_while(|(a, b)| a == b).count();
        let backwards = name.bytes().rev().zip(known.bytes().rev()).take_while(|(a, b)| a == b).count();
        (forwards + backwards).min(name.len()).min(known.len())
    };
    let best = OPTIONS.iter().max_by_key(|option| common(option.name))?.name;
    (common(best) + 2 >= name.len().max(best.len())).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        Source::parse(text).map_or_else(|error| error.to_string(), |_| panic!("taken: {text}"))
    }

    #[test]
    fn settings_go_to_the_section_that_they_are_about() {
        let source = Source::parse(
            "# A comment\n\nmax_connections 5\nlistener 1884\nsys_interval 3\n  protocol\twebsockets \n\
             connection office\naddress example.org:1883\ncafile /a\nport 1885\n",
        )
        .unwrap();
        assert_eq!(source.global.get("sys_interval").map(Setting::number), Some(3));
        assert_eq!(source.default_listener.get("max_connections").map(|setting| setting.at.line), Some(3));
        assert_eq!(source.default_listener.get("port").map(Setting::number), Some(1885));
        assert_eq!(source.listeners[0].get("protocol").map(|setting| setting.value.as_str()), Some("websockets"));
        assert!(source.listeners[0].get("cafile").is_some(), "a bridge takes nothing away from the listener above it");
        assert_eq!(
            source.bridges[0].get("address").map(|setting| setting.at.to_string()),
            Some("mosquitto.conf:8".into())
        );
    }

    #[test]
    fn what_mosquitto_would_not_take_is_an_error_with_its_line() {
        for (text, expected) in [
            ("\nfoo bar\n", "mosquitto.conf:2: Mosquitto has no option \"foo\""),
            (
                "alow_anonymous true\n",
                "mosquitto.conf:1: Mosquitto has no option \"alow_anonymous\"; did you mean allow_anonymous?",
            ),
            ("persistence yes\n", "mosquitto.conf:1: persistence is true or false, not \"yes\""),
            ("sys_interval soon\n", "mosquitto.conf:1: sys_interval is a whole number, not \"soon\""),
            ("cafile\n", "mosquitto.conf:1: cafile has no value"),
            ("listener 65536\n", "mosquitto.conf:1: \"65536\" is no port"),
            ("listener mqtt\n", "mosquitto.conf:1: \"mqtt\" is no port"),
            ("port 0\n", "mosquitto.conf:1: \"0\" is no port"),
            ("listener 0\n", "mosquitto.conf:1: port 0 needs the path of a Unix socket behind it"),
            ("topic # out\n", "mosquitto.conf:1: topic belongs to a bridge, and no connection stands above it"),
            (
                "allow_anonymous true\nper_listener_settings true\n",
                "mosquitto.conf:2: per_listener_settings must stand before all security settings",
            ),
        ] {
            assert_eq!(message(text), expected);
        }
    }

    #[test]
    fn folders_are_included_file_by_file_in_the_order_of_their_names() {
        let folder = std::env::temp_dir().join(format!("willowmq-migrate-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("b.conf"), "listener 2\n").unwrap();
        fs::write(folder.join("a.conf"), "listener 1\nmax_qos 1\n").unwrap();
        fs::write(folder.join("c.txt"), "nonsense\n").unwrap();
        let main = folder.join("main.cfg");
        fs::write(&main, format!("include_dir {}\nmax_connections 3\n", folder.display())).unwrap();
        let source = Source::read(&main).unwrap();
        let ports: Vec<_> = source.listeners.iter().map(|one| one.opening.as_ref().unwrap().value.as_str()).collect();
        assert_eq!(ports, ["1", "2"]);
        assert!(source.default_listener.get("max_connections").is_some(), "the sections of a file end with it");

        fs::write(folder.join("b.conf"), "listener 2\nnonsense 1\n").unwrap();
        let error = Source::read(&main).unwrap_err().to_string();
        assert!(error.ends_with("b.conf:2: Mosquitto has no option \"nonsense\""), "{error}");
        fs::write(&main, "include_dir /does/not/exist\n").unwrap();
        assert!(Source::read(&main).unwrap_err().to_string().contains("main.cfg:1: cannot read /does/not/exist"));
        fs::remove_dir_all(folder).unwrap();
    }
}
