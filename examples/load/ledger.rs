//! Records what every client received and compares it with what was sent.
//!
//! Pure bookkeeping in flat arrays: one bit per client and user, one counter per client and sender. Users are
//! identified by the index of their client.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The client joined during a chat and has received no message of this sender yet.
const UNKNOWN: u32 = u32::MAX;

/// Totals since the ledger was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Messages received by a client for the first time.
    pub deliveries: u64,
    /// `user_joined` and `user_left` events received by a client.
    pub presence_events: u64,
    /// Messages received by a client more than once.
    pub duplicated: u64,
    /// Messages received after a later message of the same sender.
    pub reordered: u64,
    /// Joins of users who are online, leaves of users who are not, events before `users_online`, second `users_online`.
    pub presence_errors: u64,
    /// Events about users that this run did not create.
    pub foreign: u64,
}

impl Counts {
    /// Adds the totals of another ledger.
    pub fn merge(&mut self, other: &Self) {
        self.deliveries += other.deliveries;
        self.presence_events += other.presence_events;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.presence_errors += other.presence_errors;
        self.foreign += other.foreign;
    }
}

/// The bookkeeping for the clients of this process. All clients of the run are in it, because they are users in the
/// lists that the clients of this process receive. Memory for the others is reserved, but not used.
pub struct Ledger {
    pub counts: Counts,
    clients: usize,
    senders: usize,
    /// Length of one row of `online_bits`, in words of 64 bits.
    row_words: usize,
    /// Per client, one bit for each user who is online according to the events that the client received.
    online_bits: Vec<u64>,
    /// Per client, the number of bits set in its row of `online_bits`.
    online_count: Vec<u32>,
    /// Per client and sender, the counter of the next message, or `UNKNOWN`.
    next: Vec<u32>,
    /// Per client, how many messages were skipped and have not arrived since.
    missing: Vec<u32>,
    /// Per client, whether it received `users_online`. Only live clients are checked.
    live: Vec<bool>,
    /// One bit for each user who should be online.
    expected: Vec<u64>,
    expected_online: u32,
    /// Presence is not checked from this client on: these never read, so the server may disconnect them at any time.
    first_unchecked: usize,
    /// The clients of this process.
    own: Range<usize>,
    /// Per sender, how many messages were sent.
    sent: Vec<u32>,
}

impl Ledger {
    /// A ledger for `clients` clients, of which the first `senders` send, and `own` are in this process. Presence is
    /// checked below `first_unchecked`.
    pub fn new(clients: usize, senders: usize, first_unchecked: usize, own: Range<usize>) -> Self {
        let row_words = clients.div_ceil(64);
        Self {
            counts: Counts::default(),
            clients,
            senders,
            row_words,
            online_bits: vec![0; clients * row_words],
            online_count: vec![0; clients],
            next: vec![UNKNOWN; clients * senders],
            missing: vec![0; clients],
            live: vec![false; clients],
            expected: vec![0; row_words],
            expected_online: 0,
            first_unchecked,
            own,
            sent: vec![0; senders],
        }
    }

    /// Sets whether `user` should be online from now on.
    pub fn expect(&mut self, user: usize, online: bool) {
        let (word, bit) = (user / 64, 1_u64 << (user % 64));
        if user >= self.first_unchecked || (self.expected[word] & bit != 0) == online {
            return;
        }
        self.expected[word] ^= bit;
        self.expected_online = if online { self.expected_online + 1 } else { self.expected_online - 1 };
    }

    /// The counter for the next message of `sender`, which counts as sent.
    pub fn next_counter(&mut self, sender: usize) -> u32 {
        self.sent[sender] += 1;
        self.sent[sender] - 1
    }

    /// Reverts the last `next_counter` of `sender`: the message could not be sent.
    pub fn undo_send(&mut self, sender: usize) {
        self.sent[sender] -= 1;
    }

    /// How many messages each sender sent.
    pub fn sent(&self) -> &[u32] {
        &self.sent
    }

    /// Sets how many messages each sender sent. The senders may be in another process.
    pub fn set_sent(&mut self, sent: &[u32]) {
        self.sent.copy_from_slice(sent);
    }

    /// Clears the state of `client`, which has disconnected.
    pub fn reset_client(&mut self, client: usize) {
        self.reset_presence(client);
        self.next[client * self.senders..][..self.senders].fill(UNKNOWN);
        self.missing[client] = 0;
    }

    /// Clears what `client` knows of users: it has disconnected, and will return for the messages that it misses.
    pub fn reset_presence(&mut self, client: usize) {
        self.online_bits[client * self.row_words..][..self.row_words].fill(0);
        self.online_count[client] = 0;
        self.live[client] = false;
    }

    /// Records that `client` received `users_online`. With `all_delivered` no message is in flight, so the next counter
    /// of each sender is known.
    pub fn users_online(&mut self, client: usize, list: &[u32], all_delivered: bool) {
        if self.live[client] {
            self.counts.presence_errors += 1;
            return;
        }
        self.live[client] = true;
        for &user in list {
            self.set(client, user as usize, true);
        }
        if all_delivered {
            let row = &mut self.next[client * self.senders..][..self.senders];
            let unknown = row.iter_mut().zip(&self.sent).filter(|(next, _)| **next == UNKNOWN);
            unknown.for_each(|(next, sent)| *next = *sent);
        }
    }

    /// Records that `client` received `user_joined` (`online`) or `user_left` about `user`.
    pub fn presence(&mut self, client: usize, user: u32, online: bool) {
        self.counts.presence_events += 1;
        if !self.live[client] {
            self.counts.presence_errors += 1;
        }
        self.set(client, user as usize, online);
    }

    fn set(&mut self, client: usize, user: usize, online: bool) {
        if user >= self.clients {
            self.counts.presence_errors += 1;
            return;
        }
        if user >= self.first_unchecked {
            return;
        }
        let (word, bit) = (&mut self.online_bits[client * self.row_words + user / 64], 1_u64 << (user % 64));
        if (*word & bit != 0) == online {
            self.counts.presence_errors += 1;
            return;
        }
        *word ^= bit;
        let count = &mut self.online_count[client];
        *count = if online { *count + 1 } else { *count - 1 };
    }

    /// Records that `client` received message `counter` of `sender`. False: a duplicate.
    pub fn chat(&mut self, client: usize, sender: u32, counter: u32) -> bool {
        let sender = sender as usize;
        if sender >= self.senders || !self.live[client] {
            self.counts.presence_errors += 1;
            return false;
        }
        let next = &mut self.next[client * self.senders + sender];
        if counter == *next || *next == UNKNOWN {
            *next = counter + 1;
        } else if counter > *next {
            self.missing[client] += counter - *next;
            *next = counter + 1;
        } else if self.missing[client] > 0 {
            self.missing[client] -= 1;
            self.counts.reordered += 1;
        } else {
            self.counts.duplicated += 1;
            return false;
        }
        self.counts.deliveries += 1;
        true
    }

    /// Whether every client that should be online has received `users_online`.
    pub fn all_live(&self) -> bool {
        self.expected_clients().all(|client| self.live[client])
    }

    /// Whether every client that should be online is live and has the expected number of users online.
    pub fn all_lists_complete(&self) -> bool {
        self.expected_clients().all(|client| self.live[client] && self.online_count[client] == self.expected_online)
    }

    /// How many clients have a list of users that differs from the expected one.
    pub fn wrong_lists(&self) -> u64 {
        let wrong = |client: &usize| self.online_bits[client * self.row_words..][..self.row_words] != self.expected[..];
        self.expected_clients().filter(wrong).count() as u64
    }

    /// Over all live clients: messages that were skipped, and messages after the last one received.
    pub fn lost_and_outstanding(&self) -> (u64, u64) {
        let (mut lost, mut outstanding) = (0, 0);
        for client in self.expected_clients().filter(|&client| self.live[client]) {
            lost += u64::from(self.missing[client]);
            let next = &self.next[client * self.senders..][..self.senders];
            let open = next.iter().zip(&self.sent).filter(|(next, _)| **next != UNKNOWN);
            outstanding += open.map(|(&next, &sent)| u64::from(sent.saturating_sub(next))).sum::<u64>();
        }
        (lost, outstanding)
    }

    /// The clients of this process that should be online and whose presence is checked.
    fn expected_clients(&self) -> impl Iterator<Item = usize> {
        (self.own.start..self.own.end.min(self.first_unchecked)).filter(|&client| self.is_expected(client))
    }

    /// Whether `user` should be online.
    pub fn is_expected(&self, user: usize) -> bool {
        self.expected[user / 64] & (1 << (user % 64)) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_duplicated_and_reordered_messages_are_counted_separately() {
        let mut ledger = Ledger::new(2, 1, 2, 0..2);
        (0..2).for_each(|client| ledger.expect(client, true));
        ledger.users_online(1, &[0, 1], true);
        (0..5).for_each(|counter| assert_eq!(ledger.next_counter(0), counter));
        assert!(ledger.chat(1, 0, 0));
        assert!(ledger.chat(1, 0, 2));
        assert_eq!(ledger.lost_and_outstanding(), (1, 2));
        assert!(ledger.chat(1, 0, 1));
        assert!(!ledger.chat(1, 0, 1));
        assert_eq!((ledger.counts.reordered, ledger.counts.duplicated, ledger.counts.deliveries), (1, 1, 3));
        assert_eq!(ledger.lost_and_outstanding(), (0, 2));
    }

    #[test]
    fn a_message_that_a_client_missed_while_it_was_away_is_lost() {
        let mut ledger = Ledger::new(1, 1, 1, 0..1);
        ledger.expect(0, true);
        ledger.users_online(0, &[], true);
        (0..4).for_each(|counter| assert_eq!(ledger.next_counter(0), counter));
        ledger.chat(0, 0, 0);
        ledger.reset_presence(0);
        ledger.users_online(0, &[0], true);
        assert_eq!(ledger.lost_and_outstanding(), (0, 3));
        ledger.chat(0, 0, 2);
        ledger.chat(0, 0, 3);
        assert_eq!(ledger.lost_and_outstanding(), (1, 0));
    }

    #[test]
    fn lists_are_complete_only_when_every_client_has_every_user() {
        let mut ledger = Ledger::new(2, 0, 2, 0..2);
        (0..2).for_each(|client| ledger.expect(client, true));
        ledger.users_online(0, &[], true);
        ledger.presence(0, 0, true);
        ledger.users_online(1, &[0], true);
        ledger.presence(1, 1, true);
        assert!(!ledger.all_lists_complete());
        assert_eq!(ledger.wrong_lists(), 1);
        ledger.presence(0, 1, true);
        assert!(ledger.all_lists_complete());
        assert_eq!((ledger.wrong_lists(), ledger.counts.presence_errors), (0, 0));
        ledger.presence(0, 1, true);
        assert_eq!(ledger.counts.presence_errors, 1);
    }

    #[test]
    fn clients_of_another_process_are_users_but_are_not_checked() {
        let mut ledger = Ledger::new(4, 1, 4, 2..4);
        (0..4).for_each(|client| ledger.expect(client, true));
        ledger.users_online(2, &[0, 1, 2], true);
        ledger.users_online(3, &[0, 1, 2, 3], true);
        assert!(ledger.all_live() && !ledger.all_lists_complete());
        ledger.presence(2, 3, true);
        assert!(ledger.all_lists_complete());
        ledger.set_sent(&[1]);
        assert!(ledger.chat(2, 0, 0));
        assert_eq!((ledger.wrong_lists(), ledger.lost_and_outstanding()), (0, (0, 1)));
        ledger.expect(0, false);
        assert_eq!(ledger.wrong_lists(), 2);
    }
}
