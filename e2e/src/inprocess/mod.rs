//! A guest that is only a thread: our own driver side, with smoltcp as its TCP/IP stack, connected to the device
//! side by its vhost-user socket like any other. It needs no package, no kernel and no root.
//!
//! It runs the same checks as the agent in the machines, and prints the same lines.
//!
//! | part | what |
//! |---|---|
//! | `card` | rings and buffers, frames to and from the stack |
//! | `stack` | smoltcp, its sockets, the loop |
//! | `checks` | what is measured |

mod card;
mod checks;
mod stack;

use crate::Error;
use crate::guest::{GuestSpec, Text};
use card::Card;
use guest_agent::{Console, Line, Verdict};
use stack::Stack;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running one. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Machine {
    lines: Receiver<String>,
    stop: Arc<AtomicBool>,
    /// `None` once it has been waited for.
    thread: Option<JoinHandle<()>>,
    /// It came to its end by itself, and without a panic.
    ended_well: bool,
}

impl Machine {
    /// Starts the thread, which connects to the socket. What it prints is also kept in the console file.
    pub(crate) fn start(socket: PathBuf, spec: &GuestSpec) -> Result<Self, Error> {
        let spec = spec.clone();
        let log = File::create(&spec.console).map_err(Error::file(&spec.console))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (tx, lines) = channel();
        let in_thread = Arc::clone(&stop);
        let body = move || run(&socket, &spec, in_thread, &mut Printer { log, tx });
        let thread = std::thread::Builder::new().name("guest".to_owned()).spawn(body);
        let thread = thread.map_err(|source| Error::Start { program: "the guest's thread".to_owned(), source })?;
        Ok(Self { lines, stop, thread: Some(thread), ended_well: false })
    }

    pub(crate) fn next_text(&mut self, limit: Duration) -> Text {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Text::Line(line),
            Err(RecvTimeoutError::Timeout) => Text::Late,
            Err(RecvTimeoutError::Disconnected) => {
                self.ended_well = self.thread.take().is_none_or(|t| t.join().is_ok());
                Text::End
            }
        }
    }

    /// Whether it has ended, and then whether by itself.
    pub(crate) fn ended(&self) -> Option<bool> {
        self.thread.is_none().then_some(self.ended_well)
    }

    /// Ends it where it stands: its connection closes without a word.
    pub(crate) fn kill(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Printer {
    log: File,
    tx: Sender<String>,
}

impl Printer {
    fn print(&mut self, text: String) {
        // A full disk must not end the run, and a reader that is gone does not wait for more.
        let _ = writeln!(self.log, "{text}");
        let _ = self.tx.send(text);
    }
}

fn run(socket: &Path, spec: &GuestSpec, stop: Arc<AtomicBool>, printer: &mut Printer) {
    let begin = Instant::now();
    match Stack::new(socket, spec.packed, Arc::clone(&stop)) {
        Ok(mut stack) => {
            let boot = Line::new("boot", Verdict::Info).value(begin.elapsed().as_secs_f64(), "s");
            printer.print(boot.detail("kernel", "none: driver and stack in a thread").to_console());
            for step in &spec.plan.steps {
                stack.begin(step);
                let line = checks::run(&mut stack, step).unwrap_or_else(|why| Line::fail(step.name(), why));
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                printer.print(line.to_console());
            }
            if let Err(why) = stack.card.unplug() {
                printer.print(Line::fail("stop", why).to_console());
            }
        }
        Err(why) => printer.print(Line::fail("interface", why).to_console()),
    }
    printer.print(Console::done());
}

/// Connects to the device side at `socket` and starts the rings, packed if that is offered, as a guest would; then goes
/// away, in good order or without a word. For tests of what that leaves behind.
///
/// # Errors
/// What the device side refused.
pub fn visit(socket: &Path, orderly: bool) -> Result<(), String> {
    let card = Card::plug(socket, true)?;
    if orderly { card.unplug() } else { Ok(()) }
}
