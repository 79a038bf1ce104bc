//! Real reverse proxies, with the configuration files of `doc/proxies/`: a test replaces ports, addresses, certificates,
//! folders and what the machine may not allow, and nothing else. Each listens on loopback only, and ends with the value that stands for it.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::certificates::Authority;
use super::ports::free_ports;
use super::postgres::is_root;
use super::server::new_dir;
use super::{skip, skip_also_in_ci, wait_until};

/// The name of the site in the configuration files.
pub const SITE: &str = "chat.example";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Haproxy,
    Caddy,
    Httpd,
}

/// A running proxy.
pub struct Proxy {
    pub kind: Kind,
    /// Where it accepts TLS.
    pub address: SocketAddr,
    folder: PathBuf,
    /// Ends the proxy when its standard input closes, also if this process is killed.
    watchdog: Child,
}

impl Kind {
    /// The program and its Debian package.
    fn program(self) -> (&'static str, &'static str) {
        match self {
            Kind::Nginx => ("/usr/sbin/nginx", "nginx"),
            Kind::Haproxy => ("/usr/sbin/haproxy", "haproxy"),
            Kind::Caddy => ("/usr/bin/caddy", "caddy"),
            Kind::Httpd => ("/usr/sbin/apache2", "apache2-bin"),
        }
    }

    /// Whether the proxy is installed. If not, the test is skipped; with `CI` set, it fails without nginx and HAProxy.
    pub fn is_installed(self) -> bool {
        let (program, package) = self.program();
        let is_installed = Path::new(program).exists();
        let missing = format!("{program}: apt-get install {package}");
        match self {
            _ if is_installed => {}
            Kind::Nginx | Kind::Haproxy => skip(&missing),
            Kind::Caddy | Kind::Httpd => skip_also_in_ci(&missing),
        }
        is_installed
    }

    /// The name of the file in `doc/proxies/`.
    fn file(self) -> &'static str {
        match self {
            Kind::Nginx => "nginx.conf",
            Kind::Haproxy => "haproxy.cfg",
            Kind::Caddy => "Caddyfile",
            Kind::Httpd => "httpd.conf",
        }
    }

    /// What differs between an installed proxy and one of a test: a text of the documented file, and its replacement.
    fn replacements(self, ports: Ports, folder: &Path) -> Vec<(String, String)> {
        let Ports { plain, tls } = ports;
        let dir = folder.display();
        let own = |text: &str, replacement: String| (text.to_owned(), replacement);
        match self {
            Kind::Nginx => vec![
                own("listen 80;", format!("listen 127.0.0.1:{plain};")),
                own("listen 443 ssl", format!("listen 127.0.0.1:{tls} ssl")),
                own("        listen [::]:80;\n", String::new()),
                own("        listen [::]:443 ssl http2;\n", String::new()),
                own("/etc/ssl/chat.example.pem", format!("{dir}/certificate.pem")),
                own("/etc/ssl/private/chat.example.key", format!("{dir}/key.pem")),
                own("/run/", format!("{dir}/")),
                own("/var/log/nginx/", format!("{dir}/")),
                // A user other than root may not write to the default folders.
                own(
                    "http {\n",
                    format!(
                        "http {{\n client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path \
                         {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n"
                    ),
                ),
            ],
            Kind::Haproxy => vec![
                own("bind :::80 v4v6", format!("bind 127.0.0.1:{plain}")),
                own("bind :::443 v4v6", format!("bind 127.0.0.1:{tls}")),
                own("/etc/haproxy/chat.example.pem", format!("{dir}/both.pem")),
                // A machine for tests may not allow as many descriptors.
                own("maxconn 20000", "maxconn 1000".to_owned()),
                own("log /dev/log local0", "log stderr format raw local0".to_owned()),
            ],
            Kind::Caddy => vec![
                own("chat.example {\n", format!("{SITE}:{tls} {{\n\tbind 127.0.0.1\n")),
                own("/etc/ssl/chat.example.pem", format!("{dir}/certificate.pem")),
                own("/etc/ssl/private/chat.example.key", format!("{dir}/key.pem")),
                own("\tgrace_period", "\tadmin off\n\tauto_https disable_redirects\n\tgrace_period".to_owned()),
            ],
            Kind::Httpd => vec![
                own("Listen 80\n", format!("Listen 127.0.0.1:{plain}\n")),
                own("Listen 443\n", format!("Listen 127.0.0.1:{tls}\n")),
                own("<VirtualHost *:80>", format!("<VirtualHost *:{plain}>")),
                own("<VirtualHost *:443>", format!("<VirtualHost *:{tls}>")),
                own("/etc/ssl/chat.example.pem", format!("{dir}/certificate.pem")),
                own("/etc/ssl/private/chat.example.key", format!("{dir}/key.pem")),
                own("/run/apache2", format!("{dir}")),
                own("/var/log/apache2", format!("{dir}")),
            ],
        }
    }

    /// The command that runs the proxy in the foreground.
    fn command(self, configuration: &Path, folder: &Path) -> Vec<String> {
        let (program, _) = self.program();
        let (configuration, folder) = (configuration.display().to_string(), folder.display().to_string());
        let arguments = match self {
            Kind::Nginx => vec!["-p", &folder, "-c", &configuration, "-g", "daemon off;"],
            Kind::Haproxy => vec!["-db", "-f", &configuration],
            Kind::Caddy => vec!["run", "--adapter", "caddyfile", "--config", &configuration],
            Kind::Httpd => vec!["-f", &configuration, "-D", "FOREGROUND"],
        };
        std::iter::once(program).chain(arguments).map(str::to_owned).collect()
    }
}

#[derive(Clone, Copy)]
struct Ports {
    plain: u16,
    tls: u16,
}

impl Proxy {
    /// The documented proxy in front of these two instances.
    pub fn start(kind: Kind, authority: &Authority, instances: [SocketAddr; 2]) -> Proxy {
        Self::start_with(kind, authority, instances, |configuration| configuration)
    }

    /// As [`Proxy::start`], with a change of the configuration that the documentation describes.
    pub fn start_with(
        kind: Kind,
        authority: &Authority,
        instances: [SocketAddr; 2],
        change: impl Fn(String) -> String,
    ) -> Proxy {
        let folder = new_dir();
        let ports = free_ports(2);
        let ports = Ports { plain: ports[0], tls: ports[1] };
        let certificate = authority.issue(SITE, &[SITE]);
        for (name, bytes) in [
            ("certificate.pem", &certificate.certificate),
            ("key.pem", &certificate.key),
            ("both.pem", &[certificate.certificate.as_slice(), &certificate.key].concat()),
        ] {
            fs::write(folder.join(name), bytes).expect("writing");
        }
        let documented = Path::new(env!("CARGO_MANIFEST_DIR")).join("doc/proxies").join(kind.file());
        let mut text = change(fs::read_to_string(documented).expect("the documented configuration"));
        let instance = |port: u16, instance: SocketAddr| (format!("127.0.0.1:{port}"), instance.to_string());
        let mut replacements = vec![instance(8080, instances[0]), instance(8081, instances[1])];
        replacements.extend(kind.replacements(ports, &folder));
        for (from, to) in replacements {
            assert!(text.contains(&from), "{}: no {from:?}", kind.file());
            text = text.replace(&from, &to);
        }
        if !is_root() {
            let names_user = |line: &str| ["user ", "group ", "User ", "Group "].iter().any(|it| line.starts_with(it));
            text = text.lines().filter(|line| !names_user(line.trim_start())).map(|line| format!("{line}\n")).collect();
        }
        let configuration = folder.join(kind.file());
        fs::write(&configuration, text).expect("writing");
        let watchdog = watch(&kind.command(&configuration, &folder), &folder);
        let proxy = Proxy { kind, address: ([127, 0, 0, 1], ports.tls).into(), folder, watchdog };
        wait_until("the proxy to listen", || TcpStream::connect(proxy.address).is_ok());
        proxy
    }

    fn log(&self) -> String {
        ["log", "error.log"].map(|name| fs::read_to_string(self.folder.join(name)).unwrap_or_default()).concat()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
        if std::thread::panicking() {
            eprintln!("log of {:?}:\n{}", self.kind, self.log());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Runs a command until the standard input of the returned process closes.
fn watch(command: &[String], folder: &Path) -> Child {
    const SCRIPT: &str = r#"
        "$@" & proxy=$!
        trap '' INT TERM HUP
        read -r _
        kill -TERM $proxy
        (sleep 10; kill -KILL $proxy) & killer=$!
        wait $proxy
        kill $killer
    "#;
    let log = fs::File::create(folder.join("log")).expect("the log");
    Command::new("sh")
        .args(["-c", SCRIPT, "sh"])
        .args(command)
        .current_dir(folder)
        .env("HOME", folder)
        .env("XDG_DATA_HOME", folder)
        .env("XDG_CONFIG_HOME", folder)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().expect("the log"))
        .stderr(log)
        .spawn()
        .expect("starting the proxy")
}
