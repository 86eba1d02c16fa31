//! What a toy broker does wrong.

/// How often something goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum When {
    /// The standard is obeyed.
    #[default]
    Never,
    /// The first time, the (1 + n)th, the (1 + 2 n)th …
    Each(u64),
    /// The nth time.
    Once(u64),
    /// From the nth time on.
    From(u64),
}

/// Something that can go wrong, and how many chances it has had.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fault {
    when: When,
    chances: u64,
}

impl Fault {
    /// Whether it goes wrong this time.
    pub(crate) fn strikes(&mut self) -> bool {
        self.chances += 1;
        match self.when {
            When::Never => false,
            When::Each(n) => (self.chances - 1).is_multiple_of(n),
            When::Once(n) => self.chances == n,
            When::From(n) => self.chances >= n,
        }
    }
}

/// A fault that strikes the first time and each nth from then on.
pub(crate) fn each(n: u64) -> Fault {
    Fault { when: When::Each(n), chances: 0 }
}

/// A fault that strikes the nth time.
pub(crate) fn once(n: u64) -> Fault {
    Fault { when: When::Once(n), chances: 0 }
}

/// A fault that strikes from the nth time on.
pub(crate) fn from(n: u64) -> Fault {
    Fault { when: When::From(n), chances: 0 }
}

/// What a toy broker does wrong; by default nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    // Chances: wills that are to be published.
    pub(crate) drop_will: Fault,
    pub(crate) repeat_will: Fault,
    // Chances: connections that end without DISCONNECT.
    pub(crate) early_will: Fault,
    // Chances: clients that are back before their will is due.
    pub(crate) will_of_returned: Fault,
    // Chances: DISCONNECTs.
    pub(crate) will_after_disconnect: Fault,
    // Chances: CONNECTs with a will.
    pub(crate) will_of_connected: Fault,
    pub(crate) retain_will_of_connected: Fault,

    // Chances: deliveries of live messages.
    pub(crate) drop_message: Fault,
    pub(crate) repeat_message: Fault,
    pub(crate) repeat_with_dup: Fault,
    pub(crate) swap_messages: Fault,
    pub(crate) flip_first_byte: Fault,
    pub(crate) flip_last_byte: Fault,
    pub(crate) wrong_topic: Fault,
    pub(crate) wrong_qos: Fault,
    pub(crate) retain_flag_on_live: Fault,
    pub(crate) malformed_packet: Fault,
    // Chances: publications.
    pub(crate) deliver_to_stranger: Fault,

    // Chances: messages that are to be retained.
    pub(crate) forget_retained: Fault,
    // Chances: retained messages that are to be removed.
    pub(crate) forget_removal: Fault,
    // Chances: deliveries of retained messages.
    pub(crate) repeat_retained: Fault,
    pub(crate) no_retain_flag: Fault,
    pub(crate) flip_retained: Fault,
    pub(crate) retained_at_wrong_topic: Fault,

    // Chances: messages for those who are away.
    pub(crate) lose_queued: Fault,
    pub(crate) swap_queued: Fault,
    // Chances: deliveries of such messages.
    pub(crate) repeat_queued: Fault,
    pub(crate) repeat_queued_with_dup: Fault,
    // Chances: CONNECTs that find a session.
    pub(crate) forget_session: Fault,

    // Chances: CONNECTs.
    pub(crate) no_connack: Fault,
    pub(crate) connack_twice: Fault,
    pub(crate) refuse_connect: Fault,
    // Chances: SUBSCRIBEs.
    pub(crate) no_suback: Fault,
    pub(crate) refuse_subscribe: Fault,
    // Chances: PUBLISHes that arrive.
    pub(crate) refuse_publish: Fault,
    pub(crate) no_ack: Fault,
    pub(crate) ack_twice: Fault,
    // Chances: packets that arrive.
    pub(crate) close_connection: Fault,
    pub(crate) reset_connection: Fault,
    pub(crate) stall: Fault,
    /// The whole broker ends.
    pub(crate) die: Fault,
    /// Nothing goes wrong: only the user `good` gets in.
    pub(crate) has_passwords: bool,
    /// Nothing goes wrong: CONNACK names low limits.
    pub(crate) low_limits: Option<Limits>,
}

/// What a broker may say in a CONNACK that it does not take.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limits {
    PacketBytes(u32),
    QoS0,
    NoRetain,
}

/// Every fault, to be chosen from.
pub(crate) const ALL: &[fn(&mut Faults) -> &mut Fault] = &[
    |faults| &mut faults.drop_will,
    |faults| &mut faults.repeat_will,
    |faults| &mut faults.early_will,
    |faults| &mut faults.will_of_returned,
    |faults| &mut faults.will_after_disconnect,
    |faults| &mut faults.will_of_connected,
    |faults| &mut faults.retain_will_of_connected,
    |faults| &mut faults.drop_message,
    |faults| &mut faults.repeat_message,
    |faults| &mut faults.repeat_with_dup,
    |faults| &mut faults.swap_messages,
    |faults| &mut faults.flip_first_byte,
    |faults| &mut faults.flip_last_byte,
    |faults| &mut faults.wrong_topic,
    |faults| &mut faults.wrong_qos,
    |faults| &mut faults.retain_flag_on_live,
    |faults| &mut faults.malformed_packet,
    |faults| &mut faults.deliver_to_stranger,
    |faults| &mut faults.forget_retained,
    |faults| &mut faults.forget_removal,
    |faults| &mut faults.repeat_retained,
    |faults| &mut faults.no_retain_flag,
    |faults| &mut faults.flip_retained,
    |faults| &mut faults.retained_at_wrong_topic,
    |faults| &mut faults.lose_queued,
    |faults| &mut faults.swap_queued,
    |faults| &mut faults.repeat_queued,
    |faults| &mut faults.repeat_queued_with_dup,
    |faults| &mut faults.forget_session,
    |faults| &mut faults.no_connack,
    |faults| &mut faults.connack_twice,
    |faults| &mut faults.refuse_connect,
    |faults| &mut faults.no_suback,
    |faults| &mut faults.refuse_subscribe,
    |faults| &mut faults.refuse_publish,
    |faults| &mut faults.no_ack,
    |faults| &mut faults.ack_twice,
    |faults| &mut faults.close_connection,
    |faults| &mut faults.reset_connection,
    |faults| &mut faults.stall,
    |faults| &mut faults.die,
];
