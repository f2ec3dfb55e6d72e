-- Rows that are found by their key alone are kept under it: one tree less to write for each.
CREATE TABLE chat_user (
    id TEXT PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    email TEXT NOT NULL DEFAULT '',
    first_name TEXT NOT NULL DEFAULT '',
    last_name TEXT NOT NULL DEFAULT '',
    disabled BIGINT NOT NULL DEFAULT 0,
    claims TEXT
) WITHOUT ROWID;
CREATE TABLE chat_room (
    id BYTEA PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('OneToOneChat', 'GroupChat', 'Channel')),
    creator TEXT,
    name TEXT,
    description TEXT,
    avatar TEXT,
    cap BIGINT NOT NULL,
    locked BIGINT NOT NULL DEFAULT 0,
    approval BIGINT NOT NULL DEFAULT 0,
    is_public BIGINT NOT NULL DEFAULT 0,
    preferences TEXT NOT NULL DEFAULT '{}',
    fields TEXT,
    -- Both ids of a one-to-one chat as a JSON list, the smaller first: one room for each pair.
    pair TEXT UNIQUE,
    last_message BYTEA,
    -- Time of the last visible message; orders lists.
    last_at BIGINT,
    -- Number of the newest message.
    seq BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) WITHOUT ROWID;
CREATE TABLE chat_member (
    room BYTEA NOT NULL REFERENCES chat_room (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES chat_user (id) ON DELETE CASCADE,
    is_admin BIGINT NOT NULL DEFAULT 0,
    joined_at BIGINT NOT NULL,
    -- Order of joining within the room.
    position BIGINT NOT NULL,
    -- No notification with a smaller id waits for the member in this room: where to begin looking.
    heard BYTEA NOT NULL DEFAULT '',
    PRIMARY KEY (room, user_id)
) WITHOUT ROWID;
CREATE INDEX chat_member_user ON chat_member (user_id);
CREATE TABLE chat_permission (
    room BYTEA NOT NULL,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (room, user_id, name),
    FOREIGN KEY (room, user_id) REFERENCES chat_member (room, user_id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE chat_message (
    id BYTEA PRIMARY KEY,
    room BYTEA NOT NULL REFERENCES chat_room (id) ON DELETE CASCADE,
    sender TEXT,
    content TEXT NOT NULL,
    deleted BIGINT NOT NULL DEFAULT 0,
    edited BIGINT NOT NULL DEFAULT 0,
    forwarded BIGINT NOT NULL DEFAULT 0,
    parent BYTEA REFERENCES chat_message (id) ON DELETE SET NULL,
    source BYTEA REFERENCES chat_message (id) ON DELETE SET NULL,
    fields TEXT,
    seq BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (room, seq),
    CHECK (parent IS NULL OR source IS NULL)
);
CREATE INDEX chat_message_parent ON chat_message (parent) WHERE parent IS NOT NULL;
CREATE INDEX chat_message_source ON chat_message (source) WHERE source IS NOT NULL;
CREATE TABLE chat_attachment (
    id BYTEA PRIMARY KEY,
    message BYTEA NOT NULL REFERENCES chat_message (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    media_url TEXT NOT NULL,
    media_type TEXT NOT NULL,
    file_size BIGINT NOT NULL,
    mime_type TEXT NOT NULL,
    caption TEXT,
    metadata TEXT NOT NULL,
    UNIQUE (message, position)
);
CREATE TABLE chat_receipt (
    id BYTEA PRIMARY KEY,
    message BYTEA NOT NULL REFERENCES chat_message (id) ON DELETE CASCADE,
    reader TEXT NOT NULL REFERENCES chat_user (id) ON DELETE CASCADE,
    read_at BIGINT NOT NULL,
    UNIQUE (message, reader)
);
CREATE TABLE chat_delivery (
    message BYTEA NOT NULL REFERENCES chat_message (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES chat_user (id) ON DELETE CASCADE,
    delivered_at BIGINT NOT NULL,
    PRIMARY KEY (message, user_id)
) WITHOUT ROWID;
CREATE TABLE chat_reaction (
    id BYTEA PRIMARY KEY,
    message BYTEA NOT NULL REFERENCES chat_message (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES chat_user (id) ON DELETE CASCADE,
    content TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (message, user_id)
);
CREATE TABLE chat_notification (
    id BYTEA PRIMARY KEY,
    room BYTEA NOT NULL REFERENCES chat_room (id) ON DELETE CASCADE,
    message BYTEA NOT NULL REFERENCES chat_message (id) ON DELETE CASCADE,
    -- NEW_MESSAGE, REPLY or REACTION.
    kind TEXT NOT NULL,
    reaction BYTEA REFERENCES chat_reaction (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX chat_notification_message ON chat_notification (message);
CREATE INDEX chat_notification_room ON chat_notification (room, id);
CREATE INDEX chat_notification_reaction ON chat_notification (reaction) WHERE reaction IS NOT NULL;
-- By notification and not by user: a message to a room is written to one place, and members find theirs through their rooms.
CREATE TABLE chat_recipient (
    notification BYTEA NOT NULL REFERENCES chat_notification (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL,
    PRIMARY KEY (notification, user_id)
) WITHOUT ROWID;
-- Calls of hooks that are told after the commit; see `hook::delivery`.
CREATE TABLE chat_hook_delivery (
    -- Grows with time.
    id BYTEA PRIMARY KEY,
    -- Rows of one lane are delivered in the order of their ids.
    lane TEXT NOT NULL,
    hook TEXT NOT NULL,
    event_type TEXT NOT NULL,
    target TEXT NOT NULL,
    room BYTEA,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    last_error TEXT
);
CREATE INDEX chat_hook_delivery_lane ON chat_hook_delivery (lane, id);
CREATE INDEX chat_hook_delivery_next ON chat_hook_delivery (next_at);
