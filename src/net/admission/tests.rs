use super::*;

const NOW: Moment = Moment::from_micros(1_700_000_000_000_000);

fn gate(connections_max: usize, of_listeners: &[Option<u32>]) -> Arc<Gate> {
    let listener = |&connections_max: &Option<u32>| Listener { connections_max, ..Listener::default() };
    let config = Config { listeners: of_listeners.iter().map(listener).collect(), ..Config::default() };
    Arc::new(Gate::new(connections_max, &config))
}

fn is_welcome(admission: &Admission) -> bool {
    matches!(admission, Admission::Welcome(_))
}

#[test]
fn above_the_limit_some_are_told_and_the_others_are_not() {
    let gate = gate(2, &[None]);
    let mut admissions: Vec<_> = (0..2 + SURPLUS_MAX + 3).map(|_| gate.enter(0, None, NOW)).collect();
    assert!(admissions[..2].iter().all(is_welcome));
    assert!(admissions[2..2 + SURPLUS_MAX].iter().all(|admission| matches!(admission, Admission::Surplus(_))));
    assert!(admissions[2 + SURPLUS_MAX..].iter().all(|admission| matches!(admission, Admission::None)));
    // Those that are being told do not take the place of one that leaves.
    admissions.remove(0);
    let next = gate.enter(0, None, NOW);
    assert!(is_welcome(&next));
    assert!(matches!(gate.enter(0, None, NOW), Admission::None));
}

#[test]
fn a_listener_has_a_limit_of_its_own() {
    let gate = gate(100, &[Some(1), None]);
    let _first = gate.enter(0, None, NOW);
    assert!(matches!(gate.enter(0, None, NOW), Admission::Surplus(_)));
    assert!(is_welcome(&gate.enter(1, None, NOW)));
}

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn ticket(admission: Admission) -> Ticket {
    match admission {
        Admission::Welcome(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_address_has_so_many_connections_and_gets_a_place_back() {
    let mut config = Config::default();
    config.limits.connections_per_source_max = Some(2);
    let gate = Arc::new(Gate::new(100, &config));
    let (first, _second) = (gate.enter(0, Some(PEER), NOW), gate.enter(0, Some(PEER), NOW));
    assert!(matches!(gate.enter(0, Some(PEER), NOW), Admission::Objection));
    assert!(is_welcome(&gate.enter(0, Some(OTHER), NOW)));
    assert!(is_welcome(&gate.enter(0, None, NOW)), "a Unix socket has no address");
    drop(first);
    assert!(is_welcome(&gate.enter(0, Some(PEER), NOW)));
    assert_eq!(load(&gate.counters().source_connections), 1);
    assert_eq!(gate.all.now.load(Ordering::Relaxed), 1, "what was objected to is not counted");
}

#[test]
fn an_address_that_comes_too_fast_waits_for_a_token_and_one_that_is_told_to_wait_keeps_its_own() {
    let mut config = Config::default();
    config.limits.connection_rate_per_source_max = Some(1);
    let gate = Arc::new(Gate::new(1, &config));
    let first = gate.enter(0, Some(OTHER), NOW);
    assert!(matches!(gate.enter(0, Some(PEER), NOW), Admission::Surplus(_)), "the broker is full");
    drop(first);
    drop(ticket(gate.enter(0, Some(PEER), NOW)));
    assert!(matches!(gate.enter(0, Some(PEER), NOW), Admission::Objection));
    assert_eq!(load(&gate.counters().source_rate), 1);
    assert!(is_welcome(&gate.enter(0, Some(PEER), NOW + Duration::from_secs(1))));
}

#[test]
fn behind_a_proxy_the_address_of_the_client_counts_and_not_that_of_the_proxy() {
    let mut config = Config::default();
    config.limits.connections_per_source_max = Some(1);
    config.listeners = vec![Listener { proxy_protocol: true, ..Listener::default() }];
    let gate = Arc::new(Gate::new(100, &config));
    let mut tickets = [(); 3].map(|()| ticket(gate.enter(0, Some(PEER), NOW)));
    assert_eq!(gate.recognise(&mut tickets[0], OTHER, NOW), Ok(()));
    assert_eq!(gate.recognise(&mut tickets[1], OTHER, NOW), Err(Objection::TooMany));
    assert_eq!(gate.recognise(&mut tickets[2], PEER, NOW), Ok(()));
    drop(tickets);
    assert_eq!(gate.recognise(&mut ticket(gate.enter(0, None, NOW)), OTHER, NOW), Ok(()));
}

#[test]
fn an_address_that_fails_too_often_is_turned_away_for_a_while() {
    let mut config = Config::default();
    config.security.failures_max = 2;
    let gate = Arc::new(Gate::new(100, &config));
    let bad = ticket(gate.enter(0, Some(PEER), NOW));
    let local = ticket(gate.enter(0, None, NOW));
    gate.note_failure(bad.source(), NOW);
    assert!(!gate.is_banned(bad.source(), NOW));
    gate.note_failure(bad.source(), NOW);
    assert!(gate.is_banned(bad.source(), NOW));
    (0..5).for_each(|_| gate.note_failure(local.source(), NOW));
    assert!(!gate.is_banned(local.source(), NOW), "a Unix socket has no address to ban");
    assert!(matches!(gate.enter(0, Some(PEER), NOW), Admission::Objection));
    assert!(is_welcome(&gate.enter(0, Some(OTHER), NOW)));
    assert!(is_welcome(&gate.enter(0, Some(PEER), NOW + config.security.ban_time)));
    let counters = gate.counters();
    assert_eq!([&counters.failures, &counters.bans, &counters.banned].map(load), [7, 1, 1]);
}

#[test]
fn while_memory_is_short_few_at_a_time_are_heard() {
    let gate = gate(1000, &[None]);
    let _before = gate.enter(0, None, NOW);
    gate.set_pressure(Pressure::RefuseConnections);
    let mut tickets: Vec<_> = (0..SURPLUS_MAX).map(|_| ticket(gate.enter(0, None, NOW))).collect();
    assert!(matches!(gate.enter(0, None, NOW), Admission::None));
    tickets[0].end_probation();
    tickets.push(ticket(gate.enter(0, None, NOW)));
    assert!(matches!(gate.enter(0, None, NOW), Admission::None));
    gate.set_pressure(Pressure::None);
    assert!(is_welcome(&gate.enter(0, None, NOW)));
    drop(tickets);
    assert_eq!(gate.surplus.now.load(Ordering::Relaxed), 0);
    assert_eq!(gate.all.now.load(Ordering::Relaxed), 1);
    assert_eq!(load(&gate.counters().memory), 2);
}

#[test]
fn whoever_finds_the_broker_full_and_short_of_memory_gives_back_one_place() {
    let gate = gate(1, &[None]);
    let first = gate.enter(0, None, NOW);
    gate.set_pressure(Pressure::ShedQos0);
    let second = gate.enter(0, None, NOW);
    assert!(matches!(second, Admission::Surplus(_)));
    drop((first, second));
    assert_eq!((gate.surplus.now.load(Ordering::Relaxed), gate.all.now.load(Ordering::Relaxed)), (0, 0));
}

fn gate_for_users(entries: &[(&str, Option<u32>)]) -> Arc<Gate> {
    let entry = |&(users, connections_max): &(&str, Option<u32>)| Identities {
        users: vec![users.into()],
        connections_max,
        ..Identities::default()
    };
    let config = Config { identities: entries.iter().map(entry).collect(), ..Config::default() };
    Arc::new(Gate::new(100, &config))
}

#[test]
fn a_user_has_so_many_connections_and_each_user_of_a_pattern_as_many() {
    let gate = gate_for_users(&[("boss", None), ("*", Some(1))]);
    let mut tickets: Vec<_> = (0..6).map(|_| ticket(gate.enter(0, None, NOW))).collect();
    let mut enter = |index: usize, user: &str| gate.enter_identity(&mut tickets[index], &user.into(), None);
    assert!(enter(0, "alice"));
    assert!(!enter(1, "alice"));
    assert!(enter(2, "bob"));
    assert!(enter(3, "boss") && enter(4, "boss"), "the first entry that fits sets no bound");
    tickets[0].leave_identity();
    assert!(gate.enter_identity(&mut tickets[1], &"alice".into(), None));
    drop(tickets);
    assert!(gate.users.lock().unwrap().is_empty());
    assert_eq!(load(&gate.counters().identity_connections), 1);
}

#[test]
fn a_connection_that_takes_over_is_not_refused_for_the_older_one() {
    let gate = gate_for_users(&[("*", Some(1))]);
    let [mut older, mut newer, mut third] = [(); 3].map(|()| ticket(gate.enter(0, None, NOW)));
    let alice = Arc::from("alice");
    assert!(gate.enter_identity(&mut older, &alice, None));
    assert!(gate.enter_identity(&mut newer, &alice, Some(&older)));
    older.leave_identity();
    assert!(!gate.enter_identity(&mut third, &alice, None), "there is still one");
    // It takes over from another user, which is of no help.
    assert!(!gate.enter_identity(&mut third, &alice, Some(&older)));
    drop(newer);
    assert!(gate.enter_identity(&mut third, &alice, None));
}

#[test]
fn a_listener_takes_in_so_many_a_second_and_then_rests() {
    let listener = |rate| Listener { connection_rate_max: rate, ..Listener::default() };
    let config = Config { listeners: vec![listener(Some(2)), listener(None)], ..Config::default() };
    let gate = Gate::new(100, &config);
    let rests = |listener| gate.next_accept(listener, NOW).duration_since(NOW).as_millis();
    // The second one is the last at once; the third was under way before it was known.
    assert_eq!([rests(0), rests(0), rests(0)], [0, 500, 1000]);
    assert_eq!([rests(1), rests(1), rests(1)], [0, 0, 0]);
    assert_eq!(load(&gate.counters().listener_pauses), 2);
    assert!(gate.is_paced(0) && !gate.is_paced(1));
}
