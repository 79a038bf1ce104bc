//! What every client has seen, and whether it is what it should have seen.
//!
//! Pure book-keeping in flat arrays: a bit per client and person, a counter per client and sender.

/// No message of this sender was seen yet, by a client that joined while people were talking.
const UNKNOWN: u32 = u32::MAX;

/// What was counted so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Messages that arrived at a client for the first time.
    pub deliveries: u64,
    /// Joins and leaves that arrived at a client.
    pub presence_events: u64,
    /// Messages that arrived again.
    pub doubled: u64,
    /// Messages that arrived after a later one of their sender.
    pub reordered: u64,
    /// Joins of somebody who is there, leaves of somebody who is not, events before the list, second lists.
    pub presence_faults: u64,
    /// Events of people who are not of this run.
    pub foreign: u64,
}

/// The books over all clients of a run.
pub struct Ledger {
    /// What was counted.
    pub counts: Counts,
    clients: usize,
    senders: usize,
    words: usize,
    /// Per client, a bit for each person it believes to be there.
    believed: Vec<u64>,
    /// Per client, how many of those count.
    online: Vec<u32>,
    /// Per client and sender, the number of the next message.
    next: Vec<u32>,
    /// Per client, the messages that were skipped and have not come since.
    missing: Vec<u32>,
    /// Per client, whether it got its list, and so takes part.
    live: Vec<bool>,
    /// A bit for each person who should be there.
    wanted: Vec<u64>,
    wanted_count: u32,
    /// People whose presence is not checked: those who never read, who may be cut at any time.
    first_unchecked: usize,
    /// Per sender, how many were sent.
    sent: Vec<u32>,
}

impl Ledger {
    /// Books over `clients`, the first `senders` of which send; those from `first_unchecked` on may go at any time.
    pub fn new(clients: usize, senders: usize, first_unchecked: usize) -> Self {
        let words = clients.div_ceil(64);
        Self {
            counts: Counts::default(),
            clients,
            senders,
            words,
            believed: vec![0; clients * words],
            online: vec![0; clients],
            next: vec![UNKNOWN; clients * senders],
            missing: vec![0; clients],
            live: vec![false; clients],
            wanted: vec![0; words],
            wanted_count: 0,
            first_unchecked,
            sent: vec![0; senders],
        }
    }

    /// From now on `person` should be there, or not.
    pub fn want(&mut self, person: usize, there: bool) {
        let (word, bit) = (person / 64, 1_u64 << (person % 64));
        if person >= self.first_unchecked || (self.wanted[word] & bit != 0) == there {
            return;
        }
        self.wanted[word] ^= bit;
        self.wanted_count = if there { self.wanted_count + 1 } else { self.wanted_count - 1 };
    }

    /// Takes the next number for a message of `sender`.
    pub fn send(&mut self, sender: usize) -> u32 {
        self.sent[sender] += 1;
        self.sent[sender] - 1
    }

    /// The last message of `sender` was not sent after all.
    pub fn take_back(&mut self, sender: usize) {
        self.sent[sender] -= 1;
    }

    /// How many messages were sent in all.
    pub fn sent(&self) -> u64 {
        self.sent.iter().map(|&count| u64::from(count)).sum()
    }

    /// `client` is gone: what it has seen is forgotten.
    pub fn forget(&mut self, client: usize) {
        self.believed[client * self.words..][..self.words].fill(0);
        self.next[client * self.senders..][..self.senders].fill(UNKNOWN);
        self.online[client] = 0;
        self.missing[client] = 0;
        self.live[client] = false;
    }

    /// `client` got its list. With `all_quiet` nothing is on its way, so the next message of each sender is known.
    pub fn users_online(&mut self, client: usize, list: &[u32], all_quiet: bool) {
        if self.live[client] {
            self.counts.presence_faults += 1;
            return;
        }
        self.live[client] = true;
        for &person in list {
            self.set(client, person as usize, true);
        }
        if all_quiet {
            self.next[client * self.senders..][..self.senders].copy_from_slice(&self.sent);
        }
    }

    /// `client` was told that `person` joined, or left.
    pub fn presence(&mut self, client: usize, person: u32, there: bool) {
        self.counts.presence_events += 1;
        if !self.live[client] {
            self.counts.presence_faults += 1;
        }
        self.set(client, person as usize, there);
    }

    fn set(&mut self, client: usize, person: usize, there: bool) {
        if person >= self.clients {
            self.counts.presence_faults += 1;
            return;
        }
        if person >= self.first_unchecked {
            return;
        }
        let (word, bit) = (&mut self.believed[client * self.words + person / 64], 1_u64 << (person % 64));
        if (*word & bit != 0) == there {
            self.counts.presence_faults += 1;
            return;
        }
        *word ^= bit;
        let online = &mut self.online[client];
        *online = if there { *online + 1 } else { *online - 1 };
    }

    /// `client` got message `counter` of `sender`. False when it had it already.
    pub fn chat(&mut self, client: usize, sender: u32, counter: u32) -> bool {
        let sender = sender as usize;
        if sender >= self.senders || !self.live[client] {
            self.counts.presence_faults += 1;
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
            self.counts.doubled += 1;
            return false;
        }
        self.counts.deliveries += 1;
        true
    }

    /// Whether everyone who should be there takes part.
    pub fn everyone_is_live(&self) -> bool {
        self.wanted_clients().all(|client| self.live[client])
    }

    /// Whether everyone who should be there takes part and believes exactly as many to be there.
    pub fn everyone_has_everyone(&self) -> bool {
        self.wanted_clients().all(|client| self.live[client] && self.online[client] == self.wanted_count)
    }

    /// How many clients do not believe exactly those to be there who should be.
    pub fn wrong_lists(&self) -> u64 {
        let wrong = |client: &usize| self.believed[client * self.words..][..self.words] != self.wanted[..];
        self.wanted_clients().filter(wrong).count() as u64
    }

    /// Messages that were skipped over, and messages that have not come yet, over all who are there.
    pub fn lost_and_outstanding(&self) -> (u64, u64) {
        let (mut lost, mut outstanding) = (0, 0);
        for client in self.wanted_clients().filter(|&client| self.live[client]) {
            lost += u64::from(self.missing[client]);
            let next = &self.next[client * self.senders..][..self.senders];
            let open = next.iter().zip(&self.sent).filter(|(next, _)| **next != UNKNOWN);
            outstanding += open.map(|(&next, &sent)| u64::from(sent.saturating_sub(next))).sum::<u64>();
        }
        (lost, outstanding)
    }

    /// Those who should be there, and whose presence is checked.
    fn wanted_clients(&self) -> impl Iterator<Item = usize> {
        (0..self.first_unchecked).filter(|&client| self.is_wanted(client))
    }

    /// Whether `person` should be there.
    pub fn is_wanted(&self, person: usize) -> bool {
        self.wanted[person / 64] & (1 << (person % 64)) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_doubled_and_reordered_messages_are_told_apart() {
        let mut ledger = Ledger::new(2, 1, 2);
        (0..2).for_each(|client| ledger.want(client, true));
        ledger.users_online(1, &[0, 1], true);
        (0..5).for_each(|counter| assert_eq!(ledger.send(0), counter));
        assert!(ledger.chat(1, 0, 0));
        assert!(ledger.chat(1, 0, 2));
        assert_eq!(ledger.lost_and_outstanding(), (1, 2));
        assert!(ledger.chat(1, 0, 1));
        assert!(!ledger.chat(1, 0, 1));
        assert_eq!((ledger.counts.reordered, ledger.counts.doubled, ledger.counts.deliveries), (1, 1, 3));
        assert_eq!(ledger.lost_and_outstanding(), (0, 2));
    }

    #[test]
    fn presence_is_right_only_when_everyone_believes_in_everyone() {
        let mut ledger = Ledger::new(2, 0, 2);
        (0..2).for_each(|client| ledger.want(client, true));
        ledger.users_online(0, &[], true);
        ledger.presence(0, 0, true);
        ledger.users_online(1, &[0], true);
        ledger.presence(1, 1, true);
        assert!(!ledger.everyone_has_everyone());
        assert_eq!(ledger.wrong_lists(), 1);
        ledger.presence(0, 1, true);
        assert!(ledger.everyone_has_everyone());
        assert_eq!((ledger.wrong_lists(), ledger.counts.presence_faults), (0, 0));
        ledger.presence(0, 1, true);
        assert_eq!(ledger.counts.presence_faults, 1);
    }
}
