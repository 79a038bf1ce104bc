//! Starts instances of the server with the settings for a measurement: those under load, and those that replace them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use crate::history;
use crate::options::Options;
use crate::process::{Folder, Server, Starting};
use crate::target::random_hex;

/// Settings without which the server would limit the clients of this tool, which have one address.
const UNBOUNDED: [&str; 6] = [
    "ICH_MAX_CONNECTIONS",
    "ICH_MAX_CONNECTIONS_PER_ADDRESS",
    "ICH_MAX_CONNECTIONS_PER_USER",
    "ICH_MAX_MESSAGES_PER_SECOND",
    "ICH_MAX_LOGINS_PER_MINUTE",
    "ICH_MAX_REGISTRATIONS_PER_MINUTE",
];
/// The history of instances whose clients return: more than they miss.
const HISTORY_MESSAGES: &str = "10000";

/// The program and the settings of all instances of one lobby.
pub struct Launch {
    program: PathBuf,
    settings: Vec<(&'static str, OsString)>,
    /// The data folder of all instances. None with Kafka, where each instance has its own.
    folder: Option<Arc<Folder>>,
}

impl Launch {
    /// Prepares the instances that `options` describe; their tokens are signed with `secret`. Fills their event log, if
    /// the options say so.
    pub fn new(options: &Options, secret: &str) -> Result<Self, String> {
        let program = match &options.server {
            Some(path) => path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?,
            None => project_server()?,
        };
        let mut settings: Vec<(&str, OsString)> = vec![
            ("ICH_HOST", "127.0.0.1".into()),
            ("ICH_PORT", "0".into()),
            ("ICH_JWT_SECRET", secret.into()),
            ("ICH_LOG", "warn".into()),
        ];
        settings.extend(UNBOUNDED.map(|name| (name, OsString::from("0"))));
        settings.extend(options.event_log.iter().map(|kind| ("ICH_EVENT_LOG", kind.into())));
        settings.extend(options.database.iter().map(|url| ("ICH_DATABASE_URL", url.into())));
        if options.restart_every > 0.0 {
            settings.push(("ICH_HISTORY_MESSAGES", HISTORY_MESSAGES.into()));
        }
        let mut folder = None;
        if let Some(brokers) = &options.kafka {
            let topic = format!("ich-load-{}", random_hex(6)?);
            history::write_to_kafka(brokers, &topic, options.history)?;
            settings.push(("ICH_KAFKA_BROKERS", brokers.into()));
            settings.push(("ICH_KAFKA_TOPIC", topic.into()));
        } else {
            let shared = new_folder()?;
            history::write_to_sqlite(shared.path(), options.history)?;
            folder = Some(shared);
        }
        Ok(Self { program, settings, folder })
    }

    /// Starts one more instance. As with [`Server::start`], the calling thread has to live as long as it.
    pub fn start(&self) -> Result<Starting, String> {
        let folder = match &self.folder {
            Some(shared) => shared.clone(),
            None => new_folder()?,
        };
        let mut settings = self.settings.clone();
        settings.push(("ICH_DATA_DIR", folder.path().into()));
        Server::start(&self.program, &[], &settings, Some(folder))
    }
}

fn new_folder() -> Result<Arc<Folder>, String> {
    Folder::new(&random_hex(4)?).map(Arc::new)
}

/// The path of the server in the build folder of this example. Builds the server if it is missing or older than its
/// sources.
fn project_server() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let profile = this.ancestors().nth(2).ok_or("this program is not in a build folder: use --server")?;
    let (binary, sources) = (profile.join("ich"), Path::new(env!("CARGO_MANIFEST_DIR")));
    let built = modified(&binary);
    if built.is_none() || built < newest(&sources.join("src")).max(modified(&sources.join("Cargo.toml"))) {
        let release = profile.ends_with("release");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--bin", "ich"]).args(release.then_some("--release")).current_dir(sources);
        eprintln!(
            "the server is missing or older than its sources; running cargo build{} --bin ich",
            if release { " --release" } else { "" }
        );
        let status = cargo.status().map_err(|error| format!("cannot run cargo: {error}; use --server"))?;
        if !status.success() {
            return Err("the server could not be built".to_owned());
        }
    }
    if !binary.exists() {
        return Err(format!("no server at {}: use --server", binary.display()));
    }
    Ok(binary)
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|found| found.modified()).ok()
}

fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| if entry.path().is_dir() { newest(&entry.path()) } else { modified(&entry.path()) })
        .max()
}
