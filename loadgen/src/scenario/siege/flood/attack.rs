//! What strangers do to a broker, and in which proportion.

use std::fmt;
use std::str::FromStr;

use willowmq::codec::{Connect, PacketKind, ProtocolVersion};

/// A way to bother a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Random bytes.
    Garbage,
    /// Nothing, ever.
    HalfOpen,
    /// A byte a second of what a good client would send.
    Drip,
    /// What begins like TLS and goes on as garbage.
    Tls,
    /// HTTP that asks for what there is not, or does not end.
    Http,
    /// A CONNECT with a password that nobody has.
    Password,
    /// A CONNECT as long as can be, of which there is always more.
    Endless,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Garbage, Self::HalfOpen, Self::Drip, Self::Tls, Self::Http, Self::Password, Self::Endless];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::HalfOpen => "half-open",
            Self::Drip => "drip",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Password => "password",
            Self::Endless => "endless",
        }
    }

    /// What it is, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::HalfOpen => "half-open connections",
            Self::Drip => "a byte a second",
            Self::Tls => "garbage as TLS",
            Self::Http => "bad HTTP",
            Self::Password => "bad passwords",
            Self::Endless => "CONNECT without end",
        }
    }

    /// Whether it goes through TLS and WebSocket like a good client, instead of straight to the socket.
    pub fn has_layers(self) -> bool {
        matches!(self, Self::Drip | Self::Password | Self::Endless)
    }

    /// Whether more follows every second.
    pub fn goes_on(self) -> bool {
        matches!(self, Self::Drip | Self::Endless)
    }

    /// What the first bytes are; attacker number `number` says them.
    pub fn opening(self, number: u64, version: ProtocolVersion, random: &mut Random) -> Vec<u8> {
        match self {
            Self::Garbage => {
                let length = 1 + random.below(512);
                random.bytes(length)
            }
            Self::HalfOpen => Vec::new(),
            Self::Tls => tls_like(random),
            Self::Http => http_like(random),
            Self::Drip | Self::Password => connect(number, version, random),
            Self::Endless => {
                // A fixed header that announces as much as the length can say (§1.5.5), and the beginning of it.
                let mut bytes = vec![PacketKind::Connect.first_byte(), 0xFF, 0xFF, 0xFF, 0x7F, 0, 4];
                bytes.extend_from_slice(b"MQTT\x05\x02\x00\x3C");
                bytes.extend(random.bytes(16 << 10));
                bytes
            }
        }
    }

    /// What follows every second.
    pub fn sequel(self, random: &mut Random) -> Vec<u8> {
        match self {
            Self::Endless => random.bytes(1 << 10),
            _ => Vec::new(),
        }
    }
}

/// A CONNECT that is right in all but its password.
fn connect(number: u64, version: ProtocolVersion, random: &mut Random) -> Vec<u8> {
    let client_id = format!("stranger-{number}-{:08x}", random.next() as u32);
    let (username, password) = (format!("user{}", random.below(1000)), random.bytes(12));
    let mut connect = Connect::new(version, &client_id);
    connect.keep_alive = 60;
    connect.username = Some(&username);
    connect.password = Some(&password);
    let mut bytes = Vec::new();
    connect.encode(&mut bytes);
    bytes
}

fn tls_like(random: &mut Random) -> Vec<u8> {
    let noise = random.bytes(512);
    // A record of a handshake (22) with its version and length: garbage inside, a ClientHello that is none, or more than
    // a record may hold.
    let beginning: &[u8] = match random.below(3) {
        0 => &[22, 3, 1, 2, 0],
        1 => &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3],
        _ => &[22, 3, 1, 255, 255],
    };
    [beginning, &noise].concat()
}

fn http_like(random: &mut Random) -> Vec<u8> {
    match random.below(3) {
        0 => b"GET /no/such/page HTTP/1.1\r\nHost: broker\r\n\r\n".to_vec(),
        1 => b"POST /mqtt HTTP/9.9\r\nContent-Length: -1\r\n\r\n".to_vec(),
        _ => format!("GET /mqtt HTTP/1.1\r\nHost: broker\r\nX-Endless: {}", "a".repeat(4096)).into_bytes(),
    }
}

/// How often each attack comes, compared with the others: `garbage=3,password=1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix(Vec<(Attack, u32)>);

impl Mix {
    /// Draws one.
    pub fn draw(&self, random: &mut Random) -> Attack {
        let total: u32 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut drawn = random.below(total as usize) as u32;
        for (attack, weight) in &self.0 {
            match drawn.checked_sub(*weight) {
                Some(rest) => drawn = rest,
                None => return *attack,
            }
        }
        unreachable!("what is drawn is below the sum of the weights")
    }

    /// The attacks that take place.
    pub fn attacks(&self) -> impl Iterator<Item = Attack> {
        self.0.iter().filter(|(_, weight)| *weight > 0).map(|(attack, _)| *attack)
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WEIGHT_MAX: u32 = 1_000_000;
        let names = Attack::ALL.map(Attack::name).join(", ");
        let mut mix: Vec<(Attack, u32)> = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.trim().split_once('=').unwrap_or((part.trim(), "1"));
            let attack = Attack::ALL.into_iter().find(|attack| attack.name() == name);
            let attack = attack.ok_or_else(|| format!("`{name}` is none of {names}"))?;
            let weight = weight.parse().ok().filter(|weight| *weight <= WEIGHT_MAX);
            let weight = weight.ok_or_else(|| format!("{name}: expected a whole number up to {WEIGHT_MAX}"))?;
            if mix.iter().any(|(other, _)| *other == attack) {
                return Err(format!("{name} is there twice"));
            }
            mix.push((attack, weight));
        }
        if mix.iter().all(|(_, weight)| *weight == 0) {
            return Err("at least one of them takes place".into());
        }
        Ok(Self(mix))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|(attack, weight)| format!("{}={weight}", attack.name())).collect();
        f.write_str(&parts.join(","))
    }
}

/// A generator of numbers that nobody has to guess (SplitMix64): the same seed gives the same flood.
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let value = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ value >> 31
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    use willowmq::codec::{Packet, decode, packet_length};

    use super::*;

    #[test]
    fn a_mix_is_drawn_as_it_says() {
        let mix: Mix = "garbage=3, password=1,http=0".parse().unwrap();
        assert_eq!(mix.attacks().collect::<Vec<_>>(), [Attack::Garbage, Attack::Password]);
        let mut random = Random(1);
        let count = (0..4000).filter(|_| mix.draw(&mut random) == Attack::Password).count();
        assert!((800..1200).contains(&count), "{count}");
        assert_eq!(mix.to_string().parse::<Mix>().unwrap(), mix);
        assert_eq!("drip".parse::<Mix>().unwrap(), Mix(vec![(Attack::Drip, 1)]));
    }

    #[test]
    fn a_mix_that_is_none_is_refused() {
        for text in ["", "noise=1", "garbage=-1", "garbage=x", "garbage=0", "http,http"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
    }

    #[test]
    fn openings_are_what_they_say() {
        let mut random = Random(7);
        for number in 0..100 {
            let password = Attack::Password.opening(number, ProtocolVersion::V5, &mut random);
            let decoded = decode(&password, ProtocolVersion::V5).unwrap();
            assert!(matches!(decoded, Packet::Connect(connect) if connect.password.is_some()));
            let endless = Attack::Endless.opening(number, ProtocolVersion::V5, &mut random);
            assert!(packet_length(&endless, usize::MAX).unwrap().unwrap() > 200_000_000);
            assert!(Attack::HalfOpen.opening(number, ProtocolVersion::V5, &mut random).is_empty());
            assert_eq!(Attack::Tls.opening(number, ProtocolVersion::V5, &mut random)[..2], [22, 3]);
            assert!(!Attack::Garbage.opening(number, ProtocolVersion::V5, &mut random).is_empty());
        }
    }
}
