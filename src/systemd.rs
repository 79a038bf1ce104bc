//! [`Notifier`]: tells systemd how the server is, if systemd asks for that (`Type=notify`, `WatchdogSec`). The only user
//! of `sd-notify`.
//!
//! A thread of its own sends everything, so that no other thread waits for systemd. It pings the watchdog until a
//! supervised thread has failed: if the process then does not end by itself, systemd ends it.

use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, tick};
use log::warn;
use sd_notify::NotifyState;

use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// How many notifications may wait. Further ones are dropped; each later one is more recent.
const QUEUE: usize = 16;
/// The least time between two pings.
const PING_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// A notification.
enum Notification {
    /// The server listens. It may still wait for the event log or the database; systemd must not end it then.
    Started,
    /// One line for `systemctl status`.
    Status(String),
    Stopping,
}

/// Sends notifications. Does nothing if systemd does not ask for them.
#[derive(Default)]
pub struct Notifier {
    /// `None` without systemd.
    queue: Option<Sender<Notification>>,
}

impl Notifier {
    /// Starts the thread if the environment names the socket of systemd.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(crate) fn start(supervisor: &Supervisor) -> io::Result<Self> {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(Notifier::default());
        }
        let (queue, notifications) = bounded(QUEUE);
        // A third: one late ping is not taken for a failure.
        let interval = sd_notify::watchdog_enabled().map(|timeout| (timeout / 3).max(PING_INTERVAL_MIN));
        let pings = interval.map_or_else(never, tick);
        let watched = supervisor.clone();
        supervisor.spawn("systemd", Stack::Normal, move || {
            let mut has_warned = false;
            let notify = |state: NotifyState<'_>| {
                if let Err(error) = sd_notify::notify(&[state])
                    && !std::mem::replace(&mut has_warned, true)
                {
                    warn!("systemd cannot be notified: {error}: see NOTIFY_SOCKET");
                }
            };
            run(&notifications, &pings, || !watched.has_failed(), notify);
            Ok(())
        })?;
        Ok(Notifier { queue: Some(queue) })
    }

    /// The server listens.
    pub(crate) fn started(&self) {
        self.send(Notification::Started);
    }

    /// Sets the line of `systemctl status`.
    pub(crate) fn status(&self, line: String) {
        self.send(Notification::Status(line));
    }

    /// The server stops.
    pub(crate) fn stopping(&self) {
        self.send(Notification::Stopping);
    }

    fn send(&self, notification: Notification) {
        if let Some(queue) = &self.queue {
            let _ = queue.try_send(notification);
        }
    }
}

/// Sends what arrives, and a ping at each tick of `pings`, until the notifier is dropped.
fn run(
    notifications: &Receiver<Notification>,
    pings: &Receiver<Instant>,
    is_alive: impl Fn() -> bool,
    mut notify: impl FnMut(NotifyState<'_>),
) {
    loop {
        select! {
            recv(notifications) -> notification => match notification {
                Ok(Notification::Started) => notify(NotifyState::Ready),
                Ok(Notification::Status(line)) => notify(NotifyState::Status(&line)),
                Ok(Notification::Stopping) => notify(NotifyState::Stopping),
                Err(_) => return,
            },
            recv(pings) -> _ => if is_alive() {
                notify(NotifyState::Watchdog);
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_watchdog_is_not_pinged_after_a_failure() {
        let (queue, notifications) = bounded(QUEUE);
        let (ping, pings) = bounded(10);
        let is_alive = Cell::new(true);
        let mut sent = Vec::new();
        let mut queue = Some(queue);
        ping.send(Instant::now()).unwrap();
        run(
            &notifications,
            &pings,
            || is_alive.get(),
            |state| {
                sent.push(state.to_string());
                // After the first ping, a thread has failed, and the next ping is due. Then comes the end.
                is_alive.set(false);
                ping.send(Instant::now()).unwrap();
                if let Some(queue) = queue.take() {
                    queue.send(Notification::Status("failed".into())).unwrap();
                }
            },
        );
        assert_eq!(sent, ["WATCHDOG=1", "STATUS=failed"]);
    }
}
