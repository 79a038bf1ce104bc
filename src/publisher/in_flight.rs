//! [`InFlight`]: when each record in flight of this instance was appended. For the metrics only.
//!
//! Pure. The lock of the publisher protects it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The most records whose times are kept: as many as the queue to Kafka holds, in 1.5 MiB. The times of further records
/// are not measured.
const RECORDS_MAX: usize = 65_536;

/// The records in flight, by `seq`.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// The `seq` of each record and when it was appended, in order.
    records: VecDeque<(u64, Instant)>,
}

impl InFlight {
    /// A record with this `seq` was appended. Each `seq` is greater than the one before.
    pub(super) fn appended(&mut self, seq: u64, now: Instant) {
        if self.records.len() < RECORDS_MAX {
            self.records.push_back((seq, now));
        }
    }

    /// The record of this instance with this `seq` was read back. Returns when it was appended, if that is known.
    /// Records that were appended before it and were not read back until now will never be read back.
    pub(super) fn on_read(&mut self, seq: u64) -> Option<Instant> {
        let mut appended_at = None;
        while let Some((first, at)) = self.records.front()
            && *first <= seq
        {
            appended_at = (*first == seq).then_some(*at);
            self.records.pop_front();
        }
        appended_at
    }

    /// The log refused the record with this `seq`, or reported it undelivered.
    pub(super) fn undelivered(&mut self, seq: u64) {
        if let Ok(index) = self.records.binary_search_by_key(&seq, |(seq, _)| *seq) {
            self.records.remove(index);
        }
    }

    /// The number of records in flight.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// How long the oldest record has been in flight; zero if none is.
    pub(super) fn lag(&self, now: Instant) -> Duration {
        self.records.front().map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_the_age_of_the_oldest_record_that_can_still_come_back() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut in_flight = InFlight::default();
        assert_eq!(in_flight.lag(at(9)), Duration::ZERO);
        (1..=5).for_each(|seq| in_flight.appended(seq, at(seq)));
        assert_eq!(in_flight.lag(at(9)), Duration::from_secs(8));
        assert_eq!(in_flight.on_read(1), Some(at(1)));
        in_flight.undelivered(2);
        assert_eq!(in_flight.lag(at(9)), Duration::from_secs(6));
        // The third was lost; the sixth was never measured.
        assert_eq!(in_flight.on_read(4), Some(at(4)));
        assert_eq!((in_flight.len(), in_flight.lag(at(9))), (1, Duration::from_secs(4)));
        assert_eq!(in_flight.on_read(6), None);
        assert_eq!(in_flight.len(), 0);
    }
}
