//! Where the listeners of new settings stand in a running broker.
//!
//! A listener is the same as before when it is at the same place, whatever else has changed about it, and then it keeps its slot. One that
//! is gone leaves its slot closed, with its settings, for the connections that came through it; should it come back, it has the same slot.
//! What is new has a new slot. A slot is never given to another place: connections, and Sessions that wait for their clients, are known by it.

use crate::config::{Listener, ListenerKind, ListenerPlace, pair};

/// Slots of one process: so many places at which it has listened. Each is some hundred bytes for each shard.
const SLOTS_MAX: usize = 4096;

/// All slots, and which of them open and close.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Slots {
    /// What is at each, and whether it is to be open.
    pub(super) listeners: Vec<(Listener, bool)>,
    pub(super) opening: Vec<usize>,
    pub(super) closing: Vec<usize>,
}

/// There have been more places than there are slots.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// Gives each of the `asked` listeners its slot, beside those `before` and whether they are open.
///
/// # Errors
/// There are no slots left.
pub(super) fn assign(before: &[(&Listener, bool)], asked: &[Listener]) -> Result<Slots, TooMany> {
    // Several may be at one place where the kernel chooses the port. Those that are open come first.
    let mut order: Vec<usize> = (0..before.len()).collect();
    order.sort_by_key(|&slot| !before[slot].1);
    let known: Vec<_> = order.iter().map(|&slot| key(before[slot].0)).collect();
    let asked_for: Vec<_> = asked.iter().map(key).collect();
    let mut listeners: Vec<_> = before.iter().map(|&(listener, _)| (listener.clone(), false)).collect();
    for (listener, of_order) in asked.iter().zip(pair(&known, &asked_for)) {
        match of_order {
            Some(at) => listeners[order[at]] = (listener.clone(), true),
            None => listeners.push((listener.clone(), true)),
        }
    }
    if listeners.len() > SLOTS_MAX {
        return Err(TooMany);
    }
    let was_open = |slot: &usize| before.get(*slot).is_some_and(|&(_, is_open)| is_open);
    let is_open = |slot: &usize| listeners[*slot].1;
    Ok(Slots {
        opening: (0..listeners.len()).filter(|slot| is_open(slot) && !was_open(slot)).collect(),
        closing: (0..listeners.len()).filter(|slot| !is_open(slot) && was_open(slot)).collect(),
        listeners,
    })
}

/// What makes a listener the same. A socket of systemd is of one family, so that another kind may need another one.
fn key(listener: &Listener) -> (ListenerPlace<'_>, bool) {
    (listener.place(), listener.kind == ListenerKind::Unix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(port: u16) -> Listener {
        Listener { address: ([127, 0, 0, 1], port).into(), ..Listener::default() }
    }

    /// What follows from asking for these ports, one reload after the other.
    fn after(reloads: &[&[u16]]) -> Slots {
        let mut slots = Slots::default();
        for ports in reloads {
            let before: Vec<_> = slots.listeners.iter().map(|(listener, is_open)| (listener, *is_open)).collect();
            let asked: Vec<_> = ports.iter().map(|&port| at(port)).collect();
            slots = assign(&before, &asked).unwrap();
        }
        slots
    }

    fn open_ports(slots: &Slots) -> Vec<Option<u16>> {
        slots.listeners.iter().map(|(listener, is_open)| is_open.then_some(listener.address.port())).collect()
    }

    #[test]
    fn who_is_gone_leaves_its_slot_and_has_it_again_when_it_comes_back() {
        let gone = after(&[&[1, 2], &[2, 3]]);
        assert_eq!(open_ports(&gone), [None, Some(2), Some(3)]);
        assert_eq!((gone.opening, gone.closing), (vec![2], vec![0]));
        let back = after(&[&[1, 2], &[2, 3], &[3, 1]]);
        assert_eq!(open_ports(&back), [Some(1), None, Some(3)]);
        assert_eq!((back.opening, back.closing), (vec![0], vec![1]));
    }

    #[test]
    fn other_settings_at_the_same_place_neither_open_nor_close_anything() {
        let before = at(1);
        let asked = [Listener { kind: ListenerKind::Tls, backlog: 9, ..at(1) }];
        let slots = assign(&[(&before, true)], &asked).unwrap();
        assert_eq!(slots, Slots { listeners: vec![(asked[0].clone(), true)], opening: vec![], closing: vec![] });
    }

    #[test]
    fn a_socket_of_systemd_is_another_one_for_another_family() {
        let of = |kind| Listener { kind, systemd: Some("mqtt".into()), ..Listener::default() };
        let before = of(ListenerKind::Tcp);
        let change = |kind| assign(&[(&before, true)], &[of(kind)]).unwrap().opening;
        assert_eq!((change(ListenerKind::Tls), change(ListenerKind::Unix)), (vec![], vec![1]));
    }

    #[test]
    fn slots_are_bounded() {
        let before = vec![at(1); SLOTS_MAX];
        let before: Vec<_> = before.iter().map(|listener| (listener, false)).collect();
        assert_eq!(assign(&before, &[at(1)]).map(|slots| slots.opening), Ok(vec![0]));
        assert_eq!(assign(&before, &[at(2)]), Err(TooMany));
    }

    proptest! {
        #[test]
        fn a_slot_is_always_that_of_one_place(reloads in prop::collection::vec(prop::collection::vec(0u16..4, 0..5), 1..8)) {
            let mut slots = Slots::default();
            for ports in &reloads {
                let before: Vec<_> = slots.listeners.iter().map(|(listener, is_open)| (listener, *is_open)).collect();
                let asked: Vec<_> = ports.iter().map(|&port| at(port)).collect();
                let next = assign(&before, &asked).unwrap();
                let mut open: Vec<_> = open_ports(&next).into_iter().flatten().collect();
                let mut wanted = ports.clone();
                open.sort_unstable();
                wanted.sort_unstable();
                prop_assert_eq!(open, wanted, "all that is asked for is open, and nothing else");
                for (old, new) in before.iter().zip(&next.listeners) {
                    prop_assert_eq!(old.0.address, new.0.address);
                }
                for (slot, (_, is_open)) in next.listeners.iter().enumerate() {
                    let was_open = before.get(slot).is_some_and(|before| before.1);
                    prop_assert_eq!(next.opening.contains(&slot), *is_open && !was_open);
                    prop_assert_eq!(next.closing.contains(&slot), !*is_open && was_open);
                }
                slots = next;
            }
        }
    }
}
