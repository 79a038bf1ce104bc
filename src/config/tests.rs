//! What is read from settings, and what is said of those that are wrong.

use super::*;

fn config(values: &[(&str, &str)]) -> Result<Config, Faults> {
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::from_values(&values, Vec::new())
}

#[test]
fn the_defaults_are_sound_and_those_of_the_table() {
    let config = config(&[]).unwrap();
    assert_eq!((config.host.to_string().as_str(), config.port), ("0.0.0.0", 8080));
    assert_eq!(config.token_ttl, Duration::from_secs(24 * 3600));
    assert_eq!(config.limits.outbox_bytes, 1 << 20);
    assert!(config.kafka.is_none() && config.database_url.is_none() && config.jwt_secret.is_none());
}

#[test]
fn all_faults_are_reported_together() {
    let Faults(faults) = config(&[
        ("ICH_PORT", "80800"),
        ("ICH_HOST", "here"),
        ("ICH_PROT", "1"),
        ("ICH_JWT_SECRET", "short"),
        ("ICH_LOG_FORMAT", "xml"),
        ("ICH_DRAIN_SECONDS", "0"),
    ])
    .unwrap_err();
    for name in ["ICH_PORT=80800", "ICH_HOST=here", "ICH_PROT is not a setting", "ICH_JWT_SECRET", "xml", "DRAIN"] {
        assert!(faults.iter().any(|fault| fault.contains(name)), "{name} in {faults:?}");
    }
    assert_eq!(faults.len(), 6);
}

#[test]
fn no_fault_repeats_a_secret() {
    let Faults(faults) =
        config(&[("ICH_JWT_SECRET", "hunter2"), ("ICH_DATABASE_URL", "mysql://me:hunter2@here/db")]).unwrap_err();
    assert_eq!(faults.len(), 2);
    assert!(!format!("{faults:?}").contains("hunter2"));
    let good = config(&[("ICH_JWT_SECRET", "hunter2hunter2hunter2hunter2hunter2")]).unwrap();
    assert!(!format!("{good:?}").contains("hunter2"));
}

#[test]
fn kafka_needs_a_secret_that_all_instances_share() {
    let Faults(faults) = config(&[("ICH_KAFKA_BROKERS", "a:9092,b:9092")]).unwrap_err();
    assert!(faults[0].contains("ICH_JWT_SECRET"));
    let secret = "0123456789abcdef0123456789abcdef";
    let config = config(&[("ICH_KAFKA_BROKERS", "a:9092,b:9092"), ("ICH_JWT_SECRET", secret)]).unwrap();
    assert_eq!(config.kafka.unwrap().topic, "ich-lobby");
}

#[test]
fn an_empty_value_is_as_good_as_none() {
    assert_eq!(config(&[("ICH_PORT", "")]).unwrap().port, 8080);
}

#[test]
fn the_event_log_is_in_sqlite_unless_there_are_brokers_and_nothing_contradicts_that() {
    let brokers = ("ICH_KAFKA_BROKERS", "a:9092");
    let secret = ("ICH_JWT_SECRET", "0123456789abcdef0123456789abcdef");
    let kind = |values: &[(&str, &str)]| config(values).map(|config| config.event_log);
    assert_eq!(kind(&[]), Ok(EventLogKind::Sqlite));
    assert_eq!(kind(&[("ICH_EVENT_LOG", "memory")]), Ok(EventLogKind::Memory));
    assert_eq!(kind(&[brokers, secret]), Ok(EventLogKind::Kafka));
    assert_eq!(kind(&[brokers, secret, ("ICH_EVENT_LOG", "kafka")]), Ok(EventLogKind::Kafka));
    for (values, what) in [
        (&[("ICH_EVENT_LOG", "kafka")][..], "needs ICH_KAFKA_BROKERS"),
        (&[brokers, secret, ("ICH_EVENT_LOG", "sqlite")], "ICH_EVENT_LOG=sqlite and ICH_KAFKA_BROKERS are both set"),
        (&[brokers, secret, ("ICH_EVENT_LOG", "memory")], "ICH_EVENT_LOG=memory and ICH_KAFKA_BROKERS are both set"),
        (&[("ICH_EVENT_LOG", "disk")], "is not one of sqlite, memory, kafka"),
    ] {
        let Err(Faults(faults)) = kind(values) else { panic!("{values:?}") };
        assert!(faults.len() == 1 && faults[0].contains(what), "{faults:?}");
    }
    let retention = config(&[("ICH_EVENT_LOG_MAX_MIB", "16")]).unwrap().event_log_retention;
    assert_eq!((retention.bytes, retention.age), (16 << 20, Duration::from_secs(24 * 3600)));
}
