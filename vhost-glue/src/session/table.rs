//! The memory table's requests.

use std::mem::take;

use vhost::vhost_user::message::{VhostUserMemory, VhostUserMemoryRegion, VhostUserSingleMemoryRegion};

use super::{Answer, Fail, Session};
use crate::error::Refusal;
use crate::memory::{MAX_REGIONS, MemoryError, MemoryTable, RegionSpec};
use crate::message::{Message, split};
use crate::port::Port;

impl<P: Port> Session<'_, P> {
    pub(super) fn set_mem_table(&mut self, message: &mut Message) -> Result<Answer, Fail> {
        let (head, mut rest) = message.front::<VhostUserMemory>()?;
        let count = head.num_regions as usize;
        if count > MAX_REGIONS {
            return Err(MemoryError::Count { count }.into());
        }
        let mut specs: Vec<RegionSpec> = Vec::with_capacity(count);
        for _ in 0..count {
            let region;
            (region, rest) = split::<VhostUserMemoryRegion>(rest).ok_or_else(|| size_error(message, count))?;
            specs.push(region.into());
        }
        // User Mode Linux always sends the space of two regions, whatever their number.
        if !rest.len().is_multiple_of(size_of::<VhostUserMemoryRegion>()) {
            return Err(size_error(message, count).into());
        }
        let table = MemoryTable::new(&specs, take(&mut message.fds))?;
        self.adopt(table)
    }

    pub(super) fn add_mem_reg(&mut self, message: &mut Message) -> Result<Answer, Fail> {
        let region = message.payload::<VhostUserSingleMemoryRegion>()?;
        let file = message.one_fd()?;
        let table = self.memory.with((*region).into(), file)?;
        self.adopt(table)
    }

    pub(super) fn rem_mem_reg(&mut self, message: &Message) -> Result<Answer, Fail> {
        let region = message.payload::<VhostUserSingleMemoryRegion>()?;
        if message.fds.len() > 1 {
            return Err(Refusal::Descriptors { found: message.fds.len(), expected: 1 }.into());
        }
        let table = self.memory.without((*region).into())?;
        self.adopt(table)
    }

    /// Goes on with another table. Rings that run move to it where they stand; one whose areas are not in it stops,
    /// and starts again with a table that has them.
    fn adopt(&mut self, table: MemoryTable) -> Result<Answer, Fail> {
        if table.unsealed() > 0 {
            tracing::debug!("{} memory regions can be cut short by the front end", table.unsealed());
        }
        self.memory = table;
        self.parts.stats.session(|s| s.regions = self.memory.len());
        for index in 0..self.vrings.len() {
            self.move_ring(index)?;
        }
        self.start_ready();
        Ok(Answer::Done)
    }
}

fn size_error(message: &Message, regions: usize) -> Refusal {
    let expected = size_of::<VhostUserMemoryRegion>().saturating_mul(regions);
    message.size_error(size_of::<VhostUserMemory>().saturating_add(expected))
}
