-- What the removal guard let go within 24 hours, so that its share is counted over passes and restarts.
-- Runs with search_path set to the state schema ([state] schema in imsync.toml).

CREATE TABLE removal (
    sync_id int NOT NULL,
    account text COLLATE "C" NOT NULL,
    removed_at timestamptz NOT NULL,
    PRIMARY KEY (sync_id, account)
);
COMMENT ON TABLE removal IS 'Accounts of which the removal guard let an attribute go: those of the last 24 hours count against removal.max_share. An account stands here once, however often it lost something. Not those that --allow-removals let through.';
COMMENT ON COLUMN removal.sync_id IS 'The sync.';
COMMENT ON COLUMN removal.account IS 'The IM account.';
COMMENT ON COLUMN removal.removed_at IS 'When the newest removal of it was let go: stored before its call, whatever came of it.';
