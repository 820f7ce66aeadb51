//! `cargo xtask demo`: one guest, one daemon, everything on the screen and in `target/demo`.

mod capture;
mod report;
mod screen;

use crate::{Failure, NetChoice, interrupt};
use e2e::daemon::Program;
use e2e::netns::TapSpec;
use e2e::{Daemon, Event, Guest, GuestSpec, HostEnd, Kind, Nic, Plan, TapNet, Workshop};
use report::Report;
use screen::Screen;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Seconds for each throughput figure, and MiB of each file.
const SECONDS: u64 = 2;
const FILE_MIB: u64 = 64;
/// How often Ctrl-C is looked for while a guest runs.
const GLANCE: Duration = Duration::from_millis(100);
/// Bytes of each frame that stay in the capture: all headers.
const CAPTURED: usize = 128;

/// Files that the demo leaves.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn new(root: &Path) -> std::io::Result<Self> {
        let folder = root.canonicalize()?.join("target/demo");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Runs it.
pub(crate) fn run(kind: Kind, net: NetChoice, root: &Path) -> Result<(), Failure> {
    let screen = Screen::default();
    let shop = Workshop::of_repository()?;
    let mut say = |line: &str| screen.say(line);
    let program = Program::build(&mut say)?;
    let assets = shop.prepare(&[kind], &mut say)?;
    let host = match net {
        NetChoice::User => HostEnd::User,
        NetChoice::Tap => {
            shop.prepare_tap(&mut say)?;
            HostEnd::Tap(TapNet::create(TapSpec::default())?)
        }
    };
    stop_if_interrupted()?;
    let files = Files::new(root)?;
    let scratch = tempfile::tempdir()?;
    let begin = Instant::now();
    let arguments = [
        "--capture".into(),
        files.path("capture.pcapng").into(),
        "--stats-json".into(),
        files.path("stats.json").into(),
    ];
    let socket = scratch.path().join("vm0.sock");
    let daemon = Daemon::start(&program, &socket, &host, &arguments, &files.path("daemon.log"))?;
    screen.say(&format!("daemon: --net {}, listening at {}", host.name(), socket.display()));

    let mut spec = GuestSpec::new(kind, Nic::vhost_user(&socket), Plan::standard(SECONDS, FILE_MIB));
    spec.console = files.path("guest.console");
    screen.say(&format!("guest: {kind}{}, its only network card is ours", how(kind, assets.kvm)));
    let mut report = Report::new(&kind.to_string(), host.name());
    let watched = watch(&spec, &assets, &screen, &mut report);
    let ending = daemon.stop();
    drop(host);
    watched?;

    if !ending.status.is_some_and(|s| s.success()) {
        let last = ending.lines.last().map_or("it said nothing", String::as_str);
        report.fail("daemon", &format!("did not end well: {last}"));
    }
    report.rings(&fs::read(files.path("stats.json"))?)?;
    report.summary("capture_frames", capture::shorten(&files.path("capture.pcapng"), CAPTURED)?, "frames");
    fs::write(files.path("report.json"), report.to_json()?)?;
    screen.end();
    println!("\n{}", report.table());
    println!(
        "{:.1} s; report.json, capture.pcapng, guest.console and daemon.log are in {}",
        begin.elapsed().as_secs_f64(),
        files.folder.display()
    );
    if report.passed() { Ok(()) } else { Err(Failure::Unsuccessful) }
}

fn how(kind: Kind, kvm: bool) -> &'static str {
    match kind {
        Kind::Qemu(_) if kvm => " with KVM",
        Kind::Qemu(_) => " without KVM (TCG)",
        _ => "",
    }
}

/// Boots the guest and shows each result as it comes.
fn watch(spec: &GuestSpec, assets: &e2e::Assets, screen: &Screen, report: &mut Report) -> Result<(), Failure> {
    let steps: Vec<String> = spec.plan.steps.iter().map(e2e::Step::name).collect();
    let mut waiting = std::iter::once("boot".to_owned()).chain(steps).skip(1);
    screen.now("boot");
    let mut guest = Guest::boot(spec, assets)?;
    loop {
        // Dropping the guest kills it.
        stop_if_interrupted()?;
        match guest.wait(GLANCE) {
            Ok(Event::Line(line)) => {
                screen.say(&report::describe(&line));
                report.add(&line);
                screen.now(&waiting.next().unwrap_or_else(|| "power off".to_owned()));
            }
            Ok(Event::Nothing) => {}
            Ok(Event::End) => break,
            Err(e) => {
                screen.say(&format!("guest: {e}"));
                report.fail("guest", &e.to_string());
                break;
            }
        }
    }
    if !guest.exit_status().is_some_and(|s| s.success()) {
        report.fail("power_off", "the guest did not end well");
    }
    Ok(())
}

fn stop_if_interrupted() -> Result<(), Failure> {
    if interrupt::requested() { Err(Failure::Interrupted) } else { Ok(()) }
}
