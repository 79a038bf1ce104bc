//! Executes the program again at start, once, with settings that must be there before a process begins. With them a
//! thread takes less memory and fewer memory maps; there is a thread for each connection. The process id stays the same.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::machine;

/// Settings of glibc that save memory with thousands of threads; glibc reads them before `main` (`man 3 mallopt`, and
/// the tunables in the manual of glibc).
///
/// - Few arenas; freed memory goes back to the system; the size from which a block is mapped separately stays fixed. By
///   default small blocks are spread over dozens of arenas that never shrink.
/// - No cache of freed blocks per thread (`tcache_count`): it takes about 2 KiB of each thread.
/// - No space in each thread for libraries that are loaded later; this program loads none. Without these 1.5 KiB, the
///   stack of a connection fits into two pages instead of three.
const C_LIBRARY: [(&str, &str); 4] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0:glibc.rtld.nns=1:glibc.rtld.optional_static_tls=0"),
];

/// The program that starts another one with ignored signals, from GNU coreutils 8.31 or later (`man 1 env`). Setting
/// this within a process needs `unsafe`.
const ENV: &str = "env";
/// The standard library adds a stack for signal handlers to each thread, to report an overflow of the thread's stack.
/// It takes half of the memory maps of a thread. The library does not do this in a process that began with these
/// signals ignored. An overflow still ends the process: the kernel does not let a process ignore its own fault.
const IGNORE_FAULTS: &str = "--ignore-signal=SEGV,BUS";

/// Executes this program again if a setting is missing. Variables that are set already are not changed. If `exec` fails,
/// the server runs without these settings: it uses more memory and accepts fewer connections.
pub(super) fn with_less_memory() {
    let missing: Vec<_> = C_LIBRARY.iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect();
    // These variables also tell that the program was executed again.
    if missing.is_empty() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if machine::limits::has_signal_stacks() && can_ignore_faults(program.as_os_str()) {
        // As arguments and not in the environment of `env`: glibc 2.36 cuts `GLIBC_TUNABLES` after its first setting, in
        // place, when a process begins, and `env` would pass on what is left.
        let variables = missing.iter().map(|(name, value)| format!("{name}={value}"));
        let mut command = Command::new(ENV);
        let _ = command.arg(IGNORE_FAULTS).args(variables).arg(&program).args(&arguments).exec();
    }
    // `exec` returns only if it failed.
    let _ = Command::new(&program).args(&arguments).envs(missing.into_iter().copied()).exec();
}

/// Whether `env` can start `program`. Tries it with `true` first: after `exec` of an `env` that cannot, this process would
/// be gone.
fn can_ignore_faults(program: &OsStr) -> bool {
    // `env` takes an argument with `=` for a variable.
    if program.as_encoded_bytes().contains(&b'=') {
        return false;
    }
    let probe = Command::new(ENV)
        .args([IGNORE_FAULTS, "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    probe.is_ok_and(|status| status.success())
}
