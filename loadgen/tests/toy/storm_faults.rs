//! `storm` with a broker that does one thing wrong.

use crate::faults::{Faults, each, from, once};
use crate::run::{all_found, fault, permitted};
use crate::storm::storm;

const CORRECT: Fn = Faults::default;
type Fn = fn() -> Faults;

#[test]
fn each_thing_that_goes_wrong_with_wills_is_told() {
    all_found(&[
        fault(
            Faults { will_of_returned: once(5), ..CORRECT() },
            storm!("--will-delay 1s --reconnect 50% --after 300ms"),
            &["wills_of_returned"],
        ),
        fault(Faults { will_of_connected: once(5), ..CORRECT() }, storm!(""), &["wills_of_connected"]),
        fault(
            Faults { will_after_disconnect: once(5), ..CORRECT() },
            storm!("--fraction 40%"),
            &["wills_of_connected"],
        ),
        fault(
            Faults { will_after_disconnect: once(5), ..CORRECT() },
            storm!("--how takeover --mqtt 3.1.1"),
            &["wills_of_connected"],
        ),
        fault(
            Faults { early_will: once(5), ..CORRECT() },
            storm!("--will-delay 1s --reconnect 100% --after 300ms"),
            &["wills_early"],
        ),
        // Those who come back later than their will was due do not take it along.
        fault(Faults { drop_will: each(100), ..CORRECT() }, storm!("--reconnect 100% --after 600ms"), &["wills_lost"]),
        fault(
            Faults { repeat_will: each(100), ..CORRECT() },
            storm!("--will-delay 1s --reconnect 100% --after 1600ms"),
            &["wills_repeated"],
        ),
        fault(Faults { drop_message: each(100), ..CORRECT() }, storm!("--watchers 2"), &["wills_lost"]),
        fault(Faults { drop_will: each(100), ..CORRECT() }, storm!("--how takeover"), &["wills_lost"]),
        fault(Faults { drop_will: each(100), ..CORRECT() }, storm!("--how silent --keep-alive 2s"), &["wills_lost"]),
        permitted(Faults { drop_message: each(100), ..CORRECT() }, storm!("--will-qos 0"), &["wills_lost"]),
        fault(Faults { drop_message: each(100), ..CORRECT() }, storm!("--will-qos 0 --strict"), &["wills_lost"]),
        fault(Faults { repeat_message: once(50), ..CORRECT() }, storm!("--will-qos 0"), &["wills_repeated"]),
        permitted(Faults { repeat_with_dup: once(50), ..CORRECT() }, storm!(""), &["wills_repeated_dup"]),
        fault(
            Faults { repeat_with_dup: once(50), ..CORRECT() },
            storm!("--will-qos 2 --watcher-qos 2"),
            &["wills_repeated"],
        ),
        // Nothing orders the wills of several clients.
        permitted(Faults { swap_messages: each(7), ..CORRECT() }, storm!("--watchers 1"), &[]),
        fault(Faults { flip_last_byte: once(50), ..CORRECT() }, storm!(""), &["wills_lost", "wills_altered"]),
        fault(
            Faults { flip_first_byte: once(50), ..CORRECT() },
            storm!("--will-qos 0"),
            &["wills_lost", "wills_altered"],
        ),
        fault(
            Faults { flip_first_byte: once(50), ..CORRECT() },
            storm!("--topic-prefix shared/with/others"),
            &["wills_lost", "wills_foreign"],
        ),
        fault(Faults { wrong_topic: once(50), ..CORRECT() }, storm!(""), &["wills_lost", "wills_misdirected"]),
        fault(Faults { wrong_qos: once(50), ..CORRECT() }, storm!(""), &["wills_lost", "wills_misdirected"]),
        fault(Faults { retain_flag_on_live: once(50), ..CORRECT() }, storm!(""), &["wills_retain_flag"]),
        fault(Faults { deliver_to_stranger: once(50), ..CORRECT() }, storm!("--fraction 40%"), &["wills_misdirected"]),
        fault(Faults { malformed_packet: once(300), ..CORRECT() }, storm!(""), &["disconnected", "wills_lost"]),
        fault(Faults { no_connack: once(350), ..CORRECT() }, storm!("--how takeover"), &["refused"]),
        fault(
            Faults { no_connack: once(350), ..CORRECT() },
            storm!("--will-delay 1s --reconnect 50% --after 300ms"),
            &["refused", "wills_lost"],
        ),
        fault(Faults { refuse_connect: once(350), ..CORRECT() }, storm!("--how takeover"), &["refused", "wills_lost"]),
        fault(
            Faults { refuse_connect: once(302), ..CORRECT() },
            storm!("--will-retain"),
            &["retained_missing", "refused"],
        ),
    ]);
}

#[test]
fn retained_wills_and_ordinary_traffic_are_checked_as_well() {
    // The first deliveries are those of ordinary traffic, before the storm.
    macro_rules! beside {
        ($rest:literal) => {
            concat!("storm --clients 50 --before 200ms --afterwards 20ms --background 500 ", $rest)
        };
    }
    all_found(&[
        fault(Faults { forget_retained: once(50), ..CORRECT() }, storm!("--will-retain"), &["retained_missing"]),
        fault(Faults { repeat_retained: once(50), ..CORRECT() }, storm!("--will-retain"), &["retained_repeated"]),
        fault(Faults { no_retain_flag: once(50), ..CORRECT() }, storm!("--will-retain"), &["retained_flag"]),
        fault(
            Faults { flip_retained: once(50), ..CORRECT() },
            storm!("--will-retain"),
            &["retained_missing", "retained_altered"],
        ),
        fault(
            Faults { retained_at_wrong_topic: once(50), ..CORRECT() },
            storm!("--will-retain"),
            &["retained_missing", "retained_misdirected"],
        ),
        fault(
            Faults { retain_will_of_connected: from(300), ..CORRECT() },
            storm!("--will-retain --fraction 40%"),
            &["retained_unexpected"],
        ),
        fault(Faults { drop_message: once(9), ..CORRECT() }, beside!("--background-qos 1"), &["lost"]),
        permitted(Faults { drop_message: once(9), ..CORRECT() }, beside!("--background-qos 0"), &["lost"]),
        fault(Faults { drop_message: once(9), ..CORRECT() }, beside!("--background-qos 0 --strict"), &["lost"]),
        fault(Faults { repeat_message: once(9), ..CORRECT() }, beside!("--background-qos 2"), &["repeated"]),
        fault(Faults { swap_messages: once(9), ..CORRECT() }, beside!("--background-pairs 1"), &["disordered"]),
        fault(Faults { no_ack: once(9), ..CORRECT() }, beside!("--background-qos 1"), &["unacknowledged"]),
        fault(Faults { ack_twice: once(9), ..CORRECT() }, beside!("--background-qos 1"), &["background_lost"]),
    ]);
}
