//! [`Limits`]: the limits of the machine on this process, and how many connections they allow.
//!
//! Each connection has a thread. A thread that cannot get its last memory map panics while it starts, before the panic
//! can be caught, and the process aborts. So the number of connections must stay below each limit, with a reserve for
//! everything else that the limit counts.

use std::fs;

use rustix::process::{Resource, getrlimit, getuid};

use crate::threads::Stack;

/// Memory maps of one thread: its stack, and a guard page below it.
const MAPS_PER_STACK: u64 = 2;
/// Additional memory maps of one thread: the stack for signal handlers that the standard library may add, and a guard
/// page below it.
const MAPS_PER_SIGNAL_STACK: u64 = 2;
/// The numbers of the signals SIGBUS and SIGSEGV (`man 7 signal`).
const FAULTS: [u32; 2] = [7, 11];
/// Bytes of address space of one connection besides its thread's stack: guard pages, the stack for signal handlers,
/// heap.
const OTHER_BYTES_PER_CONNECTION: u64 = 64 * 1024;
/// Descriptors that are not connections: stores, the log, the listener, and those of connections that are being
/// refused.
const OTHER_DESCRIPTORS: u64 = 128;
/// Threads that are not connections and not per core: those of the server, of librdkafka and of PostgreSQL (with those
/// that hang and were replaced).
const OTHER_THREADS: u64 = 64;
/// Threads per core: a worker, an account thread, a fan-out thread.
const OTHER_THREADS_PER_CORE: u64 = 3;
/// One in this many memory maps stays free: for the allocator, which maps each block of 128 KiB or more separately
/// (such as the outbox of a slow client), for the stacks of ended threads that glibc keeps, for librdkafka and SQLite.
const MAPS_RESERVE: u64 = 8;
/// One in this many threads of a limit that other processes share stays free for them.
const SHARED_RESERVE: u64 = 16;
/// One in this many bytes of address space stays free for the heap.
const MEMORY_RESERVE: u64 = 4;

/// One limit of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The value of the limit.
    pub max: u64,
    /// The part of `max` that is in use now, by all processes that share the limit.
    pub in_use: u64,
}

/// The limits of the machine. `None`: there is no such limit, or it cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Open files of this process (`ulimit -n`).
    pub open_files: Option<Limit>,
    /// Memory maps of this process (`vm.max_map_count`).
    pub maps: Option<Limit>,
    /// Bytes of address space of this process (`ulimit -v`).
    pub address_space: Option<Limit>,
    /// Bytes of private writable memory of this process (`ulimit -d`).
    pub data: Option<Limit>,
    /// Threads of all processes of this user (`ulimit -u`).
    pub user_threads: Option<Limit>,
    /// Process and thread ids of the machine (`kernel.pid_max`).
    pub pids: Option<Limit>,
    /// Threads of the machine (`kernel.threads-max`).
    pub threads: Option<Limit>,
    /// Threads of the cgroup (`pids.max`).
    pub cgroup_threads: Option<Limit>,
    /// See [`has_signal_stacks`].
    pub has_signal_stacks: bool,
}

/// The limit that allows the fewest connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bound {
    pub connections: u64,
    /// The name and the value of the limit, as an operator knows them.
    pub by: String,
}

impl Limits {
    /// Reads the limits of this process from the system.
    #[must_use]
    pub(crate) fn read() -> Limits {
        let limit = |max: Option<u64>, in_use: Option<u64>| max.map(|max| Limit { max, in_use: in_use.unwrap_or(0) });
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bytes = |field| status_field(&status, field).map(|kib| kib * 1024);
        let machine_threads = threads_of_machine();
        Limits {
            open_files: limit(getrlimit(Resource::Nofile).current, None),
            maps: limit(read_number("/proc/sys/vm/max_map_count"), count_maps()),
            address_space: limit(getrlimit(Resource::As).current, bytes("VmSize")),
            data: limit(getrlimit(Resource::Data).current, bytes("VmData")),
            user_threads: limit(getrlimit(Resource::Nproc).current, Some(threads_of_user())),
            pids: limit(read_number("/proc/sys/kernel/pid_max"), machine_threads),
            threads: limit(read_number("/proc/sys/kernel/threads-max"), machine_threads),
            cgroup_threads: cgroup_threads(),
            has_signal_stacks: has_signal_stacks(),
        }
    }

    /// How many connections fit below all limits, and which limit decides. `None` if there is no limit.
    pub(super) fn bound(&self, cores: u64) -> Option<Bound> {
        let other_threads = OTHER_THREADS + OTHER_THREADS_PER_CORE * cores;
        let exclusive = |_| other_threads;
        let shared = |max: u64| other_threads + max / SHARED_RESERVE;
        let maps_per_thread = MAPS_PER_STACK + if self.has_signal_stacks { MAPS_PER_SIGNAL_STACK } else { 0 };
        let maps = |max: u64| other_threads * maps_per_thread + max / MAPS_RESERVE;
        let memory = |max: u64| max / MEMORY_RESERVE;
        let bytes = Stack::Connection.bytes() as u64 + OTHER_BYTES_PER_CONNECTION;
        [
            fit(self.open_files, |_| OTHER_DESCRIPTORS, 1, "the limit on open files (ulimit -n)"),
            fit(self.maps, maps, maps_per_thread, "vm.max_map_count"),
            fit(self.address_space, memory, bytes, "the limit on address space (ulimit -v)"),
            fit(self.data, memory, bytes, "the limit on data (ulimit -d)"),
            fit(self.user_threads, shared, 1, "the limit on threads of this user (ulimit -u)"),
            fit(self.pids, shared, 1, "kernel.pid_max"),
            fit(self.threads, shared, 1, "kernel.threads-max"),
            fit(self.cgroup_threads, exclusive, 1, "the cgroup's pids.max (systemd: TasksMax)"),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|bound| bound.connections)
    }
}

/// Whether the standard library adds a stack for signal handlers to each thread. It does not if the process began with
/// SIGSEGV and SIGBUS ignored.
#[must_use]
pub(crate) fn has_signal_stacks() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status_text(&status, "SigIgn").and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    FAULTS.iter().any(|signal| ignored & (1 << (signal - 1)) == 0)
}

/// How many connections fit below this limit; at least one, because a server without connections is useless.
fn fit(limit: Option<Limit>, reserve: impl Fn(u64) -> u64, per_connection: u64, name: &str) -> Option<Bound> {
    let Limit { max, in_use } = limit?;
    let free = max.saturating_sub(in_use).saturating_sub(reserve(max));
    Some(Bound { connections: (free / per_connection).max(1), by: format!("{name} = {max}") })
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A number from the text of a `status` file (`man 5 proc_pid_status`).
fn status_field(status: &str, name: &str) -> Option<u64> {
    status_text(status, name)?.parse().ok()
}

/// The first word of a field of a `status` file.
fn status_text<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split_whitespace().next()
}

fn count_maps() -> Option<u64> {
    Some(fs::read_to_string("/proc/self/maps").ok()?.lines().count() as u64)
}

/// The number of threads of the machine: the second number in the fourth field of `loadavg` (`man 5 proc_loadavg`).
fn threads_of_machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// The number of threads of all processes of this user, with this process.
fn threads_of_user() -> u64 {
    let user = u64::from(getuid().as_raw());
    let statuses = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|process| {
        process.file_name().to_str()?.parse::<u32>().ok()?;
        // Fails if the process has ended meanwhile.
        fs::read_to_string(process.path().join("status")).ok()
    });
    statuses
        .filter(|status| status_field(status, "Uid") == Some(user))
        .filter_map(|status| status_field(&status, "Threads"))
        .sum()
}

/// The limit that leaves the fewest threads, among those of this process's cgroup and all cgroups above it. Supports
/// both versions of cgroups.
fn cgroup_threads() -> Option<Limit> {
    let memberships = fs::read_to_string("/proc/self/cgroup").ok()?;
    let groups = memberships.lines().filter_map(|line| {
        let (_, line) = line.split_once(':')?;
        match line.split_once(':')? {
            ("", group) => Some(("/sys/fs/cgroup", group)),
            (controllers, group) => {
                controllers.split(',').any(|name| name == "pids").then_some(("/sys/fs/cgroup/pids", group))
            }
        }
    });
    groups
        .flat_map(|(root, group)| limits_upwards(root, group))
        .min_by_key(|limit| limit.max.saturating_sub(limit.in_use))
}

fn limits_upwards(root: &str, group: &str) -> Vec<Limit> {
    let mut limits = Vec::new();
    let mut group = group.trim_end_matches('/');
    loop {
        if let Some(max) = read_number(&format!("{root}{group}/pids.max")) {
            let in_use = read_number(&format!("{root}{group}/pids.current")).unwrap_or(0);
            limits.push(Limit { max, in_use });
        }
        match group.rfind('/') {
            Some(end) => group = &group[..end],
            None => return limits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(limits: &Limits) -> Bound {
        limits.bound(2).expect("a limit")
    }

    fn limit(max: u64, in_use: u64) -> Option<Limit> {
        Some(Limit { max, in_use })
    }

    #[test]
    fn each_thread_uses_two_or_four_maps_and_the_allocator_has_a_reserve() {
        for (has_signal_stacks, per_thread, expected) in [(false, 2, 28_000..29_000), (true, 4, 13_000..15_000)] {
            let usual = bound(&Limits { maps: limit(65_530, 400), has_signal_stacks, ..Limits::default() });
            let maps = 400 + per_thread * (usual.connections + OTHER_THREADS);
            assert!(maps < 65_530 - 65_530 / MAPS_RESERVE, "{usual:?}");
            assert!(expected.contains(&usual.connections), "{usual:?}");
            assert_eq!(usual.by, "vm.max_map_count = 65530");
        }
    }

    #[test]
    fn the_smallest_limit_decides_and_use_by_other_processes_counts() {
        let limits = Limits {
            open_files: limit(65_536, 0),
            user_threads: limit(20_000, 5_000),
            pids: limit(32_768, 25_000),
            cgroup_threads: limit(4_915, 0),
            ..Limits::default()
        };
        assert_eq!(bound(&limits).connections, 4_915 - 70);
        let limits = Limits { cgroup_threads: None, ..limits };
        assert_eq!(bound(&limits).by, "kernel.pid_max = 32768");
        assert_eq!(bound(&limits).connections, 32_768 - 25_000 - 32_768 / 16 - 70);
    }

    #[test]
    fn a_limit_that_leaves_nothing_still_allows_one_connection() {
        assert_eq!(bound(&Limits { open_files: limit(64, 0), ..Limits::default() }).connections, 1);
        assert_eq!(bound(&Limits { maps: limit(1, 500), ..Limits::default() }).connections, 1);
        assert_eq!(Limits::default().bound(2), None);
    }

    #[test]
    fn the_limits_of_this_machine_can_be_read() {
        let limits = Limits::read();
        assert!(limits.maps.is_some_and(|maps| maps.in_use > 10 && maps.in_use < maps.max), "{limits:?}");
        assert!(limits.user_threads.is_none_or(|threads| threads.in_use > 0), "{limits:?}");
        assert!(limits.pids.is_some_and(|pids| pids.in_use > 0), "{limits:?}");
    }
}
