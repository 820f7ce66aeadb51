//! Runs the plan of the kernel command line and prints one result line per check. `/init` starts it with
//! `/proc`, `/sys` and `/dev` mounted and the drivers loaded, and powers the guest off when it returns.

mod checks;

use checks::{Guest, talk};
use guest_agent::{Check, Console, Line, Plan, Step, Verdict};
use std::io::Write as _;
use std::sync::{Arc, mpsc};

fn main() {
    let guest = Guest::new();
    print_line(&boot_line());
    match Plan::from_command_line(&read("/proc/cmdline")) {
        Ok(plan) => run(guest, &plan),
        Err(e) => print_line(&Line::fail("plan", e.to_string())),
    }
    print_text(&Console::done());
}

fn run(guest: Guest, plan: &Plan) {
    let guest = match guest.bring_up(&plan.interface) {
        Ok(guest) => Arc::new(guest),
        Err(reason) => return print_line(&Line::fail("interface", reason)),
    };
    for step in &plan.steps {
        // A command that hangs is the host's to give up.
        let line = match step.check {
            Check::Talk => talk::serve(&guest, step, print_line),
            _ => run_step(&guest, step),
        };
        print_line(&line);
    }
}

/// A check that hangs is given up and left behind in its thread: the next one must have its turn.
fn run_step(guest: &Arc<Guest>, step: &Step) -> Line {
    let limit = step.limit();
    let (tx, rx) = mpsc::channel();
    let (guest, in_thread) = (Arc::clone(guest), step.clone());
    std::thread::spawn(move || {
        let outcome = checks::run(&guest, &in_thread);
        // The receiver is gone if this came too late; then nobody waits for it.
        let _ = tx.send(outcome);
    });
    match rx.recv_timeout(limit) {
        Ok(Ok(line)) => line,
        Ok(Err(reason)) => Line::fail(step.name(), reason),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Line::fail(step.name(), format!("not finished after {} s", limit.as_secs()))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Line::fail(step.name(), "the check ended without a result"),
    }
}

fn boot_line() -> Line {
    let uptime = read("/proc/uptime").split(' ').next().and_then(|s| s.parse::<f64>().ok());
    let processors = read("/proc/cpuinfo").lines().filter(|l| l.starts_with("processor")).count();
    Line::new("boot", Verdict::Info)
        .value(uptime.unwrap_or(0.0), "s")
        .detail("kernel", read("/proc/sys/kernel/osrelease").trim())
        .detail("processors", processors)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn print_line(line: &Line) {
    print_text(&line.to_console());
}

fn print_text(text: &str) {
    // In one write, so that other writers to the console do not get in between. A console that is gone has
    // no reader to tell about it.
    let _ = std::io::stdout().lock().write_all(format!("{text}\n").as_bytes());
}
