//! [`Target`]: the servers of `ICH_DATABASE_URL`, and how to connect to them. Reads the files that the URL names.
//!
//! The parameters have the meaning that they have in libpq. The client library has no `sslrootcert`, `sslcert` and
//! `sslkey`, only three values of `sslmode`, and takes TLS over a Unix socket for possible.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use postgres::config::{ChannelBinding, SslMode, SslNegotiation, TargetSessionAttrs};
use postgres::{Client, Config};
use postgres_openssl::MakeTlsConnector;

use super::diagnosis::{is_not_in_hba, is_unreachable};
use super::tls_mode::{TlsMode, TlsParameters};
use super::url::UrlParts;
use crate::random;

/// For each address of the host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long sent data may stay unacknowledged before the connection counts as broken.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;
const PORT: u16 = 5432;
/// The parameters of libpq that [`Target::new`] accepts.
const PARAMETERS: &str = "application_name, channel_binding, connect_timeout, dbname, host, hostaddr, load_balance_hosts, \
                          options, password, port, sslcert, sslkey, sslmode, sslnegotiation, sslrootcert, \
                          target_session_attrs, tcp_user_timeout, user";
/// Accepted without an effect: this program sets its own keepalives and has no GSSAPI.
const IGNORED: [&str; 7] = [
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
];

/// Where to connect, and how. Shared by the threads of the pool.
#[derive(Clone)]
pub(super) struct Target {
    /// The servers and the database, for the log.
    pub(super) name: String,
    pub(super) mode: TlsMode,
    servers: Vec<Server>,
    /// Begin with a random server.
    is_balanced: bool,
    connector: MakeTlsConnector,
}

#[derive(Clone)]
struct Server {
    /// With one host and one port.
    config: Config,
    is_local: bool,
}

impl Target {
    /// # Errors
    /// A text for the operator, which names the wrong part and contains no secret.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        UrlParts::parse(url).and_then(Self::new).map_err(|error| format!("ICH_DATABASE_URL: {error}"))
    }

    fn new(parts: UrlParts) -> Result<Self, String> {
        let mut config = Config::new();
        config
            .application_name("ich")
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(TCP_USER_TIMEOUT)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES);
        let (mut user, mut password, mut database) = (parts.user, parts.password, parts.database);
        let (mut hosts, mut ports): (Vec<_>, Vec<_>) = parts.hosts.into_iter().unzip();
        let mut addresses: Vec<IpAddr> = Vec::new();
        let (mut tls, mut is_balanced) = (TlsParameters::default(), false);
        for (name, value) in &parts.parameters {
            let list = || value.split(',').map(str::to_owned);
            match name.as_str() {
                "user" => user = Some(value.clone()),
                "password" => password = Some(value.clone().into_bytes()),
                "dbname" => database = Some(value.clone()),
                "host" => hosts = list().collect(),
                "port" => ports = list().map(Some).collect(),
                "hostaddr" => {
                    let parsed: Result<_, _> = value.split(',').map(str::parse).collect();
                    addresses = parsed.map_err(|_| "hostaddr: is not a list of IP addresses")?;
                }
                "load_balance_hosts" => is_balanced = one_of(name, value, &[("disable", false), ("random", true)])?,
                name if IGNORED.contains(&name) => {}
                name if tls.set(name, value)? || set(&mut config, name, value)? => {}
                name => return Err(format!("the parameter {name} is not known; known are {PARAMETERS}")),
            }
        }
        if let Some(user) = &user {
            config.user(user);
        }
        if let Some(password) = password {
            config.password(password);
        }
        if let Some(database) = &database {
            config.dbname(database);
        }
        let (mode, connector) = tls.connector()?;
        let servers = servers(&config, &hosts, &ports, &addresses)?;
        let names: Vec<&str> = servers.iter().map(|(name, _)| name.as_str()).collect();
        let name = match database.or(user) {
            Some(database) => format!("{}, database {database}", names.join(",")),
            None => names.join(","),
        };
        let servers = servers.into_iter().map(|(_, server)| server).collect();
        Ok(Target { name, mode, servers, is_balanced, connector })
    }

    /// Connects to the first server that accepts the connection. Blocks; has no deadline.
    ///
    /// # Errors
    /// That of the last server.
    pub(super) fn connect(&self) -> Result<Client, postgres::Error> {
        let first = if self.is_balanced { random::u64().unwrap_or(0) } else { 0 };
        let first = usize::try_from(first % self.servers.len().max(1) as u64).unwrap_or(0);
        let (before, from) = self.servers.split_at(first);
        let mut last = None;
        for server in from.iter().chain(before) {
            match self.connect_to(server) {
                Ok(client) => return Ok(client),
                Err(error) => last = Some(error),
            }
        }
        // There is at least one server. The library has the error for none.
        last.map_or_else(|| Config::new().connect(self.connector.clone()), Err)
    }

    fn connect_to(&self, server: &Server) -> Result<Client, postgres::Error> {
        let connect = |mode| server.config.clone().ssl_mode(mode).connect(self.connector.clone());
        if server.is_local {
            return connect(SslMode::Disable);
        }
        let (first, second) = self.mode.attempts();
        let (error, second) = match (connect(first), second) {
            (Err(error), Some(second)) if !is_unreachable(&error) => (error, second),
            (result, _) => return result,
        };
        match connect(second) {
            // The first attempt came further.
            Err(second) if is_not_in_hba(&second) => Err(error),
            result => result,
        }
    }
}

/// Sets a parameter of the connection that is not about TLS. False: it is not known.
fn set(config: &mut Config, name: &str, value: &str) -> Result<bool, String> {
    let number = || value.parse::<u64>().map_err(|_| format!("{name}: is not a whole number"));
    match name {
        "options" => {
            config.options(value);
        }
        "application_name" => {
            config.application_name(value);
        }
        "connect_timeout" => {
            // 0 is no timeout in libpq. Here it is the default, because a thread must not wait for ever.
            if let seconds @ 1.. = number()? {
                config.connect_timeout(Duration::from_secs(seconds));
            }
        }
        "tcp_user_timeout" => {
            if let milliseconds @ 1.. = number()? {
                config.tcp_user_timeout(Duration::from_millis(milliseconds));
            }
        }
        "target_session_attrs" => {
            use TargetSessionAttrs::{Any, ReadOnly, ReadWrite};
            let values = [("any", Any), ("read-write", ReadWrite), ("primary", ReadWrite), ("read-only", ReadOnly)];
            config.target_session_attrs(one_of(name, value, &values)?);
        }
        "channel_binding" => {
            use ChannelBinding::{Disable, Prefer, Require};
            let values = [("disable", Disable), ("prefer", Prefer), ("require", Require)];
            config.channel_binding(one_of(name, value, &values)?);
        }
        "sslnegotiation" => {
            let values = [("postgres", SslNegotiation::Postgres), ("direct", SslNegotiation::Direct)];
            config.ssl_negotiation(one_of(name, value, &values)?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The servers, each with its name for the log.
fn servers(
    config: &Config,
    hosts: &[String],
    ports: &[Option<String>],
    addresses: &[IpAddr],
) -> Result<Vec<(String, Server)>, String> {
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return Err(
            "no host: write postgres://user:password@host:5432/database, or host=/folder for a Unix socket".into()
        );
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(format!("{} hosts and {} addresses in hostaddr", hosts.len(), addresses.len()));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(format!("{count} hosts and {} ports", ports.len()));
    }
    (0..count)
        .map(|index| {
            let port =
                ports.get(index).or_else(|| ports.first()).and_then(Option::as_deref).filter(|it| !it.is_empty());
            let port = port.map_or(Ok(PORT), str::parse).ok().filter(|port| *port > 0);
            let port = port.ok_or("the port is not a number from 1 to 65535")?;
            let mut config = config.clone();
            config.port(port);
            // TLS needs a name to check, also if only the address is given.
            let host = hosts.get(index).cloned().or_else(|| addresses.get(index).map(IpAddr::to_string));
            let host = host.filter(|host| !host.is_empty()).ok_or("a host is empty")?;
            let is_local = host.starts_with('/') && addresses.is_empty();
            if is_local {
                config.host_path(Path::new(&host));
                return Ok((format!("{host} (Unix socket, port {port})"), Server { config, is_local }));
            }
            config.host(&host);
            if let Some(address) = addresses.get(index) {
                config.hostaddr(*address);
            }
            let name = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            Ok((name, Server { config, is_local }))
        })
        .collect()
}

/// The meaning of the value of a parameter.
///
/// # Errors
/// The value is not among `values`. It is repeated: it is no secret.
pub(super) fn one_of<T: Copy>(name: &str, value: &str, values: &[(&str, T)]) -> Result<T, String> {
    values.iter().find(|(known, _)| *known == value).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let known: Vec<&str> = values.iter().map(|(known, _)| *known).collect();
        let shown: String = value.chars().take(40).flat_map(char::escape_debug).collect();
        format!("{name}={shown} is not one of {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str) -> String {
        Target::parse(url).err().unwrap_or_default()
    }

    #[test]
    fn the_wrong_part_is_named() {
        for (url, named) in [
            ("postgres://u@h/d?pgbouncer=true", "the parameter pgbouncer is not known"),
            ("postgres://u@h/d?sslmode=sometimes", "sslmode=sometimes is not one of disable, allow, prefer, require"),
            ("postgres://u@h:port/d", "port"),
            ("postgres://u@h:0/d", "port"),
            ("postgres://u@h:65536/d", "port"),
            ("postgres://u@h,i:1/d?port=1,2,3", "2 hosts and 3 ports"),
            ("postgres://u@/d", "no host"),
            ("postgres://u@h/d?hostaddr=h", "hostaddr"),
            ("postgres://u@h/d?connect_timeout=soon", "connect_timeout"),
            ("postgres://u@h/d?target_session_attrs=prefer-standby", "target_session_attrs"),
            ("postgres://u@h/d?sslcert=/c.pem", "sslcert needs sslkey"),
            ("postgres://u@h/d?sslkey=/k.pem", "sslkey needs sslcert"),
            ("postgres://u@h/d?sslrootcert=/no/ca.pem", "sslrootcert=/no/ca.pem cannot be read"),
            ("postgres://u@h/d?sslcert=/no/c.pem&sslkey=/no/k.pem", "sslcert=/no/c.pem cannot be read"),
        ] {
            let error = error(url);
            assert!(error.contains(named) && error.starts_with("ICH_DATABASE_URL: "), "{url}: {error}");
        }
    }

    #[test]
    fn the_servers_are_named_without_the_password() {
        for (url, name) in [
            ("postgres://u:hunter2@h/d", "h:5432, database d"),
            ("postgres://u@h:1,[::1]:2/d?sslmode=allow", "h:1,[::1]:2, database d"),
            (
                "postgres://u@/d?host=/run/postgresql&sslmode=verify-full",
                "/run/postgresql (Unix socket, port 5432), database d",
            ),
            ("postgres://u@%2Frun/d", "/run (Unix socket, port 5432), database d"),
            ("postgres://u:hunter2@h?hostaddr=127.0.0.1&keepalives=0", "h:5432, database u"),
        ] {
            assert_eq!(Target::parse(url).map(|target| target.name).as_deref(), Ok(name), "{url}");
        }
    }
}
