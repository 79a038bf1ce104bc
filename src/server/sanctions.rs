//! Reads the stored bans and mutes: when the server starts, and whenever the log thread has built its state anew. Actions
//! whose records are before the part of the log that it then read, or that retention has deleted, are known from the
//! database only. An action is stored before it is appended, so what is read afterwards has them all.
//!
//! If the database does not answer, users can join nevertheless, and the sessions of banned users end as soon as the
//! bans are known.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::accounts::{AccountStore, StoreError};
use crate::log_throttle::LogThrottle;
use crate::publisher::Publisher;
use crate::session::fan_out::FanOut;
use crate::session::moderated;
use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// The pause between two attempts. After some errors the store makes a new connection for each attempt.
const RETRY_WAIT: Duration = Duration::from_secs(2);

/// Reads the stored sanctions at once, if the store answers, and starts a thread that reads them again for each message
/// from the log thread. The thread ends when the log thread has ended.
///
/// # Errors
/// The system has no thread.
pub(super) fn start(
    store: &Arc<dyn AccountStore>,
    publisher: &Arc<Publisher>,
    fan_out: &FanOut,
    state_built: Receiver<()>,
    supervisor: &Supervisor,
) -> io::Result<()> {
    let is_read = store.is_ready() && read(&**store, publisher, fan_out).is_ok();
    // Weak, so that a stop closes the store although this thread may end later.
    let (store, publisher, fan_out) = (Arc::downgrade(store), publisher.clone(), fan_out.clone());
    let read_each_time = move || {
        if !is_read {
            read_until_done(&store, &publisher, &fan_out);
        }
        for () in state_built {
            read_until_done(&store, &publisher, &fan_out);
        }
        Ok(())
    };
    supervisor.spawn("sanctions", Stack::Normal, read_each_time).map(drop)
}

/// Tries until the store answers or the server stops.
fn read_until_done(store: &Weak<dyn AccountStore>, publisher: &Publisher, fan_out: &FanOut) {
    let errors = LogThrottle::default();
    while !publisher.is_draining() {
        let Some(store) = store.upgrade() else { return };
        if store.is_ready() {
            match read(&*store, publisher, fan_out) {
                Ok(()) => return,
                Err(error) => {
                    if let Some(more) = errors.may_log("read", Instant::now()) {
                        log::warn!("the bans and mutes cannot be read: {error}; trying again{more}");
                    }
                }
            }
        }
        drop(store);
        thread::sleep(RETRY_WAIT);
    }
}

fn read(store: &dyn AccountStore, publisher: &Publisher, fan_out: &FanOut) -> Result<(), StoreError> {
    let sanctions = store.sanctions()?;
    log::debug!("read {} bans and mutes from the database", sanctions.len());
    publisher.sanctions().add(sanctions);
    moderated::end_sessions_of_banned(publisher, fan_out);
    Ok(())
}
