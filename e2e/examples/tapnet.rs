//! A namespace with a tap and all services in it, for as long as a command runs inside:
//! `cargo run -p e2e --example tapnet -- vhost-user-net --socket /tmp/vm0.sock --net tap:tap0`.
//! With `--multi-queue` first, the tap has several queues.

use e2e::TapNet;
use e2e::netns::TapSpec;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1).peekable();
    let multi_queue = words.next_if(|w| w == "--multi-queue").is_some();
    let program = words.next().ok_or("usage: tapnet [--multi-queue] COMMAND [ARGUMENTS]")?;
    let net = TapNet::create(TapSpec { multi_queue, ..TapSpec::default() })?;
    println!("tap {} in namespace {}", net.tap(), net.namespace());
    let status = net.command(program).args(words).status()?;
    println!("{status}");
    Ok(())
}
