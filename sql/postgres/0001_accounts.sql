-- The accounts. The *_key columns contain the email and the username after case folding by the server. So both stores
-- use the same rule for equality, with any collation of the database. The server refers to both constraints by name.
CREATE TABLE accounts (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email         text NOT NULL,
    email_key     text COLLATE "C" NOT NULL,
    username      text NOT NULL,
    username_key  text COLLATE "C" NOT NULL,
    password_hash text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT accounts_email_key_unique UNIQUE (email_key),
    CONSTRAINT accounts_username_key_unique UNIQUE (username_key)
);
