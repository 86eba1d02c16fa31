//! The configuration, and the files that it names.

use std::time::{Duration, SystemTime};

use crate::cli::doctor::facts::{Certificate, NamedFile};
use crate::cli::doctor::finding::Finding;

const DAY: Duration = Duration::from_secs(86_400);
/// A certificate that ends within this many days is to be renewed.
const DAYS_LEFT: u64 = 30;

/// Whether the configuration can be loaded, and what it names be used: `problems` is what the start would say.
pub(in crate::cli::doctor) fn configuration(name: Option<&str>, problems: &[String]) -> Vec<Finding> {
    let subject = "configuration";
    let shown = name.unwrap_or("no file: all settings have their defaults, and the environment's");
    if problems.is_empty() {
        return vec![Finding::fine(subject, shown)];
    }
    let file = name.map_or(String::new(), |name| format!(" --config {name}"));
    problems.iter().map(|problem| Finding::wrong(subject, problem.as_str(), format!("willowmq check{file}"))).collect()
}

/// How long a certificate is valid.
pub(in crate::cli::doctor) fn certificate(certificate: &Certificate, now: SystemTime) -> Finding {
    let subject = "certificate";
    let shown = certificate.path.display();
    let renew =
        format!("renew it in place; WillowMQ reads it again within security.reload_interval, or on SIGHUP: {shown}");
    let (from, until) = match &certificate.validity {
        Ok(validity) => *validity,
        Err(problem) => return Finding::wrong(subject, problem.as_str(), ""),
    };
    let Ok(left) = until.duration_since(now) else {
        return Finding::wrong(subject, format!("{shown} has expired: clients turn away"), renew);
    };
    let days = left.as_secs() / DAY.as_secs();
    match () {
        () if from > now => Finding::wrong(
            subject,
            format!("{shown} is not valid yet: clients turn away"),
            "date   # is the clock right?",
        ),
        () if days < DAYS_LEFT => Finding::better(subject, format!("{shown} ends in {days} days"), renew),
        () => Finding::fine(subject, format!("{shown} is valid for {days} more days")),
    }
}

/// Who may read and write a file.
pub(in crate::cli::doctor) fn permissions(file: &NamedFile) -> Option<Finding> {
    const OF_OTHERS: (u32, u32) = (0o004, 0o002);
    let NamedFile { path, what, mode, is_secret } = file;
    let (subject, shown, mode) = ("permissions", path.display(), (*mode)?);
    if mode & OF_OTHERS.1 != 0 {
        let said = format!("anybody on this machine can change {shown} ({what}), and so come in as whoever they like");
        return Some(Finding::wrong(subject, said, format!("chmod o= {shown}")));
    }
    if *is_secret && mode & OF_OTHERS.0 != 0 {
        let said = format!("anybody on this machine can read {shown} ({what})");
        let advice = format!("chown root:willowmq {shown} && chmod 640 {shown}");
        return Some(Finding::better(subject, said, advice));
    }
    Some(Finding::fine(subject, format!("{shown} ({what}): {mode:03o}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Verdict;

    #[test]
    fn a_configuration_that_cannot_be_used_is_wrong_with_every_problem() {
        assert_eq!(configuration(Some("a.toml"), &[])[0], Finding::fine("configuration", "a.toml"));
        let findings = configuration(Some("a.toml"), &["one".into(), "two".into()]);
        assert_eq!(findings[1], Finding::wrong("configuration", "two", "willowmq check --config a.toml"));
    }

    #[test]
    fn certificates_are_renewed_in_time() {
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let of = |from: u32, until: u32| {
            let at = |day: u32| SystemTime::UNIX_EPOCH + day * DAY;
            certificate(&Certificate { path: "c.pem".into(), validity: Ok((at(from), at(until))) }, now)
        };
        assert_eq!(of(19_000, 20_100), Finding::fine("certificate", "c.pem is valid for 100 more days"));
        assert_eq!(
            (of(19_000, 20_029).verdict, of(19_000, 20_029).said.as_str()),
            (Verdict::Better, "c.pem ends in 29 days")
        );
        assert_eq!(of(19_000, 19_999).verdict, Verdict::Wrong);
        assert!(of(20_001, 20_400).said.contains("not valid yet"));
        let broken = Certificate { path: "c.pem".into(), validity: Err("c.pem: is no PEM".into()) };
        assert_eq!(certificate(&broken, now).verdict, Verdict::Wrong);
    }

    #[test]
    fn secrets_are_not_for_everybody() {
        let of = |mode, is_secret| {
            permissions(&NamedFile { path: "p".into(), what: "passwords", mode, is_secret })
                .map(|finding| finding.verdict)
        };
        assert_eq!(of(Some(0o640), true), Some(Verdict::Fine));
        assert_eq!(of(Some(0o644), true), Some(Verdict::Better));
        assert_eq!(of(Some(0o644), false), Some(Verdict::Fine));
        assert_eq!(of(Some(0o666), false), Some(Verdict::Wrong));
        assert_eq!(of(None, true), None, "that it is not there is said elsewhere");
    }
}
