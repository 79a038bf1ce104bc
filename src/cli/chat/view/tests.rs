//! What the terminal shows, in two sizes.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::cli::chat::outgoing::Pending;
use crate::cli::chat::protocol::{Change, ChatMessage, Page};
use crate::cli::chat::update::Update;

fn message(event_id: &str, from: &str, text: &str) -> Update {
    let owned = |text: &str| text.to_owned();
    let message = ChatMessage {
        event_id: owned(event_id),
        sent_at: "no time".to_owned(),
        from_user: owned(from),
        text: owned(text),
    };
    Update::Message { is_own: from == "Ann", message }
}

/// Ann's room with a few messages. Without times, which depend on the time zone.
fn room() -> Room {
    let mut room = Room::new(Some("Ann".to_owned()));
    let change = |name: &str| Change { username: name.to_owned(), sent_at: String::new() };
    for update in [
        Update::State(State::Online),
        Update::Users(["Bob", "Cid"].map(str::to_owned).to_vec()),
        message(
            "1",
            "Bob",
            "Hello! Is anybody here who can tell me why this line has to be broken into several lines?",
        ),
        Update::Joined(change("Ann")),
        Update::Joined(change("日本")),
        Update::Joined(change("Dan")),
        Update::Left(change("Cid")),
        message("2", "Ann", "I am.\nOn two lines"),
        message("3", "Bob", "\u{1b}[31mred\u{202E}"),
        Update::Gap,
        Update::Queued(Pending { id: "x".to_owned(), text: "not confirmed".to_owned() }),
    ] {
        room.apply(update);
    }
    room
}

fn screen() -> Screen {
    let server = "http://localhost:8080".to_owned();
    Screen { server, input: Input::default(), bottom: None, first_user: 0, theme: Theme { has_colors: false } }
}

fn rows_of(columns: u16, rows: u16, room: &Room, screen: &Screen) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(frame, room, screen)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y: u16| {
        let mut text = String::new();
        let mut x = 0;
        while x < columns {
            let symbol = buffer[(x, y)].symbol();
            text.push_str(symbol);
            x += u16::try_from(width(symbol).max(1)).unwrap();
        }
        text.trim_end().to_owned()
    };
    (0..rows).map(row).collect()
}

#[test]
fn a_terminal_of_80_columns_shows_messages_and_users() {
    let mut screen = screen();
    screen.input.insert("Hel\u{7}lo");
    let rows = [
        " Ann at http://localhost:8080                                   4 users  Online",
        "                                                            │ Users",
        "                                                            │ Ann",
        "                                                            │ Bob",
        "                                                            │ Dan",
        "                                                            │ 日本",
        "                                                            │",
        "                                                            │",
        "                                                            │",
        "                                                            │",
        "                                                            │",
        "                                                            │",
        "                                                            │",
        "                                                            │",
        "        Bob: Hello! Is anybody here who can tell me why     │",
        "        this line has to be broken into several lines?      │",
        "        日本 and Dan joined; Cid left                       │",
        ">       Ann: I am.                                          │",
        "        On two lines                                        │",
        "        Bob: ␛[31mred                                       │",
        "        Some messages are missing here.                     │",
        "…       not confirmed                                       │",
        "PageUp: earlier messages  Ctrl-C: leave",
        "> Hel␇lo",
    ];
    assert_eq!(rows_of(80, 24, &room(), &screen), rows);
}

#[test]
fn a_narrow_terminal_shows_no_list_of_users() {
    let mut room = room();
    room.apply(Update::State(State::Offline("the connection was lost".to_owned())));
    let mut screen = screen();
    screen.input.insert("This line is longer than the terminal is wide");
    let rows = [
        " Ann at http://local…  4 users  Offline",
        "        Bob: Hello! Is anybody here who",
        "        can tell me why this line has to",
        "        be broken into several lines?",
        "        日本 and Dan joined; Cid left",
        ">       Ann: I am.",
        "        On two lines",
        "        Bob: ␛[31mred",
        "        Some messages are missing here.",
        "…       not confirmed",
        "Not connected: the connection was lost.…",
        "> e is longer than the terminal is wide",
    ];
    assert_eq!(rows_of(40, 12, &room, &screen), rows);
}

#[test]
fn pages_of_earlier_messages_stay_where_they_are() {
    let mut room = Room::new(None);
    for number in 0..50 {
        room.apply(message(&number.to_string(), "Bob", &format!("text {number}")));
    }
    let (columns, rows) = messages_size(40, 12);
    let lines = Lines { room: &room, columns, theme: Theme { has_colors: false } };
    let last = lines.last().unwrap();
    let (page, is_first) = lines.earlier(last, rows - 1, rows);
    assert_eq!((page, is_first), ((41, 0), false));
    let (first, is_first) = lines.earlier(page, 100, rows);
    assert_eq!((first, is_first), ((8, 0), true), "the first line is at the top");
    assert_eq!(lines.later(page, rows - 1), Some(last));
    assert_eq!(lines.later(page, rows), None);

    let mut screen = screen();
    screen.bottom = Some(first);
    let before = rows_of(40, 12, &room, &screen);
    assert_eq!(before[1], "        Bob: text 0");
    room.apply(message("new", "Bob", "a new one"));
    let old = |id: &str| ChatMessage {
        event_id: id.to_owned(),
        sent_at: String::new(),
        from_user: "Cid".to_owned(),
        text: "an old one".to_owned(),
    };
    assert_eq!(room.begin_earlier().as_deref(), Some("0"));
    assert_eq!(room.begin_earlier(), None, "it is loading");
    room.apply(Update::Earlier(Ok(Page { messages: vec![old("y"), old("x")], has_more: false })));
    assert_eq!(rows_of(40, 12, &room, &screen)[1..10], before[1..10]);
    assert_eq!((room.begin_earlier(), room.earlier), (None, Earlier::End));
    screen.bottom = None;
    assert_eq!(rows_of(40, 12, &room, &screen)[9], "        Bob: a new one");
}

#[test]
fn a_page_whose_messages_are_removed_shows_the_oldest_ones_that_are_left() {
    let mut room = Room::new(None);
    let mut say = |numbers: std::ops::Range<i64>| {
        for number in numbers {
            room.apply(message(&number.to_string(), "Bob", &format!("text {number}")));
        }
        let first = room.timeline.first();
        let mut screen = screen();
        screen.bottom = Some((100, 0));
        let rows = rows_of(40, 12, &room, &screen);
        (first, rows[1].trim().to_owned(), rows[9].trim().to_owned())
    };
    let page = |first: i64, top: &str, bottom: &str| (first, format!("Bob: text {top}"), format!("Bob: text {bottom}"));
    assert_eq!(say(0..5_000), page(0, "92", "100"));
    assert_eq!(say(5_000..5_098), page(98, "98", "106"), "a part of it");
    assert_eq!(say(5_098..6_000), page(1_000, "1000", "1008"), "all of it");
}

#[test]
fn of_10000_users_those_are_drawn_that_have_room() {
    let mut room = room();
    room.apply(Update::Users((0..10_000).map(|number| format!("User {number:05} of a very long name")).collect()));
    let shown = rows_of(80, 24, &room, &screen());
    assert!(shown[0].contains("10000 users"), "{shown:?}");
    assert!(shown[2].ends_with("│ User 00000 of a v…") && shown[21].ends_with("│ and 9981 more"), "{shown:?}");
}

#[test]
fn any_size_can_be_drawn() {
    let mut screen = screen();
    screen.input.insert("日本語日本語");
    for columns in 1..90 {
        for rows in 1..8 {
            rows_of(columns, rows, &room(), &screen);
        }
    }
}
