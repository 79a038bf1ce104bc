//! The modules of the web page that need no browser: their unit tests in `tests/web/`, run by Node's own test runner.

mod harness;

use std::path::Path;
use std::process::Command;

use harness::skip;

#[test]
fn the_unit_tests_of_the_modules_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/web");
    let files = folder.read_dir().expect("the folder of the tests").map(|entry| entry.expect("an entry").path());
    let tests: Vec<_> = files.filter(|file| file.to_string_lossy().ends_with(".test.js")).collect();
    assert!(tests.len() > 3, "few tests in {}", folder.display());
    let Ok(output) = Command::new("node").arg("--test").args(&tests).output() else {
        return skip("Node.js 18 or later: apt-get install -y nodejs");
    };
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(report.contains("# pass ") && !report.contains("# pass 0\n"), "no test was run: {report}");
}
