//! Commands of any content, in any framing: the answer is exact, and what is refused changes nothing.

use virtio_net_core::ctrl::{Ack, Counters, CtrlHandler, CtrlPump, Reply, RxCounters, TxCounters};
use virtio_net_core::{Features, NetDevice, Settings};
use virtio_ring::DriverRing;

use super::rig::{Rig, device};
use crate::Tally;
use crate::input::Input;

const PAIRS: u16 = 4;

struct Nothing;

impl Counters for Nothing {
    fn rx(&self, _pair: u16) -> RxCounters {
        RxCounters::default()
    }

    fn tx(&self, _pair: u16) -> TxCounters {
        TxCounters::default()
    }
}

/// Carries out, looks at what came of it, and keeps a command open now and then.
struct Watched<'a> {
    device: &'a mut NetDevice,
    answers: Vec<(Ack, usize)>,
    open: u8,
}

impl CtrlHandler for Watched<'_> {
    fn handle(&mut self, class: u8, cmd: u8, data: &[u8], reply: &mut Reply) -> Ack {
        let before = self.device.settings();
        let room = reply.room();
        let ack = self.device.commands(&Nothing).handle(class, cmd, data, reply);
        let after = self.device.settings();
        if ack == Ack::Err {
            assert_eq!(before, after, "a refused command changes nothing");
        }
        assert!(reply.as_bytes().len() <= room);
        sound(&after, self.device.acked());
        self.answers.push((ack, if ack == Ack::Ok { reply.as_bytes().len() } else { 0 }));
        ack
    }

    fn is_settled(&mut self) -> bool {
        self.open = self.open.wrapping_sub(1);
        self.open & 3 != 0
    }
}

/// What settings can be.
fn sound(settings: &Settings, acked: Features) {
    assert!((1..=PAIRS).contains(&settings.pairs));
    assert!(acked.contains(settings.offloads) && Features::GUEST_OFFLOADS.contains(settings.offloads));
    assert_eq!(settings.coalescing.queues.len(), usize::from(PAIRS) * 2);
    if let Some(rss) = settings.steering.rss() {
        assert!(rss.table.len().is_power_of_two() && rss.table.iter().all(|q| *q < settings.pairs));
        assert!(rss.unclassified < settings.pairs && rss.key.len() <= 40);
    }
}

pub(crate) fn run(data: &[u8]) -> Tally {
    let mut input = Input::new(data);
    let mut rig = Rig::new(&mut input);
    let mut net = device(&mut input, PAIRS);
    net.begin_commands();
    (0..8).for_each(|queue| net.set_enabled(queue, input.u8() & 1 == 0));
    let mut pump = CtrlPump::new(rig.mem.clone());
    let mut tally = Tally::default();
    let mut chains = Vec::new();
    while !input.is_empty() && chains.len() < 24 {
        let (class, cmd) = (input.u8() % 11, input.u8() % 7);
        // Lengths that there are, or any.
        let any = usize::from(input.u8());
        let len = [0, 1, 2, 4, 6, 8, 12, 13, 15, 16, 23, 28, 32, any][input.below(14)];
        let mut bytes = vec![class, cmd];
        let small = input.u8();
        for n in 0..len {
            let byte = if n < 24 { input.u8() } else { small };
            bytes.push(if small & 1 == 1 { byte & 3 } else { byte });
        }
        if small == 0xfe {
            bytes.truncate(1);
        }
        let room = [0, 1, 2, 9, 64, 300][input.below(6)];
        let (at, answer) = (rig.place(bytes.len()), rig.place(room));
        rig.write(at, &bytes);
        rig.write(answer, &vec![0xee; room + 8]);
        let mut elements = Rig::cut(&mut input, at, bytes.len(), false);
        elements.extend(Rig::cut(&mut input, answer, room, true));
        if rig.offer(&elements).is_some() {
            chains.push((answer, room));
        }
    }
    let _ = rig.driver.flush();
    let mut watched = Watched { device: &mut net, answers: Vec::new(), open: input.u8() };
    for _ in 0..100 {
        pump.pump(&mut rig.device, &mut watched, 3).unwrap();
    }
    let mut answers = watched.answers.iter();
    let mut used = 0;
    for (at, room) in &chains {
        let done = rig.driver.poll_used().unwrap().expect("every command is answered, in order");
        used += 1;
        let bytes = rig.read(*at, room + 8);
        if *room == 0 {
            assert_eq!(done.len, 0);
            tally.faulty += 1;
            continue;
        }
        // Too short for a command: refused without being carried out.
        let len = done.len as usize;
        match bytes[0] {
            0 => {
                let (ack, reply) = answers.find(|(ack, _)| *ack == Ack::Ok).unwrap();
                assert_eq!((*ack, len), (Ack::Ok, 1 + (*reply).min(room - 1)));
                tally.completed += 1;
            }
            1 => {
                assert_eq!(len, 1);
                tally.refused += 1;
            }
            other => panic!("answer {other}"),
        }
        assert!(bytes[len..].iter().all(|b| *b == 0xee), "nothing behind the answer is written");
    }
    assert_eq!(used, chains.len());
    assert_eq!((pump.stats().done, pump.stats().bad_chains), (tally.completed as u64, tally.faulty as u64));
    tally
}
