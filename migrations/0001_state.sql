-- The state of imsync: which values IM acknowledged, which calls are under way, what was rejected, how far the table was read.
-- Runs with search_path set to the state schema ([state] schema in imsync.toml).

CREATE TABLE sync (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    binding jsonb NOT NULL,
    attribute_names text[] NOT NULL DEFAULT '{}',
    generation int NOT NULL DEFAULT 1,
    state_server text,
    mapping_fingerprint text,
    watermark_fingerprint text,
    watermark text,
    watermark_state jsonb,
    held_back_by jsonb,
    current_as_of timestamptz,
    full_pass_due text,
    full_pass_position jsonb,
    full_pass_ended_at timestamptz,
    guard jsonb,
    running_pass jsonb,
    last_call_at timestamptz,
    lease_epoch bigint NOT NULL DEFAULT 0,
    lease_holder text,
    lease_taken_at timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE sync IS 'One row per sync: what it is bound to, how far it has read, and who holds its lease.';
COMMENT ON COLUMN sync.id IS 'Identifies the sync in the other tables.';
COMMENT ON COLUMN sync.name IS 'The name in imsync.toml.';
COMMENT ON COLUMN sync.binding IS 'Table, account column, prefix, format, SDKAppID and service at first use. A configuration that differs is refused.';
COMMENT ON COLUMN sync.attribute_names IS 'Every attribute name this sync has used. account.acknowledged and the masks of intent refer to positions in this array. Names are appended and never move.';
COMMENT ON COLUMN sync.generation IS 'Incremented when no acknowledged value can be trusted any more (another app, another state server). The values in rows of account with a lower generation count as unknown.';
COMMENT ON COLUMN sync.state_server IS 'System identifier and timeline of the state server at its last use.';
COMMENT ON COLUMN sync.mapping_fingerprint IS 'Digest of the mapping, filter and deleted column that the last full pass used.';
COMMENT ON COLUMN sync.watermark_fingerprint IS 'The watermark column and time zone for which watermark_state is valid.';
COMMENT ON COLUMN sync.watermark IS 'The durable watermark: every row committed below it has been read. The lower of the read position and the lower bounds of the open transactions.';
COMMENT ON COLUMN sync.watermark_state IS 'Read position, the open transactions of the last transaction list with their lower bounds, and the start time of the source server.';
COMMENT ON COLUMN sync.held_back_by IS 'The transaction that holds the watermark back, and since when it has been seen.';
COMMENT ON COLUMN sync.current_as_of IS 'Database time at which the newest complete incremental pass began. Everything committed before then is in IM, rejected and in-doubt accounts aside.';
COMMENT ON COLUMN sync.full_pass_due IS 'Why a full pass is due; NULL when none is.';
COMMENT ON COLUMN sync.full_pass_position IS 'Where an interrupted full pass resumes, with its options and the fingerprints it was started with.';
COMMENT ON COLUMN sync.full_pass_ended_at IS 'When the last full pass ended. [schedule] full_every counts from here.';
COMMENT ON COLUMN sync.guard IS 'The removal guard while it is tripped: since when, and how many of how many accounts. NULL when it is not tripped.';
COMMENT ON COLUMN sync.running_pass IS 'The running pass and its progress; NULL when none runs.';
COMMENT ON COLUMN sync.last_call_at IS 'When the last call to IM started. Stored at a clean shutdown; NULL when not known.';
COMMENT ON COLUMN sync.lease_epoch IS 'Incremented each time the lease is taken. Every writing transaction first reads it and rolls back when it has changed.';
COMMENT ON COLUMN sync.lease_holder IS 'Who took the lease last: command, process id and host.';
COMMENT ON COLUMN sync.lease_taken_at IS 'When the lease was taken.';

CREATE TABLE account (
    digest bigint NOT NULL,
    acknowledged_at timestamptz NOT NULL,
    sync_id int NOT NULL,
    generation int NOT NULL,
    in_doubt_retry_at timestamptz,
    late_write_until timestamptz,
    account text COLLATE "C" NOT NULL,
    acknowledged json NOT NULL,
    PRIMARY KEY (sync_id, account)
) WITH (fillfactor = 85);
CREATE INDEX account_in_doubt ON account (sync_id, in_doubt_retry_at) WHERE in_doubt_retry_at IS NOT NULL;
COMMENT ON TABLE account IS 'The values that IM acknowledged, one row per account for which imsync has set an attribute. The row is kept narrow because its width decides the disk space and CPU time of a sync of ten million accounts. No foreign key to sync: it would be checked for every row.';
COMMENT ON COLUMN account.digest IS '64 bits of the SHA-256 of acknowledged, for comparison without reading it; 0 while an attribute is in doubt.';
COMMENT ON COLUMN account.acknowledged_at IS 'When the newest outcome was recorded.';
COMMENT ON COLUMN account.sync_id IS 'The sync.';
COMMENT ON COLUMN account.generation IS 'The generation of the sync when the values were acknowledged. When it is lower than sync.generation, the values count as unknown.';
COMMENT ON COLUMN account.in_doubt_retry_at IS 'NULL when every value is known. Otherwise the time of the next retry; infinity: when the row, the mapping or a rejection changes.';
COMMENT ON COLUMN account.late_write_until IS 'Until then an earlier call whose outcome is unknown may still be applied by IM and overwrite a newer value. NULL when there is no such call.';
COMMENT ON COLUMN account.account IS 'The IM account (To_Account).';
COMMENT ON COLUMN account.acknowledged IS 'JSON array in the order of sync.attribute_names. A string: the value that IM acknowledged. null: no value. 0: unknown, IM may hold either value. [string] or [null]: acknowledged, but in doubt until late_write_until, after which it is sent once more.';

CREATE TABLE intent (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sync_id int NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    accounts text[] NOT NULL,
    set_attributes bigint[] NOT NULL,
    remove_attributes bigint[] NOT NULL
);
CREATE INDEX intent_of_sync ON intent (sync_id);
COMMENT ON TABLE intent IS 'Changes about to be sent, one row per delivery. Stored before the first call and deleted by the transaction that records the outcomes. The attributes of an abandoned intent become unknown.';
COMMENT ON COLUMN intent.id IS 'Identifies the delivery.';
COMMENT ON COLUMN intent.sync_id IS 'The sync.';
COMMENT ON COLUMN intent.stored_at IS 'When the intent was stored, before the first call.';
COMMENT ON COLUMN intent.accounts IS 'The IM accounts.';
COMMENT ON COLUMN intent.set_attributes IS 'For each account a bit mask of the attributes to set: bit n is position n of sync.attribute_names, counted from 0.';
COMMENT ON COLUMN intent.remove_attributes IS 'For each account a bit mask of the attributes to remove.';

CREATE TABLE rejection (
    sync_id int NOT NULL,
    account text COLLATE "C" NOT NULL,
    attribute text NOT NULL,
    code bigint,
    reason text NOT NULL,
    desired_digest bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    attempts int NOT NULL,
    next_at timestamptz NOT NULL,
    PRIMARY KEY (sync_id, account, attribute)
);
CREATE INDEX rejection_due ON rejection (sync_id, next_at);
COMMENT ON TABLE rejection IS 'Values and accounts that cannot be sent. A row is deleted when the value is accepted, changes, or is no longer wanted.';
COMMENT ON COLUMN rejection.sync_id IS 'The sync.';
COMMENT ON COLUMN rejection.account IS 'The IM account.';
COMMENT ON COLUMN rejection.attribute IS 'The attribute; empty when the whole account is rejected.';
COMMENT ON COLUMN rejection.code IS 'The vendor''s error code; NULL for a value that imsync itself refuses.';
COMMENT ON COLUMN rejection.reason IS 'Why, in a sentence that never contains the value.';
COMMENT ON COLUMN rejection.desired_digest IS '64 bits of the SHA-256 of the rejected value. A different value is tried at once.';
COMMENT ON COLUMN rejection.first_at IS 'When it was first rejected.';
COMMENT ON COLUMN rejection.last_at IS 'When it was last rejected.';
COMMENT ON COLUMN rejection.attempts IS 'How often it was rejected.';
COMMENT ON COLUMN rejection.next_at IS 'When it is retried without a change of the row.';

CREATE TABLE removal (
    sync_id int NOT NULL,
    account text COLLATE "C" NOT NULL,
    removed_at timestamptz NOT NULL,
    PRIMARY KEY (sync_id, account)
);
COMMENT ON TABLE removal IS 'Accounts that lost an attribute in the last 24 hours with the permission of the removal guard. They count against removal.max_share over passes and restarts, each account once. Removals permitted by --allow-removals are not recorded.';
COMMENT ON COLUMN removal.sync_id IS 'The sync.';
COMMENT ON COLUMN removal.account IS 'The IM account.';
COMMENT ON COLUMN removal.removed_at IS 'When its newest removal was permitted. Stored before the call, whatever its outcome.';

CREATE TABLE pass (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sync_id int NOT NULL,
    kind text NOT NULL CHECK (kind IN ('incremental', 'full', 'selected')),
    outcome text NOT NULL CHECK (outcome IN ('ok', 'rejected', 'failed', 'guard', 'interrupted')),
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    rows_read bigint NOT NULL,
    changed bigint NOT NULL,
    pushed bigint NOT NULL,
    removed bigint NOT NULL,
    rejected bigint NOT NULL,
    calls bigint NOT NULL,
    repaired bigint NOT NULL,
    error text
);
CREATE INDEX pass_of_sync ON pass (sync_id, id);
COMMENT ON TABLE pass IS 'The last 500 passes of each sync that changed something or failed.';
COMMENT ON COLUMN pass.id IS 'Ascending in the order in which the passes ended.';
COMMENT ON COLUMN pass.sync_id IS 'The sync.';
COMMENT ON COLUMN pass.kind IS 'incremental: rows changed since the watermark; full: the whole table; selected: named accounts.';
COMMENT ON COLUMN pass.outcome IS 'ok; rejected: finished, and rejections stand; failed; guard: the removal guard holds removals back; interrupted: stopped by a signal.';
COMMENT ON COLUMN pass.started_at IS 'When it started.';
COMMENT ON COLUMN pass.finished_at IS 'When it ended.';
COMMENT ON COLUMN pass.rows_read IS 'Rows read from the table.';
COMMENT ON COLUMN pass.changed IS 'Accounts whose desired values differed from the acknowledged ones.';
COMMENT ON COLUMN pass.pushed IS 'Accounts for which IM acknowledged a set.';
COMMENT ON COLUMN pass.removed IS 'Accounts for which IM acknowledged a removal.';
COMMENT ON COLUMN pass.rejected IS 'Accounts rejected in this pass.';
COMMENT ON COLUMN pass.calls IS 'Calls to IM, retries included.';
COMMENT ON COLUMN pass.repaired IS 'Accounts with a change that a full pass found and no incremental pass had seen.';
COMMENT ON COLUMN pass.error IS 'Why it failed; NULL when it did not.';
