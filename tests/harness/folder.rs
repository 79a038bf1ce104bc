//! A temporary folder that is removed with the test.

use std::fs;
use std::path::PathBuf;

use super::server::new_dir;

/// A temporary folder, removed on drop.
pub struct Folder(pub PathBuf);

impl Folder {
    /// A new, empty folder.
    pub fn new() -> Folder {
        Folder(new_dir())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
