//! The help, the man page and the completions of shells, all from the definitions of the command line and of the
//! settings. The only user of `clap_mangen` and `clap_complete`.

use clap::builder::StyledStr;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::EXIT_CODES;
use crate::config::SETTINGS;

const SETTINGS_SOURCE: &str = "from the environment, then from .env in the working directory";

/// What `--help` prints after the commands: the exit codes, and all settings.
pub(super) fn after_help() -> String {
    let codes: Vec<_> = EXIT_CODES.iter().map(|(code, meaning)| format!("{code} {meaning}")).collect();
    let mut text = format!("exit codes: {}\n\nsettings, {SETTINGS_SOURCE}:\n", codes.join("; "));
    for setting in SETTINGS {
        let default = if setting.default.is_empty() { "" } else { " = " };
        text.push_str(&format!("  {}{default}{}\n      {}\n", setting.name, setting.default, setting.meaning));
    }
    text
}

/// The man page `ich(1)`, in the format of roff.
pub(super) fn man_page(command: &clap::Command) -> String {
    let man = Man::new(command.clone()).manual("User Commands");
    let mut page = Vec::new();
    // Writing to a vector does not fail.
    let _ = man
        .render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| man.render_options_section(&mut page));
    let mut page = String::from_utf8_lossy(&page).into_owned();
    page.push_str(&commands(command).to_roff());
    let codes = EXIT_CODES.iter().map(|(code, meaning)| (vec![bold(code.to_string())], (*meaning).to_owned()));
    page.push_str(&section("EXIT STATUS", None, codes).to_roff());
    let settings = SETTINGS.iter().map(|setting| {
        let default = if setting.default.is_empty() { String::new() } else { format!(" = {}", setting.default) };
        (vec![bold(setting.name), roman(default)], setting.meaning.to_owned())
    });
    let source = format!("The server reads its settings {SETTINGS_SOURCE}.");
    page.push_str(&section("ENVIRONMENT", Some(source), settings).to_roff());
    page
}

/// The commands with their arguments.
fn commands(command: &clap::Command) -> Roff {
    let mut command = command.clone();
    // An argument can be shown only after that. It also adds `help` to each command, as a command and an option.
    command.build();
    let mut entries = Vec::new();
    put_commands(&command, command.get_name(), &mut entries);
    section("COMMANDS", None, entries.into_iter())
}

/// Adds the commands below this one. `path`: the words of this command.
fn put_commands(command: &clap::Command, path: &str, entries: &mut Vec<(Vec<Inline>, String)>) {
    let text = |styled: Option<&StyledStr>| styled.map(ToString::to_string).unwrap_or_default();
    let is_shown = |command: &&clap::Command| !command.is_hide_set() && command.get_name() != "help";
    for subcommand in command.get_subcommands().filter(is_shown) {
        let path = format!("{path} {}", subcommand.get_name());
        entries.push((vec![bold(path.as_str())], text(subcommand.get_long_about().or(subcommand.get_about()))));
        let is_shown = |argument: &&clap::Arg| !argument.is_hide_set() && argument.get_id() != "help";
        for argument in subcommand.get_arguments().filter(is_shown) {
            entries.push((vec![roman("    "), bold(argument.to_string())], text(argument.get_help())));
        }
        put_commands(subcommand, &path, entries);
    }
}

/// A section with one tagged paragraph for each entry.
fn section(title: &str, introduction: Option<String>, entries: impl Iterator<Item = (Vec<Inline>, String)>) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    if let Some(introduction) = introduction {
        roff.text([roman(introduction)]);
    }
    for (tag, text) in entries {
        roff.control("TP", []).text(tag).text([roman(text)]);
    }
    roff
}

/// The script that completes the command line in this shell.
pub(super) fn completions(command: &mut clap::Command, shell: Shell) -> String {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
