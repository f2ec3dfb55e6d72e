CREATE TABLE alerts_broadcast (
    id TEXT PRIMARY KEY,
    -- Order of sending.
    position BIGINT NOT NULL,
    -- Who sent it: `user ...` or `key ...`.
    sender TEXT NOT NULL,
    -- What was sent and how many got it, as JSON.
    about TEXT NOT NULL,
    -- Ids of the users who got it, as a JSON list.
    receivers TEXT NOT NULL
);
-- Without a reference to the broadcast: a receiver may answer before the sender's row is written.
CREATE TABLE alerts_acknowledgement (
    broadcast TEXT NOT NULL,
    user_id TEXT NOT NULL,
    -- The answer as JSON, as the API shows it.
    said TEXT NOT NULL,
    PRIMARY KEY (broadcast, user_id)
);
