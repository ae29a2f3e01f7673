-- PostgreSQL roles of single readers: which there are, and which ledger each sees (migrations/0010).

-- name: choose_reader
-- For make_reader, until the transaction ends. $1 role, $2 the group that it is to be in
SELECT set_config('booking_ledger.role', $1, true), set_config('booking_ledger.group', $2, true);

-- name: make_reader
-- The role is there, is in the one group and not in the other.
DO $$
DECLARE
    reader text := current_setting('booking_ledger.role');
    wanted text := current_setting('booking_ledger.group');
    given text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = reader) THEN
        EXECUTE format('CREATE ROLE %I LOGIN', reader);
    END IF;
    FOR given IN
        SELECT g.rolname
        FROM pg_auth_members AS m
        JOIN pg_roles AS g ON g.oid = m.roleid
        JOIN pg_roles AS r ON r.oid = m.member
        WHERE
            r.rolname = reader
            AND g.rolname IN ('booking_ledger_reader', 'booking_ledger_bound_reader')
            AND g.rolname <> wanted
    LOOP
        EXECUTE format('REVOKE %I FROM %I', given, reader);
    END LOOP;
    EXECUTE format('GRANT %I TO %I', wanted, reader);
    EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', reader);
    EXECUTE format('ALTER ROLE %I SET statement_timeout = %L', reader, '5min');
    EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = %L', reader, '5min');
END
$$;

-- name: read_reader_powers
-- What a role can do that a reader must not: a power of its own, other roles' rights, or things that it owns. No row:
-- there is no such role. $1 role
SELECT
    rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication
    OR EXISTS (
        SELECT
        FROM pg_auth_members AS m
        JOIN pg_roles AS g ON g.oid = m.roleid
        WHERE m.member = r.oid AND g.rolname NOT IN ('booking_ledger_reader', 'booking_ledger_bound_reader')
    )
    OR EXISTS (
        SELECT FROM pg_shdepend AS d
        WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid AND d.deptype = 'o'
    )
    AS too_powerful
FROM pg_roles AS r
WHERE r.rolname = $1;

-- name: is_reader
-- $1 role
SELECT EXISTS (
    SELECT
    FROM pg_auth_members AS m
    JOIN pg_roles AS g ON g.oid = m.roleid
    JOIN pg_roles AS r ON r.oid = m.member
    WHERE r.rolname = $1 AND g.rolname IN ('booking_ledger_reader', 'booking_ledger_bound_reader')
);

-- name: bind_reader
-- $1 role, $2 ledger_id
INSERT INTO access.readers (role, ledger_id)
VALUES ($1, $2)
ON CONFLICT ON CONSTRAINT readers_pkey DO UPDATE SET ledger_id = excluded.ledger_id;

-- name: unbind_reader
-- $1 role
DELETE FROM access.readers WHERE role = $1;
