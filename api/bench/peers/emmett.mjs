// Appends to emmett's event store for PostgreSQL, each event to its own stream, from many callers at once.
// What to do comes as JSON on standard input (emmett.py, Order); what was done goes out as JSON.

import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { join } from "node:path";
import { text } from "node:stream/consumers";

const order = JSON.parse(await text(process.stdin));
const load = createRequire(join(order.nodeModules, "from-here.js"));
const { getPostgreSQLEventStore } = load("@event-driven-io/emmett-postgresql");

// The driver's own pool would open ten connections; every caller gets one, as everybody else's callers do.
const { Pool } = load("pg");
const pool = new Pool({ connectionString: order.dsn, max: order.callers });
const store = getPostgreSQLEventStore(order.dsn, { connectionOptions: { pool } });
const bodies = order.bodies.map((body) => JSON.parse(body));
await store.appendToStream(`booking-${randomUUID()}`, [{ type: "Created", data: bodies[0] }]);

const taken = [];
const begun = performance.now() + order.warmSeconds * 1000;
const end = begun + order.seconds * 1000;

async function call(number) {
  for (let asked = performance.now(), at = number; asked < end; at += 1) {
    const data = bodies[at % bodies.length];
    await store.appendToStream(`booking-${randomUUID()}`, [{ type: "Created", data }]);
    const answered = performance.now();
    if (asked >= begun) taken.push(answered - asked);
    asked = answered;
  }
}

await Promise.all(Array.from({ length: order.callers }, (_, number) => call(number)));
const seconds = (performance.now() - begun) / 1000;
await store.close();
await pool.end();

taken.sort((one, other) => one - other);
const percentile = (share) => taken[Math.min(Math.floor(taken.length * share), taken.length - 1)];
console.log(
  JSON.stringify({ eventsASecond: taken.length / seconds, p50Ms: percentile(0.5), p99Ms: percentile(0.99) }),
);
