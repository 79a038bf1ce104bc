//! The help, the man page and the completions of shells, all from the definitions of the command line and of the
//! settings. The only user of `clap_mangen` and `clap_complete`.

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
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    let entries = shown.flat_map(|subcommand| {
        let name = vec![bold(format!("{} {}", command.get_name(), subcommand.get_name()))];
        let about = subcommand.get_about().map(ToString::to_string).unwrap_or_default();
        let options = subcommand.get_arguments().filter(|argument| !argument.is_hide_set());
        let options = options.map(|argument| {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            (vec![roman("    "), bold(argument.to_string())], help)
        });
        std::iter::once((name, about)).chain(options.collect::<Vec<_>>())
    });
    section("COMMANDS", None, entries)
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
