//! The thread `ich-kafka-topic`: reads the settings of the topic again after Kafka refused a record, logs what is wrong
//! with them, and adapts the batches to them.
//!
//! It waits for a report of a refusal, and ends when the log is dropped.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::batch_limit::BatchLimit;
use super::topic::TopicAdmin;
use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// The minimum time between two reads of the settings.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long one read may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reports refusals to the thread. Never waits: one pending report is enough.
#[derive(Clone)]
pub(super) struct RefusalReports(Sender<()>);

impl RefusalReports {
    pub(super) fn new() -> (Self, Receiver<()>) {
        let (sender, receiver) = bounded(1);
        (RefusalReports(sender), receiver)
    }

    /// Kafka, or the producer itself, refused a record because of a setting of the topic.
    pub(super) fn report(&self) {
        match self.0.try_send(()) {
            // Full: a report is pending already.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }

    /// A record is larger than `limit` allows. The limit of the topic may have been raised since it was read.
    pub(super) fn report_too_large(&self, limit: &BatchLimit) {
        if limit.is_lowered() {
            self.report();
        }
    }
}

/// Starts the thread, which ends soon after the senders of `refusals` were dropped.
pub(super) fn start(
    admin: TopicAdmin,
    refusals: Receiver<()>,
    limit: Arc<BatchLimit>,
    supervisor: &Supervisor,
) -> io::Result<()> {
    supervisor.spawn("kafka-topic", Stack::Normal, move || {
        run(&admin, &refusals, &limit);
        Ok(())
    })?;
    Ok(())
}

fn run(admin: &TopicAdmin, refusals: &Receiver<()>, limit: &BatchLimit) {
    while refusals.recv().is_ok() {
        match admin.settings(Instant::now() + TIMEOUT, &AtomicBool::new(false)) {
            Ok(settings) => match settings.problem(&admin.topic) {
                Some(problem) => limit.warn(&problem),
                None => limit.adapt_to(&settings),
            },
            Err(error) => limit.warn(&format!(
                "Kafka refused a record, and the settings of the topic {} cannot be read: {error}; check its \
                 max.message.bytes and cleanup.policy, and grant DESCRIBE_CONFIGS on it",
                admin.topic
            )),
        }
        thread::sleep(INTERVAL);
    }
}
