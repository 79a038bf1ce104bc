//! A latency histogram with 64 linear steps per power of two, so every quantile is accurate within 1.6 %.
//!
//! Its size is fixed. Recording is one index computation and one addition.

use serde::{Deserialize, Serialize};

const STEP_BITS: u32 = 6;
const STEPS: usize = 1 << STEP_BITS;
const BUCKETS: usize = (64 - STEP_BITS as usize + 1) * STEPS;

/// Counts of latencies in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Sparse", from = "Sparse")]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max: 0 }
    }
}

impl Histogram {
    pub fn record(&mut self, value: u64) {
        self.buckets[bucket_of(value)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// Adds the values of another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, more)| *sum += more);
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// Number of recorded values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest recorded value (exact).
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that a `share` (0 to 1) of all values does not exceed; 0 if nothing was recorded.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return last_of(index).min(self.max);
            }
        }
        self.max
    }
}

/// How a histogram is sent to another process: its largest value, and the numbers and counts of the buckets in use.
#[derive(Serialize, Deserialize)]
struct Sparse {
    max: u64,
    buckets: Vec<(usize, u64)>,
}

impl From<Histogram> for Sparse {
    fn from(histogram: Histogram) -> Self {
        let used = histogram.buckets.into_iter().enumerate().filter(|(_, count)| *count > 0);
        Self { max: histogram.max, buckets: used.collect() }
    }
}

impl From<Sparse> for Histogram {
    fn from(sparse: Sparse) -> Self {
        let mut histogram = Self { max: sparse.max, ..Self::default() };
        for (index, count) in sparse.buckets {
            if let Some(bucket) = histogram.buckets.get_mut(index) {
                *bucket += count;
                histogram.count += count;
            }
        }
        histogram
    }
}

fn bucket_of(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let exponent = 63 - value.leading_zeros();
    let step = (value >> (exponent - STEP_BITS)) as usize & (STEPS - 1);
    (exponent - STEP_BITS + 1) as usize * STEPS + step
}

fn last_of(bucket: usize) -> u64 {
    let (octave, step) = (bucket / STEPS, (bucket % STEPS) as u64);
    if octave == 0 {
        return step;
    }
    let width = 1_u64 << (octave - 1);
    (STEPS as u64 + step) * width + (width - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bucket_that_ends_at_most_two_percent_above_it() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) | (1_u64 << shift >> 1), u64::MAX >> (63 - shift)] {
                let last = last_of(bucket_of(value));
                assert!(last >= value, "{value} is above the end {last} of its bucket");
                assert!((last - value) as f64 <= value as f64 * 0.02, "{value} is far below {last}");
            }
        }
    }

    #[test]
    fn quantiles_of_one_to_a_thousand_are_accurate() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|value| histogram.record(value * 1000));
        let half = histogram.quantile(0.5) as f64;
        assert!((half - 500_000.0).abs() < 10_000.0, "{half}");
        assert_eq!(histogram.quantile(1.0), 1_000_000);
        assert_eq!(Histogram::default().quantile(0.99), 0);
    }
}
