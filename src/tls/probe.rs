//! Finds out why the certificate of a server is not accepted. librdkafka reports only that it is not.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::{X509Ref, X509StoreContextRef};

use super::trust;
use crate::threads::lock;

/// The time for the connection, and for each read and write of the handshake.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);
/// The names of a certificate that a text repeats.
const NAMES_MAX: usize = 5;
/// The characters of one such name.
const NAME_CHARS_MAX: usize = 100;

/// Connects to `host`, and returns the text of OpenSSL about the certificate of the server, with the times or names in the
/// certificate that are the cause. `None`: the certificate is accepted, or the server does not answer. `authorities`: see
/// [`super::postgres_connector`]; may be a folder.
pub(crate) fn certificate_problem(host: &str, port: u16, authorities: Option<&Path>) -> Option<String> {
    let stream = connect(host, port).ok()?;
    let mut builder = SslConnector::builder(SslMethod::tls_client()).ok()?;
    trust(&mut builder, authorities).ok()?;
    let problem = Arc::new(Mutex::new(None));
    let found = Arc::clone(&problem);
    builder.set_verify_callback(SslVerifyMode::PEER, move |is_accepted, context| {
        if !is_accepted {
            lock(&found).get_or_insert_with(|| describe(context));
        }
        is_accepted
    });
    // Fails if the certificate is not accepted; also if the server requires a certificate of the client.
    let _ = builder.build().connect(host, stream);
    lock(&problem).take()
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let address = (host, port).to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let stream = TcpStream::connect_timeout(&address, STEP_TIMEOUT)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.set_write_timeout(Some(STEP_TIMEOUT))?;
    Ok(stream)
}

fn describe(context: &X509StoreContextRef) -> String {
    let text = context.error().error_string();
    let Some(certificate) = context.current_cert() else { return text.to_owned() };
    let (from, until) = (certificate.not_before(), certificate.not_after());
    match super::CertificateFault::named_in(text) {
        Some(super::CertificateFault::Expired) => format!("{text} ({until})"),
        Some(super::CertificateFault::NotYetValid) => format!("{text} (before {from})"),
        Some(super::CertificateFault::WrongName) => format!("{text}: it is for {}", names(certificate)),
        _ => text.to_owned(),
    }
}

/// The names come from the other side, so they are escaped and bounded.
fn names(certificate: &X509Ref) -> String {
    let alternatives = certificate.subject_alt_names();
    let names: Vec<String> = alternatives
        .iter()
        .flatten()
        .filter_map(|name| match (name.dnsname(), name.ipaddress()) {
            (Some(dns), _) => Some(dns.chars().take(NAME_CHARS_MAX).flat_map(char::escape_debug).collect()),
            (None, Some(&[a, b, c, d])) => Some(format!("{a}.{b}.{c}.{d}")),
            (None, Some(v6)) => Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(v6).ok()?).to_string()),
            (None, None) => None,
        })
        .take(NAMES_MAX)
        .collect();
    if names.is_empty() { "no name".to_owned() } else { names.join(", ") }
}
