//! Whose a Unix socket is to be: users and groups by name, from the files of the system.

use std::io;

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// User and group, as far as they are given.
pub(super) type Owner = (Option<u32>, Option<u32>);

/// The numbers of "user", "user:group" or ":group". Each can be a number itself, where the files do not have the name.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] where there is no such name.
pub(super) fn resolve(owner: &str) -> io::Result<Owner> {
    let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
    Ok((number_of(user, "user", USERS)?, number_of(group, "group", GROUPS)?))
}

fn number_of(name: &str, what: &str, file: &str) -> io::Result<Option<u32>> {
    if name.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let text = std::fs::read_to_string(file)?;
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("there is no {what} {name:?} in {file}"));
    find(&text, name).map(Some).ok_or_else(unknown)
}

/// The third field of the line whose first one is `name`: passwd(5) and group(5) agree in that.
fn find(text: &str, name: &str) -> Option<u32> {
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    text.lines().find_map(of_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_and_numbers_are_taken() {
        let text = "root:x:0:0:root:/root:/bin/sh\nbroken\nmqtt:x:998:997::/:/sbin/nologin\n";
        assert_eq!((find(text, "mqtt"), find(text, "root"), find(text, "mq")), (Some(998), Some(0), None));
        assert_eq!(find("mqtt:x:none:\nadm:x:4:syslog\n", "adm"), Some(4));
        assert_eq!(find("mqtt:x:none:\n", "mqtt"), None);
        assert_eq!(resolve("root").unwrap(), (Some(0), None));
        assert_eq!(resolve(":7").unwrap(), (None, Some(7)));
        assert_eq!(resolve("8:7").unwrap(), (Some(8), Some(7)));
        let unknown = resolve("nobody-of-this-name").expect_err("nobody is called so");
        assert_eq!(unknown.kind(), io::ErrorKind::NotFound);
        assert!(unknown.to_string().contains("/etc/passwd"), "{unknown}");
    }
}
