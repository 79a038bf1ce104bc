-- The accounts. The *_key columns contain the email and the username after case folding by the server. So both stores
-- use the same rule for equality. AUTOINCREMENT: an id is never used again, because tokens contain it.
CREATE TABLE accounts (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    email         TEXT NOT NULL,
    email_key     TEXT NOT NULL,
    username      TEXT NOT NULL,
    username_key  TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    created_at    TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;

CREATE UNIQUE INDEX accounts_email_key_unique ON accounts (email_key);
CREATE UNIQUE INDEX accounts_username_key_unique ON accounts (username_key);
