//! [`Room`]: what the terminal shows of the lobby. Takes [`Update`]s; `view.rs` draws it. Pure.

use std::collections::VecDeque;

use super::outgoing::Pending;
use super::presence::ChangeKind;
use super::protocol::Page;
use super::timeline::Timeline;
use super::update::{State, Update};
use super::users::Users;

/// Pages of earlier messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Earlier {
    Ready,
    Loading,
    /// There are none.
    End,
}

/// See the top of the file.
#[derive(Debug)]
pub(super) struct Room {
    /// The name of the user, once it is known.
    pub(super) own_name: Option<String>,
    pub(super) state: State,
    pub(super) users: Users,
    pub(super) timeline: Timeline,
    /// Messages that are not confirmed.
    pub(super) pending: VecDeque<Pending>,
    pub(super) earlier: Earlier,
    /// Why the session has ended.
    pub(super) ended: Option<String>,
}

impl Room {
    pub(super) fn new(own_name: Option<String>) -> Self {
        Room {
            own_name,
            state: State::Connecting,
            users: Users::default(),
            timeline: Timeline::default(),
            pending: VecDeque::new(),
            earlier: Earlier::Ready,
            ended: None,
        }
    }

    pub(super) fn apply(&mut self, update: Update) {
        match update {
            Update::State(state) => self.state = state,
            Update::Users(names) => self.users.replace(names),
            Update::Joined(change) => {
                self.users.add(&change.username);
                if self.own_name.as_ref() != Some(&change.username) {
                    self.timeline.add_change(&change, ChangeKind::Join);
                }
            }
            Update::Left(change) => {
                self.users.remove(&change.username);
                if self.own_name.as_ref() != Some(&change.username) {
                    self.timeline.add_change(&change, ChangeKind::Leave);
                }
            }
            Update::Gap => self.timeline.add_note("Some messages are missing here."),
            Update::Message { message, is_own } => {
                if is_own {
                    self.own_name = Some(message.from_user.clone());
                }
                self.timeline.add_message(&message, is_own);
            }
            Update::Queued(message) => self.pending.push_back(message),
            Update::Confirmed(message) => self.remove_pending(&message),
            Update::NotSent(message, reason) => {
                self.remove_pending(&message);
                self.timeline.add_note(&format!("Not sent: {} ({reason})", message.text));
            }
            Update::Note(text) => self.timeline.add_note(&text),
            Update::Earlier(Ok(Page { messages, has_more })) => {
                self.timeline.add_earlier(&messages, self.own_name.as_deref());
                self.earlier = if has_more { Earlier::Ready } else { Earlier::End };
            }
            Update::Earlier(Err(reason)) => {
                self.earlier = Earlier::Ready;
                self.timeline.add_note(&format!("Earlier messages could not be loaded: {reason}"));
            }
            Update::Ended(reason) => self.ended = Some(reason),
        }
    }

    /// The message before which earlier ones are to be loaded now. The caller loads them.
    pub(super) fn begin_earlier(&mut self) -> Option<String> {
        let before = self.timeline.oldest_id().filter(|_| self.earlier == Earlier::Ready)?.to_owned();
        self.earlier = Earlier::Loading;
        Some(before)
    }

    fn remove_pending(&mut self, message: &Pending) {
        self.pending.retain(|pending| pending.id != message.id);
    }
}
