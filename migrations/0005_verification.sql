-- What the last verification found.
-- Runs with search_path set to the state schema ([state] schema in imsync.toml).

ALTER TABLE sync ADD COLUMN verification jsonb;
COMMENT ON COLUMN sync.verification IS 'What the last verification of the daemon, or the last `imsync verify --repair`, found in IM: {"ended_at", "sample", "checked", "drifted", "repaired", "attributes": {name: accounts}, "examples": [account]}. NULL before the first one.';
