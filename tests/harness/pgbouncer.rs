//! A real pgbouncer between a server and its database. If it is not installed, tests are skipped; with `CI` set they fail.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::ports::free_port;
use super::postgres::is_root;
use super::server::new_dir;
use super::{skip, wait_until};

/// A running pooler. It ends with this value, or with this process.
pub struct Pgbouncer {
    port: u16,
    folder: PathBuf,
    /// Kills the pooler when its standard input closes.
    watchdog: Child,
}

impl Pgbouncer {
    /// A pooler for the databases of the server on this port of loopback, whose user is `ich`. `settings`: lines of its
    /// configuration.
    pub fn start(database_port: u16, settings: &str) -> Option<Pgbouncer> {
        let installed = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].iter().find(|path| fs::metadata(path).is_ok());
        let Some(program) = installed else {
            skip("pgbouncer: apt-get install pgbouncer");
            return None;
        };
        let (port, folder) = (free_port(), new_dir());
        let configuration = folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={database_port} user=ich\n[pgbouncer]\nlisten_addr=127.0.0.1\n\
             listen_port={port}\nunix_socket_dir=\nauth_type=any\nlogfile={log}\npidfile={configuration}.pid\n{settings}\n",
            log = folder.join("log").display(),
            configuration = configuration.display(),
        );
        fs::write(&configuration, text).expect("writing");
        // It refuses to run as root.
        let run = if is_root() {
            let owned = Command::new("chown").arg("-R").arg("postgres").arg(&folder).status();
            assert!(owned.is_ok_and(|status| status.success()), "chown");
            "runuser -u postgres --"
        } else {
            ""
        };
        let script =
            format!("trap '' INT TERM HUP; {run} {program} -q \"$0\" & read -r _; kill -KILL $(cat \"$0.pid\") $!");
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(script)
            .arg(&configuration)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let pgbouncer = Pgbouncer { port, folder, watchdog: command.spawn().expect("starting pgbouncer") };
        wait_until("pgbouncer to listen", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(pgbouncer)
    }

    /// The URL of a database behind the pooler.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://ich@127.0.0.1:{}/{database}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
