//! Both sides on one thread, against a model of a queue.

use super::{Chance, Finder, Maker, Queue, Rules, open};
use crate::lab::{DeviceSide, DriverSide, Layout};

/// Buffers by random steps: on the larger rings more than a 16-bit index has, so that it wraps.
const fn buffers(size: u16) -> u64 {
    if size > 4 { 70_000 } else { 10_000 }
}

pub(super) fn check<L: Layout>(size: u16, rules: Rules) -> Result<(), String> {
    full_and_empty::<L>(size, rules)?;
    laps::<L>(size, rules)
}

/// Both sides, and what they should do.
struct Model<A, B> {
    driver: A,
    device: B,
    maker: Maker,
    finder: Finder,
    rules: Rules,
    /// Added and not yet served; the first `visible` of them are published.
    waiting: Queue,
    visible: usize,
    /// Served and not reaped; the first `used` of them are published.
    served: usize,
    used: usize,
}

fn model<L: Layout>(size: u16, sleeps: bool, rules: Rules) -> Result<Model<L::Driver, L::Device>, String> {
    let (arena, driver, device) = open::<L>(size, sleeps)?;
    let (maker, finder) = (Maker::new(&arena), Finder::new(&arena));
    Ok(Model { driver, device, maker, finder, rules, waiting: Queue::new(), visible: 0, served: 0, used: 0 })
}

impl<A: DriverSide, B: DeviceSide> Model<A, B> {
    /// Adds a buffer if there is room; says if there was.
    fn add(&mut self, size: u16) -> Result<bool, String> {
        let under_way = self.waiting.len() + self.served;
        let room = under_way < size.into();
        // Where there is no room, the slot's own buffer is still under way and must keep its bytes.
        let buffer = if room { self.maker.buffer()? } else { crate::lab::Buffer { addr: 0, len: 1 } };
        match (self.driver.add(buffer), room) {
            (true, true) => self.waiting.push_back(buffer),
            (false, false) => {}
            (true, false) => return Err(format!("the ring takes one more though {under_way} buffers are under way")),
            (false, true) => return Err(format!("the ring refuses a buffer with only {under_way} under way")),
        }
        Ok(room)
    }

    /// True if the device has to be woken.
    fn flush_driver(&mut self) -> bool {
        self.visible = self.waiting.len();
        self.driver.flush()
    }

    /// Serves up to `most`; what is visible and asked for has to come, at least a part of it.
    fn serve(&mut self, most: usize) -> Result<usize, String> {
        let (finder, waiting) = (&mut self.finder, &mut self.waiting);
        let before = waiting.len();
        let n = self.device.serve(most, |b| finder.see(b, waiting.pop_front()));
        self.finder.verdict()?;
        if before - self.waiting.len() != n || n > most {
            return Err(format!("serve({most}) returned {n} and showed {} buffers", before - self.waiting.len()));
        }
        if n > self.visible && self.rules == Rules::All {
            return Err(format!("the device saw {n} buffers when {} were flushed", self.visible));
        }
        if n == 0 && self.visible > 0 && most > 0 {
            return Err(format!("the device sees nothing of {} flushed buffers", self.visible));
        }
        self.visible = self.visible.saturating_sub(n);
        self.served += n;
        Ok(n)
    }

    /// True if the driver has to be woken.
    fn flush_device(&mut self) -> bool {
        self.used = self.served;
        self.device.flush()
    }

    fn reap(&mut self, most: usize) -> Result<usize, String> {
        let n = self.driver.reap(most);
        let limit = if self.rules == Rules::All { self.used } else { self.served };
        if n > most || n > limit {
            return Err(format!("reap({most}) returned {n} when {limit} buffers were used and flushed"));
        }
        if n == 0 && self.used > 0 && most > 0 {
            return Err(format!("the driver gets nothing back of {} used buffers", self.used));
        }
        self.served -= n;
        self.used = self.used.saturating_sub(n);
        Ok(n)
    }
}

impl<A: DriverSide, B: DeviceSide> Model<A, B> {
    /// Wakes a device that sleeps, and sends one to sleep that does not; returns whether it sleeps then.
    fn device_dozes(&mut self, sleeps: bool) -> Result<bool, String> {
        if !sleeps && self.device.arm() {
            return if self.visible == 0 { Ok(true) } else { Err(going("device", self.visible)) };
        }
        if !sleeps && self.visible == 0 {
            return Err(staying("device"));
        }
        self.device.disarm();
        Ok(false)
    }

    /// The same of the driver.
    fn driver_dozes(&mut self, sleeps: bool) -> Result<bool, String> {
        if !sleeps && self.driver.arm() {
            return if self.used == 0 { Ok(true) } else { Err(going("driver", self.used)) };
        }
        // What a lenient device served is perhaps visible.
        let idle = if self.rules == Rules::All { self.used == 0 } else { self.served == 0 };
        if !sleeps && idle {
            return Err(staying("driver"));
        }
        self.driver.disarm();
        Ok(false)
    }
}

fn going(side: &str, left: usize) -> String {
    format!("the {side} may go to sleep with {left} buffers left to look at")
}

fn staying(side: &str) -> String {
    format!("the {side} may not go to sleep though there is nothing to look at")
}

fn full_and_empty<L: Layout>(size: u16, rules: Rules) -> Result<(), String> {
    let mut m = model::<L>(size, false, rules)?;
    // A lap and a half, so that the second round begins in the middle of the ring.
    for round in [size, size.div_ceil(2), size] {
        for step in ["empty", "empty, flushed"] {
            if m.serve(usize::MAX)? + m.reap(usize::MAX)? > 0 {
                return Err(format!("a ring that is {step} gives something"));
            }
            m.flush_driver();
            m.flush_device();
        }
        for _ in 0..round {
            m.add(size)?;
        }
        if rules == Rules::All {
            m.serve(usize::MAX)?;
        }
        m.flush_driver();
        if round == size {
            // Refuses, and still does.
            m.add(size)?;
            m.add(size)?;
        }
        while m.serve(3)? > 0 {}
        if rules == Rules::All {
            m.reap(usize::MAX)?;
        }
        m.flush_device();
        while m.reap(3)? > 0 {}
        if m.served + m.waiting.len() > 0 {
            return Err(format!("{} of {round} buffers did not come back", m.served + m.waiting.len()));
        }
    }
    Ok(())
}

/// Random steps.
fn laps<L: Layout>(size: u16, rules: Rules) -> Result<(), String> {
    let mut m = model::<L>(size, false, rules)?;
    let mut chance = Chance::new(7 + u64::from(size));
    let mut most = || chance.below(u64::from(size) + 2) as usize;
    let mut turn = Chance::new(3);
    let mut reaped = 0;
    while reaped < buffers(size) {
        match turn.below(6) {
            0 | 1 => {
                for _ in 0..most() {
                    m.add(size)?;
                }
            }
            2 => _ = m.flush_driver(),
            3 => _ = m.serve(most())?,
            4 => _ = m.flush_device(),
            _ => reaped += m.reap(most())? as u64,
        }
    }
    Ok(())
}

/// Random steps of sides that sleep: who went to sleep is woken by the first publication after that, and nobody goes to
/// sleep with work left.
pub(super) fn sleepers<L: Layout>(size: u16, rules: Rules) -> Result<(), String> {
    let mut m = model::<L>(size, true, rules)?;
    let mut chance = Chance::new(5 + u64::from(size));
    let mut most = || chance.below(u64::from(size) + 2) as usize;
    let mut turn = Chance::new(17);
    let (mut device_sleeps, mut driver_sleeps) = (false, false);
    let mut reaped = 0;
    while reaped < buffers(size) {
        match turn.below(8) {
            0 | 1 => {
                for _ in 0..most() {
                    m.add(size)?;
                }
            }
            2 => {
                let news = m.waiting.len() > m.visible;
                if !m.flush_driver() && news && device_sleeps {
                    return Err("the device asked to be woken, and the driver's flush says that it need not be".into());
                }
                device_sleeps &= !news;
            }
            3 => {
                let news = m.served > m.used;
                if !m.flush_device() && news && driver_sleeps && rules == Rules::All {
                    return Err("the driver asked to be woken, and the device's flush says that it need not be".into());
                }
                driver_sleeps &= !news;
            }
            4 if !device_sleeps => _ = m.serve(most())?,
            5 if !driver_sleeps => reaped += m.reap(most())? as u64,
            6 => device_sleeps = m.device_dozes(device_sleeps)?,
            7 => driver_sleeps = m.driver_dozes(driver_sleeps)?,
            _ => {}
        }
    }
    Ok(())
}
