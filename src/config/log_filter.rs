//! [`LogFilter`]: the parsed `ICH_LOG`. Pure.
//!
//! The syntax is that of `env_logger`. Its parser ignores invalid parts, and takes a misspelt level for the name of a
//! module; then nothing else is logged. So this module has its own, strict parser.

use log::LevelFilter;

/// Libraries whose `debug` and `trace` lines contain data of users: parameters of statements (emails, password hashes)
/// and what clients send (messages, tokens). No filter turns these levels on.
const LEAKING_LIBRARIES: [&str; 2] = ["tokio_postgres", "tungstenite"];
/// The end of every error.
const LEVELS: &str = "the levels are error, warn, info, debug, trace and off";
/// Modules of the program and of libraries that log. Another name must have a level.
const MODULES: [&str; 6] = ["ich", "librdkafka", "postgres", "rdkafka", "tokio_postgres", "tungstenite"];
/// Common mistakes, and the level that is meant.
const SUGGESTIONS: [(&str, &str); 8] = [
    ("warning", "warn"),
    ("warnings", "warn"),
    ("err", "error"),
    ("errors", "error"),
    ("information", "info"),
    ("verbose", "debug"),
    ("none", "off"),
    ("all", "trace"),
];

/// Selects the lines that are logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFilter {
    /// The levels of modules, as they were written. `None`: of all other modules.
    pub(super) levels: Vec<(Option<String>, LevelFilter)>,
    /// Only lines that contain this text.
    pub(crate) containing: Option<String>,
}

impl LogFilter {
    /// Parses a list of `LEVEL`, `MODULE` and `MODULE=LEVEL`, separated by commas, with an optional `/TEXT` at the end.
    ///
    /// # Errors
    /// A text that follows the value in a message.
    pub(super) fn parse(text: &str) -> Result<LogFilter, String> {
        let (levels, containing) = match text.split_once('/') {
            Some((_, text)) if text.contains('/') => {
                return Err(format!("has more than one `/`; {LEVELS}"));
            }
            Some((levels, text)) => (levels, Some(text.to_owned())),
            None => (text, None),
        };
        let parts = levels.split(',').map(str::trim).filter(|part| !part.is_empty());
        let mut levels = parts.map(parse_part).collect::<Result<Vec<_>, _>>()?;
        if levels.is_empty() {
            if containing.is_none() {
                return Err(format!("names no level; {LEVELS}"));
            }
            levels.push((None, LevelFilter::Info));
        }
        Ok(LogFilter { levels, containing })
    }

    /// The levels for `env_logger`, which uses the longest name with which a module begins. No module of
    /// [`LEAKING_LIBRARIES`] gets a more verbose level than `info`.
    pub(crate) fn levels(&self) -> Vec<(Option<&str>, LevelFilter)> {
        let mut levels: Vec<_> = self.levels.iter().map(|(module, level)| (module.as_deref(), *level)).collect();
        levels.extend(LEAKING_LIBRARIES.map(|library| (Some(library), self.level_of(library))));
        for (module, level) in &mut levels {
            if module.is_some_and(|module| LEAKING_LIBRARIES.iter().any(|library| module.starts_with(library))) {
                *level = (*level).min(LevelFilter::Info);
            }
        }
        levels
    }

    /// The level of a module. Of two levels with the same name, the last one counts.
    fn level_of(&self, module: &str) -> LevelFilter {
        let matching = self.levels.iter().filter(|(name, _)| module.starts_with(name.as_deref().unwrap_or_default()));
        let longest = matching.max_by_key(|(name, _)| name.as_ref().map_or(0, String::len));
        longest.map_or(LevelFilter::Off, |(_, level)| *level)
    }
}

fn parse_part(part: &str) -> Result<(Option<String>, LevelFilter), String> {
    let Some((module, level)) = part.split_once('=') else {
        if let Ok(level) = part.parse() {
            return Ok((None, level));
        }
        if is_module(part) && (part.contains("::") || MODULES.contains(&part)) {
            return Ok((Some(part.to_owned()), LevelFilter::max()));
        }
        return Err(unknown_level(part) + "; to log all of a module, write its name and =trace");
    };
    if !is_module(module) {
        return Err(format!("has `{}` where the name of a module should be; {LEVELS}", shown(module)));
    }
    match level.trim() {
        "" => Ok((Some(module.to_owned()), LevelFilter::max())),
        level => Ok((Some(module.to_owned()), level.parse().map_err(|_| unknown_level(level))?)),
    }
}

fn is_module(name: &str) -> bool {
    name.chars().all(|c| c.is_alphanumeric() || "_:-.".contains(c))
}

fn unknown_level(text: &str) -> String {
    let known = SUGGESTIONS.iter().find(|(mistake, _)| mistake.eq_ignore_ascii_case(text));
    let suggestion = known.map_or(String::new(), |(_, level)| format!(", did you mean {level}?"));
    format!("has the unknown level `{}`{suggestion}; {LEVELS}", shown(text))
}

/// At most 40 characters of the text, with control characters escaped.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use log::{Level, Record};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn valid_filters_are_parsed() {
        let trace = LevelFilter::Trace;
        let module = |name: &str, level| (Some(name.to_owned()), level);
        for (text, levels, containing) in [
            ("info", vec![(None, LevelFilter::Info)], None),
            (" WARN ,", vec![(None, LevelFilter::Warn)], None),
            ("off", vec![(None, LevelFilter::Off)], None),
            ("ich", vec![module("ich", trace)], None),
            ("ich::http", vec![module("ich::http", trace)], None),
            ("ich=", vec![module("ich", trace)], None),
            ("hyper= debug", vec![module("hyper", LevelFilter::Debug)], None),
            ("warn,ich::http=Debug", vec![(None, LevelFilter::Warn), module("ich::http", LevelFilter::Debug)], None),
            ("info/a text", vec![(None, LevelFilter::Info)], Some("a text")),
            ("/text", vec![(None, LevelFilter::Info)], Some("text")),
        ] {
            let expected = LogFilter { levels, containing: containing.map(str::to_owned) };
            assert_eq!(LogFilter::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn invalid_filters_are_errors() {
        for text in ["warning", "loud", "3", "ich=info=x", "ich=loud", "info,loud", "a/b/c", "ich =info", ",", " ", "-"]
        {
            let error = LogFilter::parse(text).expect_err(text);
            assert!(error.contains(LEVELS), "{text}: {error}");
        }
        assert!(LogFilter::parse("ich=warning").unwrap_err().contains("did you mean warn?"));
        assert!(!LogFilter::parse("loud").unwrap_err().contains("did you mean"));
    }

    /// Whether `env_logger` logs a line of this level and module.
    fn is_logged(filter: &str, level: Level, module: &str) -> bool {
        let mut builder = env_logger::Builder::new();
        for (module, level) in LogFilter::parse(filter).unwrap().levels() {
            builder.filter(module, level);
        }
        builder.build().matches(&Record::builder().level(level).target(module).build())
    }

    #[test]
    fn no_filter_makes_a_library_log_data_of_users() {
        for (filter, module) in [
            ("trace", "tungstenite::protocol"),
            ("tungstenite", "tungstenite"),
            ("info,tungstenite::protocol=trace", "tungstenite::protocol::frame"),
            ("info,tokio_postgres=info,tokio_postgres::query=debug", "tokio_postgres::query"),
            ("tokio_postgres::q=trace,tokio_p=debug", "tokio_postgres::query"),
        ] {
            assert!(!is_logged(filter, Level::Debug, module), "{filter}");
            assert!(is_logged(filter, Level::Info, module), "{filter}");
        }
        assert!(is_logged("ich=debug,tungstenite=info", Level::Debug, "ich::http"));
    }

    #[test]
    fn a_library_that_may_leak_logs_no_more_than_others() {
        for filter in ["warn", "info,tungstenite=warn", "info,tung=warn", "trace,tungstenite=off", "ich=trace"] {
            assert!(!is_logged(filter, Level::Info, "tungstenite::protocol"), "{filter}");
        }
        assert!(is_logged("warn", Level::Warn, "tungstenite::protocol"));
    }

    proptest! {
        /// The filter of `env_logger` has the same most verbose level.
        #[test]
        fn valid_filters_mean_the_same_for_env_logger(text in "(info|WARN|off|ich|ich::a=debug|x=trace| error|y=)(,(info|ich=warn|z=off)){0,3}") {
            let ours = LogFilter::parse(&text).unwrap();
            let mut builder = env_logger::Builder::new();
            for (module, level) in ours.levels() {
                builder.filter(module, level);
            }
            prop_assert_eq!(builder.build().filter(), env_logger::Builder::new().parse_filters(&text).build().filter());
        }
    }
}
