//! Reads the stored bans and mutes when the server starts. If the database does not answer yet, users can join
//! nevertheless, and the sessions of banned users end as soon as the bans are known.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::accounts::{AccountStore, StoreError};
use crate::log_throttle::LogThrottle;
use crate::publisher::Publisher;
use crate::session::fan_out::FanOut;
use crate::session::moderated;
use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// The pause between two attempts. After some errors the store makes a new connection for each attempt.
const RETRY_WAIT: Duration = Duration::from_secs(2);

/// Reads the stored sanctions: at once, or else on a thread that tries until the store answers or the server stops.
///
/// # Errors
/// The system has no thread.
pub(super) fn load(
    store: &Arc<dyn AccountStore>,
    publisher: &Arc<Publisher>,
    fan_out: &FanOut,
    supervisor: &Supervisor,
) -> io::Result<()> {
    if store.is_ready() && read(&**store, publisher, fan_out).is_ok() {
        return Ok(());
    }
    let (store, publisher, fan_out) = (store.clone(), publisher.clone(), fan_out.clone());
    let read_until_done = move || {
        let errors = LogThrottle::default();
        while !publisher.is_draining() {
            if store.is_ready() {
                match read(&*store, &publisher, &fan_out) {
                    Ok(()) => break,
                    Err(error) => {
                        if let Some(more) = errors.may_log("read", Instant::now()) {
                            log::warn!("the bans and mutes cannot be read: {error}; trying again{more}");
                        }
                    }
                }
            }
            thread::sleep(RETRY_WAIT);
        }
        Ok(())
    };
    supervisor.spawn("sanctions", Stack::Normal, read_until_done).map(drop)
}

fn read(store: &dyn AccountStore, publisher: &Publisher, fan_out: &FanOut) -> Result<(), StoreError> {
    let sanctions = store.sanctions()?;
    log::debug!("read {} bans and mutes from the database", sanctions.len());
    publisher.sanctions().add(sanctions);
    moderated::end_sessions_of_banned(publisher, fan_out);
    Ok(())
}
