//! Recognizes the variables that Kubernetes sets for its Services. For a Service named `ich` or `ich-...` their names
//! begin with `ICH_`, like the settings. Pure.

/// Whether Kubernetes sets such a variable for a Service (`ICH_SERVICE_HOST`, `ICH_SERVICE_PORT_HTTP`,
/// `ICH_PORT_8080_TCP_ADDR`, `ICH_KAFKA_PORT=tcp://10.0.0.8:9092`, ...).
pub(super) fn is_service_variable(name: &str, value: &str) -> bool {
    let is_service = name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.split_once("_SERVICE_PORT_").is_some_and(|(_, port)| !port.is_empty());
    let is_link = name.split_once("_PORT_").is_some_and(|(_, link)| is_port_and_protocol(link));
    is_service || is_link || (name.ends_with("_PORT") && is_service_address(value))
}

/// Whether this is the address of a Service, like in `ICH_PORT=tcp://10.0.0.7:8080`.
pub(super) fn is_service_address(value: &str) -> bool {
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
}

/// `8080_TCP`, `8080_TCP_PROTO`, `8080_TCP_PORT` or `8080_TCP_ADDR`.
fn is_port_and_protocol(link: &str) -> bool {
    let mut parts = link.split('_');
    let (port, protocol, field) = (parts.next(), parts.next(), parts.next());
    port.is_some_and(|port| port.parse::<u16>().is_ok())
        && matches!(protocol, Some("TCP" | "UDP" | "SCTP"))
        && matches!(field, None | Some("PROTO" | "PORT" | "ADDR"))
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_services_and_misspelt_settings_are_distinguished() {
        for (name, value) in [
            ("ICH_SERVICE_HOST", "10.0.0.7"),
            ("ICH_SERVICE_PORT", "8080"),
            ("ICH_SERVICE_PORT_HTTP", "8080"),
            ("ICH_WEB_SERVICE_PORT_HTTP_2", "8080"),
            ("ICH_PORT", "tcp://10.0.0.7:8080"),
            ("ICH_WEB_PORT", "udp://10.0.0.7:8080"),
            ("ICH_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
            ("ICH_WEB_PORT_8080_SCTP_ADDR", "10.0.0.7"),
        ] {
            assert!(is_service_variable(name, value), "{name}");
        }
        for (name, value) in [
            ("ICH_PORT", "8080"),
            ("ICH_WEB_PORT", "8080"),
            ("ICH_PORT_8080", "x"),
            ("ICH_PORT_8080_TCP_NAME", "x"),
            ("ICH_PORT_8080_TCP_ADDR_X", "x"),
            ("ICH_PORT_HTTP_TCP", "x"),
            ("ICH_SERVICE", "x"),
            ("ICH_SERVICE_PORT_", "x"),
            ("ICH_PROT", "tcp://10.0.0.7:8080"),
        ] {
            assert!(!is_service_variable(name, value), "{name}");
        }
    }
}
