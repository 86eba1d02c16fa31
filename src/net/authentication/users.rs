//! The names of the machine's users, by their numbers.

use std::collections::HashMap;

/// What `/etc/passwd` says; of a number with several names it is the first, as everywhere.
///
/// Users who are known to a directory service alone are not in that file; they go by their number.
#[derive(Debug, Default)]
pub(super) struct Users {
    names: HashMap<u32, Box<str>>,
}

impl Users {
    /// Reads the content of `/etc/passwd`. Lines that are not understood are left out: they are not ours to judge.
    pub(super) fn parse(content: &[u8]) -> Self {
        let mut users = Self::default();
        for line in content.split(|&byte| byte == b'\n') {
            let mut fields = std::str::from_utf8(line).unwrap_or_default().split(':');
            if let (Some(name), Some(_password), Some(uid)) = (fields.next(), fields.next(), fields.next())
                && let Ok(uid) = uid.parse()
                && !name.is_empty()
            {
                users.names.entry(uid).or_insert_with(|| name.into());
            }
        }
        users
    }

    /// The name of the user with this number, or `uid:<number>`.
    pub(super) fn name(&self, uid: u32) -> Box<str> {
        self.names.get(&uid).cloned().unwrap_or_else(|| format!("uid:{uid}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_first_name_that_the_file_gives_it() {
        let content = b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n# note\nbroken:x\n:x:7:7::/:\nanna:x:1000:1000::/:\n\xFF:x:8:8::/:\n";
        let users = Users::parse(content);
        for (uid, name) in [(0, "root"), (1000, "anna"), (7, "uid:7"), (8, "uid:8"), (u32::MAX, "uid:4294967295")] {
            assert_eq!(&*users.name(uid), name);
        }
    }
}
