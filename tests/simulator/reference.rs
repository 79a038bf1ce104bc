//! A second implementation of the rules of the lobby, simple and slow: it keeps no state, but searches the list of all
//! records each time. It shares no code and no algorithm with `Lobby::apply`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ich::lobby::{Action, Body, EventId, InstanceId, Moderation, Record, SessionId, User};

use super::REPETITION_WINDOW;

const LEASE_HEARTBEATS: usize = 10;

/// One record of the log.
struct Line {
    record: Arc<Record>,
    /// Not a duplicate: the first record with this `seq` since the instance was last forgotten.
    is_fresh: bool,
    /// The account and the message id, if the record is a message with an id from an effective session.
    used: Option<(Arc<str>, Arc<str>)>,
}

/// The records of one instance since it was last forgotten.
#[derive(Default)]
struct History {
    /// The offset of its last record, duplicates included.
    last: usize,
    /// Its records without duplicates.
    fresh: Vec<Arc<Record>>,
}

/// The events of one record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    pub left: BTreeSet<Arc<str>>,
    pub joined: BTreeSet<Arc<str>>,
    pub said: Option<Said>,
    /// A message was not published because its author used its id shortly before.
    pub is_repeated: bool,
}

/// A message that is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub event_id: EventId,
    pub user: User,
    pub text: Arc<str>,
    pub id: Option<Arc<str>>,
}

#[derive(Default)]
pub struct Reference {
    lines: Vec<Line>,
    /// The instances with a record since they were last forgotten.
    histories: BTreeMap<InstanceId, History>,
    /// The names of the users after each offset.
    pub online: Vec<BTreeSet<Arc<str>>>,
    pub changes: Vec<Change>,
    /// The instances that are not forgotten, after each offset.
    pub known: Vec<BTreeSet<InstanceId>>,
}

impl Reference {
    /// Reads the next record. Returns whether it is fresh, and the instances that are forgotten at this record.
    pub fn read(&mut self, record: Arc<Record>) -> (bool, Vec<InstanceId>) {
        let from = record.from;
        let here = self.lines.len();
        if matches!(record.body, Body::Moderated(_)) {
            self.lines.push(Line { record: record.clone(), is_fresh: false, used: None });
            self.note_change(&record, false, false);
            self.known.push(self.histories.keys().copied().collect());
            return (false, Vec::new());
        }
        let history = self.histories.entry(from).or_default();
        let is_fresh = history.fresh.iter().all(|before| before.seq < record.seq);
        history.last = here;
        if is_fresh {
            history.fresh.push(record.clone());
        }
        self.lines.push(Line { record: record.clone(), is_fresh, used: None });

        let forgotten = if is_fresh { self.forgotten_by(&record) } else { Vec::new() };
        for id in &forgotten {
            self.histories.remove(id);
        }
        self.note_change(&record, is_fresh, !forgotten.is_empty());
        self.known.push(self.histories.keys().copied().collect());
        (is_fresh, forgotten)
    }

    fn note_change(&mut self, record: &Record, is_fresh: bool, is_any_forgotten: bool) {
        let before = self.online.last().cloned().unwrap_or_default();
        let keeps_presence = matches!(record.body, Body::Heartbeat { .. } | Body::Said { .. } | Body::Moderated(_));
        let online: BTreeSet<Arc<str>> = if keeps_presence && !is_any_forgotten {
            before.clone()
        } else {
            self.histories.keys().flat_map(|id| self.sessions(*id).into_values()).map(|user| user.username).collect()
        };
        let said = if is_fresh { self.said(record) } else { None };
        let is_repeated = said.as_ref().is_some_and(|said| self.is_repeated(said));
        self.changes.push(Change {
            left: before.difference(&online).cloned().collect(),
            joined: online.difference(&before).cloned().collect(),
            said: said.filter(|_| !is_repeated),
            is_repeated,
        });
        self.online.push(online);
    }

    /// The message in this record, if its session is effective.
    fn said(&self, record: &Record) -> Option<Said> {
        let Body::Said { session, text, id } = &record.body else { return None };
        let user = self.sessions(record.from).get(session)?.clone();
        let event_id = EventId { from: record.from, seq: record.seq };
        Some(Said { event_id, user, text: text.clone(), id: id.clone() })
    }

    /// Whether a record within the window before this one has a use of the same id. Also stores the use in this line.
    fn is_repeated(&mut self, said: &Said) -> bool {
        let here = self.lines.len() - 1;
        let used = said.id.clone().map(|id| (said.user.id.clone(), id));
        let window = &self.lines[(here + 1).saturating_sub(REPETITION_WINDOW)..here];
        let is_repeated = used.is_some() && window.iter().any(|line| line.used == used);
        self.lines[here].used = used;
        is_repeated
    }

    /// The offset of the last action of each kind on each user, with the latest time in the record.
    fn last_actions(&self, before: usize) -> BTreeMap<(Action, Arc<str>), (u64, usize)> {
        let mut last = BTreeMap::new();
        for (offset, line) in self.lines[..before].iter().enumerate() {
            if let Body::Moderated(Moderation { action, username, at_ms, .. }) = &line.record.body {
                let known = last.entry((*action, username.clone())).or_insert((*at_ms, offset));
                // A record that the log has twice acts at its first offset.
                if known.0 < *at_ms {
                    *known = (*at_ms, offset);
                }
            }
        }
        last
    }

    /// The time of the last mute of a user in the records before this offset; 0 if there is none.
    pub fn muted_at(&self, offset: usize, username: &Arc<str>) -> u64 {
        self.last_actions(offset).get(&(Action::Mute, username.clone())).map_or(0, |(at_ms, _)| *at_ms)
    }

    /// A session that was in the log before its user was kicked, and is still effective.
    pub fn survivor_of_a_kick(&self) -> Option<(InstanceId, SessionId)> {
        let kicks = self.last_actions(self.lines.len());
        let sessions = self.histories.keys().flat_map(|id| self.sessions(*id).into_iter().map(|it| (*id, it)));
        sessions.map(|(id, (session, user))| (id, session, user)).find_map(|(id, session, user)| {
            let (_, kicked_at) = kicks.get(&(Action::Kick, user.username))?;
            let opens = |record: &Record| match &record.body {
                Body::Joined { session: opened, .. } => *opened == session,
                Body::Roster { sessions, .. } => sessions.iter().any(|entry| entry.session == session),
                _ => false,
            };
            let before = &self.lines[..*kicked_at];
            before.iter().any(|line| line.record.from == id && opens(&line.record)).then_some((id, session))
        })
    }

    fn forgotten_by(&self, record: &Record) -> Vec<InstanceId> {
        match record.body {
            Body::Heartbeat { .. } => self
                .histories
                .iter()
                .filter(|(id, _)| **id != record.from)
                .filter(|(_, history)| self.heartbeats_since(history.last, record.from) >= LEASE_HEARTBEATS)
                .map(|(id, _)| *id)
                .collect(),
            Body::Bye { last: true } => self
                .histories
                .iter()
                .filter(|(_, history)| history.fresh.iter().any(|record| matches!(record.body, Body::Bye { .. })))
                .map(|(id, _)| *id)
                .collect(),
            _ => Vec::new(),
        }
    }

    fn heartbeats_since(&self, offset: usize, by: InstanceId) -> usize {
        let is_heartbeat = |line: &&Line| {
            line.is_fresh && line.record.from == by && matches!(line.record.body, Body::Heartbeat { .. })
        };
        self.lines[offset + 1..].iter().filter(is_heartbeat).count()
    }

    /// The sessions of an instance: its last complete roster, and its joins and leaves after that.
    pub fn sessions(&self, id: InstanceId) -> BTreeMap<SessionId, User> {
        let records = self.histories.get(&id).map_or(&[][..], |history| &history.fresh);
        let last_roster = (0..records.len()).rev().find_map(|end| Some((end + 1, roster_ending(records, end)?)));
        let Some((after, mut sessions)) = last_roster else { return BTreeMap::new() };
        for record in &records[after..] {
            match &record.body {
                Body::Joined { session, user } => {
                    sessions.insert(*session, user.clone());
                }
                Body::Left { session } => {
                    sessions.remove(session);
                }
                _ => {}
            }
        }
        sessions
    }
}

/// The complete roster whose last part is `records[end]`.
fn roster_ending(records: &[Arc<Record>], end: usize) -> Option<BTreeMap<SessionId, User>> {
    let Body::Roster { parts: total, .. } = records[end].body else { return None };
    let begin = (end + 1).checked_sub(total as usize)?;
    let mut roster = BTreeMap::new();
    for (expected, index) in (0..total).zip(begin..=end) {
        let Body::Roster { part, parts, sessions } = &records[index].body else { return None };
        let follows = records[index].seq == records[begin].seq + u64::from(expected);
        if *part != expected || *parts != total || !follows {
            return None;
        }
        roster.extend(sessions.iter().map(|entry| (entry.session, entry.user.clone())));
    }
    Some(roster)
}
