//! The broker's command line.

fn main() {
    let config = willowmq::config::Config::default();
    willowmq::net::logging::begin(&config.log).unwrap();
    willowmq::net::run(config).unwrap();
}
