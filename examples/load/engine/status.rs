//! The figures of an engine: [`Status`], which is cheap and taken many times per second, and [`Report`], which is not.
//! Both are sent from a worker process to its parent, and the figures of several engines are merged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Engine, ReturnCounts};
use crate::histogram::Histogram;
use crate::ledger::Counts;

/// Counts by reason.
pub type Reasons = BTreeMap<String, u64>;

/// The state of an engine at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Clients that have joined.
    pub open: usize,
    /// Joins that are queued or in flight.
    pub joining: usize,
    /// Every client that should be online has received `users_online`.
    pub all_live: bool,
    /// Every client that should be online has the expected number of users in its list.
    pub all_lists_complete: bool,
    /// After the chat, until all messages have arrived: deliveries that are in flight. 0 at other times.
    pub outstanding: u64,
    pub counts: Counts,
    /// The longest delay between a message's due time and its sending.
    pub lag_ns: u64,
    /// Messages not sent because the sender was not connected or its output buffer was full.
    pub unsent: u64,
    /// When the last chat message or presence event was received.
    pub last_event_ns: u64,
    /// When the last presence event was received.
    pub last_presence_ns: u64,
    /// Reading clients that the server disconnected or that could not join.
    pub disconnects: Reasons,
    /// Clients that never read and were disconnected.
    pub slow_disconnects: Reasons,
    /// `error` frames by code, and frames outside the protocol.
    pub error_frames: Reasons,
    /// What the clients that returned found; none if clients do not return.
    pub returns: Option<ReturnCounts>,
}

impl Status {
    /// Adds the figures of another engine.
    pub fn merge(&mut self, other: &Self) {
        self.open += other.open;
        self.joining += other.joining;
        self.all_live &= other.all_live;
        self.all_lists_complete &= other.all_lists_complete;
        self.outstanding += other.outstanding;
        self.counts.merge(&other.counts);
        self.lag_ns = self.lag_ns.max(other.lag_ns);
        self.unsent += other.unsent;
        self.last_event_ns = self.last_event_ns.max(other.last_event_ns);
        self.last_presence_ns = self.last_presence_ns.max(other.last_presence_ns);
        for (sum, more) in [
            (&mut self.disconnects, &other.disconnects),
            (&mut self.slow_disconnects, &other.slow_disconnects),
            (&mut self.error_frames, &other.error_frames),
        ] {
            more.iter().for_each(|(reason, count)| *sum.entry(reason.clone()).or_default() += count);
        }
        if let (Some(sum), Some(more)) = (&mut self.returns, &other.returns) {
            sum.merge(more);
        }
    }
}

/// What is computed from all that the clients of an engine received.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Time from a message's due time to its receipt by a client, since [`Engine::begin_window`].
    pub latency: Histogram,
    /// Messages that were skipped.
    pub lost: u64,
    /// Messages after the last one that a client received.
    pub outstanding: u64,
    /// Clients whose list of users differs from the expected one.
    pub wrong_lists: u64,
}

impl Report {
    /// Adds the figures of another engine.
    pub fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        self.lost += other.lost;
        self.outstanding += other.outstanding;
        self.wrong_lists += other.wrong_lists;
    }
}

impl Engine {
    /// The state now.
    pub fn status(&self) -> Status {
        let awaits_messages = !self.chats && !self.all_delivered;
        Status {
            open: self.open,
            joining: self.joining(),
            all_live: self.ledger.all_live(),
            all_lists_complete: self.ledger.all_lists_complete(),
            outstanding: if awaits_messages { self.ledger.lost_and_outstanding().1 } else { 0 },
            counts: self.ledger.counts,
            lag_ns: self.lag_ns,
            unsent: self.unsent,
            last_event_ns: self.last_event_ns,
            last_presence_ns: self.last_presence_ns,
            disconnects: self.disconnects.clone(),
            slow_disconnects: self.slow_disconnects.clone(),
            error_frames: self.error_frames.clone(),
            returns: self.returns.as_ref().map(|returns| returns.counts),
        }
    }

    /// Computes the report of all that was received until now.
    pub fn report(&self) -> Report {
        let (lost, outstanding) = self.ledger.lost_and_outstanding();
        Report { latency: self.latency.clone(), lost, outstanding, wrong_lists: self.ledger.wrong_lists() }
    }

    /// Clears the latencies: a part of the scenario begins.
    pub fn begin_window(&mut self) {
        self.latency = Histogram::default();
        self.lag_ns = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(open: usize, all_live: bool, reason: &str) -> Status {
        Status {
            open,
            joining: 1,
            all_live,
            all_lists_complete: true,
            outstanding: 2,
            counts: Counts { deliveries: 10, duplicated: 1, ..Counts::default() },
            lag_ns: open as u64,
            unsent: 0,
            last_event_ns: 100 - open as u64,
            last_presence_ns: open as u64,
            disconnects: [(reason.to_owned(), 1), ("reset".to_owned(), 2)].into(),
            slow_disconnects: Reasons::new(),
            error_frames: Reasons::new(),
            returns: Some(ReturnCounts { returned: 3, longest_ns: open as u64, ..ReturnCounts::default() }),
        }
    }

    #[test]
    fn the_figures_of_two_engines_are_merged() {
        let mut sum = status(5, true, "timed out");
        sum.merge(&status(7, false, "closed with 1008"));
        assert_eq!((sum.open, sum.joining, sum.outstanding, sum.lag_ns), (12, 2, 4, 7));
        assert_eq!((sum.all_live, sum.all_lists_complete), (false, true));
        assert_eq!((sum.counts.deliveries, sum.counts.duplicated), (20, 2));
        assert_eq!((sum.last_event_ns, sum.last_presence_ns), (95, 7));
        let reasons = [("closed with 1008".to_owned(), 1), ("reset".to_owned(), 4), ("timed out".to_owned(), 1)];
        assert_eq!(sum.disconnects, reasons.into());
        let returns = sum.returns.expect("the clients return");
        assert_eq!((returns.returned, returns.longest_ns), (6, 7));
    }

    #[test]
    fn a_report_is_read_back_from_its_json() {
        let mut report = Report { lost: 1, wrong_lists: 2, ..Report::default() };
        [5, 5, 1_000_000].into_iter().for_each(|latency_ns| report.latency.record(latency_ns));
        let json = serde_json::to_string(&report).expect("a report has a JSON form");
        assert!(json.len() < 200, "{json}");
        let mut sum: Report = serde_json::from_str(&json).expect("the report");
        assert_eq!(sum, report);
        sum.merge(&report);
        assert_eq!((sum.lost, sum.wrong_lists, sum.latency.count(), sum.latency.max()), (2, 4, 6, 1_000_000));
        assert_eq!(sum.latency.quantile(0.5), 5);
    }
}
