//! The files that settings name, read by [`Reader`]: secrets, certificates and the public keys of an issuer.

use std::path::{Path, PathBuf};

use super::reader::Reader;
use crate::accounts::token;
use crate::tls::{self, PairError};

/// The most bytes of a secret. A secret is one line; a larger file is another file by mistake.
const SECRET_BYTES_MAX: usize = 16 * 1024;

impl Reader<'_> {
    /// A secret, from the setting with this name or from the file that `{name}_FILE` names. No error repeats the
    /// secret.
    pub(super) fn secret(&mut self, name: &str) -> Option<String> {
        let file_setting = format!("{name}_FILE");
        let value = self.optional(name);
        let Some(path) = self.optional(&file_setting) else { return value };
        if value.is_some() {
            self.errors.push(format!("{name} and {file_setting} are both set: choose one"));
            return value;
        }
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.error(&file_setting, &path, &format!("cannot be read: {error}"));
                return None;
            }
        };
        // Editors and `echo` end a file with a newline, which is not part of the secret.
        let line = bytes.strip_suffix(b"\n").map_or(&*bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
        let error = match std::str::from_utf8(line) {
            Ok("") => "is empty",
            Ok(_) if line.len() > SECRET_BYTES_MAX => "is too large for a secret (16 KiB at most)",
            Ok(text) if text.contains('\0') => "contains a NUL character",
            Ok(text) => return Some(text.to_owned()),
            Err(_) => "is not UTF-8",
        };
        self.error(&file_setting, &path, error);
        None
    }

    /// Checks the certificates of the trusted authorities.
    pub(super) fn check_certificates(&mut self, name: &str, path: &str) {
        if let Err(error) = tls::check_authorities(Path::new(path)) {
            self.error(name, path, &error);
        }
    }

    /// The certificate of this client, and its key: each the name of the setting and the path.
    pub(super) fn check_client_certificate(&mut self, certificate: (&str, &str), key: (&str, &str)) {
        match tls::ClientCertificate::read(Path::new(certificate.1), Path::new(key.1)) {
            Ok(_) => {}
            Err(PairError::Certificate(error)) => self.error(certificate.0, certificate.1, &error),
            Err(PairError::Key(error)) => self.error(key.0, key.1, &error),
        }
    }

    /// The file with the public keys of the issuer.
    pub(super) fn jwt_public_key_file(&mut self) -> Option<PathBuf> {
        let name = "ICH_JWT_PUBLIC_KEY_FILE";
        let path = PathBuf::from(self.optional(name)?);
        if let Err(error) = token::check_key_file(&path) {
            self.error(name, &path.display().to_string(), &error.to_string());
        }
        Some(path)
    }
}
