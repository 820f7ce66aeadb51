//! The control queue: commands of any shape, and what is refused.

use super::super::outcome::{Check, need, want};
use super::super::plug::{CANARY, Plug, Setup};
use super::super::ring::{Format, Piece, indirect};
use super::super::suite::Case;
use super::super::target::Target;
use virtio_net_core::Features;

pub(super) const CASES: &[Case] = &[
    Case::rings("s1_commands_may_be_cut_anywhere", cut),
    Case::rings("s6_commands_may_be_in_a_table", in_table),
    Case::rings("unknown_commands_are_refused", unknown),
    Case::rings("commands_of_any_length_are_answered", lengths),
    Case::rings("more_commands_than_the_ring_has_room_for", many),
];

/// A driver with a control queue and all of these that are offered.
pub(super) fn controlled(target: &Target, format: Format, features: Features) -> Check<Plug<'_>> {
    need!(target.offers(Features::CTRL_VQ), "not offered: CTRL_VQ");
    need!(target.control, "commands are not answered: a front end is expected to serve the control queue");
    Plug::start(target, Setup::new(target, format).with(Features::CTRL_VQ | target.of(features)))
}

/// Everything that a control queue serves.
pub(super) const ALL: Features = Features::CTRL_RX
    .union(Features::CTRL_RX_EXTRA)
    .union(Features::CTRL_VLAN)
    .union(Features::CTRL_MAC_ADDR)
    .union(Features::GUEST_ANNOUNCE)
    .union(Features::NOTF_COAL)
    .union(Features::VQ_NOTF_COAL)
    .union(Features::DEVICE_STATS);

/// A command that every control queue with receive modes carries out: promiscuous mode off.
const PLAIN: [u8; 3] = [0, 0, 0];

fn cut(target: &Target, format: Format) -> Check {
    target.needs(Features::CTRL_RX)?;
    let mut plug = controlled(target, format, Features::CTRL_RX)?;
    for shape in [&[3][..], &[1, 2], &[2, 1], &[1, 1, 1]] {
        let mut pieces = plug.cut(&PLAIN, shape)?;
        let answer = plug.buffer(1)?;
        pieces.push(Piece::writable(answer, 1));
        let used = plug.carry_out(&pieces)?;
        let ack = plug.guest.read(answer, 1);
        want!(used.len == 1 && ack == [0], "cut at {shape:?}: length {}, acknowledgement {ack:02x?}", used.len);
    }
    Ok(())
}

fn in_table(target: &Target, format: Format) -> Check {
    target.needs(Features::CTRL_RX)?;
    let mut plug = controlled(target, format, Features::CTRL_RX | Features::RING_INDIRECT_DESC)?;
    target.needs(Features::RING_INDIRECT_DESC)?;
    let most = if format == Format::Split { 2 } else { 0 };
    for direct in 0..=most {
        let mut pieces = plug.cut(&PLAIN, &[1, 1])?;
        let answer = plug.buffer(1)?;
        pieces.push(Piece::writable(answer, 1));
        let rest = pieces.split_off(direct);
        pieces.push(indirect(&mut plug.guest, format, &rest)?);
        let used = plug.carry_out(&pieces)?;
        let ack = plug.guest.read(answer, 1);
        want!(used.len == 1 && ack == [0], "{direct} before the table: length {}, {ack:02x?}", used.len);
    }
    Ok(())
}

fn unknown(target: &Target, format: Format) -> Check {
    let mut plug = controlled(target, format, ALL)?;
    for class in (10..=255).step_by(7) {
        plug.refused(class, 0, &[0])?;
    }
    for (class, command) in [(0, 6), (0, 255), (1, 2), (2, 2), (3, 1), (4, 3), (5, 1), (6, 4), (7, 1), (8, 2), (9, 4)] {
        plug.refused(class, command, &[0; 8])?;
    }
    Ok(())
}

/// Every command with every length of data up to some: the answer is one byte, 0 or 1 (with a result, more), and nothing is
/// written beside it.
fn lengths(target: &Target, format: Format) -> Check {
    let mut plug = controlled(target, format, ALL)?;
    for class in 0..10_u8 {
        for command in 0..6_u8 {
            for len in [0, 1, 2, 3, 4, 5, 8, 12, 40, 300, 4000] {
                let (ack, _) = plug.command(class, command, &vec![0xff; len], 0)?;
                want!(ack < 2, "command {class}/{command} with {len} bytes is answered with {ack}");
            }
        }
    }
    // Entries that do not fit in what is there, with products beyond 32 bits among them.
    for entries in [1_u32, 0x2aaa_aaab, 0x8000_0000, u32::MAX] {
        plug.refused(1, 0, &[&entries.to_le_bytes()[..], &[0; 5]].concat())?;
    }
    // No room for an answer, and no class.
    for bytes in [&[][..], &[0], &[0, 0]] {
        let pieces = plug.cut(if bytes.is_empty() { &PLAIN } else { bytes }, &[])?;
        let used = plug.carry_out(&pieces)?;
        want!(used.len == 0, "{} bytes are reported where nothing is writable", used.len);
    }
    let answer = plug.buffer(64)?;
    plug.carry_out(&[Piece::writable(answer, 64)])?;
    let behind = plug.guest.read(answer, 64);
    let written = behind.iter().filter(|byte| **byte != CANARY).count();
    want!(written <= 1, "{written} bytes are written in answer to a command without a class");
    plug.refused(200, 0, &[])
}

fn many(target: &Target, format: Format) -> Check {
    target.needs(Features::CTRL_RX)?;
    let mut plug = controlled(target, format, Features::CTRL_RX)?;
    for n in 0..700_u32 {
        plug.done(0, 0, &[(n & 1) as u8])?;
    }
    Ok(())
}
