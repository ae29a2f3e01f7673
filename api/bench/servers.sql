-- The throwaway server as a whole; no table of ours is touched.

-- name: settle
CHECKPOINT;
