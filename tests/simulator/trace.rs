//! [`Trace`]: the last events of a run. Recorded only when a failed seed runs again.

use std::collections::VecDeque;

use super::Millis;

const LINES: usize = 40;

/// Records nothing by default.
#[derive(Default)]
pub struct Trace {
    lines: Option<VecDeque<String>>,
}

impl Trace {
    pub fn on() -> Self {
        Trace { lines: Some(VecDeque::new()) }
    }

    pub fn note(&mut self, now: Millis, text: impl FnOnce() -> String) {
        let Some(lines) = &mut self.lines else { return };
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(format!("{:>4}.{} s  {}", now / 1000, now % 1000 / 100, text()));
    }

    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default().into()
    }
}
