//! `GET /` and the files that it loads: the web page. The files are compiled into the program.

use crate::http::app_state::AppState;
use crate::http::request::Request;
use crate::http::response::Response;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// The page loads nothing from other origins, runs no script besides its own files, and cannot turn a text into markup
/// or into a script (Content Security Policy Level 3; Trusted Types). `ws:` and `wss:` are for browsers in which `'self'`
/// does not include them.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// A file that the page loads.
#[derive(Clone, Copy)]
pub(crate) struct File {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

/// The file `/js/<name>.js`.
macro_rules! module {
    ($name:literal) => {
        File {
            path: concat!("/js/", $name, ".js"),
            content_type: SCRIPT,
            content: include_str!(concat!("../../web/js/", $name, ".js")),
        }
    };
}

const FILES: [File; 31] = [
    File { path: "/style.css", content_type: STYLE, content: include_str!("../../web/style.css") },
    File { path: "/icon.svg", content_type: PICTURE, content: include_str!("../../web/icon.svg") },
    module!("announcer"),
    module!("avatar"),
    module!("backoff"),
    module!("composer"),
    module!("connection"),
    module!("dom"),
    module!("earlier"),
    module!("gap"),
    module!("links"),
    module!("lobby"),
    module!("login"),
    module!("main"),
    module!("message-row"),
    module!("names"),
    module!("pending"),
    module!("pending-view"),
    module!("presence"),
    module!("renewal"),
    module!("renewal-form"),
    module!("server"),
    module!("session"),
    module!("status"),
    module!("timeline"),
    module!("timeline-view"),
    module!("times"),
    module!("token"),
    module!("unread"),
    module!("users"),
    module!("users-view"),
];

const PAGE: &str = include_str!("../../web/index.html");

pub(crate) fn page(_: &AppState, _: &Request) -> Response {
    Response::ok(HTML, PAGE).with("Content-Security-Policy", POLICY).with("Referrer-Policy", "no-referrer")
}

/// The file of the page with this path.
pub(crate) fn file(path: &str) -> Option<File> {
    FILES.into_iter().find(|file| file.path == path)
}

impl File {
    pub(crate) fn response(self) -> Response {
        Response::ok(self.content_type, self.content)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn modules() -> impl Iterator<Item = File> {
        FILES.into_iter().filter(|file| file.content_type == SCRIPT)
    }

    #[test]
    fn each_module_in_the_folder_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/js");
        let in_folder: BTreeSet<String> = folder
            .read_dir()
            .expect("the folder of the modules")
            .map(|entry| format!("/js/{}", entry.expect("an entry").file_name().display()))
            .collect();
        assert_eq!(in_folder, modules().map(|file| file.path.to_owned()).collect());
    }

    #[test]
    fn the_page_loads_each_module_at_once() {
        for file in modules() {
            assert!(PAGE.contains(&format!("\"{}\"", &file.path[1..])), "{} is not in index.html", file.path);
        }
    }

    #[test]
    fn each_module_that_is_imported_exists() {
        for file in modules() {
            for (_, rest) in
                file.content.match_indices(" from \"./").map(|(at, quote)| file.content.split_at(at + quote.len()))
            {
                let name = rest.split('"').next().expect("the name of a module");
                assert!(super::file(&format!("/js/{name}")).is_some(), "{} imports {name}", file.path);
            }
        }
    }
}
