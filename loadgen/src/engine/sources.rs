//! The source addresses that connections are spread over: one address reaches one broker from some 28,000 ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, both ends included: `127.0.0.1-127.0.0.8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    first: IpAddr,
    count: u32,
}

/// More than this is a mistake in the range.
const ADDRESSES_MAX: u32 = 1 << 16;

impl Sources {
    /// How many addresses there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether connections from here can reach `target` at all.
    pub fn goes_with(&self, target: IpAddr) -> bool {
        self.first.is_ipv4() == target.is_ipv4()
    }

    /// The address of client number `index`: they take turns.
    pub fn of(&self, index: usize) -> IpAddr {
        let offset = (index % self.count as usize) as u32;
        match self.first {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + offset).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + u128::from(offset)).into(),
        }
    }
}

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let parse = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| format!("`{text}` is no IP address"));
        let (first, last) = (parse(first)?, parse(last)?);
        let span = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => last.to_bits().checked_sub(first.to_bits()).map(u128::from),
            (IpAddr::V6(first), IpAddr::V6(last)) => last.to_bits().checked_sub(first.to_bits()),
            _ => return Err("both ends of the range are of one family, IPv4 or IPv6".into()),
        };
        let span = span.ok_or("the range ends before it begins")?;
        if span >= u128::from(ADDRESSES_MAX) {
            return Err(format!("the range has more than {ADDRESSES_MAX} addresses"));
        }
        Ok(Self { first, count: span as u32 + 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_turns() {
        let sources: Sources = "127.0.0.255-127.0.1.1".parse().unwrap();
        let shown: Vec<String> = (0..4).map(|index| sources.of(index).to_string()).collect();
        assert_eq!(shown, ["127.0.0.255", "127.0.1.0", "127.0.1.1", "127.0.0.255"]);
        assert_eq!("::1".parse::<Sources>().unwrap().of(7).to_string(), "::1");
    }

    #[test]
    fn a_range_that_is_none_is_refused() {
        for text in ["", "a", "127.0.0.2-127.0.0.1", "127.0.0.1-::1", "0.0.0.0-255.255.255.255", "::-ff::"] {
            assert!(text.parse::<Sources>().is_err(), "{text}");
        }
    }
}
