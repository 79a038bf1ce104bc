//! The machine: what it allows, read and raised once at start, so that the bound on connections lies below it.

pub mod limits;

use log::info;
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};

use self::limits::Limits;

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

/// How many connections there may be: what the settings ask for (0: everything), or less where the machine has less.
/// One line of the log says which limit decided.
#[must_use]
pub fn connections_max(setting: usize, limits: &Limits) -> usize {
    let asked = if setting == 0 { u64::MAX } else { setting as u64 };
    match limits.bound(cores() as u64) {
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

#[cfg(test)]
mod tests {
    use super::limits::Limit;
    use super::*;

    #[test]
    fn the_setting_holds_unless_the_machine_has_less() {
        let limits = Limits { open_files: Some(Limit { max: 1128, in_use: 0 }), ..Limits::default() };
        assert_eq!(connections_max(1, &limits), 1);
        assert_eq!(connections_max(1001, &limits), 1000);
        assert_eq!(connections_max(0, &limits), 1000);
        assert_eq!(connections_max(1001, &Limits::default()), 1001);
    }
}
