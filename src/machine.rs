//! The limits of the machine on this process, read and raised once at start, and the priority and the CPU time of
//! threads. Called on the main thread, except [`lower_priority`] and [`thread_cpu_time`].

pub mod limits;

use std::num::NonZeroU32;
use std::time::Duration;

use log::info;
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use self::limits::Limits;

/// The nice value of threads that hash passwords; chat has 0 (`man 7 sched`).
const BACKGROUND_NICE: i32 = 10;

/// The number of processors that this process may use; at least 1.
#[must_use]
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Raises the soft limit on open files to the hard limit (`man 2 getrlimit`).
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // If it fails, the old limit stays, and the maximum of connections follows from it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The CPU time that the calling thread has used.
pub(crate) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Lowers the priority of the calling thread.
pub(crate) fn lower_priority() {
    // On Linux, `None` is the calling thread. If it fails, hashing delays the chat more; nothing else changes.
    let _ = setpriority_process(None, BACKGROUND_NICE);
}

/// The maximum of connections: that of the setting, or less if the machine allows fewer; `None` means no maximum. Logs
/// which limit decides.
#[must_use]
pub(crate) fn connections_max(setting: Option<NonZeroU32>, limits: &Limits) -> Option<NonZeroU32> {
    match (limits.bound(cores() as u64), setting) {
        (Some(bound), setting) if setting.is_none_or(|max| bound.connections < u64::from(max.get())) => {
            info!("at most {} connections: {} allows no more", bound.connections, bound.by);
            NonZeroU32::new(u32::try_from(bound.connections).unwrap_or(u32::MAX))
        }
        (_, Some(max)) => {
            info!("at most {max} connections, as ICH_MAX_CONNECTIONS says");
            setting
        }
        (_, None) => {
            info!("no maximum of connections: ICH_MAX_CONNECTIONS is 0, and the machine has no limit");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::limits::Limit;
    use super::*;

    #[test]
    fn the_setting_applies_unless_the_machine_allows_fewer() {
        let limits = Limits { open_files: Some(Limit { max: 1128, in_use: 0 }), ..Limits::default() };
        let max = |setting, limits: &Limits| connections_max(NonZeroU32::new(setting), limits).map(NonZeroU32::get);
        assert_eq!(max(1, &limits), Some(1));
        assert_eq!(max(1001, &limits), Some(1000));
        assert_eq!(max(0, &limits), Some(1000));
        assert_eq!(max(1001, &Limits::default()), Some(1001));
        assert_eq!(max(0, &Limits::default()), None);
    }
}
