-- Names that look the same have the same skeleton. The server computes it; NULL: an earlier version created the account, and
-- the next start computes it.
ALTER TABLE accounts ADD COLUMN username_skeleton TEXT;
CREATE UNIQUE INDEX accounts_username_skeleton_unique ON accounts (username_skeleton);
CREATE INDEX accounts_without_skeleton ON accounts (id) WHERE username_skeleton IS NULL;
