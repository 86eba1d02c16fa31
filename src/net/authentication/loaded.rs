//! The content of a file that is read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest;

/// Files of this kind are no larger. A million users fit.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What a file holds, as `T`. A file that cannot be used leaves what was there before.
pub(super) struct Loaded<T> {
    path: PathBuf,
    parse: Parse<T>,
    current: RwLock<Current<T>>,
}

/// Reads the content of a file with this name; an error names the file, and the line where there is one.
type Parse<T> = Box<dyn Fn(&[u8], &str) -> Result<T, String> + Send + Sync>;

struct Current<T> {
    content: Arc<T>,
    /// Of the bytes it was made from.
    hash: digest::Digest,
}

impl<T> Loaded<T> {
    /// Reads `path`.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn new(
        path: &Path,
        parse: impl Fn(&[u8], &str) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let bytes = read(path)?;
        let current = Current { content: Arc::new(parse(&bytes, &path.display().to_string())?), hash: hash(&bytes) };
        Ok(Self { path: path.to_owned(), parse: Box::new(parse), current: RwLock::new(current) })
    }

    /// The content in force.
    pub(super) fn get(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).content)
    }

    /// Where it comes from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file still says what is in force.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn is_current(&self) -> Result<bool, String> {
        let hash = hash(&read(&self.path)?);
        Ok(self.current.read().unwrap_or_else(PoisonError::into_inner).hash.as_ref() == hash.as_ref())
    }

    /// Reads the file again; whether it has changed.
    ///
    /// # Errors
    /// What is wrong with the file. What was there before stays in force.
    pub(super) fn reload(&self) -> Result<bool, String> {
        let bytes = read(&self.path)?;
        let hash = hash(&bytes);
        let is_same = self.current.read().unwrap_or_else(PoisonError::into_inner).hash.as_ref() == hash.as_ref();
        if is_same {
            return Ok(false);
        }
        let content = Arc::new((self.parse)(&bytes, &self.path.display().to_string())?);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, Current { content, hash });
        drop(current); // The old content is freed without the lock.
        drop(old);
        Ok(true)
    }
}

fn hash(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let fail = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let length = std::fs::metadata(path).map_err(fail)?.len();
    if length > BYTES_MAX {
        return Err(format!("{} is too large: {length} bytes, at most {BYTES_MAX} are read", path.display()));
    }
    std::fs::read(path).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Directory;
    use super::*;

    fn numbers(bytes: &[u8], name: &str) -> Result<u32, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| format!("{name}: no text"))?;
        text.trim().parse().map_err(|error| format!("{name}:1: {error}"))
    }

    #[test]
    fn a_file_that_cannot_be_used_leaves_what_was_there() {
        let directory = Directory::new();
        let path = directory.write("number", "1");
        let loaded = Loaded::new(&path, numbers).unwrap();
        assert_eq!(loaded.reload(), Ok(false));
        directory.write("number", "2");
        assert_eq!((loaded.reload(), *loaded.get()), (Ok(true), 2));
        directory.write("number", "two");
        let error = loaded.reload().unwrap_err();
        assert!(error.starts_with(&format!("{}:1: ", path.display())), "{error}");
        assert_eq!(*loaded.get(), 2);
        std::fs::remove_file(&path).unwrap();
        assert!(loaded.reload().unwrap_err().starts_with("cannot read "));
        assert_eq!(*loaded.get(), 2);
        directory.write("number", "3");
        assert_eq!((loaded.reload(), *loaded.get()), (Ok(true), 3));
    }

    #[test]
    fn without_a_file_there_is_no_beginning() {
        let missing = Directory::new().path.join("missing");
        assert!(Loaded::new(&missing, numbers).is_err());
    }
}
