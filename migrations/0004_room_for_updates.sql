-- Room for updates where it is used: in the index, not between the rows.
-- Runs with search_path set to the state schema ([state] schema in imsync.toml).

-- A change of all rows writes a second version of each row and of each entry of the index before the first ones can be
-- removed. Entries that find no room split their pages for good, while the space of dead rows is used again after a VACUUM.
ALTER TABLE account SET (fillfactor = 95);
ALTER INDEX account_pkey SET (fillfactor = 55);
