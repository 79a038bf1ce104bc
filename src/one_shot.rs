//! A channel for one value: the answer of one thread to another, or the end of a thread.
//!
//! For each type that a channel of crossbeam carries, the compiler generates 15 KB of code, and most such channels of the
//! server would carry one value of a type of its own. Here the value is in a slot. The channel beside it has the same type
//! for all values and carries nothing: it is disconnected when the sender is dropped, after it filled the slot or not.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvError, RecvTimeoutError, bounded};

use crate::threads::lock;

/// Gives the value. If it is dropped without a value, the receiver gets an error.
pub(crate) struct Sender<T> {
    slot: Arc<Mutex<Option<T>>>,
    /// Dropped last, after the slot was filled.
    _filled: crossbeam_channel::Sender<()>,
}

/// Waits for the value.
pub(crate) struct Receiver<T> {
    slot: Arc<Mutex<Option<T>>>,
    filled: crossbeam_channel::Receiver<()>,
}

/// Creates a channel for one value.
pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, filled) = bounded(0);
    let slot = Arc::default();
    (Sender { slot: Arc::clone(&slot), _filled: sender }, Receiver { slot, filled })
}

impl<T> Sender<T> {
    /// Never blocks. The value is dropped if the receiver was dropped.
    pub(crate) fn send(self, value: T) {
        *lock(&self.slot) = Some(value);
    }
}

impl<T> Receiver<T> {
    /// Blocks until the value is there.
    ///
    /// # Errors
    /// The sender was dropped, or the value was received before.
    pub(crate) fn recv(&self) -> Result<T, RecvError> {
        let _ = self.filled.recv();
        lock(&self.slot).take().ok_or(RecvError)
    }

    /// Blocks until the value is there, at most until `deadline`.
    ///
    /// # Errors
    /// The time is over; or, as disconnected, those of [`Receiver::recv`].
    pub(crate) fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        match self.filled.recv_deadline(deadline) {
            Err(RecvTimeoutError::Timeout) => Err(RecvTimeoutError::Timeout),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                lock(&self.slot).take().ok_or(RecvTimeoutError::Disconnected)
            }
        }
    }

    /// [`Receiver::recv_deadline`], from now on.
    ///
    /// # Errors
    /// Those of [`Receiver::recv_deadline`].
    pub(crate) fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_deadline(Instant::now() + timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn the_value_arrives_once() {
        let (sender, receiver) = channel();
        let received = std::thread::scope(|scope| {
            scope.spawn(|| sender.send(5));
            receiver.recv_timeout(PATIENCE)
        });
        assert_eq!(received, Ok(5));
        assert_eq!(receiver.recv(), Err(RecvError));
        assert_eq!(receiver.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn the_receiver_waits_no_longer_than_it_has_to() {
        let (sender, receiver) = channel::<u32>();
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
        drop(sender);
        assert_eq!(receiver.recv(), Err(RecvError));
        assert_eq!(receiver.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn a_value_without_a_receiver_is_dropped() {
        let (sender, receiver) = channel();
        drop(receiver);
        let value = Arc::new(());
        sender.send(Arc::clone(&value));
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
