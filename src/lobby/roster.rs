//! Rosters on the log: split into parts by the sender, put together again by every reader.
//!
//! Used by [`super::Instance`] and [`super::Lobby`] and by nobody else. Pure, like all of this module. What comes in
//! here was read from outside, so no value of it may do more harm than being ignored.

use std::collections::BTreeMap;

use super::record::{RosterEntry, SessionId, User};

/// The sessions of one instance.
pub(super) type Sessions = BTreeMap<SessionId, User>;

/// The most sessions that a roster can have. Far above what one process can serve: it bounds what a corrupt run of
/// parts, each promising more to come, can make every reader keep.
const SESSIONS_MAX: usize = 1 << 20;

/// A roster of which the last part did not come yet.
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

/// Takes the next part of a roster; gives the whole of it when this was the last one. A part that does not follow the
/// one before makes void what was collected.
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

/// Cuts a roster into parts of at most `bytes_max` on the log each. There is always at least one part, and at least
/// one session in each of several.
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

/// The most that one session takes on the log.
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
    fn a_part_on_the_log_is_no_larger_than_the_bound() {
        for part in split(&sessions(500), 1000) {
            assert!(serde_json::to_vec(&part).unwrap().len() <= 1000 + 2);
            assert!(part.len() > 5);
        }
    }

    #[test]
    fn a_roster_beyond_all_measure_is_not_kept() {
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
