//! Machines that this one is not.
#![allow(clippy::arithmetic_side_effects, reason = "test")]

use std::fs;
use std::path::PathBuf;

use super::*;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    /// A folder like [`NODES`], with these CPU lists.
    fn new(name: &str, lists: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("vhost-glue-{name}-{}", std::process::id()));
        for (node, list) in lists {
            fs::create_dir_all(path.join(node)).unwrap();
            fs::write(path.join(node).join("cpulist"), list).unwrap();
        }
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn node(number: usize, cpus: impl IntoIterator<Item = usize>) -> Node {
    Node { number, cpus: cpus.into_iter().collect() }
}

fn place(cpus: impl IntoIterator<Item = usize>, node: Option<usize>) -> Place {
    Place { cpus: cpus.into_iter().collect(), node }
}

#[test]
fn nodes_are_what_the_folder_says() {
    let lists = [("node1", "4-7,12-15\n"), ("node0", "0-3,8-11\n"), ("node10", "16\n")];
    let folder = Folder::new("nodes", &lists);
    let expected = [node(0, (0..4).chain(8..12)), node(1, (4..8).chain(12..16)), node(10, [16])];
    assert_eq!(nodes(&folder.0), expected);
}

#[test]
fn memory_without_cpus_other_entries_and_nonsense_are_left_out() {
    let lists = [
        ("node0", "0,2\n"),
        ("node1", "\n"),
        ("node2", "3-x\n"),
        ("node3", "0-99999999999\n"),
        ("nodeX", "1\n"),
        ("power", "1\n"),
    ];
    let folder = Folder::new("nonsense", &lists);
    fs::create_dir(folder.0.join("node4")).unwrap();
    fs::write(folder.0.join("online"), "0-4\n").unwrap();
    assert_eq!(nodes(&folder.0), [node(0, [0, 2])]);
    assert_eq!(nodes(&folder.0.join("none")), []);
}

#[test]
fn workers_are_spread_over_nodes_and_kept_to_them() {
    let two = [node(0, 0..4), node(1, 4..8)];
    let all: Vec<usize> = (0..8).collect();
    let (near, far) = (place(0..4, Some(0)), place(4..8, Some(1)));
    assert_eq!(places(3, &[], &two, &all), [near.clone(), far.clone(), near.clone()]);
    assert_eq!(places(2, &[], &two, &[1, 2, 6]), [place([1, 2], Some(0)), place([6], Some(1))]);
    assert_eq!(places(2, &[], &two, &[4, 5]), [place([4, 5], Some(1)), place([4, 5], Some(1))]);
    assert_eq!(places(2, &[], &two[..1], &all), [Place::default(), Place::default()], "nothing is set with one node");
    assert_eq!(places(2, &[], &[], &all), [Place::default(), Place::default()]);
    assert_eq!(places(2, &[], &two, &[]), [Place::default(), Place::default()]);
}

#[test]
fn pinned_workers_take_the_cpus_in_turn() {
    let two = [node(0, 0..4), node(1, 4..8)];
    let all: Vec<usize> = (0..8).collect();
    let expected = [place([2], Some(0)), place([5], Some(1)), place([2], Some(0))];
    assert_eq!(places(3, &[2, 5], &two, &all), expected);
    assert_eq!(places(1, &[2, 5], &two[..1], &all), [place([2], None)]);
    assert_eq!(places(1, &[99], &two, &all), [place([99], None)]);
}

#[test]
fn a_pair_goes_to_the_least_loaded_worker_of_its_node() {
    let workers = [Some((2, Some(0))), Some((0, Some(1))), Some((1, Some(0))), None, Some((1, None))];
    for (node, expected) in [(None, 1), (Some(0), 2), (Some(1), 1), (Some(7), 1)] {
        assert_eq!(choose(&workers, node), Some(expected), "{node:?}");
    }
    assert_eq!(choose(&[Some((1, None)), Some((1, None))], None), Some(0), "the first of equals");
    assert_eq!(choose(&[None, None], Some(0)), None);
    assert_eq!(choose(&[], None), None);
}

#[test]
fn the_kernel_says_where_a_page_is() {
    let page = vec![1_u8; 4096];
    let Some(node) = node_of(page.as_ptr()) else {
        println!("skipped: this kernel does not say where a page is");
        return;
    };
    let known = nodes(Path::new(NODES));
    assert!(known.is_empty() || known.iter().any(|n| n.number == node) || node > 0, "{node} of {known:?}");
    assert_eq!(node_of(std::ptr::null()), None);
}
