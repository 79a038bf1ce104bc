//! A server that is alone and has no clients seldom writes to the disk and uses little CPU, but notices at once when
//! another server starts.

mod harness;

use std::fs;
use std::time::{Duration, Instant};

use harness::server::Server;
use harness::sqlite::{DataFolder, data_version};
use harness::wait_for;

/// How long the test observes the idle server.
const WATCHED: Duration = Duration::from_secs(30);
/// Commits that are closer together count as one.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(5);
/// The most CPU time that the server may use meanwhile. A debug build uses a fifth of that.
const CPU_MAX: Duration = Duration::from_millis(1_500);

/// The CPU time that the server has used, from `/proc`.
fn cpu_time(server: &Server) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("its figures");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

fn heartbeats(folder: &DataFolder) -> usize {
    folder.records().iter().filter(|record| record["type"] == "beat").count()
}

#[test]
fn an_idle_server_seldom_commits_and_notices_another_server_at_once() {
    let folder = DataFolder::new();
    let server = Server::start_in(folder.path(), &[]);
    wait_for("the first heartbeats", || (heartbeats(&folder) >= 12).then_some(()));

    let file = folder.connect();
    let (cpu_before, until) = (cpu_time(&server), Instant::now() + WATCHED);
    let (mut commits, mut version) = (0, data_version(&file));
    while Instant::now() < until {
        std::thread::sleep(SAMPLE_INTERVAL);
        let now = data_version(&file);
        commits += usize::from(now != version);
        version = now;
    }
    let cpu = cpu_time(&server) - cpu_before;
    println!("{commits} commits and {cpu:?} of CPU time in {WATCHED:?}");
    assert!(commits <= 3, "{commits} commits in {WATCHED:?}");
    assert!(cpu < CPU_MAX, "{cpu:?} of CPU time in {WATCHED:?}");

    let before = folder.records().len();
    let idle = folder.records()[0]["from"].clone();
    let _other = Server::start_in(folder.path(), &[]);
    let fresh = wait_for("heartbeats of both", || {
        let fresh = folder.records().split_off(before);
        (fresh.iter().filter(|record| record["type"] == "beat" && record["from"] != idle).count() > 3).then_some(fresh)
    });
    let is_idle_heartbeat = |record: &&serde_json::Value| record["type"] == "beat" && record["from"] == idle;
    let first_of_other = fresh.iter().position(|record| record["from"] != idle).expect("its roster");
    let answers = fresh[first_of_other..].iter().filter(is_idle_heartbeat).count();
    assert!(answers >= 3, "{answers} heartbeats of the idle server among 4 of the other");
}
