//! The machine: what it allows, read and raised once at start, so that the bound on connections lies below it.

use std::fs;

use log::info;
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};

/// Descriptors that are not connections: stores, the log, the listener, room to accept and refuse.
const OTHER_DESCRIPTORS: u64 = 128;
/// Threads that are not connections, of this process and of the system around it.
const OTHER_THREADS: u64 = 1024;
/// Memory maps that are not stacks.
const OTHER_MAPS: u64 = 2048;
/// A thread's stack and the guard page below it.
const MAPS_PER_THREAD: u64 = 2;
/// How much less important hashing is than chat, in the kernel's steps (`man 7 sched`, the nice value).
const BACKGROUND_NICE: i32 = 10;

/// How many processors this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Raises the limit on descriptors as far as it goes.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // It fails only without the right to; then the old limit is what counts.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Makes the calling thread less important than the others.
pub fn run_in_background() {
    // Linux: for the calling thread alone. Without it hashing is only less polite.
    let _ = setpriority_process(None, BACKGROUND_NICE);
}

/// One thing that bounds the connections.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bound {
    connections: u64,
    by: String,
}

/// How many connections there may be: what the settings ask for (0: everything), or less where the machine has less.
/// One line of the log says what decided.
#[must_use]
pub fn connections_max(setting: usize) -> usize {
    let machine = bounds().into_iter().min_by_key(|bound| bound.connections);
    let asked = if setting == 0 { u64::MAX } else { setting as u64 };
    match machine {
        Some(bound) if bound.connections < asked => {
            info!("at most {} connections: {} allows no more", bound.connections, bound.by);
            usize::try_from(bound.connections).unwrap_or(usize::MAX)
        }
        _ => {
            info!("at most {setting} connections, as ICH_MAX_CONNECTIONS says (0: as many as come)");
            setting
        }
    }
}

fn bounds() -> Vec<Bound> {
    let mut bounds = Vec::new();
    let mut add = |limit: Option<u64>, others: u64, per_connection: u64, name: &str| {
        if let Some(limit) = limit {
            let connections = (limit.saturating_sub(others) / per_connection).max(1);
            bounds.push(Bound { connections, by: format!("{name} = {limit}") });
        }
    };
    add(getrlimit(Resource::Nofile).current, OTHER_DESCRIPTORS, 1, "the limit on open files (ulimit -n)");
    add(getrlimit(Resource::Nproc).current, OTHER_THREADS, 1, "the limit on threads of this user (ulimit -u)");
    add(read_number("/proc/sys/kernel/pid_max"), OTHER_THREADS, 1, "kernel.pid_max");
    add(read_number("/proc/sys/kernel/threads-max"), OTHER_THREADS, 1, "kernel.threads-max");
    add(read_number("/proc/sys/vm/max_map_count"), OTHER_MAPS, MAPS_PER_THREAD, "vm.max_map_count");
    add(cgroup_pids_max(), OTHER_THREADS / 8, 1, "the cgroup's pids.max (systemd: TasksMax)");
    bounds
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The smallest `pids.max` from this process's cgroup (version 2) upwards.
fn cgroup_pids_max() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut group = own.lines().find_map(|line| line.strip_prefix("0::"))?.trim_end_matches('/');
    let mut least = None;
    loop {
        let limit = read_number(&format!("/sys/fs/cgroup{group}/pids.max"));
        least = [least, limit].into_iter().flatten().min();
        match group.rfind('/') {
            Some(end) => group = &group[..end],
            None => return least,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_holds_unless_the_machine_has_less() {
        let machine = connections_max(usize::MAX);
        assert_eq!(connections_max(1), 1);
        assert_eq!(connections_max(0), machine);
        assert!((1..usize::MAX).contains(&machine), "this machine has no limit at all");
    }
}
