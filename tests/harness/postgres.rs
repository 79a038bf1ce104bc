//! A real PostgreSQL for tests: its own server in a temporary folder, on a free port of the loopback, gone with the test
//! process however that ends. Or, for tests that do not harm it, the server that `ICH_TEST_DATABASE_URL` names.
//!
//! Without PostgreSQL on the machine the functions here return `None` and say so, and the test passes; where `CI` is set
//! they panic.

#![allow(dead_code)] // Each test binary uses its part of it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

const PATIENCE: Duration = Duration::from_secs(60);

/// A fresh database on a server that the whole test binary shares.
pub fn database() -> Option<Database> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    if let Ok(url) = std::env::var("ICH_TEST_DATABASE_URL") {
        return Some(Database::create(&url));
    }
    SERVER.get_or_init(Server::start).as_ref().map(Server::database)
}

/// A database of its own for one test; dropped with this.
pub struct Database {
    /// With user and password.
    pub url: String,
    name: String,
    admin_url: String,
}

impl Database {
    fn create(admin_url: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("ich_test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        execute(admin_url, &format!("CREATE DATABASE {name}"));
        let (base, query) =
            admin_url.split_once('?').map_or((admin_url, String::new()), |(base, query)| (base, format!("?{query}")));
        let (server, _) = base.rsplit_once('/').expect("a URL with a database");
        Database { url: format!("{server}/{name}{query}"), name, admin_url: admin_url.to_owned() }
    }

    /// Runs SQL in this database.
    pub fn execute(&self, sql: &str) {
        execute(&self.url, sql);
    }

    /// The only number that a query gives.
    pub fn number(&self, sql: &str) -> i64 {
        Client::connect(&self.url, NoTls).unwrap().query_one(sql, &[]).unwrap().get(0)
    }

    /// Ends the connections of all others to this database; how many there were.
    pub fn kill_connections(&self) -> i64 {
        self.number(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The server may be stopped by now, and then the folder goes anyway.
        if let Ok(mut client) = Client::connect(&self.admin_url, NoTls) {
            let _ = client.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}

fn execute(url: &str, sql: &str) {
    Client::connect(url, NoTls).unwrap().batch_execute(sql).unwrap();
}

/// A server that a test may stop, freeze and start again.
pub struct Server {
    binaries: PathBuf,
    folder: PathBuf,
    port: u16,
    /// Kills the server and removes the folder when its standard input ends, which it does when this process does.
    watchdog: Child,
}

impl Server {
    /// A running server with an empty cluster.
    pub fn start() -> Option<Server> {
        let Some(binaries) = binaries() else {
            assert!(std::env::var_os("CI").is_none(), "needs PostgreSQL: apt-get install postgresql");
            eprintln!("SKIPPED: needs PostgreSQL: apt-get install postgresql");
            return None;
        };
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("ich-postgres-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let watchdog = watchdog(&folder);
        let server = Server { binaries, port: free_port(), watchdog, folder };
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&server.folder));
        }
        run(server
            .command("initdb")
            .args(["--username=ich", "--auth=trust", "--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C"])
            .arg(server.data()));
        server.launch();
        Some(server)
    }

    /// A fresh database on this server.
    pub fn database(&self) -> Database {
        Database::create(&self.admin_url())
    }

    /// Stops it as an operator in a hurry does, and returns when nothing listens any more.
    pub fn stop(&self) {
        let Some(pid) = self.pid() else { return };
        signal("INT", &[pid]);
        until("the server stops", || !Path::new(&format!("/proc/{pid}")).exists());
    }

    /// Starts it again on the same port, with the same data.
    pub fn launch(&self) {
        let log = fs::File::create(self.folder.join(format!("log-{}", self.port))).unwrap();
        let mut child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", if self.data().join("server.key").exists() { "ssl=on" } else { "ssl=off" }])
            .args(["-c", "fsync=off", "-c", "max_connections=100", "-c", "log_min_messages=fatal"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        // It is ended by its process id; this only keeps a dead one from staying in the process table.
        thread::spawn(move || child.wait());
        until("the server answers", || Client::connect(&self.admin_url(), NoTls).is_ok());
    }

    /// From its next start on it takes TLS connections, with this certificate and key (PEM).
    pub fn use_tls(&self, certificate: &[u8], key: &[u8]) {
        for (name, contents) in [("server.crt", certificate), ("server.key", key)] {
            let path = self.data().join(name);
            fs::write(&path, contents).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            if is_root() {
                run(Command::new("chown").arg("postgres").arg(&path));
            }
        }
    }

    /// A path in the server's folder, which goes away with it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Stops all of its processes where they are, until the value returned is dropped.
    pub fn freeze(&self) -> Frozen {
        let server = self.pid().expect("a running server");
        signal("STOP", &[server]);
        let mut pids = children(server);
        signal("STOP", &pids);
        pids.push(server);
        Frozen { pids }
    }

    fn admin_url(&self) -> String {
        format!("postgres://ich@127.0.0.1:{}/postgres?connect_timeout=5", self.port)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The server writes it into the first line of this file.
    fn pid(&self) -> Option<u32> {
        fs::read_to_string(self.data().join("postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()
    }

    /// PostgreSQL refuses to run as root.
    fn command(&self, name: &str) -> Command {
        let program = self.binaries.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(&self.folder);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// A server that does not answer, though the system keeps its connections alive.
pub struct Frozen {
    pids: Vec<u32>,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("CONT", &self.pids);
    }
}

/// Statics are not dropped at exit, and a killed process drops nothing; the end of a pipe is always seen.
fn watchdog(folder: &Path) -> Child {
    let script = "trap '' INT TERM HUP; read -r _; \
        pid=$(head -n 1 \"$0/data/postmaster.pid\" 2>/dev/null) && \
        kill -KILL \"$pid\" $(cat \"/proc/$pid/task/$pid/children\" 2>/dev/null) 2>/dev/null; \
        rm -rf \"$0\"; sleep 0.2; rm -rf \"$0\"";
    Command::new("sh").arg("-c").arg(script).arg(folder).stdin(Stdio::piped()).spawn().unwrap()
}

fn binaries() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|path| path.join("initdb").exists() && path.join("postgres").exists())
        .collect();
    versions.sort();
    versions.pop()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The fourth field of `stat` is the parent; the second, in parentheses, may have spaces.
fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        fields.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_child).collect()
}

/// Processes that ended meanwhile are no fault.
fn signal(name: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let _ = Command::new("sh").arg("-c").arg(format!("kill -{name} {pids} 2>/dev/null")).status();
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Listens where a database could be and never answers: what a firewall or a wrong address looks like.
pub fn silent_listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}
