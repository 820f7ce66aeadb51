//! A running guest: started from a [`GuestSpec`], read line by line, gone without a trace when dropped.

mod command;
mod process;

use crate::inprocess::Machine;
use crate::setup::Assets;
use crate::{Error, Line, Plan};
pub(crate) use command::{accelerate, inside};
use guest_agent::Console;
pub(crate) use process::{Process, Text};
use std::fmt;
use std::io::{PipeWriter, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Kernel lines that a QEMU guest can boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kernel {
    /// Linux 6.1, Debian 12's own.
    K6_1,
    /// Linux 6.12; on Ubuntu the newest kernel of the system's own.
    K6_12,
}

impl Kernel {
    /// First and last part of package names that hold such a kernel, best first.
    pub(crate) fn package_patterns(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::K6_1 => [("linux-image-6.1.", "-cloud-amd64"), ("linux-image-6.1.", "-generic")],
            Self::K6_12 => [("linux-image-6.12.", "-cloud-amd64"), ("linux-image-6.", "-generic")],
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::K6_1 => "6.1",
            Self::K6_12 => "6.12",
        })
    }
}

/// Kinds of guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// User Mode Linux: a process, no KVM and no root.
    Uml,
    /// QEMU with a kernel of Debian's.
    Qemu(Kernel),
    /// A thread of this process: our own driver side and a TCP/IP stack, no kernel.
    InProcess,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Uml, Self::Qemu(Kernel::K6_1), Self::Qemu(Kernel::K6_12), Self::InProcess];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uml => f.write_str("uml"),
            Self::Qemu(kernel) => write!(f, "qemu-{kernel}"),
            Self::InProcess => f.write_str("in-process"),
        }
    }
}

impl FromStr for Kind {
    type Err = Error;
    /// `qemu` alone is the one with the newest kernel.
    fn from_str(s: &str) -> Result<Self, Error> {
        match s {
            "uml" => Ok(Self::Uml),
            "qemu" | "qemu-6.12" => Ok(Self::Qemu(Kernel::K6_12)),
            "qemu-6.1" => Ok(Self::Qemu(Kernel::K6_1)),
            "in-process" => Ok(Self::InProcess),
            _ => Err(Error::Unsupported("kinds of guests are uml, qemu, qemu-6.1, qemu-6.12 and in-process")),
        }
    }
}

/// The guest's only network card.
#[derive(Clone, Debug)]
pub enum Nic {
    /// A vhost-user device.
    VhostUser {
        /// Its unix socket.
        socket: PathBuf,
        /// The guest listens there and the device side connects; QEMU only.
        listen: bool,
    },
    /// The guest program's own card on a tap in a network namespace: what ours is compared with. Needs root.
    Tap {
        /// The namespace, as `ip netns` knows it.
        namespace: String,
        /// The tap.
        tap: String,
    },
}

impl Nic {
    /// A vhost-user device that listens at `socket`.
    pub fn vhost_user(socket: impl Into<PathBuf>) -> Self {
        Self::VhostUser { socket: socket.into(), listen: false }
    }
}

/// Linux allows as many threads as its memory says, and starts one for each test of a cipher when it boots. With 96 MiB and
/// a host that is busy they are so many that a boot in fifteen ends at the first `fork`.
const UML_MEMORY: u32 = 128;

/// How a guest is to be booted.
#[derive(Clone, Debug)]
pub struct GuestSpec {
    /// Which program and kernel.
    pub kind: Kind,
    /// Its network card.
    pub nic: Nic,
    /// What it does.
    pub plan: Plan,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Queue pairs of the card, and processors to use them; QEMU only, User Mode Linux has one processor and
    /// takes the queues that the device offers.
    pub queues: u16,
    /// Packed rings if the device offers them: QEMU passes the offer on, and the in-process guest takes it. User Mode
    /// Linux does in any case.
    pub packed: bool,
    /// More properties of QEMU's `virtio-net-pci`, such as `rx_queue_size=1024`.
    pub device_options: Vec<String>,
    /// More arguments for the guest's program.
    pub extra_arguments: Vec<String>,
    /// Time from start to exit after which the guest is killed.
    pub deadline: Duration,
    /// File that keeps the console.
    pub console: PathBuf,
}

impl GuestSpec {
    /// One queue pair, packed rings but for QEMU, the memory that the kind needs, three minutes, and a console file in the
    /// folder for temporary files.
    pub fn new(kind: Kind, nic: Nic, plan: Plan) -> Self {
        Self {
            kind,
            nic,
            plan,
            memory_mib: if kind == Kind::Uml { UML_MEMORY } else { 256 },
            queues: 1,
            packed: !matches!(kind, Kind::Qemu(_)),
            device_options: Vec::new(),
            extra_arguments: Vec::new(),
            deadline: Duration::from_secs(180),
            console: std::env::temp_dir().join(format!("{kind}-{}.console", std::process::id())),
        }
    }
}

#[derive(Debug)]
enum Body {
    /// With the input of its console.
    Process(Process, PipeWriter),
    Thread(Machine),
}

/// What waiting for a guest came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A result.
    Line(Line),
    /// None yet.
    Nothing,
    /// The plan is finished and the guest has powered itself off.
    End,
}

/// A guest that was started. Dropping it kills it and everything it started; it also ends when this process
/// does, however that comes about.
#[derive(Debug)]
pub struct Guest {
    body: Body,
    console: PathBuf,
    started: Instant,
    limit: Duration,
    boot_time: Option<Duration>,
    last: String,
    done: bool,
    /// Folder for the guest program's own files, removed with it.
    _scratch: tempfile::TempDir,
}

impl Guest {
    /// Starts it. A vhost-user device that listens must do so by now.
    ///
    /// # Errors
    /// The kind was not prepared, the combination does not exist, or the program cannot be started.
    pub fn boot(spec: &GuestSpec, assets: &Assets) -> Result<Self, Error> {
        let scratch = tempfile::tempdir().map_err(Error::file(std::env::temp_dir()))?;
        let body = match (spec.kind, &spec.nic) {
            (Kind::InProcess, Nic::VhostUser { socket, listen: false }) => {
                Body::Thread(Machine::start(socket.clone(), spec)?)
            }
            (Kind::InProcess, _) => return Err(Error::Unsupported("the in-process guest only connects")),
            _ => {
                let command = command::line(spec, assets, scratch.path())?;
                let (process, input) = Process::start_talking(command, Some(&spec.console))?;
                Body::Process(process, input)
            }
        };
        Ok(Self {
            body,
            console: spec.console.clone(),
            started: Instant::now(),
            limit: spec.deadline,
            boot_time: None,
            last: String::new(),
            done: false,
            _scratch: scratch,
        })
    }

    /// Waits for the next result. `None` when the plan is finished and the guest has powered itself off.
    ///
    /// # Errors
    /// The guest ended early, or the deadline has passed: it is killed then.
    pub fn next_line(&mut self) -> Result<Option<Line>, Error> {
        loop {
            match self.wait(self.limit)? {
                Event::Line(line) => return Ok(Some(line)),
                Event::End => return Ok(None),
                Event::Nothing => {}
            }
        }
    }

    /// Waits for the next result, at most this long.
    ///
    /// # Errors
    /// As for [`Guest::next_line`].
    pub fn wait(&mut self, patience: Duration) -> Result<Event, Error> {
        let left = self.limit.saturating_sub(self.started.elapsed());
        let text = match self.next_text(left.min(patience)) {
            Text::Line(text) => text,
            Text::End if self.done => return Ok(Event::End),
            Text::End => return Err(self.died()),
            Text::Late if patience < left => return Ok(Event::Nothing),
            Text::Late => {
                self.kill();
                return Err(Error::Deadline(self.limit, self.console.clone()));
            }
        };
        match Console::parse(&text) {
            Console::Line(line) => {
                self.boot_time.get_or_insert_with(|| self.started.elapsed());
                return Ok(Event::Line(line));
            }
            Console::Garbled(why) => return Ok(Event::Line(Line::fail("console", why))),
            Console::Done => self.done = true,
            Console::Other => {}
        }
        if !text.trim().is_empty() {
            self.last = text;
        }
        Ok(Event::Nothing)
    }

    fn next_text(&mut self, limit: Duration) -> Text {
        match &mut self.body {
            Body::Process(process, _) => process.next_text(limit),
            Body::Thread(machine) => machine.next_text(limit),
        }
    }

    /// All results up to the end.
    ///
    /// # Errors
    /// As for [`Guest::next_line`].
    pub fn run_to_end(&mut self) -> Result<Vec<Line>, Error> {
        let mut lines = Vec::new();
        while let Some(line) = self.next_line()? {
            lines.push(line);
        }
        Ok(lines)
    }

    /// Gives a command to a guest that listens ([`Check::Talk`](crate::Check::Talk)), and waits for its answer.
    ///
    /// # Errors
    /// It is a thread, or as for [`Guest::next_line`].
    pub fn tell(&mut self, command: &str) -> Result<Line, Error> {
        let Body::Process(_, input) = &mut self.body else {
            return Err(Error::Unsupported("the in-process guest takes no commands"));
        };
        if writeln!(input, "{command}").is_err() {
            return Err(self.died());
        }
        match self.next_line()? {
            Some(line) => Ok(line),
            None => Err(self.died()),
        }
    }

    /// Time from start to the first line of the agent.
    pub fn boot_time(&self) -> Option<Duration> {
        self.boot_time
    }

    /// Id of the process group that the guest is, unless it is a thread of ours.
    pub fn id(&self) -> Option<u32> {
        match &self.body {
            Body::Process(process, _) => Some(process.id()),
            Body::Thread(_) => None,
        }
    }

    /// Where the console is kept.
    pub fn console(&self) -> &Path {
        &self.console
    }

    /// Kills the guest as a crash would, without a word to its device.
    pub fn kill(&mut self) {
        match &mut self.body {
            Body::Process(process, _) => process.kill(),
            Body::Thread(machine) => machine.kill(),
        }
    }

    /// Exit state, once the guest has ended; a thread's is that of a program that ended so.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        match &mut self.body {
            Body::Process(process, _) => process.exit_status(),
            // A panic is exit code 101.
            Body::Thread(machine) => machine.ended().map(|well| ExitStatus::from_raw(if well { 0 } else { 101 << 8 })),
        }
    }

    fn died(&mut self) -> Error {
        // Its output has ended; whatever is left of it has nothing more to say.
        let state = match self.exit_status() {
            Some(status) => status.to_string(),
            None => "killed after it closed its console".to_owned(),
        };
        self.kill();
        Error::Died { state, last: std::mem::take(&mut self.last), console: self.console.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_and_read() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
        }
        assert_eq!("qemu".parse::<Kind>().unwrap(), Kind::Qemu(Kernel::K6_12));
        assert!("vmware".parse::<Kind>().is_err());
    }
}
