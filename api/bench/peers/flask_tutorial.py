"""The same receiver in Flask with psycopg, served by gunicorn's threads.

Run as PEER_SECRET=secret PEER_DSN=postgresql://… gunicorn --worker-class gthread api.bench.peers.flask_tutorial:app
"""

import os
from functools import lru_cache

import msgspec
import psycopg
from flask import Flask, Response, jsonify, make_response, request
from psycopg_pool import ConnectionPool

from api.bench.load import PATH
from api.bench.peers.bare import SIGNATURE, is_signed
from api.bench.peers.tutorial import SQL, row_of
from api.bench.servers import READY_PATH

THREADS = 16
"""Of each of gunicorn's processes, and so many connections."""

app = Flask(__name__)


@lru_cache(maxsize=1)
def pool() -> "ConnectionPool[psycopg.Connection]":
    """One a process, opened by its first request, hence after gunicorn has forked."""
    return ConnectionPool(
        os.environ["PEER_DSN"], max_size=THREADS, kwargs={"cursor_factory": psycopg.RawCursor}, open=True
    )


@app.post(PATH)
def receive_webhook() -> Response:
    raw = request.get_data()
    if not is_signed(raw, request.headers.get(SIGNATURE.decode(), "").encode()):
        return make_response({"status": "refused"}, 401)
    body = msgspec.json.decode(raw)
    row = row_of(body)
    with pool().connection() as connection:
        if row is not None:
            connection.execute(SQL["upsert_event"], row)
        connection.execute(SQL["insert_log"], (body.get("triggerEvent"), raw.decode(), row and row[0]))
    return jsonify(status="success")


@app.get(READY_PATH)
def ready() -> Response:
    return jsonify(status="ready")
