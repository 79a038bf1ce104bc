//! Compares the history with a plain list of all messages that were ever published.

use proptest::prelude::*;

use super::*;
use crate::lobby::InstanceId;

fn id(number: usize) -> EventId {
    EventId { from: InstanceId(7), seq: number as u64 }
}

/// There are other records between the messages.
fn offset(number: usize) -> u64 {
    3 * number as u64
}

/// The frame of a message: its number, and `bytes` more bytes.
fn frame(number: usize, bytes: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    crate::session::wire::put_text(format!("{number:08}{}", "x".repeat(bytes)).as_bytes(), &mut frame);
    frame
}

/// The whole frames that a client gets.
fn frames(missed: &Missed) -> Vec<Vec<u8>> {
    let bytes = missed.blocks.concat();
    let (frames, rest) = crate::session::testing::frames(&bytes[missed.origin..]);
    assert_eq!((frames.len(), rest), (missed.messages, 0));
    frames
}

fn filled(messages_max: usize, from_the_beginning: bool, count: usize) -> History {
    let mut history = History::new(messages_max);
    history.restart(from_the_beginning);
    (0..count).for_each(|number| history.push(id(number), offset(number), &frame(number, 10)));
    history
}

/// The number of messages for a request, and whether they are complete.
fn answer(history: &mut History, request: Request) -> (usize, bool) {
    let missed = history.missed(request);
    assert_eq!(frames(&missed).len(), missed.messages);
    (missed.messages, missed.is_complete)
}

#[test]
fn after_the_last_message_nothing_is_missing() {
    for messages_max in [0, 5] {
        let mut history = filled(messages_max, false, 9);
        assert_eq!(history.last_id(), Some(id(8)));
        assert_eq!(answer(&mut history, Request::After(Some(id(8)))), (0, true));
    }
}

#[test]
fn the_message_before_the_oldest_one_is_still_known() {
    let mut history = filled(5, true, 9);
    assert_eq!(answer(&mut history, Request::After(Some(id(3)))), (5, true));
    assert_eq!(answer(&mut history, Request::After(Some(id(2)))), (5, false));
}

#[test]
fn after_an_unknown_id_a_client_gets_the_newest_messages_as_incomplete() {
    let mut history = filled(5, true, 3);
    assert_eq!(answer(&mut history, Request::After(None)), (3, false));
    assert_eq!(answer(&mut history, Request::After(Some(id(70)))), (3, false));
    assert_eq!(answer(&mut History::new(5), Request::After(Some(id(1)))), (0, false));
}

#[test]
fn fewer_messages_than_asked_for_are_complete_only_if_there_were_never_more() {
    assert_eq!(answer(&mut filled(5, true, 3), Request::Last(4)), (3, true));
    assert_eq!(answer(&mut filled(5, false, 3), Request::Last(4)), (3, false));
    assert_eq!(answer(&mut filled(5, false, 3), Request::Last(3)), (3, true));
    assert_eq!(answer(&mut filled(5, true, 9), Request::Last(6)), (5, false));
    assert_eq!(answer(&mut filled(0, true, 0), Request::Last(1)), (0, true));
    assert_eq!(answer(&mut filled(0, true, 1), Request::Last(1)), (0, false));
}

#[test]
fn the_later_messages_of_a_known_message_are_known() {
    let history = filled(5, true, 9);
    for number in 3..9 {
        let since = Since { offset: offset(number), ids: (number..9).map(id).collect() };
        assert_eq!(history.since(id(number)), Some(since));
    }
    assert_eq!(history.since(id(2)), None);
    assert_eq!(filled(0, true, 9).since(id(8)), Some(Since { offset: offset(8), ids: vec![id(8)] }));
    assert_eq!(filled(5, false, 3).since(id(0)).map(|since| since.offset), Some(offset(0)));
}

#[test]
fn clients_share_the_blocks() {
    let mut history = filled(10_000, true, 5_000);
    let (early, late) = (history.missed(Request::Last(5_000)), history.missed(Request::Last(1_500)));
    assert!(early.blocks.len() > late.blocks.len() && late.blocks.len() > 1);
    assert!(late.blocks.iter().rev().zip(early.blocks.iter().rev()).all(|(a, b)| Arc::ptr_eq(a, b)));
}

proptest! {
    /// With any messages, limits and requests: the answer is the end of the list, as whole frames in order. It is
    /// complete only if no message that was asked for is missing. No message that fits the limits is missing.
    #[test]
    fn an_answer_is_the_end_of_all_messages(
        lengths in prop::collection::vec(prop_oneof![4 => 0usize..200, 1 => 0usize..9_000], 0..150),
        messages_max in 0usize..60,
        bytes_max in 9_100usize..60_000,
        from_the_beginning in any::<bool>(),
        requests in prop::collection::vec((any::<bool>(), 0usize..160), 1..20),
    ) {
        let mut history = History::with_bytes_max(messages_max, bytes_max);
        history.restart(from_the_beginning);
        let mut all = Vec::new();
        for (number, bytes) in lengths.into_iter().enumerate() {
            let frame = frame(number, bytes);
            history.push(id(number), offset(number), &frame);
            all.push(frame);
            prop_assert!(history.len() <= messages_max && history.bytes <= bytes_max);
            let in_blocks = history.blocks.iter().map(|block| block.len()).sum::<usize>() + history.open.len();
            prop_assert_eq!(history.bytes, in_blocks);
        }
        for (is_after, number) in requests {
            let (request, asked_for) = if is_after {
                (Request::After(Some(id(number))), all.len().checked_sub(number + 1))
            } else {
                (Request::Last(number), Some(if from_the_beginning { number.min(all.len()) } else { number }))
            };
            let missed = history.missed(request);
            let frames = frames(&missed);
            prop_assert!(all.ends_with(&frames));
            if missed.is_complete {
                prop_assert_eq!(Some(frames.len()), asked_for);
            } else {
                prop_assert_eq!(frames.len(), history.len());
                prop_assert!(asked_for.is_none_or(|count| count > history.len()));
            }
        }
    }
}
