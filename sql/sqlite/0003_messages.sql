-- The archive. id is the order of the messages. archived_at and noticed_at are seconds since 1970.
CREATE TABLE messages (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id    TEXT NOT NULL,
    sent_at     TEXT NOT NULL,
    from_id     TEXT NOT NULL,
    from_user   TEXT NOT NULL,
    text        TEXT NOT NULL,
    archived_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX messages_event_id_unique ON messages (event_id);

-- The last record of the event log that the archive has read: its offset, its instance and its number. One row.
CREATE TABLE archive_position (
    only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
    log_offset INTEGER NOT NULL,
    record     TEXT NOT NULL
) STRICT;

-- Parts of the event log that were not archived, from one offset to the one before another. last_event_id is the newest
-- archived message before the gap.
CREATE TABLE archive_gaps (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    noticed_at    INTEGER NOT NULL,
    cause         TEXT NOT NULL,
    from_offset   INTEGER NOT NULL,
    to_offset     INTEGER NOT NULL,
    last_event_id TEXT
) STRICT;
