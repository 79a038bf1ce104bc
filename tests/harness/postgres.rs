//! A real PostgreSQL server for tests, in a temporary folder and on a free port of loopback. A watchdog process removes
//! it when the test process ends, however that ends. Tests that do not stop the server can also use the one that
//! `ICH_TEST_DATABASE_URL` names.
//!
//! If PostgreSQL is not installed, the functions here return `None` and the test is skipped; with `CI` set they panic.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use postgres::{Client, NoTls};

use super::ports::free_port;
use super::wait_until;

/// A new, empty database on a server that all tests of the binary share.
pub fn database() -> Option<Database> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    if let Ok(url) = std::env::var("ICH_TEST_DATABASE_URL") {
        return Some(Database::create(&url));
    }
    or_skip(SERVER.get_or_init(Server::start_if_installed).as_ref()).map(Server::database)
}

/// Reports the current test as skipped if there is no server.
pub fn or_skip<T>(server: Option<T>) -> Option<T> {
    if server.is_none() {
        super::skip("PostgreSQL: apt-get install postgresql");
    }
    server
}

/// The database of one test, removed on drop.
pub struct Database {
    /// Including user and password.
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

    /// The name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs SQL in this database.
    pub fn execute(&self, sql: &str) {
        execute(&self.url, sql);
    }

    /// The single number that a query returns.
    pub fn number(&self, sql: &str) -> i64 {
        Client::connect(&self.url, NoTls).unwrap().query_one(sql, &[]).unwrap().get(0)
    }

    /// Terminates all other connections to this database and returns their number.
    pub fn kill_connections(&self) -> i64 {
        self.number(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The server may be stopped; then the whole folder is removed.
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
    /// Kills the server and removes the folder when its standard input closes, at the latest with this process.
    watchdog: Child,
}

impl Server {
    /// Starts a server without databases of its own.
    pub fn start() -> Option<Server> {
        or_skip(Self::start_if_installed())
    }

    fn start_if_installed() -> Option<Server> {
        let binaries = binaries()?;
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

    /// A new, empty database on this server.
    pub fn database(&self) -> Database {
        Database::create(&self.admin_url())
    }

    /// Stops the server (fast shutdown) and waits until its process has ended.
    pub fn stop(&self) {
        let Some(pid) = self.pid() else { return };
        signal("INT", &[pid]);
        wait_until("the end of PostgreSQL", || !Path::new(&format!("/proc/{pid}")).exists());
    }

    /// Starts the server on its port, with its data, and waits until it accepts connections.
    pub fn launch(&self) {
        let log = fs::File::create(self.folder.join(format!("log-{}", self.port))).unwrap();
        let mut child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", &format!("unix_socket_directories={}", self.folder.display())])
            .args(["-c", if self.data().join("server.key").exists() { "ssl=on" } else { "ssl=off" }])
            .args([
                "-c",
                if self.data().join("clients.crt").exists() { "ssl_ca_file=clients.crt" } else { "ssl_ca_file=" },
            ])
            .args(["-c", "fsync=off", "-c", "max_connections=100", "-c", "log_min_messages=fatal"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        // The server is stopped by its process id. This thread only reaps the process.
        thread::spawn(move || child.wait());
        wait_until("PostgreSQL to accept connections", || Client::connect(&self.admin_url(), NoTls).is_ok());
    }

    /// Enables TLS with this certificate and key (PEM) from the next start on.
    pub fn use_tls(&self, certificate: &[u8], key: &[u8]) {
        self.write("server.crt", certificate);
        self.write("server.key", key);
    }

    /// Accepts certificates of clients that this authority (PEM) has signed, from the next start on.
    pub fn trust_clients_of(&self, authority: &[u8]) {
        self.write("clients.crt", authority);
    }

    /// Decides who may connect, and how, by these lines of `pg_hba.conf`, from the next start on. The user `ich` may
    /// always connect.
    pub fn use_hba(&self, lines: &str) {
        self.write(
            "pg_hba.conf",
            format!("{lines}\nlocal all ich trust\nhost all ich 127.0.0.1/32 trust\n").as_bytes(),
        );
    }

    fn write(&self, name: &str, contents: &[u8]) {
        let path = self.data().join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&path));
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its Unix socket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path in the folder of the server.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Suspends all processes of the server until the returned value is dropped.
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

    /// Read from the first line of the server's pid file.
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

/// A suspended server: it does not respond, while the kernel keeps its connections open. Resumed on drop.
pub struct Frozen {
    pids: Vec<u32>,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // `runuser` stops itself when its child is stopped, and does not continue by itself.
        let parents: Vec<u32> = self.pids.iter().filter_map(|pid| parent(*pid)).collect();
        signal("CONT", &self.pids);
        signal("CONT", &parents);
    }
}

/// Cleans up when its standard input closes. This works for statics, which are not dropped at exit, and for killed
/// processes.
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

pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The parent of a process: field 4 of `stat`. Field 2, in parentheses, may contain spaces.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The child processes of `of`.
fn children(of: u32) -> Vec<u32> {
    let is_child = |pid: &u32| parent(*pid) == Some(of);
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_child).collect()
}

/// Sends a signal to these processes. Processes that have ended are ignored.
fn signal(name: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let _ = Command::new("sh").arg("-c").arg(format!("kill -{name} {pids} 2>/dev/null")).status();
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A listener that never accepts or responds, like a host behind a firewall or a wrong address.
pub fn silent_listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}
