//! [`KeyFile`]: the file with the public keys of an outside issuer. A thread reads it again when it has changed, so that
//! an issuer can replace its keys while the server runs.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use log::{info, warn};
use thiserror::Error;

use super::keys::{self, KeySet, KeysError};
use crate::supervisor::Supervisor;
use crate::threads::{Stack, lock};

/// A larger file is another file by mistake. A JWKS with 64 keys has about 100 KiB.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// How often the thread asks the system whether the file has changed.
const INTERVAL: Duration = Duration::from_secs(1);

/// Why the file cannot be used: the end of a sentence that begins with its path.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// From opening or reading the file.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// More than [`FILE_BYTES_MAX`] bytes.
    #[error("is larger than 256 KiB: it is not a file of public keys")]
    TooLarge,
    /// The content.
    #[error("{0}")]
    Keys(#[from] KeysError),
}

/// The state of a file: two different contents have different versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds of the last change of the content, and of the inode.
    changed: [i64; 4],
}

/// The keys in a file. Any thread may use them; the thread of [`KeyFile::watch`] replaces them.
#[derive(Debug)]
pub(super) struct KeyFile {
    path: PathBuf,
    keys: Mutex<Arc<KeySet>>,
    loaded: Version,
}

impl KeyFile {
    /// Reads the file.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub(super) fn open(path: PathBuf) -> Result<Self, KeyFileError> {
        let (keys, loaded) = load(&path)?;
        Ok(KeyFile { path, keys: Mutex::new(Arc::new(keys)), loaded })
    }

    /// The keys of now.
    pub(super) fn keys(&self) -> Arc<KeySet> {
        lock(&self.keys).clone()
    }

    /// Starts the thread that reads the file again when it has changed. The thread ends after the file was dropped.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(super) fn watch(self: &Arc<Self>, supervisor: &Supervisor) -> io::Result<()> {
        let mut watch = Watch { file: Arc::downgrade(self), loaded: Some(self.loaded), last_error: String::new() };
        supervisor.spawn("token-keys", Stack::Normal, move || {
            while watch.look() {
                std::thread::sleep(INTERVAL);
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// What the thread knows.
struct Watch {
    file: Weak<KeyFile>,
    /// The version of the keys in use. `None`: the last attempt failed.
    loaded: Option<Version>,
    /// The text that was logged last, until the file can be used again. Empty: none.
    last_error: String,
}

impl Watch {
    /// Loads the file if it has changed. If it cannot be used, the earlier keys stay in use. False when nobody needs the
    /// keys any more.
    fn look(&mut self) -> bool {
        let Some(file) = self.file.upgrade() else { return false };
        let version = std::fs::metadata(&file.path).map(|metadata| version(&metadata)).ok();
        if version.is_some() && version == self.loaded {
            return true;
        }
        match load(&file.path) {
            Ok((keys, version)) => {
                info!("read {} keys of the issuer from {}", keys.len(), file.path.display());
                *lock(&file.keys) = Arc::new(keys);
                self.loaded = Some(version);
                self.last_error.clear();
            }
            Err(error) => {
                self.loaded = None;
                let error = error.to_string();
                if error != self.last_error {
                    warn!("{} {error}. The keys that were read before stay in use", file.path.display());
                    self.last_error = error;
                }
            }
        }
        true
    }
}

/// Whether the file can be used, for the check of the settings.
///
/// # Errors
/// See [`KeyFileError`].
pub(crate) fn check(path: &Path) -> Result<(), KeyFileError> {
    load(path).map(drop)
}

/// The version is that of before the read: if the file changes meanwhile, it is read again.
fn load(path: &Path) -> Result<(KeySet, Version), KeyFileError> {
    let file = File::open(path)?;
    let version = version(&file.metadata()?);
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(KeyFileError::TooLarge);
    }
    Ok((keys::parse(&bytes)?, version))
}

fn version(metadata: &std::fs::Metadata) -> Version {
    Version {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.size(),
        changed: [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()],
    }
}
