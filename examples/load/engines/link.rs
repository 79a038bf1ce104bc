//! The parent's side of one worker process: starts it, writes commands to its standard input, and keeps the last of its
//! answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command as Program, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::command::{Answer, Command, Setup};
use super::worker::WORKER_ARGUMENT;
use crate::engine::{Report, Status};

/// A worker process, ended on drop.
pub struct Link {
    child: Child,
    answers: Arc<Mutex<Answers>>,
}

/// What the process has sent.
#[derive(Default)]
struct Answers {
    applied: u64,
    status: Option<Status>,
    gone: Vec<usize>,
    report: Option<Report>,
    /// The process has ended, for this reason.
    ended: Option<String>,
}

impl Link {
    /// Starts a worker process with its clients.
    pub fn start(setup: &Setup) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("cannot start a worker process: {error}");
        let this = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let mut program = Program::new(this);
        program.arg(WORKER_ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = program.spawn().map_err(failed)?;
        let answers = Arc::default();
        if let Some(pipe) = child.stdout.take() {
            watch(pipe, Arc::clone(&answers)).map_err(failed)?;
        }
        let mut link = Self { child, answers };
        link.write(setup)?;
        Ok(link)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn send(&mut self, command: &Command) -> Result<(), String> {
        self.write(command)
    }

    fn write(&mut self, message: &impl serde::Serialize) -> Result<(), String> {
        let mut line = serde_json::to_vec(message).map_err(|error| format!("a command has no JSON form: {error}"))?;
        line.push(b'\n');
        let stdin = self.child.stdin.as_mut().ok_or("a worker process has no standard input")?;
        stdin.write_all(&line).map_err(|error| format!("a worker process has ended: {error}"))
    }

    /// The state after the first `commands` commands. `None`: the process has not applied them all.
    pub fn status(&self, commands: u64) -> Option<Status> {
        let answers = self.answers();
        if answers.applied == commands { answers.status.clone() } else { None }
    }

    /// Clients that have lost their connections since the last call.
    pub fn take_gone(&self) -> Vec<usize> {
        std::mem::take(&mut self.answers().gone)
    }

    pub fn take_report(&self) -> Option<Report> {
        self.answers().report.take()
    }

    /// Returns an error if the process has ended.
    pub fn check_alive(&self) -> Result<(), String> {
        self.answers().ended.as_ref().map_or(Ok(()), |reason| Err(reason.clone()))
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The process ends when its standard input does; nothing that it could still say is of interest.
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a thread that reads the answers.
fn watch(pipe: impl Read + Send + 'static, answers: Arc<Mutex<Answers>>) -> std::io::Result<()> {
    let read = move || {
        let mut reason = "a worker process has ended before its parent; the lines above may say why".to_owned();
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            match serde_json::from_str::<Answer>(&line) {
                Ok(answer) => {
                    answers.applied = answer.applied;
                    answers.status = Some(answer.status);
                    answers.gone.extend(answer.gone);
                    answers.report = answer.report.or(answers.report.take());
                }
                Err(error) => {
                    reason = format!("an answer of a worker process is not valid: {error}");
                    break;
                }
            }
        }
        answers.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(reason);
    };
    std::thread::Builder::new().name("answers".into()).spawn(read).map(drop)
}
