//! A child process with its output as lines, in a process group of its own, which ends when we do.

use crate::Error;
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the watchdog runs: its input ends when we do, however that comes about, and then it kills the group. The
/// kernel's own signal for a parent's death would only reach the leader, and User Mode Linux has helpers. Nor may
/// a shell lead the group: User Mode Linux then makes a session of its own.
const WATCHDOG: &str = r#"read nothing; kill -KILL "-$1""#;

/// What came of waiting for a line.
pub(crate) enum Text {
    /// A line, without its end.
    Line(String),
    /// There will be no more.
    End,
    /// None came in time.
    Late,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    watchdog: Option<Child>,
    lines: Receiver<String>,
    /// `None` once it has come to the end of the output.
    reader: Option<JoinHandle<()>>,
    killed: bool,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts the command with both outputs in one stream, copied to `log`, and nothing to read.
    pub(crate) fn start(mut command: Command, log: Option<&Path>) -> Result<Self, Error> {
        command.stdin(Stdio::null());
        Self::spawn(command, log)
    }

    /// As [`Process::start`], with an input that we write.
    pub(crate) fn start_talking(mut command: Command, log: Option<&Path>) -> Result<(Self, PipeWriter), Error> {
        let failed = |source| Error::Start { program: command.get_program().to_string_lossy().into_owned(), source };
        let (its, ours) = std::io::pipe().map_err(failed)?;
        command.stdin(its);
        Ok((Self::spawn(command, log)?, ours))
    }

    fn spawn(mut command: Command, log: Option<&Path>) -> Result<Self, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |source| Error::Start { program: program.clone(), source };
        let log = log.map(|path| File::create(path).map_err(Error::file(path))).transpose()?;
        let (output, input) = std::io::pipe().map_err(failed)?;
        command.stdout(input.try_clone().map_err(failed)?).stderr(input).process_group(0);
        let child = command.spawn().map_err(failed)?;
        // Our copies of the pipe's input go here, else its end would never be seen.
        drop(command);
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "sh", &child.id().to_string()])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn();
        let (tx, lines) = channel();
        let reader = std::thread::spawn(move || copy_lines(output, log, &tx));
        let mut process = Self { child, watchdog: None, lines, reader: Some(reader), killed: false, status: None };
        // Without a watchdog, `process` goes at once, and the child with it.
        process.watchdog = Some(watchdog.map_err(|source| Error::Start { program: "sh".to_owned(), source })?);
        Ok(process)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn next_text(&mut self, limit: Duration) -> Text {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Text::Line(line),
            Err(RecvTimeoutError::Timeout) => Text::Late,
            Err(RecvTimeoutError::Disconnected) => {
                self.join_reader();
                Text::End
            }
        }
    }

    /// Exit state if it has ended. A process that has closed its output is given a second to do so.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now().checked_add(Duration::from_secs(1));
        while self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
            if self.reader.is_some() || deadline.is_none_or(|d| Instant::now() >= d) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.status
    }

    /// Kills the whole group and waits for it. Does nothing the second time.
    pub(crate) fn kill(&mut self) {
        if std::mem::replace(&mut self.killed, true) {
            return;
        }
        // Also when the leader has ended: others of its group may not have. An id is not given out again while
        // its group has members.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        if self.status.is_none() {
            self.status = self.child.wait().ok();
        }
        if let Some(mut watchdog) = self.watchdog.take() {
            let _ = watchdog.kill();
            let _ = watchdog.wait();
        }
        self.join_reader();
    }

    fn join_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn copy_lines(output: PipeReader, mut log: Option<File>, tx: &Sender<String>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match output.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Some(file) = &mut log {
            // A full disk must not end the run.
            let _ = file.write_all(&line);
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if tx.send(text).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command, None).unwrap()
    }

    #[test]
    fn lines_of_both_outputs_and_the_exit_state() {
        let mut p = shell("echo one; echo two >&2; exit 7");
        let mut next = || match p.next_text(Duration::from_secs(10)) {
            Text::Line(line) => Some(line),
            Text::End => None,
            Text::Late => panic!("late"),
        };
        assert_eq!([next().as_deref(), next().as_deref(), next().as_deref()], [Some("one"), Some("two"), None]);
        assert_eq!(p.exit_status().and_then(|s| s.code()), Some(7));
    }

    /// The end of our process closes the watchdog's input; so does this.
    #[test]
    fn watchdog_kills_the_group_when_its_input_ends() {
        let mut p = shell("sleep 600 & echo $!; wait");
        assert!(matches!(p.next_text(Duration::from_secs(10)), Text::Line(_)));
        drop(p.watchdog.as_mut().unwrap().stdin.take());
        assert!(matches!(p.next_text(Duration::from_secs(10)), Text::End), "somebody still holds the pipe");
    }

    #[test]
    fn kill_takes_the_whole_group() {
        let mut p = shell("sleep 600 & echo $!; wait");
        let Text::Line(id) = p.next_text(Duration::from_secs(10)) else { panic!("no line") };
        assert!(matches!(p.next_text(Duration::from_millis(1)), Text::Late));
        p.kill();
        // A grandchild that was killed may take a moment to end, and is a zombie until init fetches it.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                break;
            }
            assert!(Instant::now() < deadline, "{state}");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!p.exit_status().unwrap().success());
    }
}
