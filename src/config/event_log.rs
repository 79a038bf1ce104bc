//! [`EventLogSettings`]: where the event log is, with the settings of that place only.

use super::kafka::KafkaSettings;
use crate::event_log::sqlite::Retention;

/// Where the event log is.
#[derive(Debug, Clone)]
pub(crate) enum EventLogSettings {
    /// In a file in the data folder.
    Sqlite(Retention),
    /// In this process.
    Memory,
    Kafka(KafkaSettings),
}

impl EventLogSettings {
    /// Whether the processes of several machines can share the log.
    pub(crate) fn is_shared_by_machines(&self) -> bool {
        matches!(self, EventLogSettings::Kafka(_))
    }
}
