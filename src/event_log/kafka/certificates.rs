//! [`Certificates`]: finds out why the certificate of a broker is not accepted, which librdkafka does not say.
//!
//! Each examination connects to the broker, on a thread of its own that lives for some seconds. There is at most one at a
//! time, and one a minute for an address.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::KafkaSettings;
use super::diagnostics::Diagnostics;
use crate::threads::{self, Stack, lock};
use crate::tls::{self, CertificateFault};

/// How long a result is used.
const VALID_FOR: Duration = Duration::from_secs(60);

pub(super) struct Certificates {
    authorities: Option<PathBuf>,
    last: Mutex<Option<Examination>>,
}

/// The last examination.
struct Examination {
    address: String,
    started_at: Instant,
    /// `None`: it runs.
    text: Option<String>,
}

impl Certificates {
    pub(super) fn new(settings: &KafkaSettings) -> Self {
        Certificates { authorities: settings.ca_file.as_ref().map(PathBuf::from), last: Mutex::default() }
    }

    /// Why the certificate of the broker at `address` is not accepted, and whether that is known. If it is not,
    /// `diagnostics` gets the text later.
    pub(super) fn explain(&self, address: &str, diagnostics: &Arc<Diagnostics>) -> (String, bool) {
        let mut last = lock(&self.last);
        let is_running = match last.as_ref().filter(|last| last.started_at.elapsed() < VALID_FOR) {
            Some(Examination { text: Some(text), address: examined, .. }) if examined == address => {
                return (text.clone(), true);
            }
            Some(examination) => examination.text.is_none(),
            None => false,
        };
        if !is_running {
            let examination = Examination { address: address.to_owned(), started_at: Instant::now(), text: None };
            *last = Some(examination);
            let (address, diagnostics) = (address.to_owned(), Arc::clone(diagnostics));
            let authorities = self.authorities.clone();
            let thread = threads::spawn("kafka-tls", Stack::Normal, move || {
                let problem = examine(&address, authorities);
                diagnostics.on_examined(text(&address, problem.as_deref()));
            });
            if thread.is_err() {
                *last = None;
            }
        }
        (text(address, None), false)
    }

    /// Stores the text of the examination that runs.
    pub(super) fn finish(&self, text: &str) {
        if let Some(last) = &mut *lock(&self.last) {
            last.text = Some(text.to_owned());
        }
    }
}

fn examine(address: &str, authorities: Option<PathBuf>) -> Option<String> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    tls::certificate_problem(host, port.parse().ok()?, authorities.as_deref())
}

/// `problem` is a text of OpenSSL, if it is known.
fn text(address: &str, problem: Option<&str>) -> String {
    let Some(problem) = problem else {
        return format!(
            "{address}: the certificate of the broker is not accepted: check that it has not expired, that it is for this \
             host, and that ICH_KAFKA_CA_FILE has the authority that signed it"
        );
    };
    let advice = match CertificateFault::named_in(problem) {
        Some(CertificateFault::Expired | CertificateFault::NotYetValid) => {
            "renew the certificate, or correct the clock of this machine"
        }
        Some(CertificateFault::WrongName) => {
            "use a host of the certificate in ICH_KAFKA_BROKERS, and in advertised.listeners of the broker"
        }
        Some(CertificateFault::Untrusted) => {
            "set ICH_KAFKA_CA_FILE to the certificate of the authority that signed the broker's"
        }
        None => "check the certificate of the broker, and ICH_KAFKA_CA_FILE",
    };
    format!("{address}: the certificate of the broker is not accepted: {problem}; {advice}")
}
