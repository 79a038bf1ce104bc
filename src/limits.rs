//! The limits of the way of an event, from the event log to the sockets. They depend on each other, so they stand here
//! together, each with how its value was found, and the compiler checks their relations.
//!
//! The goal is a bounded delay of chat messages during join and leave bursts: a message waits behind everything that
//! was appended before it, and behind everything that is queued to a fan-out thread. Figures are of the load tool on
//! two cores (`doc/performance.md`).

use std::time::Duration;

/// Joins and leaves of one instance in flight: appended, not yet read back. The others of a burst wait, and chat
/// messages do not. With 10,000 joins at once and no such bound, the chat p99 was 0.92 s; with 256 it was 0.29 to
/// 0.71 s, with 128 about 0.31 s.
pub const PRESENCE_IN_FLIGHT_MAX: usize = 128;

/// How long a join waits for the window at most; then it is appended all the same.
pub const WINDOW_WAIT_MAX: Duration = Duration::from_secs(5);

/// Bytes of the frame of a join or leave, with a name of some ten characters.
const PRESENCE_FRAME_BYTES: usize = 112;

/// Records that the log thread applies before the fan-out gets their events.
pub const POLL_RECORDS_MAX: usize = 1024;

/// A batch that has reached this goes to the fan-out. A round consists of whole batches: with batches of 128 KiB,
/// rounds of 64 KiB became as large as one batch, and took up to 0.35 s.
pub const BATCH_BYTES: usize = 8 * 1024;

/// Credits of each fan-out thread. A queued batch uses one for each [`CREDIT_BYTES`] that it has begun, and all of them
/// at most; the log thread waits when none is left, and the window above closes behind it.
pub const BATCH_CREDITS: usize = 32;
/// Bytes of a batch for one credit.
pub const CREDIT_BYTES: usize = 512;

/// Commands queued to one fan-out thread. Whoever sends one more waits: a session thread (its client is not read
/// meanwhile) or the log thread. There is room for all sessions to open or to end at once: waking thousands of threads
/// that waited for room took a third of the CPU during a burst.
pub const COMMANDS_MAX: usize = 16 * 1024;
/// The default of `ICH_MAX_CONNECTIONS`.
const CONNECTIONS_DEFAULT: usize = 10_000;

/// Bytes of events that one round of a fan-out thread sends to each socket. Later events wait until all sockets have
/// got these. With 64 KiB instead of 32, a round took up to 0.35 s with 10,000 clients.
pub const ROUND_BYTES_MAX: usize = 32 * 1024;
/// When the direct frames of one client reach this in a round, the round ends, so that the socket gets them before they
/// count as bytes that the client did not read.
pub const ROUND_DIRECT_BYTES_MAX: usize = 32 * 1024;

/// After a round, a fan-out thread waits as long as the round took, at most this: the coalescing delay. Under load the
/// rounds become fewer and larger; at 500 messages a second to 1,000 clients it brought the p99 from 201 ms to 16 ms.
pub const COALESCING_DELAY_MAX: Duration = Duration::from_millis(10);
/// The same after a round with joins or leaves, so that the threads of the new clients get CPU time too. It halved the
/// CPU of 10,000 joins.
pub const PRESENCE_COALESCING_DELAY_MAX: Duration = Duration::from_millis(50);

/// The pause before a full socket is tried again: it begins with the first and doubles up to the longest while the
/// socket takes nothing.
pub const RETRY_PAUSE_FIRST: Duration = Duration::from_millis(2);
/// See [`RETRY_PAUSE_FIRST`].
pub const RETRY_PAUSE_MAX: Duration = Duration::from_millis(64);

/// The least that `ICH_OUTBOX_BYTES` may be.
pub const OUTBOX_BYTES_MIN: usize = 64 * 1024;

/// The slowest rate at which a client may read its first frames (the list of users, and the messages that it had
/// missed), on average, after [`FIRST_FRAMES_GRACE`]. A slow mobile line carries some 5 KiB a second. The first frames do
/// not count against `ICH_OUTBOX_BYTES`, so without a rate a client that reads a byte now and then would keep an old list
/// and old messages in memory.
pub const FIRST_FRAMES_BYTES_PER_SECOND_MIN: u64 = 1024;
/// The time for the first frames beside that of [`FIRST_FRAMES_BYTES_PER_SECOND_MIN`].
pub const FIRST_FRAMES_GRACE: Duration = Duration::from_secs(60);

/// Messages that an instance keeps at most for clients that return (`ICH_HISTORY_MESSAGES`).
pub const HISTORY_MESSAGES_MAX: usize = 10_000;
/// Bytes of the frames of these messages.
pub const HISTORY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The length at which a block of these frames is full. While messages arrive, each client that returns can cause a copy
/// of the block that is not full; and a client that misses everything has all blocks in its outbox.
pub const HISTORY_BLOCK_BYTES: usize = 16 * 1024;
/// The most that `ICH_MAX_FRAME_BYTES` may be.
pub const FRAME_BYTES_MAX: usize = 512 * 1024;
/// Characters of the id of a message, for clients.
pub const EVENT_ID_CHARS_MAX: usize = 40;

/// Characters of the text of an `error` frame. The JSON library quotes input that it did not expect, whatever its
/// length.
pub const ERROR_TEXT_CHARS_MAX: usize = 256;
/// Characters of the id that a client may give a message.
pub const MESSAGE_ID_CHARS_MAX: usize = 64;
/// The longest `error` frame. A character takes six bytes at most: a control character, escaped.
pub const ERROR_FRAME_BYTES_MAX: usize = 256 + 6 * (ERROR_TEXT_CHARS_MAX + MESSAGE_ID_CHARS_MAX);

// What a whole window of joins becomes fits into the credits: the log thread does not wait for one window.
const _: () = assert!(PRESENCE_IN_FLIGHT_MAX * PRESENCE_FRAME_BYTES <= BATCH_CREDITS * CREDIT_BYTES);
// One poll may apply a whole window.
const _: () = assert!(PRESENCE_IN_FLIGHT_MAX <= POLL_RECORDS_MAX);
// One batch can be queued while another is being sent.
const _: () = assert!(2 * BATCH_BYTES <= BATCH_CREDITS * CREDIT_BYTES);
// A round can take all batches that are queued.
const _: () = assert!(BATCH_CREDITS * CREDIT_BYTES <= ROUND_BYTES_MAX);
// The credits bound the batches, and not the room for commands.
const _: () = assert!(BATCH_CREDITS < COMMANDS_MAX);
const _: () = assert!(CONNECTIONS_DEFAULT <= COMMANDS_MAX);
// A client that has read everything before is not closed for what a single round has for it.
const _: () = assert!(ROUND_BYTES_MAX + BATCH_BYTES <= OUTBOX_BYTES_MIN);
const _: () = assert!(ROUND_DIRECT_BYTES_MAX + ERROR_FRAME_BYTES_MAX <= OUTBOX_BYTES_MIN);
// The longest message fits into the history, with its frame and the names of its fields.
const _: () = assert!(FRAME_BYTES_MAX + 4 * 1024 + HISTORY_BLOCK_BYTES <= HISTORY_BYTES_MAX);
// A client that misses everything has few blocks in its outbox: one write takes nearly all of them.
const _: () = assert!(HISTORY_BYTES_MAX / HISTORY_BLOCK_BYTES <= 256);
const _: () = assert!(COALESCING_DELAY_MAX.as_millis() <= PRESENCE_COALESCING_DELAY_MAX.as_millis());
const _: () = assert!(RETRY_PAUSE_FIRST.as_millis() < RETRY_PAUSE_MAX.as_millis());
