//! The log: lines on standard error, written by a thread of their own, so that a terminal or pipe that is stuck stalls
//! nobody. Lines that find no room are dropped and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use env_logger::{Builder, Target};
use log::LevelFilter;
use serde::Serialize;

use crate::clock;
use crate::config::{LogFilter, LogFormat};
use crate::supervisor::Supervisor;
use crate::threads::Stack;

/// Lines that may wait.
const LINES_MAX: usize = 4096;
/// Libraries that log what passes through them, at the levels below this one: the parameters of statements, emails and
/// password hashes among them; what people say. No filter turns that on.
const INDISCREET: [&str; 2] = ["tokio_postgres", "tungstenite"];
/// How long the last lines have at the end of the program.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts the log. Dropping what is returned waits for the last lines.
///
/// # Errors
/// There is no thread, or a logger is set already.
pub fn start(filter: &LogFilter, format: LogFormat, supervisor: &Supervisor) -> io::Result<LogGuard> {
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
        // There is no other way to set it. It cannot contain a second `/`.
        builder.parse_filters(&format!("/{text}"));
    }
    for (module, level) in &filter.levels {
        builder.filter(module.as_deref(), *level);
    }
    for library in INDISCREET {
        builder.filter_module(library, LevelFilter::Info);
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

/// Waits for the last lines when it is dropped.
pub struct LogGuard {
    lines: Sender<Vec<u8>>,
    is_done: Receiver<()>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        // The logger itself is never dropped, so an empty line tells the writer to end.
        if self.lines.send_timeout(Vec::new(), FLUSH_TIMEOUT).is_ok() {
            // It gives an error either way: when the writer has ended, or when the time is over.
            let _ = self.is_done.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

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
            // The thread that writes has failed, and the last lines say so.
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
            let _ = writeln!(out, "({missing} lines of the log found no room and are missing here)");
        }
        let _ = out.write_all(&line);
    }
}
