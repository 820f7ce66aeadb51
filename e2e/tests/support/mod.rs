//! What the guest tests share: whether they are wanted, the host ends, a daemon with its socket.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::panic, reason = "tests")]

pub(crate) mod frames;
pub(crate) mod rig;
pub(crate) mod served;
pub(crate) mod wire;

use e2e::daemon::{Ending, Holdings, Program};
use e2e::dpdk::Dpdk;
use e2e::netns::TapSpec;
use e2e::{Daemon, Error, HostEnd, Line, TapNet, Verdict, Workshop};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Whether guests are to be booted; says so if not.
pub(crate) fn wanted() -> bool {
    let wanted = std::env::var_os("VNET_GUEST_TESTS").is_some();
    if !wanted {
        println!("skipped: VNET_GUEST_TESTS is not set, so no guests are booted");
    }
    wanted
}

pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// The namespace, or `None` and a word why not.
pub(crate) fn tap_net(shop: &Workshop) -> Option<TapNet> {
    let made = shop.prepare_tap(&mut say).and_then(|()| TapNet::create(TapSpec::default()));
    match made {
        Ok(net) => Some(net),
        Err(e @ Error::NeedsRoot { .. }) => {
            println!("skipped: {e}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// DPDK, or `None` and a word why not.
pub(crate) fn dpdk(shop: &Workshop) -> Option<Dpdk> {
    match shop.prepare_dpdk(&mut say) {
        Ok(dpdk) => Some(dpdk),
        Err(e @ (Error::NeedsRoot { .. } | Error::NoPackage { .. })) => {
            println!("skipped: {e}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// A daemon in a folder of its own.
pub(crate) struct Bed {
    daemon: Option<Daemon>,
    // Goes after the daemon.
    _host: HostEnd,
    folder: tempfile::TempDir,
}

impl Bed {
    pub(crate) fn new(host: HostEnd) -> Self {
        Self::with(host, &[])
    }

    /// With more arguments for the daemon.
    pub(crate) fn with(host: HostEnd, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = Program::build(&mut say).unwrap();
        let json = folder.path().join("stats.json");
        let mut arguments = vec!["--stats-json".into(), json.into_os_string()];
        arguments.extend(more.iter().map(Into::into));
        let (socket, log) = (folder.path().join("vm.sock"), folder.path().join("daemon.log"));
        let daemon = Daemon::start(&program, &socket, &host, &arguments, &log).unwrap();
        Self { daemon: Some(daemon), _host: host, folder }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("vm.sock")
    }

    pub(crate) fn holdings(&self) -> Holdings {
        self.daemon.as_ref().unwrap().holdings().unwrap()
    }

    /// What it holds once that is as `before`, or after five seconds whatever it is then.
    pub(crate) fn settled(&self, before: &Holdings) -> Holdings {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let now = self.holdings();
            let same = (now.descriptors, now.threads) == (before.descriptors, before.threads);
            if same || Instant::now() > until {
                return now;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the daemon in good order; its last statistics of the guest.
    pub(crate) fn stop(mut self) -> serde_json::Value {
        let Ending { status, lines } = self.daemon.take().unwrap().stop();
        let text = lines.join("\n");
        // Of the log, what is worth a look; of the end, all.
        let mut end = false;
        for line in &lines {
            end |= line.starts_with("summary:");
            if end || line.contains(" WARN ") || line.contains(" ERROR ") {
                println!("{line}");
            }
        }
        assert!(status.is_some_and(|s| s.success()), "daemon: {status:?}\n{text}");
        assert!(!self.socket().exists(), "the socket is left behind");
        let json = std::fs::read(self.folder.path().join("stats.json")).unwrap();
        let stats: serde_json::Value = serde_json::from_slice(&json).unwrap();
        stats["guests"][0].clone()
    }
}

/// Where a guest's console is kept.
pub(crate) fn console(shop: &Workshop, name: &str) -> PathBuf {
    Path::new(shop.folder()).join(format!("{name}.console"))
}

/// All lines, printed; none of them a failure.
pub(crate) fn all_passed(lines: &[Line]) {
    for line in lines {
        println!("{}", line.to_console());
    }
    let failed: Vec<_> = lines.iter().filter(|l| l.result == Verdict::Fail).collect();
    assert!(failed.is_empty(), "{failed:?}");
}
