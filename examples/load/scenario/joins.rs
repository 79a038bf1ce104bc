//! The part of a scenario in which clients join: gradually, or as fast as they can.

use super::{SETTLE_DEADLINE, SETTLED_AFTER, Scenario};
use crate::clock::{nanos, now_ns, seconds};
use crate::figures::Phase;
use crate::window::Window;

/// Most joins in flight at once outside a join burst.
const GRADUAL_OUTSTANDING: usize = 16;

impl Scenario<'_> {
    /// `clients` join or rejoin; with `storm` as fast as they can, while the senders chat.
    pub(super) fn join(&mut self, name: &'static str, clients: Vec<usize>, storm: bool) -> Result<(), String> {
        let window = Window::begin(&mut self.engines, &self.target)?;
        let chats = storm && self.options.rate > 0.0 && self.options.senders > 0;
        self.engines.limit_joins(if storm { self.options.outstanding } else { GRADUAL_OUTSTANDING })?;
        if chats {
            self.engines.start_chat(self.options.rate)?;
        }
        let begun_ns = now_ns();
        self.engines.leave(clients.clone(), false)?;
        self.engines.join(clients)?;
        let mut all_in_ns = None;
        let is_complete = self.completeness();
        let settled = self.run_until(name, SETTLE_DEADLINE, |_, _, status, now| {
            if status.joining > 0 {
                return Ok(false);
            }
            all_in_ns.get_or_insert(now);
            Ok(now > status.last_presence_ns + nanos(SETTLED_AFTER) && is_complete(status))
        })?;
        let status = self.engines.settled_status()?;
        let settled_ns = status.last_presence_ns.saturating_sub(begun_ns);
        if chats {
            self.stop_chat(name)?;
        }
        if !settled {
            self.overloaded = true;
            self.failures.push(format!(
                "{name}: not every client had all users in its list within {} s",
                SETTLE_DEADLINE.as_secs()
            ));
        }
        let mut phase = Phase::new(name);
        let all_in = all_in_ns.map_or(f64::NAN, |ns| seconds(ns - begun_ns));
        phase.add("all_in_seconds", "all joined after s", 2, all_in);
        phase.add("quiet_seconds", "presence settled after s", 2, if settled { seconds(settled_ns) } else { f64::NAN });
        window.presence(&status, &self.target, &mut phase);
        if chats {
            window.latency(&mut self.engines, &mut phase)?;
        }
        self.phases.push(phase);
        Ok(())
    }
}
