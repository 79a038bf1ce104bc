//! [`LogFilter`]: what `ICH_LOG` says, parsed once, for `ich check` and for the logger. Pure.
//!
//! The syntax is that of `env_logger`, which ignores what it does not understand, and takes a misspelt level for the name
//! of a module: then nothing else is logged. So the parser is ours, and strict.

use log::LevelFilter;

/// What a level may be.
const LEVELS: &str = "the levels are error, warn, info, debug, trace and off";
/// Names at which the program or a library of it logs. Another one needs a level behind it.
const MODULES: [&str; 6] = ["ich", "librdkafka", "postgres", "rdkafka", "tokio_postgres", "tungstenite"];
/// What people write instead of a level.
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

/// Which lines are logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    /// Levels of modules; of everything where there is no name.
    pub(crate) levels: Vec<(Option<String>, LevelFilter)>,
    /// Only lines that contain this.
    pub(crate) containing: Option<String>,
}

impl LogFilter {
    /// Parses `LEVEL`, `MODULE`, `MODULE=LEVEL`, several of them with commas between, and then perhaps `/TEXT`.
    ///
    /// # Errors
    /// What is wrong, to follow the value in a message.
    pub(super) fn parse(text: &str) -> Result<LogFilter, String> {
        let (levels, containing) = match text.split_once('/') {
            Some((_, text)) if text.contains('/') => {
                return Err(format!("has more than one `/`; {LEVELS}"));
            }
            Some((levels, text)) => (levels, Some(text.to_owned())),
            None => (text, None),
        };
        let parts = levels.split(',').map(str::trim).filter(|part| !part.is_empty());
        let levels = parts.map(parse_part).collect::<Result<Vec<_>, _>>()?;
        if levels.is_empty() && containing.is_none() {
            return Err(format!("names no level; {LEVELS}"));
        }
        Ok(LogFilter { levels, containing })
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
    let known = SUGGESTIONS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    let suggestion = known.map_or(String::new(), |(_, level)| format!(", did you mean {level}?"));
    format!("has the unknown level `{}`{suggestion}; {LEVELS}", shown(text))
}

/// The text, cut short and without control characters.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_logger_understands_is_taken() {
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
            ("/text", vec![], Some("text")),
        ] {
            let expected = LogFilter { levels, containing: containing.map(str::to_owned) };
            assert_eq!(LogFilter::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_would_turn_the_log_off_silently_is_refused() {
        for text in ["warning", "loud", "3", "ich=info=x", "ich=loud", "info,loud", "a/b/c", "ich =info", ",", " ", "-"]
        {
            let fault = LogFilter::parse(text).expect_err(text);
            assert!(fault.contains(LEVELS), "{text}: {fault}");
        }
        assert!(LogFilter::parse("ich=warning").unwrap_err().contains("did you mean warn?"));
        assert!(!LogFilter::parse("loud").unwrap_err().contains("did you mean"));
    }

    proptest! {
        /// Against the filter that is used: the same text filter and the same most verbose level.
        #[test]
        fn it_is_read_as_the_logger_reads_it(text in "(info|WARN|off|ich|ich::a=debug|x=trace| error|y=)(,(info|ich=warn|z=off)){0,3}") {
            let ours = LogFilter::parse(&text).unwrap();
            let mut builder = env_logger::Builder::new();
            for (module, level) in &ours.levels {
                builder.filter(module.as_deref(), *level);
            }
            prop_assert_eq!(builder.build().filter(), env_logger::Builder::new().parse_filters(&text).build().filter());
        }
    }
}
