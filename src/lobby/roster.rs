//! Rosters in the log: the sender splits a roster into parts, and every reader puts the parts together.
//!
//! Used only by [`super::Instance`] and [`super::Lobby`]. The parts are input from outside: an invalid part is ignored.

use std::collections::BTreeMap;

use super::record::{RosterEntry, SessionId, User};

/// The sessions of one instance.
pub(super) type Sessions = BTreeMap<SessionId, User>;

/// The most sessions of a roster, far more than one process can serve. It bounds the memory that a corrupt roster
/// without a last part takes in every instance.
const SESSIONS_MAX: usize = 1 << 20;

/// The parts of a roster that were read, while its last part is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Collecting {
    parts: u32,
    last_part: u32,
    last_seq: u64,
    sessions: Sessions,
}

impl Collecting {
    fn is_followed_by(&self, seq: u64, part: u32, parts: u32) -> bool {
        self.parts == parts && self.last_part.checked_add(1) == Some(part) && self.last_seq.checked_add(1) == Some(seq)
    }
}

/// Adds the next part of a roster. Returns the whole roster if this is its last part. A part that does not follow the
/// part before it discards the parts that were collected.
pub(super) fn collect(
    collecting: &mut Option<Collecting>,
    seq: u64,
    (part, parts): (u32, u32),
    entries: &[RosterEntry],
) -> Option<Sessions> {
    let before = collecting.take();
    if part >= parts {
        return None;
    }
    let mut sessions = match before {
        _ if part == 0 => Sessions::new(),
        Some(before) if before.is_followed_by(seq, part, parts) => before.sessions,
        _ => return None,
    };
    if sessions.len().saturating_add(entries.len()) > SESSIONS_MAX {
        return None;
    }
    sessions.extend(entries.iter().map(|entry| (entry.session, entry.user.clone())));
    if part + 1 == parts {
        return Some(sessions);
    }
    *collecting = Some(Collecting { parts, last_part: part, last_seq: seq, sessions });
    None
}

/// Splits a roster into parts of at most `bytes_max` encoded bytes each, or one session each if a single session is
/// larger. There is at least one part, and only a single part can be empty.
pub(super) fn split(sessions: &Sessions, bytes_max: usize) -> Vec<Vec<RosterEntry>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut part_bytes = 0;
    for (session, user) in sessions {
        let bytes = entry_bytes(user);
        if !part.is_empty() && part_bytes + bytes > bytes_max {
            parts.push(std::mem::take(&mut part));
            part_bytes = 0;
        }
        part_bytes += bytes;
        part.push(RosterEntry { session: *session, user: user.clone() });
    }
    parts.push(part);
    parts
}

/// The most encoded bytes of one session.
fn entry_bytes(user: &User) -> usize {
    // {"session":18446744073709551615,"user":{"id":"","username":""}},
    const WITHOUT_TEXT: usize = 64;
    WITHOUT_TEXT + json_bytes(&user.id) + json_bytes(&user.username)
}

fn json_bytes(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' => 2,
            0..=0x1f => 6,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(count: u64) -> Sessions {
        let user = |n| User { id: format!("{n}").into(), username: format!("Name \"{n}\"\n").into() };
        (0..count).map(|n| (SessionId(n), user(n))).collect()
    }

    #[test]
    fn parts_put_together_are_the_roster() {
        for (count, bytes_max) in [(0, 100), (1, 0), (7, 0), (7, 200), (500, 1000), (500, usize::MAX)] {
            let parts = split(&sessions(count), bytes_max);
            let total = u32::try_from(parts.len()).unwrap();
            let mut collecting = None;
            for (part, entries) in (0..).zip(&parts[..parts.len() - 1]) {
                assert_eq!(collect(&mut collecting, u64::from(part), (part, total), entries), None);
            }
            let last = total - 1;
            let whole = collect(&mut collecting, u64::from(last), (last, total), &parts[parts.len() - 1]);
            assert_eq!(whole, Some(sessions(count)));
            assert_eq!(collecting, None);
        }
    }

    #[test]
    fn an_encoded_part_is_no_larger_than_the_bound() {
        for part in split(&sessions(500), 1000) {
            assert!(serde_json::to_vec(&part).unwrap().len() <= 1000 + 2);
            assert!(part.len() > 5);
        }
    }

    #[test]
    fn a_roster_with_too_many_sessions_is_dropped() {
        let mut collecting = None;
        for (seq, part) in (1..).zip(0..40) {
            let first = u64::from(part) * 30_000;
            let user = User { id: "4".into(), username: "Bob".into() };
            let entries: Vec<_> = (first..first + 30_000)
                .map(|session| RosterEntry { session: SessionId(session), user: user.clone() })
                .collect();
            assert_eq!(collect(&mut collecting, seq, (part, u32::MAX), &entries), None);
        }
        assert_eq!(collecting, None);
    }
}
