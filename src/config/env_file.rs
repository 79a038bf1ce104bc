//! [`parse`]: the format of `.env`. Pure; [`super::Config::load`] reads the file.
//!
//! One setting per line, `NAME=value` or `export NAME=value`, in UTF-8, with or without a byte order mark:
//!
//! - Blank lines are skipped. A `#` begins a comment at the start of a line and after white space. Elsewhere it is part
//!   of the value.
//! - A value is literal: `$` has no special meaning. White space around a value is not part of it.
//! - A value with white space, quotes or backslashes must be quoted. In single quotes, everything is literal. In double
//!   quotes, `\\`, `\"` and `\$` mean `\`, `"` and `$`. A value ends on its line.
//! - If two lines have the same name, the later one counts.
//!
//! Programs that read such files differ in the treatment of unquoted spaces and of quotes within a value. Such a line
//! is an error, so that a secret never silently becomes another one. No error repeats any part of a line.

/// The result of parsing the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EnvFile {
    /// Names and values, in the order of the file.
    pub(super) values: Vec<(String, String)>,
    /// One text for each malformed line, with the number of the line.
    pub(super) errors: Vec<String>,
}

/// At most this many errors are listed: with more, the file is probably not a `.env` file.
const ERRORS_MAX: usize = 20;

/// Parses the whole file.
pub(super) fn parse(bytes: &[u8]) -> EnvFile {
    let mut file = EnvFile::default();
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        file.errors.push(".env is UTF-16: save it as UTF-8".into());
        return file;
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let parsed = std::str::from_utf8(line).map_err(|_| "is not UTF-8").and_then(parse_line);
        match parsed {
            Ok(setting) => file.values.extend(setting),
            Err(_) if file.errors.len() == ERRORS_MAX => {
                file.errors.push(".env has more malformed lines; only the first ones are listed".into());
                break;
            }
            Err(error) => file.errors.push(format!(".env, line {}: {error}", index + 1)),
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
    let has_valid_start = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !has_valid_start || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c)) {
        return Err("does not begin with the name of a setting: write NAME=value");
    }
    Ok(Some((name.to_owned(), parse_value(value)?)))
}

/// Parses the text after the `=`. It has no white space at its end.
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
    Err("has more text after the value: put a value with spaces in single quotes")
}

/// The value, and the text after the closing quote.
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
        let EnvFile { mut values, mut errors } = parse(line.as_bytes());
        match (values.pop(), errors.pop()) {
            (Some((name, value)), None) if name == "A" => Ok(value),
            (None, Some(error)) => Err(error),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn values_are_literal() {
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
    fn a_malformed_line_is_an_error_with_its_number() {
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
            let error = value(line).expect_err(line);
            assert!(error.starts_with(".env, line 1: ") && !error.contains("secret"), "{line}: {error}");
        }
    }

    #[test]
    fn all_errors_are_reported_with_their_line_numbers() {
        let file = parse(b"\xEF\xBB\xBFA=1\r\n\r\n# c\r\nB\r\nC=\xFF\r\nA=2");
        let values: Vec<_> = file.values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(values, [("A", "1"), ("A", "2")]);
        assert_eq!(file.errors.len(), 2);
        assert!(file.errors[0].starts_with(".env, line 4: ") && file.errors[1].starts_with(".env, line 5: "));
        assert_eq!(parse(&b"x\n".repeat(1000)).errors.len(), ERRORS_MAX + 1);
        assert_eq!(parse(b"\xFF\xFEA\0=\0b\0").errors, [".env is UTF-16: save it as UTF-8"]);
        assert_eq!(parse(b""), EnvFile::default());
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_error_depends_on_the_value(head in "[ -~]{0,12}", tail in "[ -~]{0,12}") {
            for error in parse(format!("{head}Zq7Zq7{tail}").as_bytes()).errors {
                prop_assert!(!error.contains("Zq7"), "{}", error);
            }
        }

        #[test]
        fn a_quoted_text_is_the_value(text in "[^\0\r\n]{0,40}") {
            if !text.contains('\'') {
                prop_assert_eq!(value(&format!("A='{text}' # c")), Ok(text.clone()));
            }
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(value(&format!("A=\"{escaped}\"")), Ok(text));
        }

        #[test]
        fn a_value_without_white_space_and_quotes_needs_no_quotes(text in "[!#-&(-\\[\\]-~]{1,40}") {
            prop_assert_eq!(value(&format!("A={text}")), Ok(text));
        }
    }
}
