//! Commands of the host, one a line of the console, each answered with a result line before the next is read.
//!
//! | command | does |
//! |---|---|
//! | `end` | goes on with the plan |
//! | `capture` | frames that arrive from now on are kept |
//! | `frames N` | waits until frame N has arrived, and answers with all that have since `capture` or the last `frames` |
//! | `count N` | the same, once N frames have arrived |
//! | `send HEX` | sends this frame as it is |
//! | anything else | a program and its arguments; its output is in `out`, its exit status is the value |
//!
//! Programs are those of `/tools`, if the guest has them, and of busybox.

use super::Guest;
use super::capture::Capture;
use guest_agent::{Line, Step, Verdict};
use std::io::BufRead as _;
use std::path::Path;
use std::process::Command;

/// The word that ends it.
const END: &str = "end";
/// Name of its lines.
const ANSWER: &str = "answer";

/// Serves the host until it says `end`; gives the line for that.
pub(crate) fn serve(guest: &Guest, step: &Step, print: fn(&Line)) -> Line {
    // What the terminal sends back would be lines of the console too.
    if let Err(reason) = super::busybox(&["stty", "-F", "/dev/console", "-echo"]) {
        return Line::fail(step.name(), reason);
    }
    print(&Line::new(ANSWER, Verdict::Info));
    let mut capture = None;
    let mut served = 0_u32;
    for line in std::io::stdin().lock().lines() {
        match line {
            Ok(line) if line.trim() == END => {
                return Line::new(step.name(), Verdict::Pass).value(f64::from(served), "commands");
            }
            Ok(line) => print(&answer(guest, &mut capture, line.trim())),
            Err(e) => return Line::fail(step.name(), format!("console: {e}")),
        }
        served = served.saturating_add(1);
    }
    Line::fail(step.name(), "the console has no more input")
}

fn answer(guest: &Guest, capture: &mut Option<Capture>, command: &str) -> Line {
    let words: Vec<&str> = command.split_ascii_whitespace().collect();
    let done = match (words.as_slice(), capture) {
        (["capture"], capture) => Capture::start(&guest.interface).map(|new| {
            *capture = Some(new);
            Line::new(ANSWER, Verdict::Pass)
        }),
        (["frames", last], Some(capture)) => number(last).and_then(|last| capture.until(last)).map(frames),
        (["count", n], Some(capture)) => number(n).and_then(|n| capture.wait_for(n)).map(frames),
        (["send", hex], Some(capture)) => capture.send(hex).map(|()| Line::new(ANSWER, Verdict::Pass)),
        ([program, arguments @ ..], _) => run(program, arguments),
        ([], _) => Err("an empty line".to_owned()),
    };
    done.unwrap_or_else(|reason| Line::fail(ANSWER, reason))
}

fn number(word: &str) -> Result<u32, String> {
    word.parse().map_err(|e| format!("{word:?}: {e}"))
}

fn frames(seen: Vec<serde_json::Value>) -> Line {
    Line::new(ANSWER, Verdict::Pass).value(seen.len() as f64, "frames").detail("frames", seen)
}

/// A program that fails is an answer like another.
fn run(program: &str, arguments: &[&str]) -> Result<Line, String> {
    let tool = Path::new("/tools/bin").join(program);
    let mut command = if tool.exists() {
        Command::new(tool)
    } else {
        let mut busybox = Command::new("/bin/busybox");
        busybox.arg(program);
        busybox
    };
    let done = command.args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let status = done.status.code().map_or(-1.0, f64::from);
    Ok(Line::new(ANSWER, Verdict::Pass)
        .value(status, "status")
        .detail("out", text(&done.stdout))
        .detail("err", text(&done.stderr)))
}
