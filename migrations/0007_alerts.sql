-- What the receiver of alerts knows.
-- Runs with search_path set to the state schema ([state] schema in imsync.toml).

ALTER TABLE sync ADD COLUMN alerts jsonb;
COMMENT ON COLUMN sync.alerts IS 'What the webhook of the alerts has accepted: {"standing": {kind: {"since", "accounts"}}, "undelivered": {"since", "error"} or null}. A restart repeats no alert that stands. NULL before the first one.';
