//! [`Theme`]: the styles of the terminal client. Only the 16 colours that every terminal has, so that the user's own colours
//! apply; without colours if `NO_COLOR` is set.

use ratatui::style::{Color, Modifier, Style};

/// The styles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    pub(super) has_colors: bool,
}

impl Theme {
    /// As <https://no-color.org> asks for.
    pub(super) fn of_environment() -> Self {
        Theme { has_colors: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    pub(super) fn bar(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn name(self) -> Style {
        self.colored(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    pub(super) fn own_name(self) -> Style {
        self.colored(Color::Green).add_modifier(Modifier::BOLD)
    }

    pub(super) fn problem(self) -> Style {
        self.colored(Color::Yellow)
    }

    pub(super) fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn colored(self, color: Color) -> Style {
        if self.has_colors { Style::new().fg(color) } else { Style::new() }
    }
}
