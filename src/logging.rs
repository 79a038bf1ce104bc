//! The log of the program: one line per event on standard error. A thread of its own writes the lines, so that a
//! blocked terminal or pipe blocks no other thread. Lines that do not fit into the queue are dropped and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use env_logger::{Builder, Target};
use serde::Serialize;

use crate::clock;
use crate::config::{LogFilter, LogFormat};
use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// The maximum number of queued lines.
const LINES_MAX: usize = 4096;
/// How long the end of the program waits for the last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts the log. Dropping the guard waits until the last lines are written.
///
/// # Errors
/// The system cannot start a thread, or a logger is set already.
pub(crate) fn start(filter: &LogFilter, format: LogFormat, supervisor: &Supervisor) -> io::Result<LogGuard> {
    let (lines, queue) = bounded(LINES_MAX);
    let (done, is_done) = bounded::<()>(0);
    let dropped = Arc::new(AtomicU64::new(0));
    let writer_dropped = dropped.clone();
    supervisor.spawn("log", Stack::Normal, move || {
        write_lines(&queue, &writer_dropped);
        drop(done);
        Ok(())
    })?;
    let mut builder = Builder::new();
    if let Some(text) = &filter.containing {
        // env_logger has no other way to set this filter. The text contains no second `/`.
        builder.parse_filters(&format!("/{text}"));
    }
    for (module, level) in filter.levels() {
        builder.filter(module, level);
    }
    builder
        .target(Target::Pipe(Box::new(Lines { lines: lines.clone(), dropped })))
        .format(move |out, record| match format {
            LogFormat::Text => {
                let level = record.level();
                writeln!(out, "{} {level:<5} {}: {}", clock::rfc3339(), record.target(), record.args())
            }
            LogFormat::Json => {
                let line = JsonLine {
                    at: &clock::rfc3339(),
                    level: record.level().as_str(),
                    target: record.target(),
                    message: &record.args().to_string(),
                };
                writeln!(out, "{}", serde_json::to_string(&line).unwrap_or_default())
            }
        })
        .try_init()
        .map_err(io::Error::other)?;
    Ok(LogGuard { lines, is_done })
}

#[derive(Serialize)]
struct JsonLine<'a> {
    at: &'a str,
    level: &'a str,
    target: &'a str,
    message: &'a str,
}

/// Waits for the last lines on drop.
pub(crate) struct LogGuard {
    lines: Sender<Vec<u8>>,
    is_done: Receiver<()>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        // The logger is never dropped, so its end of the channel stays open. An empty line ends the writer.
        if self.lines.send_timeout(Vec::new(), FLUSH_TIMEOUT).is_ok() {
            // Returns an error in both cases: when the writer has ended, and when the time has passed.
            let _ = self.is_done.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// The target of env_logger, which writes one whole line per call.
struct Lines {
    lines: Sender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.lines.try_send(line.to_vec()) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            // The writer thread has ended. The last lines name the reason, so they are written here.
            Err(TrySendError::Disconnected(line)) => io::stderr().write_all(&line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_lines(queue: &Receiver<Vec<u8>>, dropped: &AtomicU64) {
    let mut out = io::stderr();
    for line in queue.iter().take_while(|line| !line.is_empty()) {
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let _ = writeln!(out, "({missing} lines of the log were dropped here: standard error is too slow)");
        }
        let _ = out.write_all(&line);
    }
}
