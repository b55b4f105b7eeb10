// The newest state of the edge, asked for twice a second while somebody looks, and handed to whoever wants to show it.

import { ask } from "./edge_api.js";

const EVERY_MS = 500;
const HIDDEN_MS = 10000;
const LOST_AFTER = 2;

/** What the page knows. now: the edge's Unix time; lost: why there is no connection, null while there is one. */
export const live = { document: null, backends: [], lost: null, get now() { return this.document?.at ?? 0; } };

const listeners = [];
let timer = 0, failures = 0, underWay = null;

/** Call a function with the state after each change. */
export function onLive(listener) {
  listeners.push(listener);
}

/** Take in a document as the edge sends it. */
export function take(document) {
  const columns = document.columns;
  live.backends = document.backends.map((row) => {
    const backend = {};
    for (let index = 0; index < columns.length; index++) backend[columns[index]] = row[index];
    backend.name = `${backend.service}/${backend.id}`;
    return backend;
  });
  delete document.backends;
  live.document = document;
  live.lost = null;
  failures = 0;
  tell();
}

function tell() {
  for (const listener of listeners) listener(live);
}

async function look(fresh) {
  try {
    take(await ask(fresh ? "live?fresh=true" : "live"));
  } catch (error) {
    if (!("status" in error)) throw error;  // a fault of ours is no lost connection
    if (++failures >= LOST_AFTER || error.status) {
      live.lost = error;
      tell();
    }
  }
}

/** Look now, and then again and again. fresh: at nothing that was read before this moment. */
export async function lookNow(fresh = false) {
  clearTimeout(timer);
  while (underWay) await underWay;
  const began = performance.now();
  underWay = look(fresh).finally(() => { underWay = null; });
  await underWay;
  clearTimeout(timer);
  const pause = document.hidden ? HIDDEN_MS : Math.max(EVERY_MS - (performance.now() - began), EVERY_MS / 2);
  timer = setTimeout(lookNow, live.lost ? 2 * pause : pause);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) lookNow(); });
