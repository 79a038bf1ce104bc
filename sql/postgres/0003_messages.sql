-- The archive. id is the order of the messages. archived_at and noticed_at are seconds since 1970.
CREATE TABLE messages (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id    text COLLATE "C" NOT NULL,
    sent_at     text NOT NULL,
    from_id     text NOT NULL,
    from_user   text NOT NULL,
    text        text NOT NULL,
    archived_at bigint NOT NULL,
    CONSTRAINT messages_event_id_unique UNIQUE (event_id)
);

-- The last record of the event log that the archive has read: its offset, its instance and its number. One row.
CREATE TABLE archive_position (
    only_row   integer PRIMARY KEY CHECK (only_row = 1),
    log_offset bigint NOT NULL,
    record     text NOT NULL
);

-- Parts of the event log that were not archived, from one offset to the one before another. last_event_id is the newest
-- archived message before the gap.
CREATE TABLE archive_gaps (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    noticed_at    bigint NOT NULL,
    cause         text NOT NULL,
    from_offset   bigint NOT NULL,
    to_offset     bigint NOT NULL,
    last_event_id text
);
