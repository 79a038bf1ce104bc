//! [`parse`]: the format of `.env`. Pure; [`super::Config::load`] reads the file.
//!
//! One setting a line, `NAME=value` or `export NAME=value`, in UTF-8, with or without a byte order mark:
//!
//! - Blank lines are skipped. A `#` begins a comment at the start of a line and after white space; elsewhere it is part
//!   of the value.
//! - A value is literal: `$` means nothing. White space around it is not part of it.
//! - A value with white space, quotes or backslashes is quoted. In single quotes, everything is literal. In double quotes,
//!   `\\`, `\"` and `\$` are `\`, `"` and `$`. A value ends on its line.
//! - Of two lines with the same name the later one counts.
//!
//! Where programs that read such files differ (a space within a value, quotes in the middle of it), a line is refused
//! and not guessed: a secret must not silently become another one. No fault repeats any part of a line.

/// What is in the file: the settings, in their order, and what is wrong.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EnvFile {
    /// Names and values.
    pub(super) values: Vec<(String, String)>,
    /// One for each malformed line, with its number.
    pub(super) faults: Vec<String>,
}

/// More faults than that are not listed: the file is something else.
const FAULTS_MAX: usize = 20;

/// Parses the whole file.
pub(super) fn parse(bytes: &[u8]) -> EnvFile {
    let mut file = EnvFile::default();
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        file.faults.push(".env is UTF-16: save it as UTF-8".into());
        return file;
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let parsed = std::str::from_utf8(line).map_err(|_| "is not UTF-8").and_then(parse_line);
        match parsed {
            Ok(setting) => file.values.extend(setting),
            Err(_) if file.faults.len() == FAULTS_MAX => {
                file.faults.push(".env has more malformed lines than are listed here".into());
                break;
            }
            Err(what) => file.faults.push(format!(".env, line {}: {what}", index + 1)),
        }
    }
    file
}

fn parse_line(line: &str) -> Result<Option<(String, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if line.contains('\0') {
        return Err("contains a NUL character");
    }
    let (name, value) = line.split_once('=').ok_or("has no `=`: write NAME=value")?;
    let name = name.trim_end();
    let name = match name.strip_prefix("export") {
        Some(rest) if rest.starts_with(char::is_whitespace) => rest.trim_start(),
        _ => name,
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c)) {
        return Err("does not begin with the name of a setting: write NAME=value");
    }
    Ok(Some((name.to_owned(), parse_value(value)?)))
}

/// The value behind the `=`, at the end of which there is no white space.
fn parse_value(text: &str) -> Result<String, &'static str> {
    let value = text.trim_start();
    // A comment needs white space before it.
    if value.is_empty() || (value.starts_with('#') && value.len() < text.len()) {
        return Ok(String::new());
    }
    let (value, rest) = match value.chars().next() {
        Some('\'') => single_quoted(&value[1..])?,
        Some('"') => double_quoted(&value[1..])?,
        _ => unquoted(value)?,
    };
    let comment = rest.trim_start();
    if comment.is_empty() || (comment.starts_with('#') && comment.len() < rest.len()) {
        return Ok(value);
    }
    Err("has more text behind the value: put a value with spaces in single quotes")
}

/// The value, and what stands behind the closing quote.
fn single_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let (value, rest) = text.split_once('\'').ok_or("has an opening quote (') and no closing one")?;
    Ok((value.to_owned(), rest))
}

fn double_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, escaped @ ('\\' | '"' | '$'))) => value.push(escaped),
                _ => return Err("has a backslash in double quotes: write it twice, or use single quotes"),
            },
            literal => value.push(literal),
        }
    }
    Err("has an opening quote (\") and no closing one")
}

fn unquoted(text: &str) -> Result<(String, &str), &'static str> {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (value, rest) = text.split_at(end);
    if value.contains(['\'', '"', '\\']) {
        return Err("has a quote or a backslash in its value: put the whole value in single quotes");
    }
    Ok((value.to_owned(), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(line: &str) -> Result<String, String> {
        let EnvFile { mut values, mut faults } = parse(line.as_bytes());
        match (values.pop(), faults.pop()) {
            (Some((name, value)), None) if name == "A" => Ok(value),
            (None, Some(fault)) => Err(fault),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn values_are_what_people_expect_and_literal() {
        for (line, expected) in [
            ("A=b", "b"),
            ("A=", ""),
            ("  A = b  ", "b"),
            ("export A=b", "b"),
            ("export\tA=b\r", "b"),
            ("A=b=c==", "b=c=="),
            ("A=$b${c}$(d)%e`f`", "$b${c}$(d)%e`f`"),
            ("A=b#c", "b#c"),
            ("A=#b", "#b"),
            ("A=b # c", "b"),
            ("A=b\t#c", "b"),
            ("A= # c", ""),
            ("A='b c'", "b c"),
            ("A='b \\ \" $c # d' # e", "b \\ \" $c # d"),
            ("A=\"b ' $c # d\"", "b ' $c # d"),
            ("A=\"b \\\\ \\\" \\$c\" # d", "b \\ \" $c"),
            ("A=''", ""),
            ("A=\"\"  ", ""),
            ("A=ü€", "ü€"),
        ] {
            assert_eq!(value(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused_by_its_line() {
        for line in [
            "secret",
            "=secret",
            "A secret",
            "1A=secret",
            "A-B=secret",
            "exportA B=secret",
            "A=secret two",
            "A=secret 'two'",
            "A=secret's",
            "A=sec\\ret",
            "A='secret",
            "A=\"secret",
            "A=\"sec\\ret\"",
            "A=\"secret\\",
            "A='secret'#",
            "A='secret''s'",
            "A=\"secret\"two",
            "A=secret\0",
        ] {
            let fault = value(line).expect_err(line);
            assert!(fault.starts_with(".env, line 1: ") && !fault.contains("secret"), "{line}: {fault}");
        }
    }

    #[test]
    fn all_faults_are_reported_with_their_lines() {
        let file = parse(b"\xEF\xBB\xBFA=1\r\n\r\n# c\r\nB\r\nC=\xFF\r\nA=2");
        let values: Vec<_> = file.values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(values, [("A", "1"), ("A", "2")]);
        assert_eq!(file.faults.len(), 2);
        assert!(file.faults[0].starts_with(".env, line 4: ") && file.faults[1].starts_with(".env, line 5: "));
        assert_eq!(parse(&b"x\n".repeat(1000)).faults.len(), FAULTS_MAX + 1);
        assert_eq!(parse(b"\xFF\xFEA\0=\0b\0").faults, [".env is UTF-16: save it as UTF-8"]);
        assert_eq!(parse(b""), EnvFile::default());
    }

    proptest! {
        #[test]
        fn no_input_panics_and_no_fault_repeats_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_fault_depends_on_the_value(head in "[ -~]{0,12}", tail in "[ -~]{0,12}") {
            for fault in parse(format!("{head}Zq7Zq7{tail}").as_bytes()).faults {
                prop_assert!(!fault.contains("Zq7"), "{}", fault);
            }
        }

        #[test]
        fn whatever_is_quoted_comes_back(text in "[^\0\r\n]{0,40}") {
            if !text.contains('\'') {
                prop_assert_eq!(value(&format!("A='{text}' # c")), Ok(text.clone()));
            }
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(value(&format!("A=\"{escaped}\"")), Ok(text));
        }

        #[test]
        fn a_value_without_white_space_and_quotes_needs_none(text in "[!#-&(-\\[\\]-~]{1,40}") {
            prop_assert_eq!(value(&format!("A={text}")), Ok(text));
        }
    }
}
