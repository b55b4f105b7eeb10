// What a backend's figures mean: how well it is, in one word and one colour.

import { chip } from "./dom.js";
import { duration, word } from "./texts.js";

const KINDS = {
  serving: "good", available: "good", enabled: "good", healthy: "good", closed: "good", ok: "good", fresh: "good", live: "good",
  draining: "warn", half_open: "warn", unknown: "quiet", full: "warn", silent: "warn", unprobed: "quiet", zero_weight: "quiet",
  abandoned: "quiet", outrun: "quiet", overdue: "warn", stale: "warn", tried: "quiet", retry: "warn", hedge: "warn", first: "quiet",
  disabled: "quiet", unhealthy: "bad", open: "bad", breaker_open: "bad", failed: "bad", never: "bad", no_backend: "bad",
  info: "quiet", warning: "warn", error: "bad", critical: "bad",
};

export const kindOf = (value) => KINDS[value] ?? "quiet";

/** A word of the edge in its colour. */
export const badge = (value, more = "") => chip(word(value) + more, kindOf(value));

/** Whether the operator has taken it out, so that its not serving is no trouble. */
export const isTakenOut = (backend) => backend.state !== "enabled" || backend.weight === 0;

/** Whether somebody should look at it. */
export const isTrouble = (backend) => !isTakenOut(backend) && !["full", null, "unprobed"].includes(backend.why_not);

/** How a backend is: what keeps it from serving, or that it serves; as words, and as a badge. */
export const standing = (backend) => word(backend.why_not ?? "serving") + timeLeft(backend.ejected_s);
export const standingBadge = (backend) => badge(backend.why_not ?? "serving", timeLeft(backend.ejected_s));

const timeLeft = (seconds) => seconds > 0 ? ` · ${duration(Math.ceil(seconds))}` : "";

/** A value in its colour where it is not the usual one; the usual ones stay grey, so that the others are seen. */
export function shownWord(value) {
  return kindOf(value) === "good" ? word(value) : badge(value);
}
