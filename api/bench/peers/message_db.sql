-- message-db's schema message_store, made by the files of its own package.

-- name: find_message_store
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'message_store');

-- name: use_message_store
SELECT set_config('search_path', 'message_store, public', false);

-- name: write_message
-- $1 id, $2 stream name, $3 type, $4 data as JSON
SELECT write_message($1, $2, $3, $4::jsonb);
