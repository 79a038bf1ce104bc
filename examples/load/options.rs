//! What the command line asks for, and the help that explains it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::events::MIN_TEXT_BYTES;

/// The answer to `--help`.
pub const HELP: &str = "\
Measures an ich server under load, on this machine only.

usage: cargo run --release --example load -- [options]

what is measured (without any of these: people join, then chat)
  --clients N           people in the lobby                                    [1000]
  --senders S           how many of them send                                  [50]
  --rate R              messages a second, all senders together                [50]
  --bytes B             length of a message's text                             [100]
  --seconds T           length of the chat                                     [15; 0 beside what follows]
  --storm               after the senders, all others join as fast as they can, while the senders chat
  --drop-and-return     then all but the senders drop at once and come back as fast as they can
  --slow N              that many more people never read; only they may be cut
  --trickle J           while people chat, J of them leave and come back each second
  --idle T              nobody says anything for T seconds
  --logins N            N logins while people chat, beside N bare password hashes
  --outstanding N       joins that may be under way at once in a storm         [512]

what it is measured on
  --server PATH         the server's binary; without it the project's own, built when it is missing or old
  --instances N         so many of them; more than one needs --kafka and --database   [1]
  --kafka HOST:PORT     brokers for them, with a topic of their own
  --database URL        PostgreSQL for them
  --history N           their topic has N records already                      [0]
  --connect A:P,B:P     servers that run already (loopback addresses only), instead
  --secret TEXT         their token secret; also from ICH_JWT_SECRET
  --pids P,P            their processes, for the figures about CPU and memory
  --baseline            a bare loop of one send per socket and message too, first, with the same load;
                        beyond 2,000 people it tells nobody who comes and goes
  --baseline-only       that alone
  --bare-kafka          bare produce-to-consume too, first, at the same rate; needs --kafka

what comes out
  --json FILE           the figures as JSON too
  -h, --help            this text

The exit code is 1 when anything was lost, doubled or out of order, or a client that reads was cut; 2 for a fault in
the options or when the server cannot be started.";

/// The whole of it. Bounds are checked by [`Options::parse`].
#[derive(Debug, Clone)]
pub struct Options {
    /// People in the lobby who read.
    pub clients: usize,
    /// How many of them send.
    pub senders: usize,
    /// Messages a second, all senders together.
    pub rate: f64,
    /// Length of a text.
    pub bytes: usize,
    /// Length of the chat.
    pub seconds: f64,
    /// Whether people join as fast as they can while others chat.
    pub storm: bool,
    /// Whether all drop and come back after that.
    pub drop_and_return: bool,
    /// People who never read, beside the clients.
    pub slow: usize,
    /// Leaves and joins a second while people chat.
    pub trickle: f64,
    /// Length of the silence.
    pub idle: f64,
    /// Logins while people chat.
    pub logins: usize,
    /// Joins under way at once in a storm.
    pub outstanding: usize,
    /// The server's binary, when it is not the project's own.
    pub server: Option<PathBuf>,
    /// How many servers.
    pub instances: usize,
    /// Kafka's brokers for them.
    pub kafka: Option<String>,
    /// PostgreSQL for them.
    pub database: Option<String>,
    /// Servers that run already.
    pub connect: Vec<SocketAddr>,
    /// Their token secret.
    pub secret: Option<String>,
    /// Their processes.
    pub pids: Vec<u32>,
    /// Whether the bare loop is measured too.
    pub baseline: bool,
    /// Whether a server is measured.
    pub server_too: bool,
    /// Records that are in the topic before the servers start.
    pub history: u64,
    /// Whether bare produce-to-consume is measured too.
    pub bare_kafka: bool,
    /// Where the figures go as JSON.
    pub json: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments after the program's name. `Ok(None)`: help was asked for.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            clients: 1000,
            senders: 50,
            rate: 50.0,
            bytes: 100,
            seconds: 15.0,
            storm: false,
            drop_and_return: false,
            slow: 0,
            trickle: 0.0,
            idle: 0.0,
            logins: 0,
            outstanding: 512,
            server: None,
            instances: 1,
            kafka: None,
            database: None,
            connect: Vec::new(),
            secret: std::env::var("ICH_JWT_SECRET").ok(),
            pids: Vec::new(),
            baseline: false,
            server_too: true,
            bare_kafka: false,
            history: 0,
            json: None,
        };
        let (mut seconds_given, mut arguments) = (false, arguments);
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--clients" => options.clients = number(&flag, &value()?, 1, 60_000)?,
                "--senders" => options.senders = number(&flag, &value()?, 0, 10_000)?,
                "--rate" => options.rate = number(&flag, &value()?, 0.0, 100_000.0)?,
                "--bytes" => options.bytes = number(&flag, &value()?, MIN_TEXT_BYTES, 4000)?,
                "--seconds" => {
                    options.seconds = number(&flag, &value()?, 0.0, 86_400.0)?;
                    seconds_given = true;
                }
                "--storm" => options.storm = true,
                "--drop-and-return" => options.drop_and_return = true,
                "--slow" => options.slow = number(&flag, &value()?, 0, 10_000)?,
                "--trickle" => options.trickle = number(&flag, &value()?, 0.0, 10_000.0)?,
                "--idle" => options.idle = number(&flag, &value()?, 0.0, 86_400.0)?,
                "--logins" => options.logins = number(&flag, &value()?, 0, 100_000)?,
                "--outstanding" => options.outstanding = number(&flag, &value()?, 1, 10_000)?,
                "--server" => options.server = Some(value()?.into()),
                "--instances" => options.instances = number(&flag, &value()?, 1, 16)?,
                "--kafka" => options.kafka = Some(value()?),
                "--history" => options.history = number(&flag, &value()?, 0, 10_000_000)?,
                "--database" => options.database = Some(value()?),
                "--connect" => options.connect = list(&flag, &value()?)?,
                "--secret" => options.secret = Some(value()?),
                "--pids" => options.pids = list(&flag, &value()?)?,
                "--baseline" => options.baseline = true,
                "--baseline-only" => (options.baseline, options.server_too) = (true, false),
                "--bare-kafka" => options.bare_kafka = true,
                "--json" => options.json = Some(value()?.into()),
                "-h" | "--help" => return Ok(None),
                _ => return Err(format!("unknown option {flag}; --help lists them all")),
            }
        }
        let other_phases = options.storm || options.drop_and_return || options.idle > 0.0;
        if other_phases && !seconds_given {
            options.seconds = 0.0;
        }
        options.senders = options.senders.min(options.clients);
        options.check().map(|()| Some(options))
    }

    fn check(&self) -> Result<(), String> {
        let outside = self.connect.iter().find(|address| !is_loopback(address.ip()));
        if let Some(address) = outside {
            return Err(format!("{address} is not on this machine: only loopback addresses may be put under load"));
        }
        if !self.connect.is_empty() && self.secret.is_none() {
            return Err("--connect needs the servers' token secret: --secret, or ICH_JWT_SECRET".to_owned());
        }
        if self.instances > 1 && (self.kafka.is_none() || self.database.is_none()) {
            return Err("several instances are one lobby only with --kafka and --database".to_owned());
        }
        if (self.clients + self.slow).saturating_mul(self.senders) > 50_000_000 {
            return Err("clients times senders is over 50 million, too much to check: use fewer --senders".to_owned());
        }
        if (self.bare_kafka || self.history > 0) && self.kafka.is_none() {
            return Err("--bare-kafka and --history need --kafka".to_owned());
        }
        if self.senders == 0 && self.seconds > 0.0 && self.rate > 0.0 {
            return Err("a chat needs --senders; without one, set --seconds 0".to_owned());
        }
        if self.trickle > 0.0 && self.clients == self.senders {
            return Err("--trickle needs people who do not send: fewer --senders than --clients".to_owned());
        }
        Ok(())
    }

    /// All people, those who never read among them.
    pub fn people(&self) -> usize {
        self.clients + self.slow
    }

    /// Length of the chat.
    pub fn chat(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn number<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
    flag: &str,
    text: &str,
    low: T,
    high: T,
) -> Result<T, String> {
    let value: T = text.parse().map_err(|_| format!("{flag} {text}: not a number it can take"))?;
    // Not a number at all is neither above the one nor below the other.
    if value >= low && value <= high { Ok(value) } else { Err(format!("{flag} goes from {low} to {high}")) }
}

fn list<T: std::str::FromStr>(flag: &str, text: &str) -> Result<Vec<T>, String> {
    let parse = |item: &str| item.trim().parse().map_err(|_| format!("{flag}: {item} cannot be read"));
    text.split(',').map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn only_loopback_addresses_are_put_under_load() {
        assert!(parse("--secret x --connect 127.0.0.1:8080,[::1]:8081").is_ok());
        assert!(parse("--secret x --connect 127.0.0.1:8080,192.0.2.7:80").unwrap_err().contains("192.0.2.7"));
        assert!(parse("--secret x --connect example.com:80").is_err());
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        for line in
            ["--clients 0", "--bytes 3", "--rate NaN", "--seconds -1", "--nonsense", "--clients", "--instances 2"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("--help").unwrap().is_none());
    }
}
