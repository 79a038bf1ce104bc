//! The man page and the completions name what `--help` names, and the files for packages name files that exist.

mod harness;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::folder::Folder;
use harness::server::command;
use harness::skip;
use ich::config::SETTINGS;

fn output(arguments: &[&str]) -> String {
    let folder = Folder::new();
    let output = command(&folder.0, &[]).args(arguments).output().expect("running the program");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The commands in `--help`, except `help` itself.
fn commands() -> Vec<String> {
    let help = output(&["--help"]);
    let (_, after) = help.split_once("Commands:\n").expect("the commands");
    let names = after.lines().map_while(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    names.filter_map(|line| line.split(' ').next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn the_man_page_has_all_commands_settings_and_exit_codes() {
    let page = output(&["man"]).replace("\\-", "-");
    for name in commands() {
        assert!(page.contains(&format!("\\fBich {name}\\fR")), "{name}: {page}");
    }
    // The arguments of commands, too.
    assert!(page.contains("\\fB--after <EVENT_ID>\\fR"), "{page}");
    for setting in SETTINGS {
        assert!(page.contains(&format!("\\fB{}\\fR", setting.name)), "{}", setting.name);
    }
    assert!(["\\fB0\\fR", "\\fB1\\fR", "\\fB2\\fR", "\\fB130\\fR"].iter().all(|code| page.contains(code)), "{page}");
}

/// groff warns about what it cannot format.
#[test]
fn the_man_page_is_valid() {
    let folder = Folder::new();
    let path = folder.0.join("ich.1");
    fs::write(&path, output(&["man"])).expect("writing");
    let formatted = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(&path).output();
    let Ok(formatted) = formatted else { return skip("groff") };
    assert_eq!(String::from_utf8_lossy(&formatted.stderr), "");
}

#[test]
fn the_completions_have_all_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = output(&["completions", shell]);
        for name in commands() {
            assert!(script.contains(&name), "{shell}: {name}");
        }
    }
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash");
    let mut stdin = bash.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut stdin, output(&["completions", "bash"]).as_bytes()).expect("writing");
    drop(stdin);
    assert!(bash.wait().expect("its end").success());
}

/// The assets of the Debian package, except those that `build/deb` generates.
#[test]
fn the_files_of_the_package_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("text");
    let (_, after) = manifest.split_once("\nassets = [\n").expect("the assets");
    let (assets, _) = after.split_once("\n]\n").expect("their end");
    let sources: Vec<&str> = assets.lines().filter_map(|line| line.split('"').nth(1)).collect();
    assert!(sources.len() > 5, "{assets}");
    for source in sources.iter().filter(|source| !source.starts_with("target/")) {
        let folder = source.split("/*").next().unwrap_or(source);
        assert!(root.join(folder).exists(), "{source}");
    }
    assert!(root.join("build/ich.service").exists());
}
