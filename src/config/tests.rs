//! Valid settings, and the errors of invalid ones.

use super::*;

fn config(values: &[(&str, &str)]) -> Result<Config, InvalidSettings> {
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::from_values(&values, Vec::new())
}

#[test]
fn the_defaults_are_valid() {
    let config = config(&[]).unwrap();
    assert_eq!((config.host.to_string().as_str(), config.port), ("::", 8080));
    assert_eq!(config.token_ttl, Duration::from_secs(24 * 3600));
    assert_eq!(config.limits.outbox_bytes, 1 << 20);
    assert!(config.database_url.is_none() && config.jwt_secret.is_none());
    assert!(matches!(config.event_log, EventLogSettings::Sqlite(_)));
}

#[test]
fn all_errors_are_reported_together() {
    let InvalidSettings(errors) = config(&[
        ("ICH_PORT", "80800"),
        ("ICH_HOST", "here"),
        ("ICH_PROT", "1"),
        ("ICH_JWT_SECRET", "short"),
        ("ICH_LOG_FORMAT", "xml"),
        ("ICH_DRAIN_SECONDS", "0"),
    ])
    .unwrap_err();
    for name in ["ICH_PORT=80800", "ICH_HOST=here", "ICH_PROT is not a setting", "ICH_JWT_SECRET", "xml", "DRAIN"] {
        assert!(errors.iter().any(|error| error.contains(name)), "{name} in {errors:?}");
    }
    assert_eq!(errors.len(), 6);
}

#[test]
fn no_error_repeats_a_secret() {
    let InvalidSettings(errors) =
        config(&[("ICH_JWT_SECRET", "hunter2"), ("ICH_DATABASE_URL", "mysql://me:hunter2@here/db")]).unwrap_err();
    assert_eq!(errors.len(), 2);
    assert!(!format!("{errors:?}").contains("hunter2"));
    let valid = config(&[("ICH_JWT_SECRET", "hunter2hunter2hunter2hunter2hunter2")]).unwrap();
    assert!(!format!("{valid:?}").contains("hunter2"));
}

#[test]
fn kafka_needs_a_secret_that_all_instances_share() {
    let InvalidSettings(errors) = config(&[("ICH_KAFKA_BROKERS", "a:9092,b:9092")]).unwrap_err();
    assert!(errors[0].contains("ICH_JWT_SECRET"));
    let secret = "0123456789abcdef0123456789abcdef";
    let config = config(&[("ICH_KAFKA_BROKERS", "a:9092,b:9092"), ("ICH_JWT_SECRET", secret)]).unwrap();
    let EventLogSettings::Kafka(kafka) = config.event_log else { panic!("{:?}", config.event_log) };
    assert_eq!(kafka.topic, "ich-lobby");
}

#[test]
fn an_empty_value_counts_as_not_set() {
    assert_eq!(config(&[("ICH_PORT", "")]).unwrap().port, 8080);
}

#[test]
fn the_last_newline_of_a_file_is_not_part_of_the_secret() {
    let path = std::env::temp_dir().join(format!("ich-config-secret-{}", std::process::id()));
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        config(&[("ICH_JWT_SECRET_FILE", path.to_str().unwrap())]).map(|config| config.jwt_secret.unwrap().0)
    };
    let secret = "0123456789 0123456789 0123456789";
    for (end, kept) in [("", ""), ("\n", ""), ("\r\n", ""), ("\n\n", "\n"), (" \n", " ")] {
        assert_eq!(read(format!("{secret}{end}").as_bytes()), Ok(format!("{secret}{kept}")), "{end:?}");
    }
    for bytes in [&b""[..], b"\n", b"\xFF23456789012345678901234567890123", &[b'x'; 20_000], b"too short\n"] {
        assert!(read(bytes).is_err(), "{} bytes", bytes.len());
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_value_with_a_password_in_it_is_not_repeated() {
    let InvalidSettings(errors) =
        config(&[("ICH_ALLOWED_ORIGINS", "ftp://me:hunter2@here"), ("ICH_PORT", "me:hunter2@here")]).unwrap_err();
    assert_eq!(errors.len(), 2);
    assert!(!format!("{errors:?}").contains("hunter2"));
}

#[test]
fn trusted_proxies_are_addresses_and_networks_and_the_proxy_protocol_needs_them() {
    let proxies = config(&[("ICH_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8,,fd00::/8")]).unwrap().proxies;
    for (address, is_trusted) in
        [("127.0.0.1", true), ("::ffff:10.9.9.9", true), ("fd12::1", true), ("127.0.0.2", false)]
    {
        assert_eq!(proxies.is_trusted(address.parse().unwrap()), is_trusted, "{address}");
    }
    let InvalidSettings(errors) =
        config(&[("ICH_TRUSTED_PROXIES", "proxy.example,10.0.0.1/8,10.0.0.1"), ("ICH_PROXY_PROTOCOL", "v2")])
            .unwrap_err();
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors[1].starts_with("ICH_TRUSTED_PROXIES=10.0.0.1/8 "), "{errors:?}");
    let InvalidSettings(errors) = config(&[("ICH_PROXY_PROTOCOL", "on"), ("ICH_PORT", "x")]).unwrap_err();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("ICH_PROXY_PROTOCOL=on needs ICH_TRUSTED_PROXIES")), "{errors:?}");
    let proxies = config(&[("ICH_PROXY_PROTOCOL", "on"), ("ICH_TRUSTED_PROXIES", "::1")]).unwrap().proxies;
    assert!(proxies.expects_proxy_header("::1".parse().unwrap()));
    assert!(!proxies.expects_proxy_header("::2".parse().unwrap()));
}

#[test]
fn the_event_log_is_in_sqlite_unless_there_are_brokers_and_contradictions_are_errors() {
    let brokers = ("ICH_KAFKA_BROKERS", "a:9092");
    let secret = ("ICH_JWT_SECRET", "0123456789abcdef0123456789abcdef");
    let kind = |values: &[(&str, &str)]| {
        config(values).map(|config| match config.event_log {
            EventLogSettings::Sqlite(_) => "sqlite",
            EventLogSettings::Memory => "memory",
            EventLogSettings::Kafka(_) => "kafka",
        })
    };
    assert_eq!(kind(&[]), Ok("sqlite"));
    assert_eq!(kind(&[("ICH_EVENT_LOG", "memory")]), Ok("memory"));
    assert_eq!(kind(&[brokers, secret]), Ok("kafka"));
    assert_eq!(kind(&[brokers, secret, ("ICH_EVENT_LOG", "kafka")]), Ok("kafka"));
    for (values, error) in [
        (&[("ICH_EVENT_LOG", "kafka")][..], "needs ICH_KAFKA_BROKERS"),
        (&[brokers, secret, ("ICH_EVENT_LOG", "sqlite")], "ICH_EVENT_LOG=sqlite and ICH_KAFKA_BROKERS are both set"),
        (&[brokers, secret, ("ICH_EVENT_LOG", "memory")], "ICH_EVENT_LOG=memory and ICH_KAFKA_BROKERS are both set"),
        (&[("ICH_EVENT_LOG", "disk")], "is not one of sqlite, memory, kafka"),
    ] {
        let Err(InvalidSettings(errors)) = kind(values) else { panic!("{values:?}") };
        assert!(errors.len() == 1 && errors[0].contains(error), "{errors:?}");
    }
    let log = config(&[("ICH_EVENT_LOG_MAX_MIB", "16")]).unwrap().event_log;
    let EventLogSettings::Sqlite(retention) = log else { panic!("{log:?}") };
    assert_eq!((retention.bytes, retention.age), (16 << 20, Duration::from_secs(24 * 3600)));
}
