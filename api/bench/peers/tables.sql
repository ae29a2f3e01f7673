-- Tables of those we are measured against, in a throwaway database of their own: `peers`. The libraries among them make
-- theirs themselves.
--
-- unordered_events  a log as it is first written down: a sequence, one INSERT a transaction
-- locked_events     the same, in order, by a lock that each transaction holds until its end
-- calendar_events, webhook_logs   what tutorials keep of a webhook
-- bodies_as_jsonb, bodies_as_bytea   bodies as PostgreSQL stores them when it is told nothing else

-- name: find_peers
SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'peers');

-- name: create_peers
CREATE DATABASE peers;

-- name: create_tables
CREATE TABLE unordered_events (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream_id text NOT NULL,
    stream_version int NOT NULL,
    event_id uuid NOT NULL UNIQUE,
    topic text NOT NULL,
    state bytea NOT NULL,
    occurred_at timestamptz NOT NULL,
    UNIQUE (stream_id, stream_version)
);
-- Without PostgreSQL's own compression, which would halve their rate.
ALTER TABLE unordered_events ALTER COLUMN state SET STORAGE EXTERNAL;
ALTER TABLE unordered_events SET (toast_tuple_target = 8160);

CREATE TABLE locked_events (LIKE unordered_events INCLUDING ALL);

CREATE FUNCTION append_locked(stream text, id uuid, topic text, body bytea, at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1);
    INSERT INTO locked_events (stream_id, stream_version, event_id, topic, state, occurred_at)
    VALUES (stream, 1, id, topic, body, at);
END
$$;

CREATE TABLE calendar_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    cal_com_event_id text NOT NULL UNIQUE,
    title text,
    start_time timestamptz,
    end_time timestamptz,
    status text NOT NULL,
    attendee_email text,
    attendee_name text,
    metadata jsonb,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX calendar_events_by_start ON calendar_events (start_time);
CREATE INDEX calendar_events_by_email ON calendar_events (attendee_email);

CREATE TABLE webhook_logs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    webhook_type text NOT NULL,
    payload jsonb NOT NULL,
    status text NOT NULL,
    cal_com_event_id text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhook_logs_by_created ON webhook_logs (created_at);

CREATE TABLE applied (name text PRIMARY KEY, position bigint NOT NULL);
INSERT INTO applied (name, position) VALUES ('calendar', 0);

CREATE TABLE bodies_as_jsonb (position bigint PRIMARY KEY, body jsonb NOT NULL);
CREATE TABLE bodies_as_bytea (position bigint PRIMARY KEY, body bytea NOT NULL);
