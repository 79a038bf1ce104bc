-- Administrators, and the last mute and the last ban of each user. username_key is the username after case folding, as in
-- accounts; the user needs no account here. Times are milliseconds since 1970. until_ms is NULL if the sanction has no
-- end, and not after at_ms if an administrator has ended it.
ALTER TABLE accounts ADD COLUMN is_admin INTEGER NOT NULL DEFAULT 0;

CREATE TABLE sanctions (
    kind         TEXT NOT NULL,
    username_key TEXT NOT NULL,
    username     TEXT NOT NULL,
    by_user      TEXT NOT NULL,
    reason       TEXT NOT NULL,
    at_ms        INTEGER NOT NULL,
    until_ms     INTEGER,
    PRIMARY KEY (kind, username_key)
) STRICT;
