-- The state of imsync: what IM acknowledged, what is under way, what was refused, how far the table was read.
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
    running jsonb,
    last_call_at timestamptz,
    epoch bigint NOT NULL DEFAULT 0,
    holder text,
    lease_taken_at timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE sync IS 'A row a sync: what it is bound to, how far it has read, who holds its lease.';
COMMENT ON COLUMN sync.id IS 'Stands for the sync in the other tables.';
COMMENT ON COLUMN sync.name IS 'The name in imsync.toml.';
COMMENT ON COLUMN sync.binding IS 'Table, account column, prefix, format, SDKAppID and service of first use; a configuration that differs is refused.';
COMMENT ON COLUMN sync.attribute_names IS 'Attribute names by slot; account.acknowledged is ordered by it. Names are appended and never move.';
COMMENT ON COLUMN sync.generation IS 'Raised when nothing acknowledged can be trusted any more (another app, another state server): rows of account with an older one count as unknown.';
COMMENT ON COLUMN sync.state_server IS 'System identifier and timeline of the state server when it was last used.';
COMMENT ON COLUMN sync.mapping_fingerprint IS 'Digest of mapping, filter and deleted column that the last full pass compared with.';
COMMENT ON COLUMN sync.watermark_fingerprint IS 'Watermark column and time zone for which watermark_state holds.';
COMMENT ON COLUMN sync.watermark IS 'Durable watermark: the lowest of unread and the floors still open.';
COMMENT ON COLUMN sync.watermark_state IS 'Unread, the members of the last fence with their floors, and the start time of the source server.';
COMMENT ON COLUMN sync.held_back_by IS 'The transaction that holds the watermark back, and since when it was seen.';
COMMENT ON COLUMN sync.current_as_of IS 'Database time at which the newest complete incremental pass began: everything committed before is in IM, rejected accounts aside.';
COMMENT ON COLUMN sync.full_pass_due IS 'Why a full pass is due; NULL when none is.';
COMMENT ON COLUMN sync.full_pass_position IS 'Where an interrupted full pass goes on, with the flags and fingerprints it serves.';
COMMENT ON COLUMN sync.full_pass_ended_at IS 'When the last full pass ended; [schedule] full_every counts from here.';
COMMENT ON COLUMN sync.guard IS 'The removal guard while it is tripped: since when, how many accounts of how many; NULL when it is not.';
COMMENT ON COLUMN sync.running IS 'The pass under way and its progress; NULL when none is.';
COMMENT ON COLUMN sync.last_call_at IS 'When the last call to IM started, stored at a clean end; NULL when it is not known.';
COMMENT ON COLUMN sync.epoch IS 'Raised each time the lease is taken. Every writing transaction first reads it and gives up when it differs.';
COMMENT ON COLUMN sync.holder IS 'Who took the lease last: host, process id and command.';
COMMENT ON COLUMN sync.lease_taken_at IS 'When the lease was taken.';

CREATE TABLE account (
    digest bigint NOT NULL,
    acknowledged_at timestamptz NOT NULL,
    sync_id int NOT NULL,
    generation int NOT NULL,
    in_doubt_retry_at timestamptz,
    account text COLLATE "C" NOT NULL,
    acknowledged json NOT NULL,
    PRIMARY KEY (sync_id, account)
) WITH (fillfactor = 85);
CREATE INDEX account_in_doubt ON account (sync_id, in_doubt_retry_at) WHERE in_doubt_retry_at IS NOT NULL;
COMMENT ON TABLE account IS 'What IM acknowledged, a row for each account that holds something of ours. Narrow on purpose: at ten million accounts it is what the sync costs. No foreign key to sync: it would be checked for every row.';
COMMENT ON COLUMN account.digest IS '64 bits of SHA-256 over acknowledged, to compare without reading it; 0 while an attribute is in doubt.';
COMMENT ON COLUMN account.acknowledged_at IS 'When the newest outcome was recorded.';
COMMENT ON COLUMN account.sync_id IS 'The sync.';
COMMENT ON COLUMN account.generation IS 'The generation of the sync under which it was acknowledged; below sync.generation everything here counts as unknown.';
COMMENT ON COLUMN account.in_doubt_retry_at IS 'NULL when every value is known; else when the doubt is looked into (infinity: when the row, the mapping or a rejection changes).';
COMMENT ON COLUMN account.account IS 'The IM account (To_Account).';
COMMENT ON COLUMN account.acknowledged IS 'By slot of sync.attribute_names: a text is the value that IM acknowledged, null is none, 0 is unknown (IM may hold either value).';

CREATE TABLE intent (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sync_id int NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    accounts text[] NOT NULL,
    set_attributes bigint[] NOT NULL,
    remove_attributes bigint[] NOT NULL
);
CREATE INDEX intent_of_sync ON intent (sync_id);
COMMENT ON TABLE intent IS 'What is about to be sent, a row a delivery. Stored before the first call, deleted by the transaction that records the outcomes; one that is left over makes its attributes unknown.';
COMMENT ON COLUMN intent.id IS 'Stands for the delivery.';
COMMENT ON COLUMN intent.sync_id IS 'The sync.';
COMMENT ON COLUMN intent.stored_at IS 'When it was stored, before the first call.';
COMMENT ON COLUMN intent.accounts IS 'The IM accounts.';
COMMENT ON COLUMN intent.set_attributes IS 'For each account the slots to be set, bit n for slot n.';
COMMENT ON COLUMN intent.remove_attributes IS 'For each account the slots to be removed, bit n for slot n.';

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
COMMENT ON TABLE rejection IS 'Values and accounts that could not be sent, each until it succeeds, changes or goes.';
COMMENT ON COLUMN rejection.sync_id IS 'The sync.';
COMMENT ON COLUMN rejection.account IS 'The IM account.';
COMMENT ON COLUMN rejection.attribute IS 'The attribute, or empty when the whole account is refused.';
COMMENT ON COLUMN rejection.code IS 'The vendor''s code; NULL for a value refused here.';
COMMENT ON COLUMN rejection.reason IS 'Why, in a sentence that never contains the value.';
COMMENT ON COLUMN rejection.desired_digest IS '64 bits of SHA-256 over what was wanted: another wish is tried at once.';
COMMENT ON COLUMN rejection.first_at IS 'When it was first refused.';
COMMENT ON COLUMN rejection.last_at IS 'When it was last refused.';
COMMENT ON COLUMN rejection.attempts IS 'How often it was refused.';
COMMENT ON COLUMN rejection.next_at IS 'When it is tried again by itself.';

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
COMMENT ON TABLE pass IS 'Passes that did something or failed, the newest few hundred of each sync.';
COMMENT ON COLUMN pass.id IS 'In the order of their ends.';
COMMENT ON COLUMN pass.sync_id IS 'The sync.';
COMMENT ON COLUMN pass.kind IS 'incremental: rows changed since the watermark; full: the whole table; selected: named accounts.';
COMMENT ON COLUMN pass.outcome IS 'ok; rejected: finished, rejections stand; failed; guard: removals are held back; interrupted.';
COMMENT ON COLUMN pass.started_at IS 'When it began.';
COMMENT ON COLUMN pass.finished_at IS 'When it ended.';
COMMENT ON COLUMN pass.rows_read IS 'Rows read from the table.';
COMMENT ON COLUMN pass.changed IS 'Accounts that differed from what IM had acknowledged.';
COMMENT ON COLUMN pass.pushed IS 'Accounts of which IM acknowledged a set.';
COMMENT ON COLUMN pass.removed IS 'Accounts of which IM acknowledged a removal.';
COMMENT ON COLUMN pass.rejected IS 'Accounts refused in this pass.';
COMMENT ON COLUMN pass.calls IS 'Calls to IM, retries included.';
COMMENT ON COLUMN pass.repaired IS 'Accounts that a full pass had to put right although incremental passes had gone before.';
COMMENT ON COLUMN pass.error IS 'Why it failed.';
