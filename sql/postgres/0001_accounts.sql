-- The accounts. The *_key columns hold the email and the username with case folded by the server, so that both stores
-- agree on what is the same, whatever the collation of the database. The server knows the two constraints by name.
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
