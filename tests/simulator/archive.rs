//! [`Archive`]: the archive of a run, its database, and its archivers, which die at any moment and are replaced. At most
//! two run at once: the lock should prevent that, and if it does not, the database must still be right.
//!
//! Under test is [`Archiver`]. What should be archived comes from the oracle alone; [`check`](Archive::check) compares
//! each transaction with it.

use std::collections::{BTreeMap, BTreeSet};

use ich::archive::archiver::{Archiver, Batch, Gap, GapCause, Next, Position};
use ich::event_log::{Entry, Span};
use ich::lobby::EventId;
use ich::lobby::bootstrap::Spans;

use super::certainty::certain_from;
use super::log::VirtualLog;
use super::oracle::Oracle;
use super::rng::Rng;
use super::trace::Trace;
use super::{Millis, REPETITION_WINDOW, Violation, ensure};

/// Short ones, so that some are not enough.
const SPANS: Spans = Spans { first: 100, widen_times: 4, history_max: 0 };
/// An archiver is replaced after so many steps on average.
const START_STEPS: u64 = 20;
/// A second archiver starts beside one that runs.
const SECOND_STEPS: u64 = 1_500;

/// What survives the archivers.
#[derive(Default)]
struct Database {
    position: Option<Position>,
    ids: BTreeSet<EventId>,
    gaps: Vec<Gap>,
    /// The first offset of the log when the archive was new.
    begins_at: usize,
}

/// One archiver and its reader.
struct Running {
    archiver: Archiver,
    position: usize,
    /// The first offset of the log when the reader was moved last.
    first: usize,
    /// Whether the reader was moved to this offset, the first one of the log.
    has_read_all: bool,
}

/// The archive of a run. It has its own random numbers, so that the runs of the other parts do not depend on it.
pub struct Archive {
    rng: Rng,
    database: Database,
    running: [Option<Running>; 2],
    /// An archiver ends after so many steps on average; 0: never.
    crash_steps: u64,
    /// The database is down once in so many steps on average; 0: never.
    outage_steps: u64,
    down_until: Millis,
    /// The archive is turned on at this time.
    off_until: Millis,
    pub seen: SeenArchive,
}

/// The counts of hard cases.
#[derive(Debug, Clone, Copy, Default)]
pub struct SeenArchive {
    pub archived: usize,
    pub takeovers: usize,
    pub lost_answers: usize,
    pub conflicts: usize,
    pub gaps: usize,
    /// Gaps at the begin of an archive.
    pub first_gaps: usize,
    pub widened: usize,
    /// Repeated messages that were archived because the log no longer had the message before.
    pub unknown_repetitions: usize,
}

impl Archive {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x6172_6368_6976_6521);
        let mut steps = |steps: u64| if rng.one_in(3) { 0 } else { rng.between(steps / 4, steps) };
        let (crash_steps, outage_steps) = (steps(400), steps(200));
        let off_until = if rng.one_in(2) { rng.between(0, 60_000) } else { 0 };
        Archive {
            rng,
            database: Database::default(),
            running: [None, None],
            crash_steps,
            outage_steps,
            down_until: 0,
            off_until,
            seen: SeenArchive::default(),
        }
    }

    /// From now on no archiver ends, the database is up, and the archive is turned on.
    pub fn end_faults(&mut self) {
        (self.crash_steps, self.outage_steps, self.down_until, self.off_until) = (0, 0, 0, 0);
    }

    /// One step of all archivers.
    pub fn step(
        &mut self,
        log: &VirtualLog,
        is_log_down: bool,
        oracle: &Oracle,
        now: Millis,
        trace: &mut Trace,
    ) -> Result<(), Violation> {
        if self.off_until > now {
            return Ok(());
        }
        if self.outage_steps > 0 && self.rng.one_in(self.outage_steps) {
            self.down_until = now + self.rng.between(500, 60_000);
            trace.note(now, || format!("the archive's database is down until {} ms", self.down_until));
        }
        let is_down = self.down_until > now;
        for index in 0..self.running.len() {
            if self.crash_steps > 0 && self.running[index].is_some() && self.rng.one_in(self.crash_steps) {
                trace.note(now, || format!("archiver {index} ends"));
                self.running[index] = None;
            }
            let is_other_running = self.running[1 - index].is_some();
            let start_steps = if is_other_running { SECOND_STEPS } else { START_STEPS };
            let may_start = self.running[index].is_none() && !is_down && !is_log_down;
            if may_start && self.rng.one_in(start_steps) {
                trace.note(now, || format!("archiver {index} resumes behind {:?}", self.database.position));
                self.seen.takeovers += 1;
                self.running[index] = Some(Running::resume(self.database.position, log));
            }
            if !is_log_down && !self.read(index, log, oracle) {
                self.running[index] = None;
            }
            if self.rng.one_in(3) {
                self.store(index, is_down, log, oracle, now, trace)?;
            }
        }
        Ok(())
    }

    /// Reads some or all of the new records. False: retention has removed the next one.
    fn read(&mut self, index: usize, log: &VirtualLog, oracle: &Oracle) -> bool {
        let Some(running) = &mut self.running[index] else { return true };
        let available = oracle.position().saturating_sub(running.position);
        let mut left = if self.rng.one_in(3) { self.rng.index(available + 1) } else { available };
        // What is read before the position is not new.
        while left > 0 && running.position < oracle.position() {
            let Some(record) = log.read(running.position) else { return false };
            let entry = Entry { offset: running.position as u64, record: record.clone() };
            running.position += 1;
            left -= 1;
            if running.archiver.apply(&entry) == Next::Seek {
                self.seen.widened += 1;
                running.seek(log);
                left = oracle.position();
            }
        }
        true
    }

    /// One transaction, which may fail before or after it took effect. After a failure, the archiver resumes.
    fn store(
        &mut self,
        index: usize,
        is_down: bool,
        log: &VirtualLog,
        oracle: &Oracle,
        now: Millis,
        trace: &mut Trace,
    ) -> Result<(), Violation> {
        let Some(mut running) = self.running[index].take() else { return Ok(()) };
        let has_faults = self.crash_steps > 0;
        let batch = running.archiver.take_batch();
        let Some(batch) = batch else {
            self.running[index] = Some(running);
            return Ok(());
        };
        if is_down || (has_faults && self.rng.one_in(30)) {
            return Ok(());
        }
        if batch.after != self.database.position {
            self.seen.conflicts += 1;
            return Ok(());
        }
        trace.note(now, || format!("archiver {index} stores {batch:?}"));
        self.check(&batch, &running, log, oracle)?;
        self.database.position = Some(batch.position);
        self.database.gaps.extend(batch.gap);
        if has_faults && self.rng.one_in(30) {
            self.seen.lost_answers += 1;
        } else {
            self.running[index] = Some(running);
        }
        Ok(())
    }

    /// Checks one transaction, and takes its messages.
    fn check(&mut self, batch: &Batch, running: &Running, log: &VirtualLog, oracle: &Oracle) -> Result<(), Violation> {
        let behind = |position: Option<Position>| position.map_or(0, |position| position.offset as usize + 1);
        let (old_end, end) = (behind(batch.after), behind(Some(batch.position)));
        ensure(end > old_end || batch.after.is_none(), "the position of the archive moves forward", || {
            format!("{batch:?}")
        })?;
        let record = log.record(end - 1);
        ensure(record.event_id() == batch.position.record, "the position names its record", || format!("{batch:?}"))?;
        if batch.after.is_none() {
            self.database.begins_at = running.first;
        }
        // A new archive begins with the log.
        let expected = old_end.max(self.database.begins_at);
        if let Some(gap) = batch.gap {
            self.seen.gaps += 1;
            self.seen.first_gaps += usize::from(batch.after.is_none());
            check_gap(gap, expected, running, log, oracle)?;
        }
        let begin = batch.gap.map_or(expected, |gap| gap.to as usize);
        // The log may have a record twice; at most one of the two takes effect.
        let takes_effect = |offset: &usize| oracle.said(*offset).is_some() || oracle.is_repeated(*offset);
        let offset_of: BTreeMap<EventId, usize> =
            (begin..end).filter(takes_effect).map(|at| (log.record(at).event_id(), at)).collect();
        let mut archived = Vec::new();
        for message in &batch.messages {
            let is_new = self.database.ids.insert(message.event_id);
            ensure(is_new, "no message is archived twice", || format!("{message:?}"))?;
            let offset = offset_of.get(&message.event_id).copied();
            let Some(offset) = offset else {
                return ensure(false, "only messages of this part of the log are archived", || {
                    format!("{message:?} in {batch:?}")
                });
            };
            let said = oracle.said(offset);
            if oracle.is_repeated(offset) && running.may_not_know(offset, log, oracle) {
                self.seen.unknown_repetitions += 1;
                continue;
            }
            let is_right = said.is_some_and(|said| said.user == message.user && said.text == message.text);
            ensure(is_right, "only published messages are archived", || format!("{message:?}, not {said:?}"))?;
            archived.push(offset);
        }
        self.seen.archived += archived.len();
        let published: Vec<usize> =
            oracle.published_before(end).iter().map(|(offset, _)| *offset).filter(|offset| *offset >= begin).collect();
        ensure(archived == published, "every published message is archived, in order", || {
            format!("archived {archived:?}, published {published:?}, {batch:?}")
        })
    }

    /// Long after the last fault, everything is archived.
    pub fn check_final_state(&self, oracle: &Oracle) -> Result<(), Violation> {
        let behind = self.database.position.map_or(0, |position| position.offset as usize + 1);
        let published = oracle.published_before(oracle.position());
        let last = published.last().map_or(0, |(offset, _)| *offset + 1);
        ensure(behind >= last, "the archive gets up to date", || format!("{behind}, not {last}"))?;
        let is_in_gap = |offset: usize| {
            let is_in = |gap: &Gap| (gap.from..gap.to).contains(&(offset as u64));
            offset < self.database.begins_at || self.database.gaps.iter().any(is_in)
        };
        let missing: Vec<_> =
            published.iter().filter(|(offset, id)| !self.database.ids.contains(id) && !is_in_gap(*offset)).collect();
        ensure(missing.is_empty(), "what is not archived is in a gap", || format!("{missing:?}"))
    }
}

impl Running {
    fn resume(position: Option<Position>, log: &VirtualLog) -> Self {
        let archiver = Archiver::resume(position, REPETITION_WINDOW as u64, SPANS);
        let mut running = Running { archiver, position: 0, first: 0, has_read_all: false };
        running.seek(log);
        running
    }

    fn seek(&mut self, log: &VirtualLog) {
        loop {
            let start = (self.archiver.first_offset() as usize).clamp(log.first, log.end());
            (self.position, self.first, self.has_read_all) = (start, log.first, start == log.first);
            let span = Span { start: start as u64, end: log.end() as u64, from_the_beginning: start == 0 };
            if self.archiver.begin(span) == Next::Record {
                return;
            }
        }
    }

    /// Whether the message before the repeated one at `offset` may be in a part of the log that this archiver could not
    /// read, or could not understand.
    fn may_not_know(&self, offset: usize, log: &VirtualLog, oracle: &Oracle) -> bool {
        let is_cut = self.has_read_all && self.first > 0;
        is_cut && offset.saturating_sub(REPETITION_WINDOW) < certain_from(self.first, log, oracle)
    }
}

/// A gap begins at `expected`, the offset that is to be archived next, is there for a reason, and is no longer than it has
/// to be.
fn check_gap(gap: Gap, expected: usize, running: &Running, log: &VirtualLog, oracle: &Oracle) -> Result<(), Violation> {
    let certain_from = certain_from(running.first, log, oracle);
    let detail =
        || format!("{gap:?}, {expected} is next; the log begins at {}, certain from {certain_from}", running.first);
    let begins_there = gap.from == expected as u64 && gap.cause == GapCause::Retention;
    ensure(begins_there, "a gap begins where the archive ends", detail)?;
    ensure(running.first > 0 && certain_from > expected, "a gap has a reason", detail)?;
    ensure(gap.to as usize <= certain_from.max(running.first), "a gap ends as soon as the sessions are known", detail)
}
