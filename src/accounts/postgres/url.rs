//! [`UrlParts`]: splits `ICH_DATABASE_URL` into its parts. Pure.
//!
//! The parser of the client library does not say which parameter is wrong, and takes the end of a password with an `@` for
//! the name of a host.

use percent_encoding::percent_decode_str;

/// The parts of a URL, decoded.
#[derive(Debug, Default, PartialEq)]
pub(super) struct UrlParts {
    pub(super) user: Option<String>,
    pub(super) password: Option<Vec<u8>>,
    /// Each with its port, as text.
    pub(super) hosts: Vec<(String, Option<String>)>,
    pub(super) database: Option<String>,
    /// In the order of the URL.
    pub(super) parameters: Vec<(String, String)>,
}

const FORM: &str = "write postgres://user:password@host:5432/database?sslmode=verify-full";
const ENCODE: &str = "a special character of the user or the password is not percent-encoded: write @ as %40, : as %3A, \
                      / as %2F, ? as %3F and % as %25";

impl UrlParts {
    /// # Errors
    /// A text for the operator that contains no part of the URL except the name of a parameter.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or_else(|| format!("does not begin with postgres:// : {FORM}"))?;
        let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = before_query.split_once('/').unwrap_or((before_query, ""));
        // An `@` elsewhere is the end of a password that contains one of `@`, `/` and `?`. Nothing after it is quoted.
        if authority.matches('@').count() > 1 || database.contains('@') || query.contains('@') {
            return Err(ENCODE.to_owned());
        }
        let (credentials, hosts) = match authority.split_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        let mut parts = UrlParts {
            database: decoded("database", database)?.into_nonempty(),
            parameters: parameters(query)?,
            hosts: hosts.split(',').filter(|host| !host.is_empty()).map(host_and_port).collect::<Result<_, _>>()?,
            ..UrlParts::default()
        };
        if let Some(credentials) = credentials {
            let (user, password) =
                credentials.split_once(':').map_or((credentials, None), |(user, it)| (user, Some(it)));
            parts.user =
                percent_decode_str(user).decode_utf8().map_err(|_| "user: is not UTF-8")?.into_owned().into_nonempty();
            // Not every password is UTF-8.
            parts.password = password.map(|password| percent_decode_str(password).collect());
        }
        Ok(parts)
    }
}

trait IntoNonempty: Sized {
    /// `None` if it is empty.
    fn into_nonempty(self) -> Option<Self>;
}

impl IntoNonempty for String {
    fn into_nonempty(self) -> Option<Self> {
        Some(self).filter(|text| !text.is_empty())
    }
}

fn host_and_port(text: &str) -> Result<(String, Option<String>), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("host: a bracket is not closed: write [::1]:5432")?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or("host: write [::1]:5432")?) })
        }
        None if text.matches(':').count() > 1 => {
            return Err("host: an IPv6 address needs brackets: write [::1]:5432".to_owned());
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    Ok((decoded("host", host)?, port.map(str::to_owned)))
}

fn parameters(query: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').ok_or("a parameter after ? has no value: write name=value")?;
            let is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !is_plain {
                return Err("the name of a parameter after ? is not made of letters, digits and _".to_owned());
            }
            Ok((name.to_owned(), decoded(name, value)?))
        })
        .collect()
}

/// `part` is for the error.
fn decoded(part: &str, text: &str) -> Result<String, String> {
    // The library keeps a `%` without two hexadecimal digits; here it is an error.
    let is_escape = |after: &str| after.len() >= 2 && after.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit);
    if !text.split('%').skip(1).all(is_escape) {
        return Err(format!("{part}: a % is not followed by two hexadecimal digits: write % as %25"));
    }
    percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(|_| format!("{part}: is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_decoded() {
        let url = "postgres://u%40:p%3a%zz@h:1,[::1]:2,%2Ftmp%2fx/d%20b?connect_timeout=1&sslrootcert=%2Fa%20b.pem";
        let text = |text: &str| Some(text.to_owned());
        let expected = UrlParts {
            user: text("u@"),
            password: Some(b"p:%zz".to_vec()),
            hosts: vec![("h".into(), text("1")), ("::1".into(), text("2")), ("/tmp/x".into(), None)],
            database: text("d b"),
            parameters: vec![("connect_timeout".into(), "1".into()), ("sslrootcert".into(), "/a b.pem".into())],
        };
        assert_eq!(UrlParts::parse(url), Ok(expected));
        assert_eq!(UrlParts::parse("postgresql://"), Ok(UrlParts::default()));
    }

    #[test]
    fn a_special_character_in_the_password_is_reported_and_nothing_is_quoted() {
        for password in ["p@hunter", "p/hunter", "p?hunter", "p?hunter=1&a", "p?a=hunter", "@hunter", "p@hunter/x?y"] {
            let error = UrlParts::parse(&format!("postgres://u:{password}@h:5432/d?sslmode=require")).unwrap_err();
            assert!(error.contains("@ as %40") && !error.contains("hunter"), "{password}: {error}");
        }
    }

    #[test]
    fn malformed_parts_are_named() {
        for (url, part) in [
            ("mysql://u@h/d", "postgres://"),
            ("postgres://u@[::1:5432/d", "bracket"),
            ("postgres://u@::1:5432/d", "brackets"),
            ("postgres://u@h/%zz", "database"),
            ("postgres://u@h/d?sslmode", "name=value"),
            ("postgres://u@h/d?a-b=1", "name of a parameter"),
            ("postgres://u@h/d?sslcert=%2", "sslcert"),
            ("postgres://u@h/d?sslcert=%ff", "sslcert"),
        ] {
            let error = UrlParts::parse(url).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
        }
    }
}
