//! Certificates for tests: an authority of one's own, and what it signs.

use std::sync::atomic::{AtomicU32, Ordering};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name, X509NameBuilder};

/// Days from now; negative: ago.
pub type Days = i64;

/// Valid now.
pub const VALID: (Days, Days) = (-1, 2);
pub const EXPIRED: (Days, Days) = (-3, -1);
pub const NOT_YET_VALID: (Days, Days) = (1, 3);

/// Signs certificates.
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

/// A certificate and its private key, both PEM.
pub struct Certificate {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

impl Authority {
    pub fn new() -> Authority {
        let key = new_key();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = name(&format!("ich test authority {}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let certificate = build(&name, &key, &[], VALID, None);
        Authority { certificate, key }
    }

    /// Its own certificate, as PEM.
    pub fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().expect("PEM")
    }

    /// A certificate for these host names and addresses, valid now.
    pub fn issue(&self, common_name: &str, hosts: &[&str]) -> Certificate {
        self.issue_for(common_name, hosts, VALID)
    }

    /// A certificate that is valid in this time.
    pub fn issue_for(&self, common_name: &str, hosts: &[&str], valid: (Days, Days)) -> Certificate {
        let key = new_key();
        let certificate = build(&name(common_name), &key, hosts, valid, Some(self));
        Certificate {
            certificate: certificate.to_pem().expect("PEM"),
            key: key.private_key_to_pem_pkcs8().expect("PEM"),
        }
    }
}

/// The key, encrypted with a passphrase.
pub fn encrypted(key: &[u8]) -> Vec<u8> {
    let key = PKey::private_key_from_pem(key).expect("a key");
    key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"a passphrase").expect("PEM")
}

fn new_key() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key")
}

fn name(common_name: &str) -> X509Name {
    let mut name = X509NameBuilder::new().expect("a name");
    name.append_entry_by_text("CN", common_name).expect("a name");
    name.build()
}

fn time(days: Days) -> Asn1Time {
    let now = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_secs() as i64;
    Asn1Time::from_unix(now + days * 86_400).expect("a time")
}

/// Signed by `authority`, or by itself.
fn build(
    name: &X509Name,
    key: &PKey<Private>,
    hosts: &[&str],
    valid: (Days, Days),
    authority: Option<&Authority>,
) -> X509 {
    let mut serial = BigNum::new().expect("a number");
    serial.rand(64, MsbOption::MAYBE_ZERO, false).expect("a number");
    let mut builder = X509::builder().expect("a certificate");
    builder.set_version(2).expect("a version");
    builder.set_serial_number(&serial.to_asn1_integer().expect("a number")).expect("a number");
    builder.set_subject_name(name).expect("a name");
    builder.set_issuer_name(authority.map_or(name, |it| it.certificate.subject_name())).expect("a name");
    builder.set_pubkey(key).expect("a key");
    builder.set_not_before(&time(valid.0)).expect("a time");
    builder.set_not_after(&time(valid.1)).expect("a time");
    if authority.is_none() {
        let constraints = BasicConstraints::new().critical().ca().build().expect("an extension");
        builder.append_extension(constraints).expect("an extension");
    }
    if !hosts.is_empty() {
        let mut names = SubjectAlternativeName::new();
        for host in hosts {
            if host.parse::<std::net::IpAddr>().is_ok() {
                names.ip(host)
            } else {
                names.dns(host)
            };
        }
        let names = names.build(&builder.x509v3_context(None, None)).expect("an extension");
        builder.append_extension(names).expect("an extension");
    }
    builder.sign(authority.map_or(key, |it| &it.key), MessageDigest::sha256()).expect("a signature");
    builder.build()
}
