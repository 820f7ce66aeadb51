//! States from anywhere: refused as a whole, or restored as they are.

use virtio_net_core::NetDevice;
use virtio_net_core::state::NetState;

use super::rig::device;
use crate::Tally;
use crate::input::Input;

/// What a state begins with, and one that is good.
pub(crate) fn good(device: &NetDevice) -> Vec<u8> {
    device.save().to_bytes()
}

pub(crate) fn run(data: &[u8]) -> Tally {
    let mut input = Input::new(data);
    let kind = input.u8();
    let mut net = device(&mut input, u16::from(kind >> 1 & 3) + 1);
    net.begin_commands();
    // A good one that is changed in places, or whatever there is behind a good header.
    let mut bytes = good(&net);
    if kind & 1 == 0 {
        for _ in 0..input.below(12) {
            let at = usize::from(input.u16()) % bytes.len();
            match input.u8() % 3 {
                0 => bytes[at] = input.u8(),
                1 => _ = bytes.remove(at),
                _ => bytes.insert(at, input.u8()),
            }
        }
    } else {
        bytes.truncate(12);
        while !input.is_empty() {
            bytes.push(input.u8());
        }
    }
    let Ok(state) = NetState::parse(&bytes) else { return Tally { refused: 1, ..Tally::default() } };
    assert_eq!(NetState::parse(&state.to_bytes()).as_ref(), Ok(&state), "what is read is what is written");
    let before = net.save();
    if net.restore(&state).is_err() {
        assert_eq!(net.save(), before, "refused, it changes nothing");
        return Tally { faulty: 1, ..Tally::default() };
    }
    let after = NetState { rings: state.rings.clone(), ..net.save() };
    assert_eq!((after.acked, after.pairs, after.used_pairs), (state.acked, state.pairs, state.used_pairs));
    assert_eq!((&after.coalescing, &after.hash, &after.contexts), (&state.coalescing, &state.hash, &state.contexts));
    assert_eq!(
        (&after.receive.own, &after.receive.modes, &after.receive.vlans),
        (&state.receive.own, &state.receive.modes, &state.receive.vlans)
    );
    assert!(after.acked.contains(after.offloads) && after.offloads == state.offloads);
    let _ = (net.rx_format(), net.tx_format(), net.resume());
    Tally { completed: 1, restarts: 1, ..Tally::default() }
}
