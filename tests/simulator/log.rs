//! The virtual log and its producers, which lose, delay and duplicate records as real ones do.

use std::collections::VecDeque;
use std::sync::Arc;

use ich::lobby::Record;

use super::Millis;
use super::rng::Rng;

/// The length of a producer's queue. A full queue refuses records.
const QUEUE_RECORDS: usize = 40;
/// A record that waited longer is reported undelivered.
const DELIVERY_TIMEOUT: Millis = 30_000;

/// The time in which a retry can put a record into the log twice; the broker recognizes and drops a later retry. The
/// rules need this: when a lease expires, the lobby forgets the last `seq` of the instance, so no older record may
/// follow.
const RETRY_WINDOW: Millis = 200;

/// The one log of a run. An offset is an index into `records`.
#[derive(Default)]
pub struct VirtualLog {
    records: Vec<Arc<Record>>,
    /// The first offset that retention has not removed.
    pub first: usize,
}

impl VirtualLog {
    pub fn end(&self) -> usize {
        self.records.len()
    }

    /// Also returns records that retention has removed.
    pub fn record(&self, offset: usize) -> &Arc<Record> {
        &self.records[offset]
    }

    /// The record at `offset`. `None`: retention has removed it, or it is not in the log yet.
    pub fn read(&self, offset: usize) -> Option<&Arc<Record>> {
        self.records.get(offset).filter(|_| offset >= self.first)
    }

    fn append(&mut self, record: Arc<Record>) {
        self.records.push(record);
    }
}

struct Queued {
    record: Arc<Record>,
    since: Millis,
}

/// The sending end of one process.
#[derive(Default)]
pub struct Producer {
    queue: VecDeque<Queued>,
    /// Records in the log whose acknowledgement was lost. The producer sends them again before newer records.
    unacknowledged: Vec<Arc<Record>>,
    retries_at: Millis,
    /// Records that the producer has reported undelivered.
    pub undelivered: Vec<Arc<Record>>,
}

impl Producer {
    /// Queues a record. False: the queue was full, and the producer refused the record.
    pub fn append(&mut self, record: Record, now: Millis) -> bool {
        let has_room = self.queue.len() < QUEUE_RECORDS;
        if has_room {
            self.queue.push_back(Queued { record: Arc::new(record), since: now });
        }
        has_room
    }

    /// Delivers some or all records of the queue. Sometimes the end of a batch is delivered twice.
    pub fn deliver(&mut self, log: &mut VirtualLog, now: Millis, rng: &mut Rng) {
        if now < self.retries_at {
            return;
        }
        let is_in_time = now < self.retries_at + RETRY_WINDOW;
        self.unacknowledged.drain(..).filter(|_| is_in_time).for_each(|record| log.append(record));
        let waiting = self.queue.len();
        if waiting == 0 {
            return;
        }
        let count = if rng.one_in(4) { rng.index(waiting + 1) } else { waiting };
        let batch: Vec<_> = self.queue.drain(..count).map(|queued| queued.record).collect();
        for record in &batch {
            log.append(record.clone());
        }
        if !batch.is_empty() && rng.one_in(25) {
            self.unacknowledged = batch[rng.index(batch.len())..].to_vec();
            self.retries_at = now + rng.below(900);
        }
    }

    /// Reports records undelivered that waited too long. If `reaches_log`, some of them are in the log nevertheless.
    pub fn time_out(&mut self, log: &mut VirtualLog, now: Millis, reaches_log: bool, rng: &mut Rng) {
        let overdue = self.queue.iter().take_while(|queued| queued.since + DELIVERY_TIMEOUT < now).count();
        for queued in self.queue.drain(..overdue) {
            if reaches_log && rng.one_in(5) {
                log.append(queued.record.clone());
            }
            self.undelivered.push(queued.record);
        }
    }

    /// The process is killed: the records that were sent are delivered, the others are lost.
    pub fn crash(mut self, log: &mut VirtualLog, reaches_log: bool, rng: &mut Rng) {
        if reaches_log {
            let count = rng.index(self.queue.len() + 1);
            self.queue.drain(..count).for_each(|queued| log.append(queued.record));
        }
    }
}
