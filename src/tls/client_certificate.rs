//! [`ClientCertificate`]: the certificate and the private key by which this program authenticates itself to a server.

use std::fs;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::SslConnectorBuilder;
use openssl::x509::X509;

use super::read_certificates;

/// The first certificate of the chain is that of this program, and matches the key.
pub(crate) struct ClientCertificate {
    chain: Vec<X509>,
    key: PKey<Private>,
}

/// Which of the two files cannot be used, and why. The text follows the name of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PairError {
    Certificate(String),
    Key(String),
}

impl ClientCertificate {
    /// Reads two PEM files.
    ///
    /// # Errors
    /// A file cannot be read or used, or the key is not that of the certificate. No text contains a part of the key.
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self, PairError> {
        let chain = read_certificates(certificate).map_err(PairError::Certificate)?;
        let key = read_key(key).map_err(PairError::Key)?;
        let is_pair = chain.first().and_then(|own| own.public_key().ok()).is_some_and(|public| public.public_eq(&key));
        if is_pair {
            Ok(ClientCertificate { chain, key })
        } else {
            Err(PairError::Key("is not the private key of the certificate".to_owned()))
        }
    }

    pub(super) fn add_to(&self, builder: &mut SslConnectorBuilder) -> Result<(), ErrorStack> {
        for (position, certificate) in self.chain.iter().enumerate() {
            if position == 0 {
                builder.set_certificate(certificate)?;
            } else {
                builder.add_extra_chain_cert(certificate.clone())?;
            }
        }
        builder.set_private_key(&self.key)
    }
}

fn read_key(path: &Path) -> Result<PKey<Private>, String> {
    let pem = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut is_encrypted = false;
    // Without a callback, OpenSSL would ask for the passphrase on the terminal.
    let key = PKey::private_key_from_pem_callback(&pem, |_| {
        is_encrypted = true;
        Err(ErrorStack::get())
    });
    match key {
        Ok(key) => Ok(key),
        Err(_) if is_encrypted => Err("is encrypted, and this server has no passphrase for it: decrypt it with \
                                       `openssl pkey -in FILE -out NEW`, and let only the user of the server read it"
            .to_owned()),
        Err(_) => Err("contains no private key in PEM format (-----BEGIN PRIVATE KEY-----)".to_owned()),
    }
}
