//! The command line options and their help text.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::engines;
use crate::events::MIN_TEXT_BYTES;

/// Unless `--processes` says otherwise. A process often has at most 20,000 open files.
const CLIENTS_PER_PROCESS: usize = 15_000;

/// The output of `--help`.
pub const HELP: &str = "\
Measures an ich server under load, on this machine only.

usage: cargo run --release --example load -- [options]

what is measured (without any of these: clients join, then chat)
  --clients N           clients in the lobby that read                         [1000]
  --senders S           how many of them send                                  [50]
  --rate R              messages per second, of all senders together           [50]
  --bytes B             length of a message's text                             [100]
  --seconds T           length of the chat         [15; 0 with --storm, --drop-and-return or --idle]
  --storm               join burst: once the senders are online and chat, all other clients join as fast as they can
  --drop-and-return     then all clients except the senders disconnect at once and rejoin as fast as they can
  --slow N              N additional clients never read; the server may disconnect only these
  --trickle J           J clients per second leave and rejoin during the chat
  --restart-every T     during the chat, every T seconds one instance is replaced: another one is started, and when it is
                        ready, the old one is stopped. Clients return with the id of their last message, and repeat
                        messages that did not come back. CPU and memory are not measured
  --idle T              all clients stay connected and idle for T seconds
  --logins N            N logins during a chat, compared with N bare password hashes
  --outstanding N       most joins in flight at once in a join burst           [512]
  --processes N         processes for the clients; those that send are in the first       [one per 15,000 clients]

what it is measured on
  --server PATH         the server's binary; the default is this project's, which is built when missing or outdated
  --instances N         number of instances; without --kafka they share a data folder    [1]
  --event-log KIND      sqlite or memory, without --kafka                               [sqlite]
  --kafka HOST:PORT     Kafka brokers for the instances, which use a new topic
  --database URL        PostgreSQL database for the instances
  --history N           the event log holds N records before the instances start   [0]
  --connect A:P,B:P     measure servers that already run (loopback addresses only)
  --secret TEXT         token secret of these servers; the default is ICH_JWT_SECRET
  --pids P,P            process ids of these servers, for CPU and memory figures
  --baseline            first measure the bare loop (one send per socket and message) under the same load;
                        with more than 2,000 clients it sends no presence events
  --baseline-only       measure only the bare loop
  --bare-kafka          first measure bare produce-to-consume at the same rate; needs --kafka

output
  --json FILE           also write the figures as JSON
  --compare FILE        also print the ratios to the figures of an earlier run, which --json wrote
  -h, --help            print this text

Exit codes: 1 when a message was lost, duplicated or out of order, a client that returned was told that messages are
missing, or the server disconnected a client that reads; 2 when an option is invalid or the server cannot be started.";

/// The parsed options, one field per option of [`HELP`]. [`Options::parse`] checks their bounds.
#[derive(Debug, Clone)]
pub struct Options {
    /// Clients that read.
    pub clients: usize,
    pub senders: usize,
    /// Messages per second, of all senders together.
    pub rate: f64,
    /// Length of a message's text.
    pub bytes: usize,
    pub seconds: f64,
    pub storm: bool,
    pub drop_and_return: bool,
    /// Clients that never read, not counted in `clients`.
    pub slow: usize,
    /// Leaves (and rejoins) per second during the chat.
    pub trickle: f64,
    /// Seconds from one replacement of an instance to the next; 0: none.
    pub restart_every: f64,
    /// Length of the idle part, in seconds.
    pub idle: f64,
    pub logins: usize,
    /// Most joins in flight at once in a join burst.
    pub outstanding: usize,
    /// Processes for the clients; none: as many as are needed.
    pub processes: Option<usize>,
    pub server: Option<PathBuf>,
    pub instances: usize,
    /// The value of `ICH_EVENT_LOG`, if not its default.
    pub event_log: Option<String>,
    pub kafka: Option<String>,
    pub database: Option<String>,
    /// Servers that already run, instead of ones that this tool starts.
    pub connect: Vec<SocketAddr>,
    pub secret: Option<String>,
    pub pids: Vec<u32>,
    pub baseline: bool,
    /// False with `--baseline-only`.
    pub measure_server: bool,
    /// Records in the event log before the instances start.
    pub history: u64,
    pub bare_kafka: bool,
    pub json: Option<PathBuf>,
    /// The JSON of an earlier run.
    pub compare: Option<PathBuf>,
}

impl Options {
    /// Parses the arguments after the program's name. `Ok(None)`: `--help` was given.
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
            restart_every: 0.0,
            idle: 0.0,
            logins: 0,
            outstanding: 512,
            processes: None,
            server: None,
            instances: 1,
            event_log: None,
            kafka: None,
            database: None,
            connect: Vec::new(),
            secret: std::env::var("ICH_JWT_SECRET").ok(),
            pids: Vec::new(),
            baseline: false,
            measure_server: true,
            bare_kafka: false,
            history: 0,
            json: None,
            compare: None,
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
                "--restart-every" => options.restart_every = number(&flag, &value()?, 0.1, 86_400.0)?,
                "--idle" => options.idle = number(&flag, &value()?, 0.0, 86_400.0)?,
                "--logins" => options.logins = number(&flag, &value()?, 0, 100_000)?,
                "--outstanding" => options.outstanding = number(&flag, &value()?, 1, 10_000)?,
                "--processes" => options.processes = Some(number(&flag, &value()?, 1, 16)?),
                "--server" => options.server = Some(value()?.into()),
                "--instances" => options.instances = number(&flag, &value()?, 1, 16)?,
                "--event-log" => options.event_log = Some(value()?),
                "--kafka" => options.kafka = Some(value()?),
                "--history" => options.history = number(&flag, &value()?, 0, 10_000_000)?,
                "--database" => options.database = Some(value()?),
                "--connect" => options.connect = list(&flag, &value()?)?,
                "--secret" => options.secret = Some(value()?),
                "--pids" => options.pids = list(&flag, &value()?)?,
                "--baseline" => options.baseline = true,
                "--baseline-only" => (options.baseline, options.measure_server) = (true, false),
                "--bare-kafka" => options.bare_kafka = true,
                "--json" => options.json = Some(value()?.into()),
                "--compare" => options.compare = Some(value()?.into()),
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
            return Err(format!("{address} is not a loopback address: this tool loads servers on this machine only"));
        }
        if !self.connect.is_empty() && self.secret.is_none() {
            return Err("--connect needs the token secret of the servers: set --secret or ICH_JWT_SECRET".to_owned());
        }
        if self
            .event_log
            .as_ref()
            .is_some_and(|kind| !["sqlite", "memory"].contains(&kind.as_str()) || self.kafka.is_some())
        {
            return Err("--event-log is sqlite or memory, without --kafka".to_owned());
        }
        if self.instances > 1 && self.kafka.is_some() != self.database.is_some() {
            return Err("--instances above 1 needs both --kafka and --database, or none of them".to_owned());
        }
        let is_durable = self.event_log.as_deref() != Some("memory");
        if !is_durable && (self.instances > 1 || self.restart_every > 0.0 || self.history > 0) {
            return Err("--event-log memory is for one instance, without --restart-every and --history".to_owned());
        }
        if self.restart_every > 0.0 && (!self.connect.is_empty() || self.seconds == 0.0 || self.trickle > 0.0) {
            return Err("--restart-every needs a chat and servers that this tool starts, without --trickle".to_owned());
        }
        if (self.clients + self.slow).saturating_mul(self.senders) > 50_000_000 {
            return Err(
                "--clients times --senders is over 50 million, too many to check: use fewer --senders".to_owned()
            );
        }
        if self.bare_kafka && self.kafka.is_none() {
            return Err("--bare-kafka needs --kafka".to_owned());
        }
        if self.senders == 0 && self.seconds > 0.0 && self.rate > 0.0 {
            return Err("a chat needs --senders above 0; for no chat set --seconds 0".to_owned());
        }
        if self.trickle > 0.0 && self.clients == self.senders {
            return Err("--trickle needs clients that do not send: use fewer --senders than --clients".to_owned());
        }
        Ok(())
    }

    /// All clients, including those that never read.
    pub fn total_clients(&self) -> usize {
        self.clients + self.slow
    }

    /// How many processes have the clients.
    pub fn process_count(&self) -> usize {
        self.processes.unwrap_or_else(|| self.total_clients().div_ceil(CLIENTS_PER_PROCESS))
    }

    /// The clients of each process.
    pub fn parts(&self) -> Vec<Range<usize>> {
        engines::parts(self.total_clients(), self.senders, self.process_count())
    }

    /// `seconds` as a duration.
    pub fn chat_length(&self) -> Duration {
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
    let value: T = text.parse().map_err(|_| format!("{flag} {text}: not a valid number"))?;
    // The comparisons are both false for NaN.
    if value >= low && value <= high { Ok(value) } else { Err(format!("{flag} must be between {low} and {high}")) }
}

fn list<T: std::str::FromStr>(flag: &str, text: &str) -> Result<Vec<T>, String> {
    let parse = |item: &str| item.trim().parse().map_err(|_| format!("{flag}: cannot parse {item}"));
    text.split(',').map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn only_loopback_addresses_are_accepted() {
        assert!(parse("--secret x --connect 127.0.0.1:8080,[::1]:8081").is_ok());
        assert!(parse("--secret x --connect 127.0.0.1:8080,192.0.2.7:80").unwrap_err().contains("192.0.2.7"));
        assert!(parse("--secret x --connect example.com:80").is_err());
    }

    #[test]
    fn values_out_of_bounds_are_rejected() {
        for line in
            ["--clients 0", "--bytes 3", "--rate NaN", "--seconds -1", "--nonsense", "--clients", "--instances 17"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("--help").unwrap().is_none());
    }

    #[test]
    fn options_that_contradict_each_other_are_rejected() {
        for line in [
            "--instances 2 --kafka localhost:1",
            "--instances 2 --event-log memory",
            "--restart-every 5 --event-log memory",
            "--restart-every 5 --idle 5",
            "--restart-every 5 --trickle 1",
            "--event-log memory --kafka localhost:1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("--instances 2 --restart-every 5").is_ok());
    }
}
