//! The main loop of a worker process: applies the commands from the standard input to the engine of this process, and
//! writes its state to the standard output. It ends with its parent.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;

use super::command::{Answer, Command, Setup};
use crate::clock::{self, nanos, now_ns};
use crate::engine::{Engine, Report};
use crate::process::raise_file_limit;

/// The internal first argument of a worker process.
pub const WORKER_ARGUMENT: &str = "__worker";

/// From one answer to the next, if no command was applied meanwhile.
const ANSWER_INTERVAL: Duration = Duration::from_millis(20);
const POLL_WAIT: Duration = Duration::from_millis(10);
/// Commands that are read ahead.
const QUEUED_COMMANDS: usize = 1024;

/// The entry point of a worker process. Returns when the parent closes the standard input.
pub fn run() -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| format!("cannot request a signal on the death of the parent: {error}"))?;
    // An interrupt on the terminal goes to all processes. The parent acts on it, and ends this one.
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::default())
        .map_err(|error| format!("cannot install a signal handler: {error}"))?;
    raise_file_limit();
    let mut first = String::new();
    std::io::stdin().lock().read_line(&mut first).map_err(|error| format!("no setup from the parent: {error}"))?;
    let Setup { load, clock_origin } = parse(&first)?;
    clock::start_at(clock_origin);
    let mut engine = Engine::new(load)?;
    let commands = read_commands()?;
    let mut sent = None;
    let (mut applied, mut answered_ns) = (0, 0);
    loop {
        engine.poll_once(POLL_WAIT)?;
        let (mut is_due, mut report) = (now_ns() >= answered_ns + nanos(ANSWER_INTERVAL), None);
        loop {
            match commands.try_recv() {
                Ok(command) => report = parse::<Command>(&command)?.apply(&mut engine)?.or(report),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
            applied += 1;
            is_due = true;
        }
        if is_due {
            answered_ns = now_ns();
            answer(&mut engine, applied, report, &mut sent)?;
        }
    }
}

fn read_commands() -> Result<Receiver<String>, String> {
    let (sender, commands) = sync_channel(QUEUED_COMMANDS);
    let read = move || {
        let mut lines = std::io::stdin().lock().lines().map_while(Result::ok);
        // The channel is closed when the worker has failed.
        while lines.next().is_some_and(|line| sender.send(line).is_ok()) {}
    };
    let thread = std::thread::Builder::new().name("commands".into()).spawn(read);
    thread.map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(commands)
}

/// Writes the state of the engine, if it differs from the last one (`sent`).
fn answer(engine: &mut Engine, applied: u64, report: Option<Report>, sent: &mut Option<String>) -> Result<(), String> {
    let answer = Answer { applied, status: engine.status(), gone: engine.take_gone(), report };
    let line = serde_json::to_string(&answer).map_err(|error| format!("an answer has no JSON form: {error}"))?;
    if sent.as_ref() != Some(&line) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| format!("the parent is gone: {error}"))?;
        *sent = Some(line);
    }
    Ok(())
}

fn parse<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| format!("a command is not valid: {error}"))
}
