-- The event log. The newest record is never deleted, so no offset is used twice: the next offset is one more than the
-- greatest. appended_at is the time of the append, in seconds since 1970 UTC, and is used only for retention by age.
-- record is JSON, in the format of src/event_log/codec.rs.
CREATE TABLE records (
    offset      INTEGER PRIMARY KEY,
    appended_at INTEGER NOT NULL,
    record      TEXT NOT NULL
) STRICT;
