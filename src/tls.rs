//! TLS connections. (librdkafka uses the same library, OpenSSL, for connections to Kafka.)

use std::path::Path;

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use postgres_openssl::{MakeTlsConnector, set_postgresql_alpn};

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

/// Whether this PEM text contains a certificate that can be parsed, and none that cannot.
pub(crate) fn has_certificate(pem: &[u8]) -> bool {
    X509::stack_from_pem(pem).is_ok_and(|certificates| !certificates.is_empty())
}

/// Makes TLS connections to PostgreSQL. `ca_file`: the certificates of the trusted authorities, as PEM; `None`: those
/// of the system.
///
/// # Errors
/// The file cannot be read, or contains no certificate.
pub(crate) fn postgres_connector(verify: Verify, ca_file: Option<&str>) -> Result<MakeTlsConnector, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    set_postgresql_alpn(&mut builder)?;
    if verify == Verify::Nothing {
        builder.set_verify(SslVerifyMode::NONE);
    } else {
        let system = || SYSTEM_CA_FILES.iter().copied().find(|path| Path::new(path).exists());
        if let Some(path) = ca_file.or_else(system) {
            builder.set_ca_file(path)?;
        }
    }
    let mut connector = MakeTlsConnector::new(builder.build());
    connector.set_callback(move |connection, _host| {
        connection.set_verify_hostname(verify == Verify::CertificateAndHost);
        Ok(())
    });
    Ok(connector)
}
