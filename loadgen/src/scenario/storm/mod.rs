//! `storm`: many clients with wills vanish, and watchers are to learn of each, once, and not before it is due.

mod fate;
mod retained;
mod session;
mod tell;

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use willowmq::codec::QoS;
use willowmq::topic::{TopicFilter, TopicName};

use crate::options::{self, Common, Version};
use crate::run::Run;
use session::Session;

/// A will's payload has a length of two bytes. (§3.1.3.4)
const WILL_BYTES_MAX: usize = u16::MAX as usize;

/// Clients with wills vanish, and watchers are to learn of each: once, and not before it is due
#[derive(Args, Clone, Debug)]
pub struct Storm {
    /// Clients with a will
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = options::at_least_one)]
    pub clients: usize,
    /// Clients that subscribe to the wills
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = options::at_least_one)]
    pub watchers: usize,
    /// Level of the watchers' subscriptions
    #[arg(long, value_name = "QOS", default_value = "1", value_parser = options::qos)]
    pub watcher_qos: QoS,
    /// Topic of a will; {i} becomes the client's number, {client} its Client Identifier, {prefix} the topic prefix
    #[arg(long, value_name = "TEMPLATE", default_value = "{prefix}/{i}/status")]
    pub will_topic: String,
    /// What the watchers subscribe to; {prefix} becomes the topic prefix
    #[arg(long, value_name = "FILTER", default_value = "{prefix}/+/status")]
    pub filter: String,
    /// Level of the wills
    #[arg(long, value_name = "QOS", default_value = "1", value_parser = options::qos)]
    pub will_qos: QoS,
    /// Have the wills retained; that they are is checked afterwards, and they are removed
    #[arg(long)]
    pub will_retain: bool,
    /// Size of a will's payload
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = options::payload_bytes)]
    pub will_payload: usize,
    /// Will Delay Interval, in whole seconds (MQTT 5.0)
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = options::duration)]
    pub will_delay: Duration,
    /// Session Expiry Interval of the clients, in whole seconds (MQTT 5.0) [default: a minute more than the delay, if there is one]
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    pub session_expiry: Option<Duration>,
    /// Share of the clients that vanish
    #[arg(long, value_name = "FRACTION", default_value = "100%", value_parser = options::fraction)]
    pub fraction: f64,
    /// How they vanish: close, reset, silent (until Keep Alive is over), takeover (the same client connects again), or
    /// stagger=DURATION (closes spread evenly)
    #[arg(long, value_name = "HOW", default_value = "close")]
    pub how: How,
    /// Share of those that come back
    #[arg(long, value_name = "FRACTION", default_value = "0", value_parser = options::fraction)]
    pub reconnect: f64,
    /// How long after it was cut a client comes back
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = options::duration)]
    pub after: Duration,
    /// Ordinary traffic beside the storm: messages per second in all
    #[arg(long, value_name = "RATE", value_parser = options::rate)]
    pub background: Option<f64>,
    /// Level of the ordinary traffic
    #[arg(long, value_name = "QOS", default_value = "0", value_parser = options::qos)]
    pub background_qos: QoS,
    /// Pairs of publisher and subscriber that the ordinary traffic is spread over
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = options::at_least_one)]
    pub background_pairs: usize,
    /// How long everything is quiet, or ordinary traffic alone runs, before the storm
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = options::duration)]
    pub before: Duration,
    /// How long it is watched after the last will
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = options::duration)]
    pub afterwards: Duration,
}

/// How clients vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// TCP is closed without DISCONNECT.
    Close,
    /// TCP is reset.
    Reset,
    /// Nothing is sent any more.
    Silent,
    /// The same Client Identifier connects again.
    Takeover,
    /// TCP is closed, client by client, over this time.
    Stagger(Duration),
}

impl FromStr for How {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "close" => Ok(Self::Close),
            "reset" => Ok(Self::Reset),
            "silent" => Ok(Self::Silent),
            "takeover" => Ok(Self::Takeover),
            _ => match text.strip_prefix("stagger=") {
                Some(over) => options::duration(over).map(Self::Stagger),
                None => Err("expected close, reset, silent, takeover or stagger=DURATION".into()),
            },
        }
    }
}

impl Storm {
    /// Session Expiry Interval in force.
    fn expiry(&self) -> Duration {
        let default =
            if self.will_delay.is_zero() { Duration::ZERO } else { self.will_delay + Duration::from_secs(60) };
        self.session_expiry.unwrap_or(default)
    }

    /// From the end of a connection to the publication of its will: a session that ends first takes its will along.
    fn delay(&self) -> Duration {
        self.will_delay.min(self.expiry())
    }

    /// How many clients vanish, and how many of those come back.
    fn cut_and_back(&self) -> (usize, usize) {
        let cut = (self.clients as f64 * self.fraction).round() as usize;
        (cut, (cut as f64 * self.reconnect).round() as usize)
    }

    fn check(&self, common: &Common) -> Result<()> {
        let is_whole = |duration: Duration| duration.subsec_nanos() == 0 && u32::try_from(duration.as_secs()).is_ok();
        if !is_whole(self.will_delay) || !is_whole(self.expiry()) {
            bail!("--will-delay and --session-expiry are in whole seconds, up to 4294967295s");
        }
        if common.mqtt != Version::V5 && !(self.will_delay.is_zero() && self.expiry().is_zero()) {
            bail!("--will-delay and --session-expiry take --mqtt 5");
        }
        if !self.will_topic.contains("{i}") && !self.will_topic.contains("{client}") {
            bail!("--will-topic contains {{i}} or {{client}}, so that wills can be told apart");
        }
        self.check_filter()?;
        ensure!(
            self.will_payload <= WILL_BYTES_MAX,
            "--will-payload is at most {WILL_BYTES_MAX}: a will holds no more"
        );
        if self.cut_and_back().0 == 0 {
            bail!("--fraction {} of {} clients is none: nobody would vanish", self.fraction, self.clients);
        }
        match self.how {
            How::Silent if common.keep_alive.is_zero() => bail!("--how silent takes a --keep-alive"),
            How::Takeover if !self.delay().is_zero() => {
                bail!("a client that takes over its own session has no delayed will published: leave out --will-delay")
            }
            How::Takeover if self.reconnect > 0.0 => bail!("--how takeover and --reconnect exclude each other"),
            _ => {}
        }
        let margin = Duration::from_millis(500);
        if self.reconnect > 0.0 && self.how == How::Silent {
            bail!("--how silent and --reconnect exclude each other");
        }
        if self.reconnect > 0.0 && self.after < self.delay() + margin && self.delay() < self.after + margin {
            bail!("--after is at least {margin:?} from the will's delay, so that it is clear which wills are due");
        }
        Ok(())
    }

    /// The watchers have to hear the wills at all.
    fn check_filter(&self) -> Result<()> {
        ensure!(
            !self.filter.starts_with("$share/"),
            "--filter {}: a shared subscription is not possible here, since every watcher is to hear every will",
            self.filter
        );
        let topic = fill(&self.will_topic, &[("{prefix}", "p"), ("{i}", "0"), ("{client}", "c")]);
        let filter = fill(&self.filter, &[("{prefix}", "p")]);
        let name = TopicName::parse(&topic).with_context(|| format!("--will-topic {}", self.will_topic))?;
        let parsed = TopicFilter::parse(&filter).with_context(|| format!("--filter {}", self.filter))?;
        ensure!(parsed.matches(name), "--filter {} does not match --will-topic {}", self.filter, self.will_topic);
        Ok(())
    }

    /// Runs it; says whether every check passed.
    ///
    /// # Errors
    ///
    /// When the run could not take place.
    pub fn run(&self, common: &Common) -> Result<bool> {
        self.check(common)?;
        let mut run = Run::new("storm", common, Session::clients(self))?;
        if !self.filter.contains("{prefix}") {
            run.stamper = run.stamper.among_others(); // The watchers hear other publishers as well.
        }
        let mut session = Session::new(self, &run);
        session.check_topics()?;
        match session.run(&mut run) {
            Err(_) if run.fleet.is_interrupted() => bail!(session.clean_up(&mut run)?),
            ended => ended?,
        }
        session.tell(&mut run);
        run.finish()
    }
}

/// `template` with each of the `names` replaced by what stands beside it, in which nothing is replaced any more.
fn fill(template: &str, names: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some(brace) = rest.find('{') {
        filled.push_str(&rest[..brace]);
        rest = &rest[brace..];
        let (name, value) = names.iter().find(|(name, _)| rest.starts_with(name)).copied().unwrap_or(("{", "{"));
        filled.push_str(value);
        rest = &rest[name.len()..];
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_not_filled_in_again() {
        let names = [("{prefix}", "a{i}/{prefix}"), ("{i}", "7")];
        assert_eq!(fill("{prefix}/{i}/{n}{", &names), "a{i}/{prefix}/7/{n}{");
        assert_eq!(fill("", &names), "");
    }

    #[test]
    fn ways_to_vanish_are_parsed() {
        assert_eq!("stagger=2s".parse(), Ok(How::Stagger(Duration::from_secs(2))));
        assert_eq!("takeover".parse(), Ok(How::Takeover));
        assert!("stagger".parse::<How>().is_err() && "stagger=x".parse::<How>().is_err());
    }
}
