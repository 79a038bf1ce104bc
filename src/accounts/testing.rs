//! Shared by the unit tests of the accounts.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// A temporary folder, removed on drop.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    /// An empty folder. `name` must differ from the names in other tests.
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ich-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until `condition` holds.
pub(super) fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "the condition never became true");
        thread::sleep(Duration::from_millis(2));
    }
}
