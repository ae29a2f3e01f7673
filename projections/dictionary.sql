-- What people may query: the catalogue's word for our views in `public`.

-- name: read_columns
-- Every column of every view of ours, view by view in the view's own order.
SELECT
    c.relname AS view,
    obj_description(c.oid, 'pg_class') AS view_comment,
    a.attname AS column_name,
    format_type(a.atttypid, a.atttypmod) AS column_type,
    col_description(c.oid, a.attnum) AS column_comment
FROM access.our_views() AS ours
JOIN pg_class AS c ON c.oid = ours.view_id
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.relname, a.attnum;
