//! The commands of this repository: `cargo xtask conformance`, `demo`, `dpdk`, `fuzz`, `guests`, `rings`, `tap` and `test`.

mod conformance;
mod demo;
mod dpdk;
mod fuzz;
mod guests;
mod interrupt;
mod release;
mod rings;
mod round_trips;
mod tap;
mod test;

use clap::{Parser, Subcommand, ValueEnum};
use e2e::Kind;
use std::fmt;
use std::path::Path;
use std::process::ExitCode;

/// What the root of this repository is called for messages and paths.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Runs the demo, the tests, the measurements or the fuzz targets of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                      User Mode Linux on the embedded network: no KVM, no root for the run
  cargo xtask demo --guest qemu         Debian's cloud kernel in QEMU
  cargo xtask demo --guest in-process   no package needed at all
  cargo xtask demo --net tap            a real Linux stack behind a tap (root)
  cargo xtask test                      everything that continuous integration runs
  cargo xtask conformance               each requirement of VIRTIO on a net device, and the tests that show it
  cargo xtask conformance --socket S    what can be seen of that from outside, at any vhost-user back end
  cargo xtask rings --quick             the ring lab, a rough look: layouts and baselines side by side
  cargo xtask dpdk --quick              DPDK's own back end and ours behind the same front end, a rough look
  cargo xtask guests --quick            what one daemon costs with 1, 10 and 100 guests
  cargo xtask tap --quick               a tap, our daemon beside QEMU's own card: CPU time for a frame (root)
  cargo xtask fuzz --minutes 10         every fuzz target for ten minutes";

#[derive(Subcommand)]
enum Task {
    /// Boots a guest whose only network card is this stack, and shows what happens.
    ///
    /// Installs what is missing and says why. Leaves the table, a capture of the session and the guest's console in
    /// target/demo. The exit code is 0 if all checks passed.
    Demo {
        /// The guest.
        #[arg(long, value_enum, default_value_t = GuestChoice::Uml)]
        guest: GuestChoice,
        /// Where its frames go to: the network inside the daemon, or a tap in a network namespace (root).
        #[arg(long, value_enum, default_value_t = NetChoice::User)]
        net: NetChoice,
    },
    /// Measures rings: ours, other layouts, other implementations, all in one run.
    ///
    /// Prints tables, and leaves report.json and report.html in target/rings. Wants two cores that do nothing else.
    Rings {
        #[command(flatten)]
        options: rings::Options,
        /// Also Linux's own ring benchmark, tools/virtio/ringtest: fetches Debian's linux-source-6.1 and builds it.
        #[arg(long)]
        with_ringtest: bool,
    },
    /// Measures DPDK's own vhost back end and our daemon behind the same front end, DPDK's virtio-user, in turn.
    ///
    /// Fetches DPDK from Debian without installing it. Prints rates, ratios and how far they lie apart, and leaves
    /// report.json and report.html in target/dpdk. Wants two cores that do nothing else, and root for huge pages. A
    /// full run takes some 20 minutes.
    Dpdk(dpdk::Options),
    /// Measures what one daemon costs as its guests become more: memory, start, idle processor time, throughput.
    ///
    /// The guests are front ends in this process, 1 to 1000 of them, and some that are a Linux kernel of their own. Prints a
    /// table, and leaves report.json in target/guests-cost. Wants two cores that do nothing else.
    Guests(guests::Options),
    /// Measures round trips of single frames with DPDK's vhost port and with the daemon, in turn.
    #[command(hide = true)]
    RoundTrips(round_trips::Options),
    /// Measures a tap: our daemon beside QEMU's own card, the same guest on the same tap.
    ///
    /// UDP of 1500 bytes and TCP, each way: frames and bits a second, and the processor time that they cost. Guests are booted
    /// in turn. Prints a table, and leaves report.json in target/tap. Needs root; at its best on a machine that does nothing
    /// else.
    Tap(tap::Options),
    /// Runs all tests: format, clippy, documentation, units, models, guests end to end.
    ///
    /// Installs what they need and says why. Ends with a summary; the exit code is 0 if nothing failed.
    Test,
    /// Shows, for each requirement of VIRTIO 1.4 on a net device, the tests that are named by it and how they ended.
    ///
    /// Runs those tests only, without guests. The exit code is 0 if each MUST has a passing test and no failing one. With
    /// --socket it is another's conformance that is looked at, as far as it shows from outside; more of it does if frames that
    /// are sent come back, and with a control queue.
    Conformance(conformance::Options),
    /// Fuzzes the rings against hostile peers, with libFuzzer and the address sanitizer.
    ///
    /// Installs what is missing and says why. Leaves what it learnt in fuzz/corpus, inputs that crash in fuzz/artifacts, the
    /// logs and the table in target/fuzz. The exit code is 0 if nothing crashed.
    Fuzz(fuzz::Options),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GuestChoice {
    /// User Mode Linux: a kernel as a process.
    Uml,
    /// QEMU with the newest kernel.
    Qemu,
    /// QEMU with Linux 6.1.
    #[value(name = "qemu-6.1")]
    Qemu61,
    /// QEMU with Linux 6.12.
    #[value(name = "qemu-6.12")]
    Qemu612,
    /// A thread: our own driver side and a TCP/IP stack.
    InProcess,
}

impl GuestChoice {
    fn kind(self) -> Result<Kind, e2e::Error> {
        match self {
            Self::Uml => "uml",
            Self::Qemu => "qemu",
            Self::Qemu61 => "qemu-6.1",
            Self::Qemu612 => "qemu-6.12",
            Self::InProcess => "in-process",
        }
        .parse()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NetChoice {
    /// The network inside the daemon: no privileges needed.
    User,
    /// A tap in a network namespace of its own, with a real Linux stack behind it: needs root.
    Tap,
}

/// Why a command did not do what it should, in one line.
enum Failure {
    /// What it found is not good; it has said so.
    Unsuccessful,
    /// Ctrl-C or a request to end.
    Interrupted,
    /// Something around it went wrong.
    Broken(String),
}

impl<E: fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        if interrupt::requested() { Self::Interrupted } else { Self::Broken(error.to_string()) }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = interrupt::listen().map_err(Failure::from).and_then(|()| match cli.command {
        Task::Demo { guest, net } => demo::run(guest.kind()?, net, Path::new(ROOT)),
        Task::Rings { options, with_ringtest } => rings::run(&options, with_ringtest, Path::new(ROOT)),
        Task::Dpdk(options) => dpdk::run(&options, Path::new(ROOT)),
        Task::Guests(options) => guests::run(&options, Path::new(ROOT)),
        Task::RoundTrips(options) => round_trips::run(&options, Path::new(ROOT)),
        Task::Tap(options) => tap::run(&options, Path::new(ROOT)),
        Task::Conformance(options) => conformance::run(&options, Path::new(ROOT)),
        Task::Test => test::run(Path::new(ROOT)),
        Task::Fuzz(options) => fuzz::run(&options, Path::new(ROOT)),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Unsuccessful) => ExitCode::FAILURE,
        Err(Failure::Interrupted) => {
            eprintln!("interrupted; nothing is left running");
            ExitCode::from(130)
        }
        Err(Failure::Broken(why)) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        for guest in GuestChoice::value_variants() {
            assert!(guest.kind().is_ok());
        }
    }
}
