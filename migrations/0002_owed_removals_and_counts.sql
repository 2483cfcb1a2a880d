-- Owed and deferred accounts as rows, counters instead of counts, and what a stored value depends on.
-- Runs with search_path set to the state schema ([state] schema in imsync.toml).

-- The previous release may be writing beside this. Rows that it wrote between the count and the triggers below would never be
-- counted. In the order of its transactions, which lock the row of the sync first: no deadlock.
LOCK TABLE sync IN ACCESS EXCLUSIVE MODE;
LOCK TABLE account, rejection, removal IN SHARE ROW EXCLUSIVE MODE;

CREATE TABLE owed_removal (
    sync_id int NOT NULL,
    account text COLLATE "C" NOT NULL,
    since timestamptz NOT NULL,
    why text NOT NULL CHECK (why IN ('gone', 'emptied', 'unmapped', 'forced')),
    PRIMARY KEY (sync_id, account)
);
COMMENT ON TABLE owed_removal IS 'Accounts of which an attribute is to be removed. A row is deleted when the outcome of the removal is recorded, or when a comparison finds that it is no longer wanted. The removal guard counts these rows.';
COMMENT ON COLUMN owed_removal.sync_id IS 'The sync.';
COMMENT ON COLUMN owed_removal.account IS 'The IM account.';
COMMENT ON COLUMN owed_removal.since IS 'When the removal was first found to be owed.';
COMMENT ON COLUMN owed_removal.why IS 'gone: the account left the table; emptied: a column became NULL or is to be removed; unmapped: the mapping no longer names an attribute; forced: nothing is acknowledged, and --force removes it.';

CREATE TABLE deferred_account (
    sync_id int NOT NULL,
    account text COLLATE "C" NOT NULL,
    since timestamptz NOT NULL,
    PRIMARY KEY (sync_id, account)
);
COMMENT ON TABLE deferred_account IS 'Accounts whose row was read while a call for them was in flight. They are looked up in the table when that call has ended. The watermark may move past their rows, because they are here.';
COMMENT ON COLUMN deferred_account.sync_id IS 'The sync.';
COMMENT ON COLUMN deferred_account.account IS 'The IM account.';
COMMENT ON COLUMN deferred_account.since IS 'When it was deferred.';

CREATE TABLE account_count (
    sync_id int PRIMARY KEY,
    known bigint NOT NULL DEFAULT 0,
    in_doubt bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    owed_removals bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
INSERT INTO account_count (sync_id, known, in_doubt, rejected)
    SELECT id,
        (SELECT count(*) FROM account WHERE sync_id = sync.id)
            - (SELECT count(*) FROM account WHERE sync_id = sync.id AND in_doubt_retry_at IS NOT NULL AND acknowledged::text NOT LIKE '%"%'),
        (SELECT count(*) FROM account WHERE sync_id = sync.id AND in_doubt_retry_at IS NOT NULL),
        (SELECT count(DISTINCT account) FROM rejection WHERE sync_id = sync.id)
    FROM sync;
COMMENT ON TABLE account_count IS 'Numbers of accounts of each sync, kept by triggers because counting ten million rows takes seconds. So they are right whoever writes: also the previous release beside an upgrade.';
COMMENT ON COLUMN account_count.sync_id IS 'The sync.';
COMMENT ON COLUMN account_count.known IS 'Rows of account with an acknowledged value.';
COMMENT ON COLUMN account_count.in_doubt IS 'Rows of account with a value in doubt.';
COMMENT ON COLUMN account_count.rejected IS 'Accounts with a row in rejection.';
COMMENT ON COLUMN account_count.owed_removals IS 'Rows of owed_removal.';

CREATE FUNCTION count_account_rows() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    added CONSTANT text := 'SELECT sync_id, in_doubt_retry_at, acknowledged, 1 AS sign FROM new_rows';
    removed CONSTANT text := 'SELECT sync_id, in_doubt_retry_at, acknowledged, -1 AS sign FROM old_rows';
BEGIN
    EXECUTE format('INSERT INTO %I.account_count AS c (sync_id, known, in_doubt)
        SELECT sync_id, known, in_doubt FROM (SELECT sync_id,
            sum(CASE WHEN in_doubt_retry_at IS NULL OR acknowledged::text LIKE %L THEN sign ELSE 0 END) AS known,
            sum(CASE WHEN in_doubt_retry_at IS NOT NULL THEN sign ELSE 0 END) AS in_doubt FROM (%s) AS written GROUP BY sync_id) AS changed
        WHERE known <> 0 OR in_doubt <> 0 ORDER BY sync_id
        ON CONFLICT (sync_id) DO UPDATE SET known = c.known + excluded.known, in_doubt = c.in_doubt + excluded.in_doubt',
        TG_TABLE_SCHEMA, '%"%',
        CASE TG_OP WHEN 'INSERT' THEN added WHEN 'DELETE' THEN removed ELSE added || ' UNION ALL ' || removed END);
    RETURN NULL;
END $$;
CREATE FUNCTION count_rejected_accounts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO %1$I.account_count AS c (sync_id, rejected) SELECT sync_id, %2$s * count(*)
        FROM (SELECT sync_id, account, count(*) AS number FROM %3$I GROUP BY sync_id, account) AS written
        WHERE (SELECT count(*) FROM %1$I.rejection r WHERE r.sync_id = written.sync_id AND r.account = written.account) = %4$s
        GROUP BY sync_id ORDER BY sync_id ON CONFLICT (sync_id) DO UPDATE SET rejected = c.rejected + excluded.rejected',
        TG_TABLE_SCHEMA, CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END, CASE TG_OP WHEN 'INSERT' THEN 'new_rows' ELSE 'old_rows' END,
        CASE TG_OP WHEN 'INSERT' THEN 'number' ELSE '0' END);
    RETURN NULL;
END $$;
CREATE FUNCTION count_owed_removals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO %I.account_count AS c (sync_id, owed_removals) SELECT sync_id, %s * count(*) FROM %I
        GROUP BY sync_id ORDER BY sync_id ON CONFLICT (sync_id) DO UPDATE SET owed_removals = c.owed_removals + excluded.owed_removals',
        TG_TABLE_SCHEMA, CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END, CASE TG_OP WHEN 'INSERT' THEN 'new_rows' ELSE 'old_rows' END);
    RETURN NULL;
END $$;
CREATE TRIGGER count_inserted AFTER INSERT ON account REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_account_rows();
CREATE TRIGGER count_updated AFTER UPDATE ON account REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_account_rows();
CREATE TRIGGER count_deleted AFTER DELETE ON account REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION count_account_rows();
CREATE TRIGGER count_inserted AFTER INSERT ON rejection REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_rejected_accounts();
CREATE TRIGGER count_deleted AFTER DELETE ON rejection REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION count_rejected_accounts();
CREATE TRIGGER count_inserted AFTER INSERT ON owed_removal REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_owed_removals();
CREATE TRIGGER count_deleted AFTER DELETE ON owed_removal REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION count_owed_removals();

CREATE INDEX removal_of_time ON removal (sync_id, removed_at);

ALTER TABLE sync ADD COLUMN removals_counted_from timestamptz;
ALTER TABLE sync ADD COLUMN retry_rejections_after text COLLATE "C";
ALTER TABLE sync ADD COLUMN delete_rejections boolean NOT NULL DEFAULT false;
ALTER TABLE sync ADD COLUMN source_fingerprint jsonb;
ALTER TABLE sync ADD COLUMN full_pass_request bigint NOT NULL DEFAULT 0;
ALTER TABLE sync ADD COLUMN digest_key bytea NOT NULL DEFAULT uuid_send(gen_random_uuid());
COMMENT ON COLUMN sync.removals_counted_from IS 'Removals before this time do not count against removal.max_share: an operator has confirmed them with --allow-removals.';
COMMENT ON COLUMN sync.retry_rejections_after IS 'After an edit of the mapping, all rejections are made due in steps: the account up to which that is done. NULL when it is not under way.';
COMMENT ON COLUMN sync.delete_rejections IS 'A new generation has begun, and the rejections of the earlier one are still being deleted in steps. No pass runs before that is done.';
COMMENT ON COLUMN sync.source_fingerprint IS 'What the stored watermark and acknowledged values depend on: server, database, table, view definition, and the types of the watermark column and the mapped columns. A full pass runs when it changes.';
COMMENT ON COLUMN sync.full_pass_request IS 'The number of the newest request for a full pass. A position resumes only the request that it was stored for.';
COMMENT ON COLUMN sync.digest_key IS 'A random key for the digests of this sync, so that nobody can choose two values with the same digest.';

CREATE TABLE overwritten_value (
    sync_id int NOT NULL,
    account text COLLATE "C" NOT NULL,
    attribute text NOT NULL,
    released boolean NOT NULL DEFAULT false,
    PRIMARY KEY (sync_id, account, attribute)
);
CREATE INDEX overwritten_value_released ON overwritten_value (sync_id) WHERE released;
COMMENT ON TABLE overwritten_value IS 'Acknowledged values over which another sync of the same app has set a value of its own. Only syncs that share an attribute name have rows here. A row is deleted when the sync sends or gives up the attribute.';
COMMENT ON COLUMN overwritten_value.sync_id IS 'The sync whose value was overwritten.';
COMMENT ON COLUMN overwritten_value.account IS 'The IM account.';
COMMENT ON COLUMN overwritten_value.attribute IS 'The attribute.';
COMMENT ON COLUMN overwritten_value.released IS 'The other sync has given up its value, because the account left its table. The next pass makes the attribute unknown and sends it again.';

ALTER TABLE sync ADD COLUMN other_syncs_version bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN sync.other_syncs_version IS 'Incremented when another sync gains an attribute name or another app. Storing an intent names the version under which the other syncs were read, and fails when it has changed.';
