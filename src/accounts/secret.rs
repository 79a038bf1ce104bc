//! The token secret of a server without `ICH_JWT_SECRET`: generated at the first start and kept in the data folder.
//!
//! Called at start.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::token::SECRET_BYTES_MIN;
use crate::random;

/// The length of a generated secret.
const GENERATED_BYTES: usize = 48;
/// How much of the file is read, because a wrong path may lead to a huge file.
const FILE_BYTES_MAX: u64 = 4096;

/// The secret in this file. If the file is missing, generates a secret and writes it to the file (mode 0600), synced to
/// the disk before it is used. Processes that start at the same time get the same secret. The folder must exist.
///
/// # Errors
/// The file cannot be read or created, or has fewer than [`SECRET_BYTES_MIN`] bytes. The texts contain the path, never
/// the secret.
pub(crate) fn load_or_generate(path: &Path) -> io::Result<Vec<u8>> {
    match load(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        loaded => return loaded,
    }
    generate(path).map_err(|error| in_file(path, &error))?;
    // Reads it back: another process may have been faster.
    load(path)
}

/// Checks the file like [`load_or_generate`], without creating it. A missing file is valid.
///
/// # Errors
/// See [`load_or_generate`].
pub(crate) fn check(path: &Path) -> io::Result<()> {
    match load(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        loaded => loaded.map(drop),
    }
}

fn load(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path).map_err(|error| in_file(path, &error))?;
    let mode = file.metadata()?.mode();
    if mode & 0o077 != 0 {
        log::warn!("{} can be read by others (mode {:o}): run chmod 600 on it", path.display(), mode & 0o777);
    }
    let mut secret = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut secret).map_err(|error| in_file(path, &error))?;
    if secret.len() < SECRET_BYTES_MIN {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "the token secret in {} has {} bytes, fewer than {SECRET_BYTES_MIN}: restore the file, or remove it; \
                 then all users must log in again",
                path.display(),
                secret.len()
            ),
        ));
    }
    Ok(secret)
}

/// Writes a temporary file and then links it to its name, which fails if the name exists. So the file is complete or
/// missing, and the first one is kept.
fn generate(path: &Path) -> io::Result<()> {
    let mut secret = [0; GENERATED_BYTES];
    random::fill(&mut secret)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{:016x}", random::u64()?));
    let temporary = Path::new(&temporary);
    let linked = write_new(temporary, &secret).and_then(|()| fs::hard_link(temporary, path));
    let removed = fs::remove_file(temporary);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        linked => linked?,
    }
    removed?;
    // The name is stored in the folder, so the folder has to be synced, too.
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
    fn it_is_generated_once_and_only_its_owner_can_read_it() {
        let folder = folder("once");
        let path = folder.0.join("secret");
        let secret = load_or_generate(&path).unwrap();
        assert_eq!(secret.len(), GENERATED_BYTES);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(load_or_generate(&path).unwrap(), secret);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "no temporary file is left");
        assert_ne!(load_or_generate(&folder.0.join("other")).unwrap(), secret);
    }

    #[test]
    fn processes_that_start_at_the_same_time_get_the_same_secret() {
        let folder = folder("race");
        let path = folder.0.join("secret");
        let barrier = std::sync::Barrier::new(8);
        let secrets: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        load_or_generate(&path).unwrap()
                    })
                })
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }

    #[test]
    fn a_short_or_unreadable_file_is_an_error_and_stays_unchanged() {
        let folder = folder("short");
        let path = folder.0.join("secret");
        fs::write(&path, "0123456789012345678901234567890").unwrap();
        let error = load_or_generate(&path).unwrap_err().to_string();
        assert!(error.contains("31 bytes") && !error.contains("0123"), "{error}");
        assert_eq!(fs::read(&path).unwrap().len(), 31);
        assert!(load_or_generate(&folder.0).is_err(), "a folder is no secret");
        assert!(load_or_generate(&folder.0.join("missing").join("secret")).is_err());
    }
}
