// The last minutes of every backend for the lines in the rows, and the last quarter of an hour of the one that is looked at.

import { ask } from "./edge_api.js";
import { live } from "./live.js";

const POINTS = 60;
const LEAST_MS = 5000;
const EACH_MS = 100;

/** What is known of all backends and services. every: seconds of a point. of: the series of one; version: changes when they do. */
export const history = {
  series: {}, services: {}, every: 0, at: 0,
  of(name) { return this.series[name]; },
  version(name) { return name in this.series ? this.at : 0; },
};

/** Ask for it again and again: the more backends there are, the more rarely. shown: called when there is something new. */
export async function followHistory(shown) {
  if (!document.hidden && !live.lost) {
    try {
      const told = await ask(`history?points=${POINTS}`);
      [history.series, history.services, history.every] = [told.series, told.services, told.every_s];
      history.at++;
      shown();
    } catch { /* the rows go without; that there is no connection is said elsewhere */ }
  }
  setTimeout(() => followHistory(shown), Math.max(LEAST_MS, EACH_MS * live.backends.length));
}

/** Ask for all that is known of one backend. */
export function historyOf(service, id) {
  return ask(`history?service=${encodeURIComponent(service)}&backend=${encodeURIComponent(id)}`);
}
