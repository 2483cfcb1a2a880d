-- What a full pass found that no incremental pass had seen.
-- Runs with search_path set to the state schema ([state] schema in imsync.toml).

ALTER TABLE sync ADD COLUMN full_pass_repairs jsonb;
ALTER TABLE sync ADD COLUMN full_pass_repairs_so_far jsonb;
COMMENT ON COLUMN sync.full_pass_repairs IS 'What the last full pass found that no incremental pass had seen, although the rows are in the table: {"repaired", "examples": [account]}. A timestamp that does not move with a change causes it.';
COMMENT ON COLUMN sync.full_pass_repairs_so_far IS 'The same of a full pass that has not ended: {"began_at", "after", "done", "repaired", "examples"}. Rows up to the account text "after" are counted; "done" is their number.';
