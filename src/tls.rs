//! TLS connections. (librdkafka uses the same library, OpenSSL, for connections to Kafka.)

mod client_certificate;
#[cfg(feature = "kafka")]
mod probe;

use std::fs;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use postgres_openssl::{MakeTlsConnector, set_postgresql_alpn};

pub(crate) use self::client_certificate::{ClientCertificate, PairError};
#[cfg(feature = "kafka")]
pub(crate) use self::probe::certificate_problem;

/// The files in which distributions keep the certificates of public authorities.
const SYSTEM_CA_FILES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What is checked in the certificate of the PostgreSQL server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verify {
    Nothing,
    /// A trusted authority has signed it.
    Certificate,
    /// The same, and the certificate is for the name of the host.
    CertificateAndHost,
}

/// Why a server's certificate is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CertificateFault {
    Expired,
    NotYetValid,
    WrongName,
    Untrusted,
}

impl CertificateFault {
    /// The fault that a text of OpenSSL names.
    pub(crate) fn named_in(text: &str) -> Option<Self> {
        const TEXTS: [(&str, CertificateFault); 9] = [
            ("certificate has expired", CertificateFault::Expired),
            ("certificate is not yet valid", CertificateFault::NotYetValid),
            ("hostname mismatch", CertificateFault::WrongName),
            ("IP address mismatch", CertificateFault::WrongName),
            ("self-signed certificate", CertificateFault::Untrusted),
            ("unable to get issuer certificate", CertificateFault::Untrusted),
            ("unable to get local issuer certificate", CertificateFault::Untrusted),
            ("unable to verify the first certificate", CertificateFault::Untrusted),
            ("certificate signature failure", CertificateFault::Untrusted),
        ];
        TEXTS.iter().find(|(part, _)| text.contains(part)).map(|(_, fault)| *fault)
    }
}

/// Checks that this PEM file contains a certificate, and none that cannot be parsed. A folder is valid and is not read:
/// OpenSSL accepts a folder of certificates, too.
///
/// # Errors
/// A text that follows the name of the setting and of the file.
pub(crate) fn check_authorities(path: &Path) -> Result<(), String> {
    if path.is_dir() { Ok(()) } else { read_certificates(path).map(drop) }
}

fn read_certificates(path: &Path) -> Result<Vec<X509>, String> {
    let pem = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    match X509::stack_from_pem(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err("contains no certificate in PEM format (-----BEGIN CERTIFICATE-----)".to_owned()),
    }
}

/// Makes TLS connections to PostgreSQL. `ca_file`: the certificates of the trusted authorities, as PEM; `None`: those of
/// the system. The caller has checked the file.
///
/// # Errors
/// OpenSSL refuses one of the files.
pub(crate) fn postgres_connector(
    verify: Verify,
    ca_file: Option<&Path>,
    certificate: Option<&ClientCertificate>,
) -> Result<MakeTlsConnector, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    set_postgresql_alpn(&mut builder)?;
    if verify == Verify::Nothing {
        builder.set_verify(SslVerifyMode::NONE);
    } else {
        trust(&mut builder, ca_file)?;
    }
    if let Some(certificate) = certificate {
        certificate.add_to(&mut builder)?;
    }
    let mut connector = MakeTlsConnector::new(builder.build());
    connector.set_callback(move |connection, _host| {
        connection.set_verify_hostname(verify == Verify::CertificateAndHost);
        Ok(())
    });
    Ok(connector)
}

/// Makes TLS connections to a website: trusts the authorities of the system, and those in the file that `SSL_CERT_FILE`
/// names, as OpenSSL does.
///
/// # Errors
/// OpenSSL cannot read the file of the system.
pub(crate) fn web_connector() -> Result<SslConnector, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    trust(&mut builder, None)?;
    Ok(builder.build())
}

/// Trusts the authorities in this file or folder, or those of the system. OpenSSL is compiled in, and knows only the paths
/// of the machine that built it.
fn trust(builder: &mut SslConnectorBuilder, authorities: Option<&Path>) -> Result<(), ErrorStack> {
    let system = || SYSTEM_CA_FILES.iter().map(Path::new).find(|path| path.exists());
    match authorities.or_else(system) {
        Some(folder) if folder.is_dir() => builder.load_verify_locations(None, Some(folder)),
        Some(file) => builder.set_ca_file(file),
        None => Ok(()),
    }
}
