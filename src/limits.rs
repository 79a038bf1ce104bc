//! The limits on the path of an event from the event log to the sockets. They depend on each other, so they stand here
//! together. Each comment says how the value was found, and the compiler checks the relations of the values.
//!
//! The goal is a bounded delay of chat messages during join and leave bursts: a message waits behind everything that
//! was appended before it, and behind everything that is queued to a fan-out thread. The figures were measured with the
//! load tool on two cores (`doc/performance.md`).

use std::time::Duration;

/// Joins and leaves of one instance in flight: appended, not yet read back. Further joins and leaves wait; chat
/// messages do not. With 10,000 joins at once and no such bound, the chat p99 was 0.92 s; with 256 it was 0.29 to
/// 0.71 s, with 128 about 0.31 s.
pub const PRESENCE_IN_FLIGHT_MAX: usize = 128;

/// The longest time that a join waits until fewer than [`PRESENCE_IN_FLIGHT_MAX`] are in flight. Then it is appended in
/// any case.
pub const WINDOW_WAIT_MAX: Duration = Duration::from_secs(5);

/// Bytes of the frame of a join or leave, with a name of some ten characters.
const PRESENCE_FRAME_BYTES: usize = 112;

/// Records that the log thread applies before the fan-out gets their events.
pub const POLL_RECORDS_MAX: usize = 1024;

/// A batch of this size is sent to the fan-out. A round consists of whole batches: with batches of 128 KiB,
/// rounds of 64 KiB became as large as one batch, and took up to 0.35 s.
pub const BATCH_BYTES: usize = 8 * 1024;

/// Credits of each fan-out thread. A queued batch uses one credit, and another for each [`CREDIT_BYTES`], but at most
/// all credits. When no credit is left, the log thread waits; then joins and leaves stay in flight, and further ones
/// wait.
pub const BATCH_CREDITS: usize = 32;
/// Bytes of a batch for one credit.
pub const CREDIT_BYTES: usize = 512;

/// Commands queued to one fan-out thread. A thread that sends one more waits: a session thread, which does not read
/// from its client meanwhile, or the log thread. There is room for a command from every session, because waking
/// thousands of threads that waited for room took a third of the CPU during a burst.
pub const COMMANDS_MAX: usize = 16 * 1024;
/// The default of `ICH_MAX_CONNECTIONS`.
const CONNECTIONS_DEFAULT: usize = 10_000;

/// Bytes of events that one round of a fan-out thread sends to each socket. Later events wait until all sockets have
/// got these. With 64 KiB instead of 32, a round took up to 0.35 s with 10,000 clients.
pub const ROUND_BYTES_MAX: usize = 32 * 1024;
/// When the direct frames of one client reach this in a round, the round ends. So the socket gets them before they are
/// many enough to disconnect the client as too slow.
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
/// Messages in one answer of `/history` at most, and by default.
pub const HISTORY_PAGE_MESSAGES_MAX: usize = 100;
/// See [`HISTORY_PAGE_MESSAGES_MAX`].
pub const HISTORY_PAGE_MESSAGES_DEFAULT: usize = 50;
/// Bytes of the texts in one answer of `/history`, if it has more than one message.
pub const HISTORY_PAGE_BYTES_MAX: usize = 1024 * 1024;
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

// The events of all joins in flight fit into the credits, so the log thread can queue them without waiting.
const _: () = assert!(PRESENCE_IN_FLIGHT_MAX * PRESENCE_FRAME_BYTES <= BATCH_CREDITS * CREDIT_BYTES);
// One poll can apply all joins and leaves of one instance in flight.
const _: () = assert!(PRESENCE_IN_FLIGHT_MAX <= POLL_RECORDS_MAX);
// One batch can be queued while another is being sent.
const _: () = assert!(2 * BATCH_BYTES <= BATCH_CREDITS * CREDIT_BYTES);
// A round can take all batches that are queued.
const _: () = assert!(BATCH_CREDITS * CREDIT_BYTES <= ROUND_BYTES_MAX);
// The credits limit the queued batches before the channel of commands is full.
const _: () = assert!(BATCH_CREDITS < COMMANDS_MAX);
const _: () = assert!(CONNECTIONS_DEFAULT <= COMMANDS_MAX);
// The frames of a single round never disconnect a client that has read all earlier frames.
const _: () = assert!(ROUND_BYTES_MAX + BATCH_BYTES <= OUTBOX_BYTES_MIN);
const _: () = assert!(ROUND_DIRECT_BYTES_MAX + ERROR_FRAME_BYTES_MAX <= OUTBOX_BYTES_MIN);
// The longest message fits into the history, with its frame and the names of its fields.
const _: () = assert!(FRAME_BYTES_MAX + 4 * 1024 + HISTORY_BLOCK_BYTES <= HISTORY_BYTES_MAX);
const _: () = assert!(HISTORY_PAGE_MESSAGES_DEFAULT <= HISTORY_PAGE_MESSAGES_MAX);
// A client that misses everything has few blocks in its outbox: one write takes nearly all of them.
const _: () = assert!(HISTORY_BYTES_MAX / HISTORY_BLOCK_BYTES <= 256);
const _: () = assert!(COALESCING_DELAY_MAX.as_millis() <= PRESENCE_COALESCING_DELAY_MAX.as_millis());
const _: () = assert!(RETRY_PAUSE_FIRST.as_millis() < RETRY_PAUSE_MAX.as_millis());
