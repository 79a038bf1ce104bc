//! [`TlsParameters`]: the parameters of the database URL that are about TLS, with their meaning in libpq.

use std::path::Path;

use postgres::config::SslMode;
use postgres_openssl::MakeTlsConnector;

use super::target::one_of;
use crate::tls::{self, ClientCertificate, PairError, Verify};

/// The values of `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum TlsMode {
    Disable,
    /// Encrypted only if the server accepts nothing else.
    Allow,
    /// Encrypted if the server accepts that.
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl TlsMode {
    const VALUES: [(&'static str, TlsMode); 6] = [
        ("disable", TlsMode::Disable),
        ("allow", TlsMode::Allow),
        ("prefer", TlsMode::Prefer),
        ("require", TlsMode::Require),
        ("verify-ca", TlsMode::VerifyCa),
        ("verify-full", TlsMode::VerifyFull),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::VALUES.iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }

    /// Whether a connection may be encrypted or not, as the server likes.
    pub(super) fn is_optional(self) -> bool {
        self.attempts().1.is_some()
    }

    /// How to connect, and how to connect when that fails.
    pub(super) fn attempts(self) -> (SslMode, Option<SslMode>) {
        match self {
            TlsMode::Disable => (SslMode::Disable, None),
            TlsMode::Allow => (SslMode::Disable, Some(SslMode::Require)),
            TlsMode::Prefer => (SslMode::Require, Some(SslMode::Disable)),
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => (SslMode::Require, None),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct TlsParameters {
    mode: TlsMode,
    root_cert: Option<String>,
    cert: Option<String>,
    key: Option<String>,
}

impl TlsParameters {
    /// False: the parameter is not about TLS.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "sslmode" => self.mode = one_of(name, value, &TlsMode::VALUES)?,
            "sslrootcert" => self.root_cert = Some(value.to_owned()),
            "sslcert" => self.cert = Some(value.to_owned()),
            "sslkey" => self.key = Some(value.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// # Errors
    /// A file cannot be used. The text names the parameter and the file.
    pub(super) fn connector(&self) -> Result<(TlsMode, MakeTlsConnector), String> {
        let authorities = self.root_cert.as_deref().filter(|path| *path != "system");
        if let Some(path) = authorities {
            tls::check_authorities(Path::new(path)).map_err(|error| format!("sslrootcert={path} {error}"))?;
        }
        let certificate = match (&self.cert, &self.key) {
            (None, None) => None,
            (Some(_), None) => return Err("sslcert needs sslkey, the file with its private key".to_owned()),
            (None, Some(_)) => return Err("sslkey needs sslcert, the file with its certificate".to_owned()),
            (Some(cert), Some(key)) => {
                let pair = ClientCertificate::read(Path::new(cert), Path::new(key));
                Some(pair.map_err(|error| match error {
                    PairError::Certificate(error) => format!("sslcert={cert} {error}"),
                    PairError::Key(error) => format!("sslkey={key} {error}"),
                })?)
            }
        };
        let verify = match self.mode {
            TlsMode::Disable | TlsMode::Allow | TlsMode::Prefer => Verify::Nothing,
            TlsMode::Require if self.root_cert.is_none() => Verify::Nothing,
            TlsMode::Require | TlsMode::VerifyCa => Verify::Certificate,
            TlsMode::VerifyFull => Verify::CertificateAndHost,
        };
        let connector = tls::postgres_connector(verify, authorities.map(Path::new), certificate.as_ref());
        Ok((self.mode, connector.map_err(|error| format!("sslrootcert, sslcert or sslkey cannot be used: {error}"))?))
    }
}
