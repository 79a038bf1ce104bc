//! The token secret of a server that is given none: drawn at its first start and kept in the data folder.
//!
//! Called once, at start.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::random;

/// What is drawn.
const SECRET_BYTES: usize = 48;
/// What a file must have at least.
const MIN_SECRET_BYTES: usize = 32;
/// What is read at most: a wrong path must not fill the memory.
const MAX_SECRET_BYTES: u64 = 4096;

/// The secret in this file; when there is none, draws one and keeps it there (mode 0600), on the disk before it is
/// used. Processes that start at once get the same one. The folder must exist.
///
/// # Errors
/// When the file cannot be read or made, or has fewer than 32 bytes. The texts name the path, never the secret.
pub fn load_or_draw(path: &Path) -> io::Result<Vec<u8>> {
    match load(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        loaded => return loaded,
    }
    draw(path).map_err(|error| in_file(path, &error))?;
    // Whoever came first has it: read back, not remembered.
    load(path)
}

fn load(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path).map_err(|error| in_file(path, &error))?;
    let mode = file.metadata()?.mode();
    if mode & 0o077 != 0 {
        log::warn!("{} can be read by others (mode {:o}): chmod 600 it", path.display(), mode & 0o777);
    }
    let mut secret = Vec::new();
    file.take(MAX_SECRET_BYTES).read_to_end(&mut secret).map_err(|error| in_file(path, &error))?;
    if secret.len() < MIN_SECRET_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "the token secret in {} has {} bytes, fewer than {MIN_SECRET_BYTES}: restore the file, or remove it and \
                 all must log in again",
                path.display(),
                secret.len()
            ),
        ));
    }
    Ok(secret)
}

/// Written under another name and then linked, which fails when the name is taken: so the file is whole or not there,
/// and the first one stays.
fn draw(path: &Path) -> io::Result<()> {
    let mut secret = [0; SECRET_BYTES];
    random::fill(&mut secret)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{:016x}", random::u64()?));
    let draft = Path::new(&draft);
    let linked = write_new(draft, &secret).and_then(|()| fs::hard_link(draft, path));
    let removed = fs::remove_file(draft);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        linked => linked?,
    }
    removed?;
    // The name is in the folder; the folder must be on the disk too.
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn in_file(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the token secret in {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Folder;
    use super::*;

    fn folder(name: &str) -> Folder {
        Folder::new(&format!("secret-{name}"))
    }

    #[test]
    fn it_is_drawn_once_and_for_the_owner_only() {
        let folder = folder("once");
        let path = folder.0.join("secret");
        let secret = load_or_draw(&path).unwrap();
        assert_eq!(secret.len(), SECRET_BYTES);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(load_or_draw(&path).unwrap(), secret);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "no draft is left");
        assert_ne!(load_or_draw(&folder.0.join("other")).unwrap(), secret);
    }

    #[test]
    fn all_that_start_at_once_have_the_same() {
        let folder = folder("race");
        let path = folder.0.join("secret");
        let barrier = std::sync::Barrier::new(8);
        let secrets: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        load_or_draw(&path).unwrap()
                    })
                })
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }

    #[test]
    fn a_short_or_unreadable_file_is_told_and_left_alone() {
        let folder = folder("short");
        let path = folder.0.join("secret");
        fs::write(&path, "0123456789012345678901234567890").unwrap();
        let error = load_or_draw(&path).unwrap_err().to_string();
        assert!(error.contains("31 bytes") && !error.contains("0123"), "{error}");
        assert_eq!(fs::read(&path).unwrap().len(), 31);
        assert!(load_or_draw(&folder.0).is_err(), "a folder is no secret");
        assert!(load_or_draw(&folder.0.join("missing").join("secret")).is_err());
    }
}
