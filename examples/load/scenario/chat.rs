//! The parts of a scenario in which clients chat: alone, while instances are replaced, and while users log in.

use std::time::Duration;

use super::Scenario;
use super::trickle::Trickle;
use crate::figures::Phase;
use crate::logins;
use crate::restarts::Restarts;
use crate::window::Window;

const ARRIVAL_DEADLINE: Duration = Duration::from_secs(60);
/// For the start of an instance, the stop of the one before, and the return of its clients.
const RESTART_DEADLINE: Duration = Duration::from_secs(60);

impl Scenario<'_> {
    pub(super) fn chat(&mut self) -> Result<(), String> {
        let window = Window::begin(&mut self.engines, &self.target)?;
        self.engines.limit_joins(self.options.outstanding)?;
        self.engines.start_chat(self.options.rate)?;
        let mut trickle = Trickle::new(self.options, &self.engines);
        let mut restarts = Restarts::new(self.options.restart_every);
        self.run_until("chat", self.options.chat_length(), |engines, target, _, now| {
            trickle.step(engines, now)?;
            restarts.step(engines, target, now)?;
            Ok(false)
        })?;
        self.finish(&mut restarts)?;
        self.stop_chat("chat")?;
        let mut phase = Phase::new("chat");
        window.chat(&self.engines.settled_status()?, &self.target, &mut phase);
        window.latency(&mut self.engines, &mut phase)?;
        if self.options.trickle > 0.0 {
            phase.note("rejoined", "left and rejoined", 0, trickle.done as f64);
            self.engines.join(trickle.away().collect())?;
        }
        self.returns(&restarts, &mut phase)?;
        self.per_connection(&mut phase)?;
        self.phases.push(phase);
        Ok(())
    }

    /// Lets the replacements end that have begun, and waits for the clients that return from them. The chat goes on.
    fn finish(&mut self, restarts: &mut Restarts) -> Result<(), String> {
        restarts.stop();
        let ended = self.run_until("the last restart", RESTART_DEADLINE, |engines, target, status, now| {
            restarts.step(engines, target, now)?;
            Ok(restarts.is_idle() && status.joining == 0)
        })?;
        if !ended {
            self.failures.push(format!("a restart had not ended after {} s", RESTART_DEADLINE.as_secs()));
        }
        Ok(())
    }

    /// Adds what the clients found that returned.
    fn returns(&mut self, restarts: &Restarts, phase: &mut Phase) -> Result<(), String> {
        let Some(counts) = self.engines.settled_status()?.returns else { return Ok(()) };
        phase.note("restarts", "instances replaced", 0, restarts.done as f64);
        phase.note("returned", "clients that returned", 0, counts.returned as f64);
        phase.note("incomplete", "of them with complete: false", 0, counts.incomplete as f64);
        phase.note("longest_absence_ms", "longest absence ms", 1, counts.longest_ns as f64 / 1e6);
        phase.note("repeated", "messages sent late or again", 0, counts.repeated as f64);
        phase.note("duplicates_refused", "of them refused as duplicate", 0, counts.duplicates_refused as f64);
        if counts.incomplete > 0 {
            self.failures.push(format!("returned with complete: false: {}", counts.incomplete));
        }
        Ok(())
    }

    pub(super) fn logins(&mut self) -> Result<(), String> {
        let bare = logins::bare_hashes(self.options.logins)?;
        let window = Window::begin(&mut self.engines, &self.target)?;
        if self.options.senders > 0 && self.options.rate > 0.0 {
            self.engines.start_chat(self.options.rate)?;
        }
        let thread = logins::start(self.target.addresses.clone(), self.options.logins)?;
        let limit = Duration::from_secs(60 + self.options.logins as u64);
        let ended = self.run_until("logins", limit, |_, _, _, _| Ok(thread.is_finished()))?;
        self.stop_chat("logins")?;
        if !ended {
            return Err(format!("{} logins did not end within {limit:?}", self.options.logins));
        }
        let outcome = thread.join().map_err(|_| "the thread of the logins panicked".to_owned())??;
        if outcome.failed > 0 {
            self.failures.push(format!("{} logins failed", outcome.failed));
        }
        let mut phase = Phase::new("logins");
        phase.note("logins_per_second", "logins per second", 1, outcome.per_second);
        phase.note("bare_hashes_per_second", "bare argon2id hashes per second", 1, bare);
        phase.note("ratio_to_bare_hashes", "ratio of logins to hashes", 2, outcome.per_second / bare);
        window.latency(&mut self.engines, &mut phase)?;
        self.phases.push(phase);
        Ok(())
    }

    /// Stops the chat and waits until every message has been received by every client.
    pub(super) fn stop_chat(&mut self, part: &str) -> Result<(), String> {
        self.engines.stop_chat(false)?;
        let arrived = self.run_until("arrival", ARRIVAL_DEADLINE, |_, _, status, _| Ok(status.outstanding == 0))?;
        self.engines.stop_chat(arrived)?;
        if !arrived {
            self.overloaded = true;
            let outstanding = self.engines.report()?.outstanding;
            let waited = ARRIVAL_DEADLINE.as_secs();
            self.failures.push(format!(
                "{part}: {outstanding} deliveries were missing {waited} s after the last message was sent"
            ));
        }
        Ok(())
    }
}
