//! Boots a guest in front of a vhost-user device that is already there, and prints what its checks say:
//! `cargo run -p e2e --example boot -- uml /tmp/vm0.sock dhcp,ping4,tcp_up:secs=2 [QEMU arguments]`.

use e2e::{Guest, GuestSpec, Kind, Nic, Plan, Workshop};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(kind), Some(socket)) = (words.next(), words.next()) else {
        return Err("usage: boot uml|qemu|qemu-6.1|qemu-6.12 SOCKET [PLAN [ARGUMENTS]]".into());
    };
    let kind: Kind = kind.parse()?;
    let plan = match words.next() {
        Some(steps) => Plan::from_command_line(&format!("vnet.plan={steps}"))?,
        None => Plan::standard(2, 64),
    };
    let assets = Workshop::of_repository()?.prepare(&[kind], &mut |line| eprintln!("{line}"))?;
    let mut spec = GuestSpec::new(kind, Nic::vhost_user(socket), plan);
    spec.extra_arguments.extend(words);
    let mut guest = Guest::boot(&spec, &assets)?;
    while let Some(line) = guest.next_line()? {
        println!("{}", line.to_console());
    }
    let boot = guest.boot_time().unwrap_or_default();
    println!("booted in {:.2} s, console in {}", boot.as_secs_f64(), guest.console().display());
    Ok(())
}
