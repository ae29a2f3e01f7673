-- What we ask of a server before we trust it with events. No tables.

-- name: read_durability
-- As this session sees it: synchronous_commit may be set for one database or one role.
SELECT
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit;
