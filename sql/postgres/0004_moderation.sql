-- Administrators, and the last mute and the last ban of each user. username_key is the username after case folding, as in
-- accounts; the user needs no account here. Times are milliseconds since 1970. until_ms is NULL if the sanction has no
-- end, and not after at_ms if an administrator has ended it.
ALTER TABLE accounts ADD COLUMN is_admin boolean NOT NULL DEFAULT false;

CREATE TABLE sanctions (
    kind         text COLLATE "C" NOT NULL,
    username_key text COLLATE "C" NOT NULL,
    username     text NOT NULL,
    by_user      text NOT NULL,
    reason       text NOT NULL,
    at_ms        bigint NOT NULL,
    until_ms     bigint,
    PRIMARY KEY (kind, username_key)
);
