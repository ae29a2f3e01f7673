-- Reconciliation with Cal.com's API: what was asked, how far it got, what differed.
--
-- ledger.sweeps           one row per reading of Cal.com's list of bookings, with the place at which to go on. `driver`
--                         is who reads; another may take over when its time is up or its session is gone.
-- ledger.swept_bookings   the bookings that an unfinished sweep has been shown: what is missing among them is asked for.
-- ledger.questions        bookings to ask Cal.com about one by one, each at its time: doubts, and what was too young.
-- ledger.drift            what differed from Cal.com, field by field; open until `healed_at`. `ours` and `theirs` may be
--                         personal, and go when the booking's stream is erased.
-- ledger.schedule         when each scheduled job ran last, so that who takes over neither repeats nor skips a turn.
--
-- The log knows what came of it all: `calcom.observed`. These rows may be trimmed.

-- migrate:up

CREATE TABLE ledger.sweeps (
    ledger_id int NOT NULL,
    sweep_id uuid NOT NULL,
    kind text NOT NULL,
    cause text NOT NULL,
    state text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    after_updated_at timestamptz,
    place text,
    is_listed boolean NOT NULL DEFAULT false,
    is_import boolean NOT NULL DEFAULT false,
    pages int NOT NULL DEFAULT 0,
    total int,
    seen int NOT NULL DEFAULT 0,
    missing int NOT NULL DEFAULT 0,
    stale int NOT NULL DEFAULT 0,
    extra int NOT NULL DEFAULT 0,
    settled int NOT NULL DEFAULT 0,
    young int NOT NULL DEFAULT 0,
    unreadable int NOT NULL DEFAULT 0,
    observed int NOT NULL DEFAULT 0,
    error text,
    driver uuid,
    driver_until timestamptz NOT NULL DEFAULT '-infinity',
    driver_pid int,
    driver_start timestamptz,
    CONSTRAINT sweeps_pkey PRIMARY KEY (ledger_id, sweep_id),
    CONSTRAINT sweeps_kind_known CHECK (kind IN ('incremental', 'upcoming', 'full')),
    CONSTRAINT sweeps_cause_known CHECK (cause IN ('schedule', 'request', 'command')),
    CONSTRAINT sweeps_state_known CHECK (state IN ('waiting', 'running', 'done')),
    CONSTRAINT sweeps_started_unless_waiting CHECK ((state = 'waiting') = (started_at IS NULL)),
    CONSTRAINT sweeps_finished_when_done CHECK ((state = 'done') = (finished_at IS NOT NULL))
);

CREATE UNIQUE INDEX sweeps_one_unfinished ON ledger.sweeps (ledger_id, kind) WHERE state <> 'done';
CREATE INDEX sweeps_by_asked ON ledger.sweeps (ledger_id, asked_at DESC);

CREATE TABLE ledger.swept_bookings (
    ledger_id int NOT NULL,
    sweep_id uuid NOT NULL,
    uid text COLLATE "C" NOT NULL,
    CONSTRAINT swept_bookings_pkey PRIMARY KEY (ledger_id, sweep_id, uid),
    CONSTRAINT swept_bookings_of_sweep FOREIGN KEY (ledger_id, sweep_id)
        REFERENCES ledger.sweeps (ledger_id, sweep_id) ON DELETE CASCADE
);

CREATE TABLE ledger.questions (
    ledger_id int NOT NULL,
    uid text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    since timestamptz NOT NULL,
    times_asked int NOT NULL DEFAULT 0,
    asked_at timestamptz,
    ask_at timestamptz NOT NULL,
    CONSTRAINT questions_pkey PRIMARY KEY (ledger_id, uid),
    CONSTRAINT questions_reason_known CHECK (reason IN ('doubt', 'young', 'unlisted'))
);

CREATE INDEX questions_by_time ON ledger.questions (ledger_id, ask_at);

CREATE TABLE ledger.drift (
    ledger_id int NOT NULL,
    stream_id text COLLATE "C" NOT NULL,
    field text NOT NULL,
    found_at timestamptz NOT NULL,
    kind text NOT NULL,
    ours text,
    theirs text,
    differed_since timestamptz,
    sweep_id uuid,
    is_import boolean NOT NULL DEFAULT false,
    event_id uuid,
    healed_at timestamptz,
    CONSTRAINT drift_pkey PRIMARY KEY (ledger_id, stream_id, field, found_at),
    CONSTRAINT drift_kind_known CHECK (kind IN ('missing', 'stale', 'extra')),
    CONSTRAINT drift_healed_after_found CHECK (healed_at >= found_at)
);

CREATE INDEX drift_by_found ON ledger.drift (ledger_id, found_at DESC, stream_id, field);
CREATE UNIQUE INDEX drift_open ON ledger.drift (ledger_id, stream_id, field) WHERE healed_at IS NULL;

CREATE TABLE ledger.schedule (
    ledger_id int NOT NULL,
    job text NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    error text,
    CONSTRAINT schedule_pkey PRIMARY KEY (ledger_id, job)
);

-- Who asks which bookings are in doubt must not read the whole table.

CREATE INDEX calendar_events_doubted ON calendar_events_0.calendar_events (ledger_id, cal_com_event_id)
    WHERE doubts <> '{}';

SELECT projections.add_index(projection, generation, 'calendar_events_doubted')
FROM projections.generations
WHERE projection = 'calendar_events' AND (state = 'live' OR phase = 'catching_up');
