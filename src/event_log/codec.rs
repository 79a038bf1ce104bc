//! Encodes a [`Record`] for a log outside this process: as JSON, with the version of the format in `v`. Pure.
//!
//! The format is JSON, because an operator can read it with any tool, and parsing is a small part of what a record
//! costs.

use serde::ser::Error;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::lobby::Record;

/// The version that this program writes, and the latest version that it reads.
const VERSION: u32 = 1;
/// Most records are shorter. A buffer that does not grow takes less of the stack of connection threads, which fits into two
/// pages (doc/performance.md).
const USUAL_BYTES: usize = 512;

/// Why this program cannot read a record.
#[derive(Debug, Error)]
pub(crate) enum DecodeError {
    /// A later version of this program wrote the record.
    #[error("a record of format version {0}; this program reads up to {VERSION}: update it")]
    LaterVersion(u32),
    /// The bytes are not a record.
    #[error("not a record: {0}")]
    Invalid(#[from] serde_json::Error),
}

#[derive(Serialize)]
struct Outgoing<'a> {
    v: u32,
    #[serde(flatten)]
    record: &'a Record,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

/// Encodes a record.
///
/// # Errors
/// The error of the serializer. No [`Record`] is known to cause one.
pub fn encode(record: &Record) -> Result<String, serde_json::Error> {
    let mut json = Vec::with_capacity(USUAL_BYTES);
    serde_json::to_writer(&mut json, &Outgoing { v: VERSION, record })?;
    String::from_utf8(json).map_err(serde_json::Error::custom)
}

/// Decodes a record.
///
/// # Errors
/// See [`DecodeError`]. The caller skips the record and counts it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let VersionOnly { v } = serde_json::from_slice(bytes)?;
    if v > VERSION {
        return Err(DecodeError::LaterVersion(v));
    }
    Ok(serde_json::from_slice(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lobby::{Action, Body, InstanceId, Moderation, SessionId, User};

    fn record(body: Body) -> Record {
        Record { from: InstanceId(0x2a), seq: 7, at: "2026-11-23T10:00:00.000000001+01:00".into(), body }
    }

    fn moderation(until_ms: Option<u64>) -> Moderation {
        let text = |text: &str| text.into();
        let (username, by, reason) = (text("Bob"), text("Ann"), text("spam"));
        Moderation { action: Action::Ban, username, by, reason, at_ms: 5, until_ms }
    }

    #[test]
    fn every_kind_of_record_decodes_to_the_same_record() {
        let user = User { id: "4".into(), username: "Böb \"the\" \u{1F980}".into() };
        let entry = crate::lobby::RosterEntry { session: SessionId(1), user: user.clone() };
        for body in [
            Body::Roster { part: 0, parts: 1, sessions: vec![entry] },
            Body::Heartbeat { n: 3 },
            Body::Joined { session: SessionId(1), user },
            Body::Left { session: SessionId(1) },
            Body::Said { session: SessionId(1), text: "hé".into(), id: None },
            Body::Said { session: SessionId(1), text: "".into(), id: Some("c-1".into()) },
            Body::Bye { last: true },
            Body::Moderated(moderation(None)),
            Body::Moderated(moderation(Some(7))),
        ] {
            let record = record(body);
            assert_eq!(decode(encode(&record).unwrap().as_bytes()).unwrap(), record);
        }
    }

    #[test]
    fn the_format_does_not_change() {
        assert_eq!(
            encode(&record(Body::Left { session: SessionId(9) })).unwrap(),
            r#"{"v":1,"from":"000000000000002a","seq":7,"at":"2026-11-23T10:00:00.000000001+01:00","type":"left","session":9}"#
        );
    }

    /// The version before does not know this type, and skips the record.
    #[test]
    fn the_format_of_an_action_of_an_administrator_does_not_change() {
        let text = encode(&record(Body::Moderated(moderation(Some(7))))).unwrap();
        let body =
            r#""type":"moderated","action":"ban","username":"Bob","by":"Ann","reason":"spam","at_ms":5,"until_ms":7}"#;
        assert!(text.ends_with(body), "{text}");
    }

    #[test]
    fn a_later_version_and_an_invalid_record_are_different_errors() {
        assert!(matches!(decode(br#"{"v":2,"unknown":[]}"#), Err(DecodeError::LaterVersion(2))));
        for invalid in [
            &b""[..],
            b"null",
            b"{}",
            b"\xff\xfe",
            br#"{"v":1}"#,
            br#"{"v":1,"from":"zz","seq":1,"at":"","type":"beat","n":1}"#,
        ] {
            assert!(matches!(decode(invalid), Err(DecodeError::Invalid(_))));
        }
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let bytes = br#"{"v":1,"from":"2a","seq":1,"at":"x","type":"beat","n":1,"new":true}"#;
        assert_eq!(decode(bytes).unwrap().body, Body::Heartbeat { n: 1 });
    }
}
