-- What was sent, for as long as [history] keep says.
-- Runs with search_path set to the state schema ([state] schema in imsync.toml).

CREATE TABLE history (
    at timestamptz NOT NULL DEFAULT statement_timestamp(),
    pass_started_at timestamptz NOT NULL,
    sync_id int NOT NULL,
    account text COLLATE "C" NOT NULL,
    attribute text COLLATE "C" NOT NULL,
    old_value text,
    new_value text,
    pass_kind text NOT NULL CHECK (pass_kind IN ('incremental', 'full', 'selected')),
    outcome text NOT NULL CHECK (outcome IN ('acknowledged', 'rejected', 'in_doubt'))
);
CREATE INDEX history_of_time ON history (sync_id, at);
CREATE INDEX history_of_account ON history (sync_id, account, at);
COMMENT ON TABLE history IS 'A row for every attribute that was sent, written by the transaction that records its outcome; empty unless [history] keep is set. Old rows are deleted in steps after a pass.';
COMMENT ON COLUMN history.at IS 'When the outcome was recorded.';
COMMENT ON COLUMN history.pass_started_at IS 'When the pass started that sent it: pass.started_at, as long as that table keeps the pass.';
COMMENT ON COLUMN history.sync_id IS 'The sync.';
COMMENT ON COLUMN history.account IS 'The IM account.';
COMMENT ON COLUMN history.attribute IS 'The attribute.';
COMMENT ON COLUMN history.old_value IS 'The value that IM had acknowledged before; NULL for none, and when the outcome of an earlier call was unknown.';
COMMENT ON COLUMN history.new_value IS 'The value that was set; NULL for a removal.';
COMMENT ON COLUMN history.pass_kind IS 'incremental: rows changed since the watermark; full: the whole table; selected: named accounts.';
COMMENT ON COLUMN history.outcome IS 'acknowledged: IM confirmed it; rejected: IM refused it; in_doubt: the outcome is unknown, or an earlier call may still be applied after it, so it is sent again.';
