//! Who may come in at a listener, and what clients may do.

use super::draft::{Draft, Entry, Table, Weight, list_of, quoted};
use super::listeners::{Listener, NAMES_OF_CERTIFICATES};
use super::source::{Section, Setting};
use Weight::{Differs, Lost, Needless};

/// Who may come in at a listener.
pub(super) struct Who {
    pub(super) anonymous: Entry,
    pub(super) authenticators: Entry,
    /// Whether clients show certificates.
    pub(super) certificates: bool,
}

/// Settles who may come in. The result can always be loaded, and lets in nobody whom Mosquitto would have turned away.
pub(super) fn who(
    listener: &Listener,
    security: &Section,
    is_local: bool,
    users: &mut Users,
    draft: &mut Draft,
) -> Who {
    let plugin = security.get("plugin").or_else(|| security.get("auth_plugin"));
    let anonymous = match security.get("allow_anonymous") {
        _ if plugin.is_some() => Entry::new("anonymous", false).because("A plugin decided who may come in."),
        Some(setting) => Entry::from("anonymous", setting.flag(), setting),
        None if is_local => Entry::new("anonymous", true).because("Mosquitto's default while it has no listener."),
        None => Entry::new("anonymous", false).because("Mosquitto's default for a listener."),
    };
    if let Some(plugin) = plugin {
        let text = "WillowMQ has no plugins. Ask the service behind it by an authenticator of kind \"http\", or take a password file; \
                    see docs/AUTHENTICATION.md";
        draft.note_of(Lost, plugin, text);
    }
    let [identity, subject] =
        NAMES_OF_CERTIFICATES.map(|name| listener.section.get(name).filter(|setting| setting.flag()));
    if let Some(setting) = subject {
        let text = "the User Name is the Common Name of the certificate, not its whole subject: rights and topics that name it change";
        draft.note_of(Lost, setting, text);
    }
    let certificates = listener.asks_for_certificates();
    if let Some(setting) = identity.or(subject) {
        let anonymous = Entry::new("anonymous", false);
        if certificates {
            let authenticators = Entry::from("authenticators", list_of(users.certificates()), setting);
            return Who { anonymous, authenticators, certificates };
        }
        let text =
            "no client can show a certificate here, so nobody could come in, and nobody can until there are users";
        draft.note_of(Differs, setting, text);
        let authenticators = Entry::new("authenticators", list_of(users.missing()));
        return Who { anonymous, authenticators: authenticators.because("Its file is yet to be made."), certificates };
    }
    let authenticators = match security.get("password_file") {
        Some(setting) => Entry::from("authenticators", list_of(&users.passwords(setting)), setting),
        // Nobody is asked who they are, whatever they say.
        None if anonymous.value == "true" => Entry::new("authenticators", "[]"),
        None => {
            if plugin.is_none() {
                let at = listener.at.as_ref().map(|at| &at.at);
                let text = "nothing tells which User Names and passwords are right. Mosquitto believes any User Name here; WillowMQ \
                            lets nobody in until there are users: `willowmq passwd add --file FILE USER`";
                draft.note(Differs, at, text);
            }
            Entry::new("authenticators", list_of(users.missing())).because("Its file is yet to be made.")
        }
    };
    Who { anonymous, authenticators, certificates }
}

/// The authenticators that listeners need.
#[derive(Default)]
pub(super) struct Users {
    /// Password files with the names of their authenticators.
    files: Vec<(Setting, String)>,
    has_certificates: bool,
    is_missing: bool,
}

impl Users {
    fn passwords(&mut self, setting: &Setting) -> String {
        if let Some((_, name)) = self.files.iter().find(|(file, _)| file.value == setting.value) {
            return name.clone();
        }
        let number = self.files.len() + 1;
        let name = if number == 1 { "users".to_owned() } else { format!("users-{number}") };
        self.files.push((setting.clone(), name.clone()));
        name
    }

    fn certificates(&mut self) -> &'static str {
        self.has_certificates = true;
        "certificates"
    }

    pub(super) fn missing(&mut self) -> &'static str {
        self.is_missing = true;
        "new-users"
    }

    pub(super) fn write(self, draft: &mut Draft) {
        let mut push = |name: &str, kind: &str, last: Entry, comments: Vec<String>| {
            let entries = vec![Entry::new("name", quoted(name)), Entry::new("kind", quoted(kind)), last];
            draft.push(Table { header: "[[authenticators]]", comments, entries });
        };
        for (setting, name) in &self.files {
            let comments = vec!["Files of mosquitto_passwd are read as they are.".to_owned()];
            push(name, "password", Entry::from("file", quoted(&setting.value), setting), comments);
        }
        if self.has_certificates {
            push("certificates", "certificate", Entry::new("username_from", quoted("cn")), Vec::new());
        }
        if self.is_missing {
            let comments = vec!["Make it by `willowmq passwd add --file /etc/willowmq/passwords USER`.".to_owned()];
            push("new-users", "password", Entry::new("file", quoted("/etc/willowmq/passwords")), comments);
        }
    }
}

/// The rights file. Ours is one for all listeners.
pub(super) fn rights(places: &[Section], draft: &mut Draft) {
    let files: Vec<_> = places.iter().filter_map(|place| place.get("acl_file")).collect();
    if let Some(first) = files.first() {
        draft.set("[security]", Entry::from("rights_file", quoted(&first.value), first));
        draft.set("[security]", Entry::new("rights_format", quoted("mosquitto")));
        for other in files.iter().filter(|file| file.value != first.value) {
            let text = format!(
                "rights are the same on all listeners, and {} has them; bring the two files together",
                first.value
            );
            draft.note_of(Lost, other, &text);
        }
        if files.len() < places.len() {
            draft.note_of(Differs, first, "it is about the clients of all listeners: those of listeners that had none may do no more than it says, either");
        }
        if places.iter().all(|place| place.get("password_file").is_none()) {
            draft.note_of(
                Differs,
                first,
                "its lines behind `user` are about User Names that were proven, not about those that anybody claims",
            );
        }
    }
    for place in places {
        if let Some(setting) = place.get("psk_file") {
            draft.note_of(Lost, setting, "WillowMQ has no TLS with pre-shared keys: use certificates or passwords");
        }
    }
}

/// Client Identifiers that the broker chooses.
pub(super) fn client_ids(places: &[Section], draft: &mut Draft) {
    let said: Vec<_> = places.iter().filter_map(|place| place.get("allow_zero_length_clientid")).collect();
    if let Some(last) = said.last() {
        draft.set("[features]", Entry::from("assigned_client_ids", last.flag(), last));
        for other in said.iter().filter(|other| other.flag() != last.flag()) {
            draft.note_of(Lost, other, "it is the same for all listeners");
        }
    }
    for place in places {
        if let Some(setting) = place.get("auto_id_prefix") {
            draft.note_of(Lost, setting, "Client Identifiers that the broker chooses have no prefix");
        }
        if let Some(setting) = place.get("auth_plugin_deny_special_chars") {
            draft.note_of(Needless, setting, "placeholders in rights never take + or #");
        }
    }
}
