//! The limits on the path of an event from the event log to the sockets, and those of the messages and frames on this
//! path. They depend on each other, so they are in one file. Where a value was measured, its comment gives the figures.
//! The assertions at the end check at compile time how the values must relate.
//!
//! The goal is a bounded delay of chat messages during join and leave bursts: a message waits behind everything that
//! was appended before it, and behind everything that is queued to a fan-out thread. The figures were measured with the
//! load tool on two cores (`doc/performance.md`).

use std::time::Duration;

/// The bound of the unsent joins and leaves of all instances together is this number divided by the sessions of the lobby,
/// but it stays between the next two. Further joins and leaves wait; chat messages do not. A burst of 3,000 joins took as
/// long as without the bound.
pub const PRESENCE_DELIVERIES_UNSENT: usize = 800_000;
/// The bound in a small lobby.
pub const PRESENCE_UNSENT_MAX: usize = 512;
/// The bound in a large lobby. With a lower one, a burst needs more writes. 10,000 joins on two cores, measured in turn:
/// with 192 they took 4.0 s, and the chat p99 was 0.15 to 0.16 s; with 112 4.5 to 5.1 s, and 0.13 to 0.14 s.
pub const PRESENCE_UNSENT_LARGE: usize = 112;
/// The lowest bound of one instance, however many share the bound of all.
pub const PRESENCE_UNSENT_MIN: usize = 32;

/// The longest time that a join waits until few enough joins and leaves are unsent. After this time it is refused, and
/// the client tries again later. A burst of 19,000 joins takes about 25 s on two cores. The joins that waited
/// too long are not appended all at once: when they were, with a limit of 5 s, the chat p99 was 6.8 s, and some messages
/// were refused.
pub const WINDOW_WAIT_MAX: Duration = Duration::from_secs(120);

/// The approximate size of the frame of a join or leave: the name has ten characters.
const PRESENCE_FRAME_BYTES: usize = 112;

/// The maximum number of records that the log thread applies before it sends their events to the fan-out.
pub const POLL_RECORDS_MAX: usize = 1024;

/// The size at which a batch is sent to the fan-out. A write consists of whole batches, so large batches make large
/// writes: with batches of 128 KiB, a round took up to 0.35 s.
pub const BATCH_BYTES: usize = 8 * 1024;

/// The credits of each fan-out thread. A queued batch uses one credit, and one more for each [`CREDIT_BYTES`], but at
/// most all credits. When too few credits are left for a batch, the log thread waits. Meanwhile it reads no records, so
/// unsent joins and leaves stay unsent, and further ones wait.
pub const BATCH_CREDITS: usize = 32;
/// The bytes of a batch for which it uses one more credit.
pub const CREDIT_BYTES: usize = 512;

/// The maximum number of commands queued to one fan-out thread. A thread that sends one more waits: a session thread,
/// which does not read from its client meanwhile, or the log thread. There is room for a command from every session,
/// because waking thousands of threads that waited for room took a third of the CPU during a burst.
pub const COMMANDS_MAX: usize = 16 * 1024;
/// The default of `ICH_MAX_CONNECTIONS`.
const CONNECTIONS_DEFAULT: usize = 10_000;

/// When the events that some sessions of a fan-out thread have not got yet have so many bytes, the thread takes no more
/// commands until all sessions have got the first of these events. So it bounds the bytes of one write. With 64 KiB instead
/// of 32, a round took up to 0.35 s with 10,000 clients.
pub const ROUND_BYTES_MAX: usize = 32 * 1024;
/// When the direct frames of one client reach this size, the thread takes no more commands and sends the round. So the
/// socket gets the frames before their number would disconnect the client as too slow.
pub const ROUND_DIRECT_BYTES_MAX: usize = 32 * 1024;

/// The longest coalescing delay: after a round, a fan-out thread waits twice as long as the round took, or longer if it
/// mostly waited for a core, but no longer than this. Under load the delay makes the rounds fewer and larger: at 500
/// messages per second to 1,000 clients, the p99 was 201 ms without any.
pub const COALESCING_DELAY_MAX: Duration = Duration::from_millis(10);
/// The longest coalescing delay after a round with joins or leaves. It is longer, so that the threads of the new
/// clients get CPU time too. This halved the CPU of 10,000 joins.
pub const PRESENCE_COALESCING_DELAY_MAX: Duration = Duration::from_millis(50);

/// The first pause before a fan-out thread writes to a full socket again. The pause doubles, up to [`RETRY_PAUSE_MAX`],
/// while the socket accepts nothing.
pub const RETRY_PAUSE_FIRST: Duration = Duration::from_millis(2);
/// The longest such pause.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_millis(64);

/// The smallest value of `ICH_OUTBOX_BYTES` that the server accepts.
pub const OUTBOX_BYTES_MIN: usize = 64 * 1024;

/// The lowest average rate at which a client may read its *first frames* (the list of users, and the messages that it
/// had missed), after [`FIRST_FRAMES_GRACE`]. A slow mobile line transfers about 5 KiB per second. The first frames do
/// not count against `ICH_OUTBOX_BYTES`, so without this limit a client that reads a byte from time to time would keep
/// an old list and old messages in memory.
pub const FIRST_FRAMES_BYTES_PER_SECOND_MIN: u64 = 1024;
/// The time that a client has for its first frames in any case, in addition to the time that follows from
/// [`FIRST_FRAMES_BYTES_PER_SECOND_MIN`].
pub const FIRST_FRAMES_GRACE: Duration = Duration::from_secs(60);

/// The largest value of `ICH_HISTORY_MESSAGES` that the server accepts: messages kept for clients that return.
pub const HISTORY_MESSAGES_MAX: usize = 10_000;
/// The maximum bytes of the frames of these messages.
pub const HISTORY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Messages in one answer of `/history` at most, and by default.
pub const HISTORY_PAGE_MESSAGES_MAX: usize = 100;
/// See [`HISTORY_PAGE_MESSAGES_MAX`].
pub const HISTORY_PAGE_MESSAGES_DEFAULT: usize = 50;
/// Bytes of the texts in one answer of `/history`, if it has more than one message.
pub const HISTORY_PAGE_BYTES_MAX: usize = 1024 * 1024;
/// The length at which a block of these frames is full. Smaller blocks mean more parts in the outbox of a client that
/// missed everything. Larger blocks mean larger copies: the block that is not full is copied for a client that returns,
/// once after each new message.
pub const HISTORY_BLOCK_BYTES: usize = 16 * 1024;
/// The largest value of `ICH_MAX_FRAME_BYTES` that the server accepts.
pub const FRAME_BYTES_MAX: usize = 512 * 1024;
/// The maximum characters of an `event_id`.
pub const EVENT_ID_CHARS_MAX: usize = 40;

/// The maximum characters of the text of an `error` frame. Longer texts are truncated: the JSON library quotes the
/// input that it did not expect, and that has any length.
pub const ERROR_TEXT_CHARS_MAX: usize = 256;
/// The maximum characters of the id that a client may give a message.
pub const MESSAGE_ID_CHARS_MAX: usize = 64;
/// The maximum size of an `error` frame. A character has at most six bytes: an escaped control character.
pub const ERROR_FRAME_BYTES_MAX: usize = 256 + 6 * (ERROR_TEXT_CHARS_MAX + MESSAGE_ID_CHARS_MAX);

// In a large lobby, the bytes of all unsent joins use no more than the credits.
const _: () = assert!(PRESENCE_UNSENT_LARGE * PRESENCE_FRAME_BYTES <= BATCH_CREDITS * CREDIT_BYTES);
// One poll can apply all unsent joins and leaves of one instance.
const _: () = assert!(PRESENCE_UNSENT_MAX <= POLL_RECORDS_MAX);
// One batch can be queued while another is being sent.
const _: () = assert!(2 * BATCH_BYTES <= BATCH_CREDITS * CREDIT_BYTES);
// A thread without pending events can take all batches that are queued.
const _: () = assert!(BATCH_CREDITS * CREDIT_BYTES <= ROUND_BYTES_MAX);
// The queued batches alone never fill the channel of commands: the log thread waits for credits first.
const _: () = assert!(BATCH_CREDITS < COMMANDS_MAX);
// The channel has room for a command from every session, with the default limit on connections.
const _: () = assert!(CONNECTIONS_DEFAULT <= COMMANDS_MAX);
// The events of a single write never disconnect a client that has read all earlier frames.
const _: () = assert!(ROUND_BYTES_MAX + BATCH_BYTES <= OUTBOX_BYTES_MIN);
const _: () = assert!(ROUND_DIRECT_BYTES_MAX + ERROR_FRAME_BYTES_MAX <= OUTBOX_BYTES_MIN);
// The longest message fits into the history, with its frame and the names of its fields.
const _: () = assert!(FRAME_BYTES_MAX + 4 * 1024 + HISTORY_BLOCK_BYTES <= HISTORY_BYTES_MAX);
const _: () = assert!(HISTORY_PAGE_MESSAGES_DEFAULT <= HISTORY_PAGE_MESSAGES_MAX);
// A client that missed everything has at most 256 blocks in its outbox, as many as one write takes.
const _: () = assert!(HISTORY_BYTES_MAX / HISTORY_BLOCK_BYTES <= 256);
const _: () = assert!(COALESCING_DELAY_MAX.as_millis() <= PRESENCE_COALESCING_DELAY_MAX.as_millis());
const _: () = assert!(RETRY_PAUSE_FIRST.as_millis() < RETRY_PAUSE_MAX.as_millis());
