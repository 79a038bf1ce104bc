//! The virtual log and the producers in front of it, with all that can happen to a record on its way.

use std::collections::VecDeque;
use std::sync::Arc;

use ich::lobby::Record;

use super::Millis;
use super::rng::Rng;

/// A producer refuses when so many records wait.
const QUEUE_RECORDS: usize = 40;
/// A record that waited so long is handed back.
const DELIVERY_TIMEOUT: Millis = 30_000;

/// A broker knows a retry that comes later than this for what it is. The rules need that: an instance that is lost is
/// forgotten with its last number, so what it said before must not turn up once more after that.
const RETRY_WINDOW: Millis = 200;

/// The one log of a run. An offset is an index into `records`.
#[derive(Default)]
pub struct VirtualLog {
    records: Vec<Arc<Record>>,
    /// The first offset that retention has left.
    pub first: usize,
}

impl VirtualLog {
    pub fn end(&self) -> usize {
        self.records.len()
    }

    /// Whatever retention has cut.
    pub fn record(&self, offset: usize) -> &Arc<Record> {
        &self.records[offset]
    }

    /// None when retention has cut it.
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
    /// Records that are in the log, and whose acknowledgement was lost: sent once more before anything newer.
    unacknowledged: Vec<Arc<Record>>,
    retries_at: Millis,
    pub handed_back: Vec<Arc<Record>>,
}

impl Producer {
    /// False when the record was refused.
    pub fn append(&mut self, record: Record, now: Millis) -> bool {
        let has_room = self.queue.len() < QUEUE_RECORDS;
        if has_room {
            self.queue.push_back(Queued { record: Arc::new(record), since: now });
        }
        has_room
    }

    /// Delivers what the network lets through in this step. Now and then the end of a batch is delivered twice.
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

    /// Hands back what waited too long. Some of it is in the log all the same, when `reaches_log`.
    pub fn time_out(&mut self, log: &mut VirtualLog, now: Millis, reaches_log: bool, rng: &mut Rng) {
        let overdue = self.queue.iter().take_while(|queued| queued.since + DELIVERY_TIMEOUT < now).count();
        for queued in self.queue.drain(..overdue) {
            if reaches_log && rng.one_in(5) {
                log.append(queued.record.clone());
            }
            self.handed_back.push(queued.record);
        }
    }

    /// The process is killed: what was on the wire arrives, the rest never existed.
    pub fn crash(mut self, log: &mut VirtualLog, reaches_log: bool, rng: &mut Rng) {
        if reaches_log {
            let count = rng.index(self.queue.len() + 1);
            self.queue.drain(..count).for_each(|queued| log.append(queued.record));
        }
    }
}
