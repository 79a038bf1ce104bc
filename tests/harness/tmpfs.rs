//! A small disk that can be filled: a tmpfs, which needs root to mount.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::new_dir;
use super::skip;

/// A mounted tmpfs, unmounted on drop.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts a tmpfs of this size. `None` if this process may not mount: the test is reported as skipped and must
    /// return.
    pub fn mount(kib: u32) -> Option<Tmpfs> {
        let dir = new_dir();
        let size = format!("size={kib}k,mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&dir).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Tmpfs(dir));
        }
        let _ = fs::remove_dir(&dir);
        skip("the right to mount a tmpfs (root)");
        None
    }

    /// The path at which it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Fills all free space.
    pub fn fill(&self) {
        let mut filler = File::options().create(true).append(true).open(self.filler()).expect("a file");
        let zeros = [0; 4096];
        loop {
            match filler.write(&zeros) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("filling the disk: {error}"),
            }
        }
    }

    /// Frees the space that [`Tmpfs::fill`] filled.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("removing");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}
