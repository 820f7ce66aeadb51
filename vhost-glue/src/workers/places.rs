//! Which CPUs a worker keeps to, and which memory is near them.
#![expect(unsafe_code, reason = "asks the kernel where a page is, for which there is no wrapper")]

use std::path::Path;

use rustix::thread::CpuSet;

/// Where the kernel describes the nodes of this machine.
pub(super) const NODES: &str = "/sys/devices/system/node";

/// A part of the machine whose CPUs have memory of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Node {
    pub(super) number: usize,
    pub(super) cpus: Vec<usize>,
}

/// What a worker keeps to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Place {
    /// Empty: wherever the system puts it.
    pub(super) cpus: Vec<usize>,
    /// `None`: all memory is equally near, or nobody knows.
    pub(super) node: Option<usize>,
}

/// The nodes that a folder like [`NODES`] describes, those without CPUs left out. Empty if it describes none.
pub(super) fn nodes(folder: &Path) -> Vec<Node> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let node = |entry: std::fs::DirEntry| {
        let number = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
        let cpus = cpu_list(std::fs::read_to_string(entry.path().join("cpulist")).ok()?.trim())?;
        (!cpus.is_empty()).then_some(Node { number, cpus })
    };
    let mut nodes: Vec<Node> = entries.filter_map(Result::ok).filter_map(node).collect();
    nodes.sort_by_key(|node| node.number);
    nodes
}

/// `0-3,8-11`; `None` if it is no such list.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if last >= CpuSet::MAX_CPU {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// CPUs that this thread may use.
pub(super) fn usable() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// Places for `count` workers: on the CPUs of `pin` in turn; without them spread over the nodes, each kept to what is
/// usable of its node. With one node nothing is set: the system knows better.
pub(super) fn places(count: usize, pin: &[usize], nodes: &[Node], usable: &[usize]) -> Vec<Place> {
    let node_of = |cpu: usize| nodes.iter().find(|node| node.cpus.contains(&cpu)).map(|node| node.number);
    let spread = nodes.len() > 1;
    let choices: Vec<Place> = if pin.is_empty() {
        let ours = |node: &Node| node.cpus.iter().copied().filter(|cpu| usable.contains(cpu)).collect::<Vec<_>>();
        let place = |node: &Node| Place { cpus: ours(node), node: Some(node.number) };
        nodes.iter().filter(|_| spread).map(place).filter(|place| !place.cpus.is_empty()).collect()
    } else {
        let place = |cpu: &usize| Place { cpus: vec![*cpu], node: node_of(*cpu).filter(|_| spread) };
        pin.iter().map(place).collect()
    };
    if choices.is_empty() {
        return vec![Place::default(); count];
    }
    choices.iter().cycle().take(count).cloned().collect()
}

/// Of several workers, each with the queue pairs it has and its node (`None` for one that is gone), the one for the next
/// pair: that with the fewest pairs among those of `node`, or among all if there is none.
pub(super) fn choose(workers: &[Option<(usize, Option<usize>)>], node: Option<usize>) -> Option<usize> {
    let there = || workers.iter().enumerate().filter_map(|(i, worker)| worker.map(|(pairs, at)| (pairs, i, at)));
    let near = there().filter(|(_, _, at)| node.is_some() && *at == node).min();
    near.or_else(|| there().min()).map(|(_, i, _)| i)
}

/// Keeps the calling thread to the CPUs of its place.
pub(super) fn keep_to(place: &Place) {
    if place.cpus.is_empty() {
        return;
    }
    let mut set = CpuSet::new();
    for cpu in place.cpus.iter().copied() {
        if cpu >= CpuSet::MAX_CPU {
            tracing::warn!("a worker cannot be kept to CPU {cpu}: expected below {}", CpuSet::MAX_CPU);
            return;
        }
        set.set(cpu);
    }
    if let Err(e) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!("a worker cannot be kept to CPUs {:?}: {e}", place.cpus);
    }
}

/// The node whose memory holds a page, which is brought in if it is not there. `None` if the kernel does not tell.
pub(crate) fn node_of(page: *const u8) -> Option<usize> {
    /// Ask for the node of a page, by its address (`linux/mempolicy.h`).
    const NODE_OF_ADDRESS: libc::c_ulong = 1 | 2;
    let mut node: libc::c_int = -1;
    let (mask, bits) = (std::ptr::null_mut::<libc::c_ulong>(), 0 as libc::c_ulong);
    // SAFETY: the kernel writes one `int` through the first pointer, nothing through the second, which is null, and
    // checks the address by itself.
    let failed =
        unsafe { libc::syscall(libc::SYS_get_mempolicy, &raw mut node, mask, bits, page, NODE_OF_ADDRESS) } != 0;
    if failed { None } else { usize::try_from(node).ok() }
}

#[cfg(test)]
mod tests;
