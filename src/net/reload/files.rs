//! Files that may change while the broker runs: rights, passwords, keys and certificates.
//!
//! It is looked every so often whether one has changed, and it is loaded once it has been still for a moment, so that one that is just being
//! written, or a certificate whose key has not followed yet, is not taken for what its owner wants. What cannot be loaded is said in
//! the log, and what was loaded before stays in force.

use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long files must have been still before they are loaded.
pub(super) const STILL: Duration = Duration::from_millis(100);
/// A file that was written so recently may be written again without a trace in its times, whose steps are coarse on some file systems.
const RECENT: Duration = Duration::from_secs(5);

/// Files that are loaded together.
pub(crate) struct Watched {
    /// What they are, for the log: "rights", "certificates of listener 1".
    pub(crate) name: String,
    pub(crate) files: Vec<PathBuf>,
    /// Loads them and puts them into force, all or nothing; says whether that changed anything. An error names file and line.
    pub(crate) load: Box<dyn FnMut() -> Result<bool, String> + Send>,
}

/// What a look at files has shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    Nothing,
    /// They have changed, and may be changing still.
    Wait,
    /// They have changed, and been still since the last look.
    Load,
}

pub(super) struct Set {
    watched: Watched,
    /// What each file was like at the last look.
    prints: Vec<Print>,
    /// They have changed and are not loaded yet.
    pub(super) is_restless: bool,
}

impl Set {
    /// Files that were loaded after `begin`.
    pub(super) fn new(watched: Watched, begin: SystemTime) -> Self {
        let prints: Vec<_> = watched.files.iter().map(|path| Print::of(path)).collect();
        let is_restless = prints.iter().any(|print| print.stamp.is_some_and(|stamp| stamp.changed_at() >= begin));
        Self { watched, prints, is_restless }
    }

    /// Looks whether they have changed.
    pub(super) fn look(&mut self) -> Look {
        let mut has_changed = false;
        for (path, print) in self.watched.files.iter().zip(&mut self.prints) {
            has_changed |= print.renew(path);
        }
        let was_restless = std::mem::replace(&mut self.is_restless, has_changed);
        match (has_changed, was_restless) {
            (true, _) => Look::Wait,
            (false, true) => Look::Load,
            (false, false) => Look::Nothing,
        }
    }

    /// Loads them and tells of it.
    ///
    /// # Errors
    /// As [`Watched::load`].
    pub(super) fn load(&mut self) -> Result<bool, String> {
        let what = &self.watched.name;
        let result = (self.watched.load)();
        match &result {
            Ok(true) => tracing::info!(what, "reloaded"),
            Ok(false) => tracing::debug!(what, "read again, nothing has changed"),
            Err(error) => tracing::error!(what, "not reloaded, what was loaded before stays in force: {error}"),
        }
        result
    }
}

/// By what a file is told from what it was before.
#[derive(Debug)]
struct Print {
    /// `None`: it cannot be read.
    stamp: Option<Stamp>,
    /// A hash of its content, while its stamp does not tell because it was changed so recently.
    content: Option<u64>,
}

/// Where links lead to, and what the system notes of a file when it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Print {
    fn of(path: &Path) -> Self {
        let mut print = Self { stamp: None, content: None };
        print.renew(path);
        print
    }

    /// Looks at the file again; says whether it has changed.
    fn renew(&mut self, path: &Path) -> bool {
        let stamp = fs::metadata(path).ok().map(|file| Stamp::of(&file));
        let is_recent = stamp.is_some_and(|stamp| stamp.is_recent());
        let content = (is_recent || self.content.is_some()).then(|| hash(path));
        let has_changed = stamp != self.stamp || self.content.is_some() && content != self.content;
        *self = Self { stamp, content: content.filter(|_| is_recent) };
        has_changed
    }
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// When the file was last written to, or put in its place. Nobody can set this time, unlike that of the modification.
    fn changed_at(&self) -> SystemTime {
        let (seconds, nanoseconds) = self.changed;
        let since_1970 = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0));
        SystemTime::UNIX_EPOCH + since_1970
    }

    /// Also where it is in the future: then the clocks do not tell.
    fn is_recent(&self) -> bool {
        SystemTime::now().duration_since(self.changed_at()).map_or(true, |age| age < RECENT)
    }
}

fn hash(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    fs::read(path).ok().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);
    const LONG_AGO: SystemTime = SystemTime::UNIX_EPOCH;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("willowmq-reload-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// Puts a file in its place as a whole.
        fn file(&self, name: &str, text: &str) -> PathBuf {
            let (path, next) = (self.0.join(name), self.0.join("next"));
            fs::write(&next, text).unwrap();
            fs::rename(next, &path).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Files whose texts arrive at the receiver with every load; a text "broken" is refused.
    fn watched(files: &[PathBuf]) -> (Watched, Receiver<String>) {
        let (sender, loads) = channel();
        let of_load = files.to_vec();
        let load = move || {
            let texts: Vec<_> = of_load.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
            let is_broken = texts.iter().any(|text| text == "broken");
            sender.send(texts.join("+")).unwrap();
            if is_broken { Err("it is broken".to_owned()) } else { Ok(true) }
        };
        (Watched { name: "test".to_owned(), files: files.to_vec(), load: Box::new(load) }, loads)
    }

    fn quiet(files: &[PathBuf]) -> Set {
        let mut set = Set::new(watched(files).0, SystemTime::now() + PATIENCE);
        assert_eq!(set.look(), Look::Nothing);
        set
    }

    #[test]
    fn a_change_is_loaded_once_it_has_been_still() {
        let folder = Folder::new("still");
        let files = [folder.file("cert", "one"), folder.file("key", "one")];
        let mut set = quiet(&files);
        folder.file("cert", "two");
        assert_eq!(set.look(), Look::Wait);
        folder.file("key", "two");
        assert_eq!(set.look(), Look::Wait);
        assert_eq!(set.look(), Look::Load);
        assert_eq!(set.look(), Look::Nothing);
    }

    #[test]
    fn a_change_that_leaves_size_and_times_as_they_are_is_seen() {
        let folder = Folder::new("same");
        let path = folder.file("rights", "one");
        let mut set = quiet(&[path]);
        folder.file("rights", "two");
        // As on a file system whose times have not gone on since the last look.
        set.prints[0].stamp = Some(Stamp::of(&fs::metadata(folder.0.join("rights")).unwrap()));
        assert_eq!(set.look(), Look::Wait, "only the content tells");
    }

    #[test]
    fn a_link_that_leads_somewhere_else_is_a_change() {
        let folder = Folder::new("link");
        for name in ["one", "two"] {
            folder.file(name, "same");
        }
        let link = folder.0.join("link");
        std::os::unix::fs::symlink(folder.0.join("one"), &link).unwrap();
        let mut set = quiet(std::slice::from_ref(&link));
        let next = folder.0.join("link-next");
        std::os::unix::fs::symlink(folder.0.join("two"), &next).unwrap();
        fs::rename(next, link).unwrap();
        assert_eq!(set.look(), Look::Wait);
    }

    #[test]
    fn a_file_that_goes_and_comes_is_a_change_each_time() {
        let folder = Folder::new("gone");
        let path = folder.file("rights", "one");
        let mut set = quiet(std::slice::from_ref(&path));
        fs::remove_file(&path).unwrap();
        assert_eq!([set.look(), set.look(), set.look()], [Look::Wait, Look::Load, Look::Nothing]);
        folder.file("rights", "one");
        assert_eq!([set.look(), set.look(), set.look()], [Look::Wait, Look::Load, Look::Nothing]);
    }

    #[test]
    fn a_file_that_changed_after_it_was_loaded_at_the_start_is_loaded_again() {
        let folder = Folder::new("start");
        let path = folder.file("rights", "one");
        let mut set = Set::new(watched(&[path]).0, LONG_AGO);
        assert_eq!([set.look(), set.look()], [Look::Load, Look::Nothing]);
    }

    #[test]
    fn changes_are_loaded_as_they_come_and_a_broken_file_does_not_end_that() {
        let folder = Folder::new("broken");
        let path = folder.file("rights", "one");
        let (watched, loads) = watched(std::slice::from_ref(&path));
        let mut set = Set::new(watched, SystemTime::now() + PATIENCE);
        for text in ["two", "broken", "six"] {
            folder.file("rights", text);
            assert_eq!([set.look(), set.look()], [Look::Wait, Look::Load]);
            assert_eq!(set.load().is_ok(), text != "broken");
            assert_eq!(loads.try_recv().unwrap(), text);
        }
    }
}
