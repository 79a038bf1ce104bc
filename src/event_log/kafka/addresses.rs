//! [`Addresses`]: the broker addresses in the settings and those that the brokers advertise. If only an address in the
//! settings can be reached, they explain why Kafka does not answer. Pure.

/// The addresses of one cluster, each `host:port`.
pub(super) struct Addresses {
    /// The setting: `host:port,host:port`.
    configured: String,
    /// The last advertised addresses that are not in the setting.
    advertised: Vec<String>,
}

impl Addresses {
    pub(super) fn new(configured: String) -> Self {
        Addresses { configured, advertised: Vec::new() }
    }

    /// Stores the addresses of Kafka's metadata.
    pub(super) fn set_advertised(&mut self, addresses: Vec<String>) {
        self.advertised = addresses.into_iter().filter(|address| !self.is_configured(address)).collect();
    }

    /// Adds the advertised addresses to `reason`, the last error of a client, if they may be the cause.
    pub(super) fn explain(&self, reason: &str) -> String {
        // The consumer may have tried an advertised address before this program read the metadata.
        let unreachable = reason.split_once(": ").map(|(address, _)| address).filter(|address| {
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            matches!(port, Some(Ok(_))) && !address.contains(' ') && !self.is_configured(address)
        });
        let advertised = match unreachable {
            Some(address) if self.advertised.is_empty() => address.to_owned(),
            None if self.advertised.is_empty() => return format!("{reason}{}", advice(reason)),
            _ => self.advertised.join(", "),
        };
        format!(
            "Kafka was reached at {}, and advertises {advertised}, which cannot be reached: {reason}; check \
             advertised.listeners of the brokers, and the network",
            self.configured
        )
    }

    fn is_configured(&self, address: &str) -> bool {
        let address = address.rsplit_once("://").map_or(address, |(_, address)| address);
        self.configured.split(',').any(|broker| broker.trim() == address)
    }
}

/// What to check if no connection to a broker in the settings was made.
fn advice(reason: &str) -> &'static str {
    let is_unreachable =
        ["Connect to ", "Failed to resolve", "Connection setup timed out"].iter().any(|text| reason.contains(text));
    if is_unreachable { "; check ICH_KAFKA_BROKERS, and that Kafka runs there" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_outside_the_settings_are_the_cause() {
        let mut addresses = Addresses::new("a:1, b:2".into());
        for reason in ["a:1: refused", "ssl://b:2: refused", "timed out", "two words:3: refused"] {
            assert_eq!(addresses.explain(reason), reason);
        }
        assert!(addresses.explain("c:3: refused").contains("advertises c:3, which"));
        addresses.set_advertised(vec!["a:1".into(), "d:4".into()]);
        assert!(addresses.explain("timed out").contains("reached at a:1, b:2, and advertises d:4, which"));
    }
}
