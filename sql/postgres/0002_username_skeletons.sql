-- Names that look the same have the same skeleton. The server computes it; NULL: an earlier version created the account, and
-- the next connection computes it. The server refers to the constraint by name.
ALTER TABLE accounts ADD COLUMN username_skeleton text COLLATE "C";
ALTER TABLE accounts ADD CONSTRAINT accounts_username_skeleton_unique UNIQUE (username_skeleton);
CREATE INDEX accounts_without_skeleton ON accounts (id) WHERE username_skeleton IS NULL;
