//! How a [`Session`] fills a gap: asks for its pages one after the other, and holds the updates that come after it until then.

use std::time::Instant;

use super::{Session, Step};
use crate::cli::chat::gap::{Edges, Gap};
use crate::cli::chat::protocol::PageResult;
use crate::cli::chat::update::Update;

impl Session {
    /// The request for the next page, if the gap needs one now.
    pub(super) fn gap_step(&mut self, now: Instant) -> Option<Step> {
        let gap = self.gap.as_ref()?;
        if gap.deadline() <= now || gap.is_full() {
            self.end_gap(false);
            // The caller reports the updates, and asks again.
            return Some(Step::Wait(Some(now)));
        }
        let before = gap.before().map(str::to_owned);
        (!std::mem::replace(&mut self.is_loading, true)).then_some(Step::LoadPage(before))
    }

    pub(super) fn begin_gap(&mut self, edges: Edges, now: Instant) {
        if self.is_loading {
            // The last request, of an earlier connection, has not ended: the server is not well.
            self.updates.push(Update::Gap);
        } else {
            self.gap = Some(Gap::new(edges, now));
        }
    }

    /// The end of [`Step::LoadPage`].
    pub(in crate::cli::chat) fn loaded(&mut self, page: PageResult) {
        self.is_loading = false;
        let is_complete = self.gap.as_mut().and_then(|gap| gap.add_page(page));
        if let Some(is_complete) = is_complete {
            self.end_gap(is_complete);
        }
    }

    /// Reports what was found in the gap, if there is one, and then what was held.
    pub(super) fn end_gap(&mut self, is_complete: bool) {
        let Some(gap) = self.gap.take() else { return };
        let (messages, held) = gap.end();
        if !is_complete {
            self.updates.push(Update::Gap);
        }
        for message in messages {
            if self.resume.accept_earlier(&message) {
                self.report_message((message, None));
            }
        }
        self.updates.extend(held);
    }

    /// Reports an update now, or after the messages of a gap that is being filled.
    pub(super) fn report(&mut self, update: Update) {
        match &mut self.gap {
            Some(gap) => gap.hold(update),
            None => self.updates.push(update),
        }
    }
}
