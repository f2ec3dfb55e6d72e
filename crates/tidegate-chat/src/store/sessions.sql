-- Processes that serve this database. Each moves its beat on; one that no longer does is taken out by the others, with its
-- sessions.
CREATE TABLE chat_node (
    id BYTEA PRIMARY KEY,
    started_at BIGINT NOT NULL,
    beat BIGINT NOT NULL
) WITHOUT ROWID;
-- Open connections. Rows follow what happens by a second, and go with their connection or with their node.
CREATE TABLE chat_session (
    node BYTEA NOT NULL REFERENCES chat_node (id) ON DELETE CASCADE,
    -- The bytes of the id's text: they sort alike in both databases.
    connection BYTEA NOT NULL,
    user_id TEXT NOT NULL,
    connected_at BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    PRIMARY KEY (node, connection)
) WITHOUT ROWID;
CREATE INDEX chat_session_user ON chat_session (user_id);
