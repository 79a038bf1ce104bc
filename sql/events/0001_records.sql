-- The event log. The newest record is never deleted, so the next offset (one more than the greatest) is never one that
-- was used before. Retention by age looks at appended_at, in seconds of the clock of the instance that appended it, and
-- nothing else does. record is JSON, in the format of src/event_log/codec.rs.
CREATE TABLE records (
    offset      INTEGER PRIMARY KEY,
    appended_at INTEGER NOT NULL,
    record      TEXT NOT NULL
) STRICT;
