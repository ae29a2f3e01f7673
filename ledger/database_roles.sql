-- PostgreSQL roles with no more rights than each needs. Roles belong to the whole server; their rights are this
-- database's.
--
-- booking_ledger_owner        owns everything of ours; cannot log in.
-- booking_ledger_migrator     logs in as the owner, for `booking-ledger migrate` alone.
-- booking_ledger_application  serves: appends by ledger.append_events, reads the log, writes read models.
-- booking_ledger_projector    reads the log and writes read models, for `booking-ledger worker --projections-only`.
-- booking_ledger_reader       reads the public views, in read-only transactions.
-- booking_ledger_bound_reader reads them too, each member the rows of one ledger (access.readers); cannot log in.
-- booking_ledger_auditor      reads everything but passwords' and keys' digests, in read-only transactions.
--
-- Everything is said as it is to be, so it can be run again after every migration. What is ours in this database,
-- access.our_schemas() and access.our_views() tell (migrations/0005_access.sql).

-- name: create_roles
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT role, kind
        FROM (
            VALUES
                ('booking_ledger_owner', 'NOLOGIN'),
                ('booking_ledger_migrator', 'LOGIN'),
                ('booking_ledger_application', 'LOGIN'),
                ('booking_ledger_projector', 'LOGIN'),
                ('booking_ledger_reader', 'LOGIN'),
                ('booking_ledger_bound_reader', 'NOLOGIN'),
                ('booking_ledger_auditor', 'LOGIN')
        ) AS wanted (role, kind)
        WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role)
    LOOP
        EXECUTE format('CREATE ROLE %I %s', wanted.role, wanted.kind);
    END LOOP;

    GRANT booking_ledger_owner TO booking_ledger_migrator;
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT booking_ledger_owner TO %I', current_user);
    END IF;

    -- What the migrator makes belongs to the owner.
    ALTER ROLE booking_ledger_migrator SET role = 'booking_ledger_owner';

    ALTER ROLE booking_ledger_reader SET default_transaction_read_only = 'on';
    ALTER ROLE booking_ledger_reader SET statement_timeout = '5min';
    ALTER ROLE booking_ledger_reader SET idle_in_transaction_session_timeout = '5min';
    ALTER ROLE booking_ledger_auditor SET default_transaction_read_only = 'on';

    EXECUTE format('GRANT CREATE ON DATABASE %I TO booking_ledger_owner', current_database());
    EXECUTE format(
        'GRANT CONNECT ON DATABASE %I TO booking_ledger_migrator, booking_ledger_application, '
            'booking_ledger_projector, booking_ledger_reader, booking_ledger_bound_reader, booking_ledger_auditor',
        current_database()
    );
    GRANT USAGE, CREATE ON SCHEMA public TO booking_ledger_owner;
    GRANT USAGE ON SCHEMA public
        TO booking_ledger_application, booking_ledger_projector, booking_ledger_reader, booking_ledger_bound_reader,
            booking_ledger_auditor;
END
$$;

-- name: read_too_powerful
-- Roles of ours that could get round their rights, or log in although they must not.
SELECT rolname
FROM pg_roles
WHERE
    rolname LIKE 'booking\_ledger\_%'
    AND rolname IN (
        'booking_ledger_owner', 'booking_ledger_migrator', 'booking_ledger_application', 'booking_ledger_projector',
        'booking_ledger_reader', 'booking_ledger_bound_reader', 'booking_ledger_auditor'
    )
    AND (
        rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication
        OR (rolname IN ('booking_ledger_owner', 'booking_ledger_bound_reader') AND rolcanlogin)
    )
ORDER BY rolname;

-- name: may_renew
-- Whether what is ours here belongs to the owner's role, and this session may speak for it.
SELECT EXISTS (
    SELECT
    FROM pg_class AS c
    JOIN pg_roles AS r ON r.oid = c.relowner
    WHERE c.oid = 'ledger.events'::regclass AND r.rolname = 'booking_ledger_owner' AND pg_has_role(r.oid, 'USAGE')
);

-- name: read_own_rights
SELECT current_user AS role, pg_has_role(c.relowner, 'USAGE') AS could_change
FROM pg_class AS c
WHERE c.oid = 'ledger.events'::regclass;

-- name: take_ownership
-- Sequences of columns and indexes follow their tables. What is to be done is gathered first: a table that a running
-- query reads cannot change hands.
DO $$
DECLARE
    one text;
BEGIN
    FOREACH one IN ARRAY ARRAY(
        SELECT format('ALTER SCHEMA %I OWNER TO booking_ledger_owner', name)
        FROM access.our_schemas()
        UNION ALL
        SELECT format(
            'ALTER %s %s OWNER TO booking_ledger_owner',
            CASE c.relkind
                WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE'
            END,
            c.oid::regclass
        )
        FROM pg_class AS c
        WHERE
            (
                c.relnamespace IN (SELECT schema_id FROM access.our_schemas())
                OR c.oid IN (SELECT view_id FROM access.our_views())
            )
            AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
            AND NOT EXISTS (
                SELECT FROM pg_depend AS d
                WHERE
                    c.relkind = 'S'
                    AND d.classid = 'pg_class'::regclass
                    AND d.objid = c.oid
                    AND d.deptype IN ('a', 'i')
            )
        UNION ALL
        SELECT format('ALTER ROUTINE %s OWNER TO booking_ledger_owner', p.oid::regprocedure)
        FROM pg_proc AS p
        WHERE p.pronamespace IN (SELECT schema_id FROM access.our_schemas())
    ) LOOP
        EXECUTE one;
    END LOOP;
END
$$;

-- name: grant_rights
-- Tables that are still to come are the application's and the projector's to write from the start, since a rebuild makes
-- them while they work; in the log's own schema that is put right here, after the migration that made one.
DO $$
DECLARE
    one text;
BEGIN
    FOREACH one IN ARRAY ARRAY(
        SELECT unnest(
            ARRAY[
                format('REVOKE ALL ON SCHEMA %I FROM PUBLIC, booking_ledger_reader, booking_ledger_bound_reader', name),
                format('GRANT USAGE ON SCHEMA %I TO booking_ledger_application, booking_ledger_auditor', name),
                format(
                    'REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM PUBLIC, booking_ledger_application, '
                        'booking_ledger_projector, booking_ledger_reader, booking_ledger_bound_reader, '
                        'booking_ledger_auditor',
                    name
                ),
                format(
                    'GRANT SELECT ON ALL TABLES IN SCHEMA %I TO booking_ledger_application, booking_ledger_auditor',
                    name
                ),
                format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %I TO booking_ledger_application', name)
            ]
        )
        FROM access.our_schemas()
        UNION ALL
        SELECT unnest(
            ARRAY[
                format('GRANT USAGE ON SCHEMA %I TO booking_ledger_projector', name),
                format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO booking_ledger_projector', name)
            ]
        )
        FROM access.our_schemas()
        WHERE name NOT IN ('interop', 'access')
        UNION ALL
        SELECT format('GRANT INSERT, UPDATE, DELETE, TRUNCATE ON %s TO booking_ledger_projector', c.oid::regclass)
        FROM pg_class AS c
        WHERE
            c.relnamespace IN (
                SELECT schema_id FROM access.our_schemas() WHERE name NOT IN ('ledger', 'interop', 'access')
            )
            AND c.relkind IN ('r', 'p')
        UNION ALL
        SELECT format('GRANT INSERT, UPDATE, DELETE ON %s TO booking_ledger_application', c.oid::regclass)
        FROM pg_class AS c
        WHERE
            c.relnamespace IN (SELECT schema_id FROM access.our_schemas())
            AND c.relkind IN ('r', 'p')
            AND (
                c.relnamespace <> 'ledger'::regnamespace
                OR c.relname NOT IN ('ledgers', 'events', 'schema_migrations')
            )
            AND NOT c.relispartition
        UNION ALL
        SELECT format('GRANT TRUNCATE ON %s TO booking_ledger_application', c.oid::regclass)
        FROM pg_class AS c
        WHERE
            c.relnamespace IN (
                SELECT schema_id FROM access.our_schemas() WHERE name NOT IN ('ledger', 'interop', 'access')
            )
            AND c.relkind IN ('r', 'p')
        UNION ALL
        SELECT format(
            'GRANT SELECT ON %s TO booking_ledger_application, booking_ledger_projector, booking_ledger_reader, '
                'booking_ledger_auditor',
            view_id::regclass
        )
        FROM access.our_views()
        UNION ALL
        -- What runs with the owner's rights is for the application, and looks nothing up among temporary tables first.
        SELECT unnest(
            ARRAY[
                format('ALTER ROUTINE %s SET search_path = pg_catalog, pg_temp', p.oid::regprocedure),
                format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', p.oid::regprocedure),
                format('GRANT EXECUTE ON ROUTINE %s TO booking_ledger_application', p.oid::regprocedure)
            ]
        )
        FROM pg_proc AS p
        WHERE p.pronamespace IN (SELECT schema_id FROM access.our_schemas()) AND p.prosecdef
        UNION ALL
        SELECT format('GRANT EXECUTE ON ROUTINE %s TO booking_ledger_projector', p.oid::regprocedure)
        FROM pg_proc AS p
        WHERE p.pronamespace = 'projections'::regnamespace AND p.prosecdef
    ) LOOP
        EXECUTE one;
    END LOOP;

    -- Keys and users are revoked and disabled, never deleted; how they are kept is nobody's business but the server's.
    REVOKE DELETE ON access.api_keys, access.users FROM booking_ledger_application;
    REVOKE SELECT ON access.api_keys, access.users, access.sessions FROM booking_ledger_auditor;
    GRANT SELECT (key_id, name, role, ledger_id, created_at, expires_at, last_used_at, revoked_at)
        ON access.api_keys TO booking_ledger_auditor;
    GRANT SELECT (
        user_id, name, role, ledger_id, created_at, password_changed_at, last_signed_in_at, disabled_at
    ) ON access.users TO booking_ledger_auditor;
    GRANT SELECT (user_id, opened_at, seen_at) ON access.sessions TO booking_ledger_auditor;

    -- Keys of bodies go in with the events that they seal, and are destroyed, by functions that run with the owner's
    -- rights.
    REVOKE INSERT, DELETE ON ledger.body_keys FROM booking_ledger_application;

    -- Who is bound to which ledger is not the application's to say.
    REVOKE INSERT, UPDATE, DELETE ON access.readers FROM booking_ledger_application;
    PERFORM access.guard_readers();

    ALTER DEFAULT PRIVILEGES FOR ROLE booking_ledger_owner
        GRANT USAGE ON SCHEMAS TO booking_ledger_application, booking_ledger_projector, booking_ledger_auditor;
    ALTER DEFAULT PRIVILEGES FOR ROLE booking_ledger_owner
        GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON TABLES
        TO booking_ledger_application, booking_ledger_projector;
    ALTER DEFAULT PRIVILEGES FOR ROLE booking_ledger_owner GRANT SELECT ON TABLES TO booking_ledger_auditor;
    ALTER DEFAULT PRIVILEGES FOR ROLE booking_ledger_owner
        GRANT USAGE, SELECT ON SEQUENCES TO booking_ledger_application;
    ALTER DEFAULT PRIVILEGES FOR ROLE booking_ledger_owner IN SCHEMA public
        GRANT SELECT ON TABLES TO booking_ledger_reader;
END
$$;

-- name: choose_password
-- For set_password, until the transaction ends. $1 role, $2 SCRAM verifier
SELECT set_config('booking_ledger.role', $1, true), set_config('booking_ledger.verifier', $2, true);

-- name: set_password
DO $$
BEGIN
    EXECUTE format(
        'ALTER ROLE %I PASSWORD %L',
        current_setting('booking_ledger.role'),
        current_setting('booking_ledger.verifier')
    );
END
$$;
