//! The settings that are about the whole broker.

use super::draft::{Draft, Entry, Weight, quoted};
use super::source::{Section, Setting, Source};
use Weight::{Differs, Lost, Needless};

/// Where the package keeps its data.
const DATA_DIR: &str = "/var/lib/willowmq";
/// Where Debian has Mosquitto keep its database.
const MOSQUITTO_DIR: &str = "/var/lib/mosquitto";
/// The largest packet that MQTT knows.
const PACKET_BYTES_MAX: i64 = 1 + 4 + 268_435_455;
/// What a PUBLISH holds beside its payload at most: the topic, and properties of as much.
const PACKET_OVERHEAD: i64 = 2 * 65_536;
/// The least that memory_limit takes.
const MEMORY_MIN: i64 = 64 << 20;
/// The most that it takes.
const MEMORY_MAX: i64 = 1 << 50;

/// Translates them.
pub(super) fn translate(source: &Source, draft: &mut Draft) {
    persistence(&source.global, draft);
    log(&source.global, draft);
    queues(&source.global, draft);
    packets(&source.global, draft);
    others(&source.global, draft);
    for bridge in &source.bridges {
        let opening = bridge.opening.as_ref().expect("a bridge begins with its line");
        let text = "WillowMQ has no bridges. Keep Mosquitto running as the bridge, as a client of both brokers";
        draft.note_of(Lost, opening, text);
    }
}

fn persistence(global: &Section, draft: &mut Draft) {
    match global.get("persistence") {
        Some(setting) if setting.flag() => {
            let entry = Entry::from("durability", quoted("sync"), setting).because(
                "Mosquitto writes its database now and then; this is on the disk before it is acknowledged. \"relaxed\" is faster, and \
                 loses at most the last 100 ms when the power ends.",
            );
            draft.set("", entry);
            let text = "what is in mosquitto.db is not taken over: sessions, queued messages and retained messages begin anew. \
                        docs/MIGRATION.md says how retained messages are brought over";
            draft.note(Differs, Some(&setting.at), text);
        }
        said => {
            let entry = match said {
                Some(setting) => Entry::from("durability", quoted("memory"), setting),
                None => Entry::new("durability", quoted("memory")).because("Mosquitto's default: persistence false."),
            };
            let comment = "Nothing survives a restart, as with Mosquitto. Without this line everything does.";
            draft.set("", entry.because(comment));
        }
    }
    let entry = match global.get("persistence_location") {
        Some(setting) if setting.value.trim_end_matches('/') != MOSQUITTO_DIR => {
            let directory = format!("{}/willowmq", setting.value.trim_end_matches('/'));
            let text = "the data are kept in a folder of their own within it. The systemd unit must be allowed to write there: \
                        ReadWritePaths=";
            draft.note_of(Differs, setting, text);
            Entry::from("data_dir", quoted(&directory), setting)
        }
        Some(setting) => Entry::from("data_dir", quoted(DATA_DIR), setting),
        None => Entry::new("data_dir", quoted(DATA_DIR)).because("Where the package keeps its data."),
    };
    draft.set("", entry);
    for name in ["autosave_interval", "autosave_on_changes", "persistence_file"] {
        needless(global, draft, name, "what is to be kept is written at once, to files of our own");
    }
}

fn log(global: &Section, draft: &mut Draft) {
    let types: Vec<_> = global.settings.iter().filter(|setting| setting.name == "log_type").collect();
    if let Some(first) = types.first() {
        let level_of = |setting: &&Setting| match setting.value.as_str() {
            "error" => 1,
            "warning" => 2,
            "notice" | "information" | "subscribe" | "unsubscribe" | "websockets" => 3,
            "debug" | "all" => 4,
            _ => 0, // none
        };
        let level = types.iter().map(level_of).max().unwrap_or_default();
        let mut entry = Entry::from("level", quoted(["off", "error", "warn", "info", "debug"][level]), first);
        entry.comments.extend(types[1..].iter().map(|more| format!("{}: {} {}", more.at, more.name, more.value)));
        draft.set("[log]", entry);
    }
    let mut is_set = false;
    for setting in global.settings.iter().filter(|setting| setting.name == "log_dest") {
        let (target, file) = match setting.value.split_once(' ').unwrap_or((&setting.value, "")) {
            ("file", path) => ("file", Some(path.trim())),
            ("stderr" | "stdout", _) => ("stderr", None),
            ("syslog", _) => ("journald", None),
            ("none", _) => {
                draft.note_of(Differs, setting, "the log goes to standard error; level = \"off\" in [log] silences it");
                continue;
            }
            _ => {
                draft.note_of(Lost, setting, "WillowMQ logs to standard error, a file or systemd's journal");
                continue;
            }
        };
        if is_set {
            draft.note_of(Lost, setting, "the log goes to one place, and there is one already");
            continue;
        }
        is_set = true;
        draft.set("[log]", Entry::from("target", quoted(target), setting));
        if let Some(path) = file {
            draft.set("[log]", Entry::new("file", quoted(&path.replace("/mosquitto", "/willowmq"))));
            if path.contains("/mosquitto") {
                draft.note_of(Differs, setting, "the file is named after WillowMQ, so that both brokers can be there");
            }
        }
    }
    needless(global, draft, "log_timestamp", "every line has its time");
    needless(global, draft, "log_timestamp_format", "every line has its time, as RFC 3339 has it");
    needless(global, draft, "log_facility", "systemd's journal knows the unit");
    if let Some(setting) = global.get("connection_messages") {
        draft.note_of(
            Needless,
            setting,
            "[presence] tells who connects and disconnects, and so does level = \"debug\"",
        );
    }
}

fn queues(global: &Section, draft: &mut Draft) {
    let unlimited = |number: i64, most: i64| if number <= 0 { most } else { number.min(most) };
    if let Some(setting) = global.get("max_queued_messages") {
        let number = unlimited(setting.number(), i64::from(u32::MAX));
        draft.set("[sessions]", Entry::from("queue_messages_max", number, setting));
    }
    if let Some(setting) = global.get("max_queued_bytes") {
        let bytes = unlimited(setting.number(), 1 << 40).max(1024);
        draft.set("[sessions]", Entry::from("queue_bytes_max", size(bytes), setting));
    }
    if let Some(setting) = global.get("persistent_client_expiration") {
        match span(&setting.value) {
            Some(seconds) => {
                let value = quoted(&format!("{seconds}s"));
                draft.set("[sessions]", Entry::from("expiry_3x", &value, setting));
                draft.set("[sessions]", Entry::new("expiry_max", value).because("The same for MQTT 5.0."));
            }
            None => draft.note_of(Lost, setting, "this is no number with h, d, w, m or y behind it"),
        }
    }
    if let Some(setting) = global.get("max_inflight_messages") {
        let number = unlimited(setting.number(), 65_535);
        draft.set("[limits]", Entry::from("inflight_max", number, setting));
        draft.set("[limits]", Entry::new("receive_maximum", number).because("Mosquitto means both directions."));
    }
    if let Some(setting) = global.get("max_inflight_bytes").filter(|setting| setting.number() > 0) {
        draft.note_of(Lost, setting, "what is in flight is bounded by its number alone: limits.inflight_max");
    }
    if let Some(setting) = global.get("queue_qos0_messages").filter(|setting| setting.flag()) {
        draft.note_of(Lost, setting, "QoS 0 messages are not kept for clients that are away; publish with QoS 1");
    }
    if let Some(setting) = global.get("upgrade_outgoing_qos").filter(|setting| setting.flag()) {
        draft.note_of(
            Lost,
            setting,
            "a message is delivered with the lower QoS of publication and subscription, as MQTT has it",
        );
    }
}

fn packets(global: &Section, draft: &mut Draft) {
    let limits = ["max_packet_size", "message_size_limit"].map(|name| global.get(name).filter(|one| one.number() > 0));
    let entry = match limits {
        [Some(packet), _] => {
            let bytes = packet.number().clamp(128, PACKET_BYTES_MAX);
            Entry::from("packet_bytes_max", size(bytes), packet)
        }
        [None, Some(payload)] => {
            let bytes = (payload.number().saturating_add(PACKET_OVERHEAD)).clamp(128, PACKET_BYTES_MAX);
            Entry::from("packet_bytes_max", size(bytes), payload).because("With room for topic and properties.")
        }
        [None, None] => {
            let text = "Mosquitto takes packets of any size by default, WillowMQ those up to 1 MiB: raise packet_bytes_max in \
                        [limits] if there are larger ones";
            draft.note(Differs, None, text);
            return;
        }
    };
    draft.set("[limits]", entry);
    if let [Some(_), Some(payload)] = limits {
        draft.note_of(Lost, payload, "the size of whole packets is bounded: limits.packet_bytes_max");
    }
}

fn others(global: &Section, draft: &mut Draft) {
    if let Some(setting) = global.get("max_keepalive") {
        let number = if setting.number() <= 0 { 65_535 } else { setting.number().min(65_535) };
        draft.set("[limits]", Entry::from("keep_alive_max", number, setting));
    }
    if let Some(setting) = global.get("memory_limit").filter(|setting| setting.number() > 0) {
        if setting.number() < MEMORY_MIN {
            draft.note_of(Lost, setting, "memory_limit is at least 64 MiB, and the default is 75 % of the machine");
        } else {
            draft.set("", Entry::from("memory_limit", size(setting.number().min(MEMORY_MAX)), setting));
        }
    }
    if let Some(setting) = global.get("retain_available") {
        draft.set("[features]", Entry::from("retain", setting.flag(), setting));
    }
    if let Some(setting) = global.get("sys_interval") {
        let seconds = setting.number().clamp(0, 86_400);
        draft.set("[sys]", Entry::from("interval", quoted(&format!("{seconds}s")), setting));
    }
    if let Some(setting) = global.get("clientid_prefixes") {
        let text = "say it in a rights file of WillowMQ: rules with clients = [\"prefix*\"], see docs/SECURITY.md";
        draft.note_of(Lost, setting, text);
    }
    if let Some(setting) = global.get("check_retain_source").filter(|setting| !setting.flag()) {
        draft.note_of(Needless, setting, "whether a message may be published is checked when it is published");
    }
    if let Some(setting) = global.get("user") {
        draft.note_of(Needless, setting, "WillowMQ runs as who starts it: User= of the systemd unit");
    }
    needless(global, draft, "pid_file", "systemd knows the process");
    needless(global, draft, "set_tcp_nodelay", "it is always so");
    needless(global, draft, "allow_duplicate_messages", "Mosquitto itself ignores it since version 1.5");
    needless(global, draft, "retry_interval", "Mosquitto itself ignores it since version 1.5");
    needless(global, draft, "store_clean_interval", "Mosquitto itself ignores it since version 1.5");
    needless(global, draft, "websockets_log_level", "[log] level is about WebSocket as well");
    needless(global, draft, "websockets_headers_size", "requests of 8 KiB are taken");
}

fn needless(section: &Section, draft: &mut Draft, name: &str, why: &str) {
    if let Some(setting) = section.get(name) {
        draft.note_of(Needless, setting, why);
    }
}

/// A size as TOML has it, in the largest unit that it is a whole number of.
fn size(bytes: i64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")];
    let (factor, unit) = units.into_iter().find(|(factor, _)| bytes % factor == 0).unwrap_or((1, "B"));
    quoted(&format!("{}{unit}", bytes / factor))
}

/// Seconds of a time as Mosquitto writes it, such as `14d`; a month is thirty days.
fn span(text: &str) -> Option<u64> {
    let day = 86_400;
    let unit = text.chars().last()?;
    let factor = match unit {
        'h' => 3600,
        'd' => day,
        'w' => 7 * day,
        'm' => 30 * day,
        'y' => 365 * day,
        _ => return None,
    };
    let number: u64 = text[..text.len() - unit.len_utf8()].trim().parse().ok()?;
    Some(number.checked_mul(factor)?.clamp(1, u64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_mosquitto_writes_them() {
        for (text, seconds) in [
            ("2h", Some(7200)),
            ("14d", Some(14 * 86_400)),
            ("1w", Some(604_800)),
            ("2m", Some(60 * 86_400)),
            ("1y", Some(365 * 86_400)),
            ("999y", Some(u64::from(u32::MAX))),
            ("14", None),
            ("d", None),
            ("1é", None),
        ] {
            assert_eq!(span(text), seconds, "{text}");
        }
    }

    #[test]
    fn sizes_have_the_largest_unit_that_fits() {
        assert_eq!([size(1 << 20), size(1536), size(1000)], ["\"1MiB\"", "\"1536B\"", "\"1000B\""]);
    }
}
