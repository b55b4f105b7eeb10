// Asking the edge: one function for all pages, which knows the token. It is asked for once, kept in this tab only, and sent to
// nobody but the edge that sent this page; never in an address or a cookie.

import { byId } from "./dom.js";
import { t } from "./texts.js";

const KEPT = "smartedge-token";
const PATIENCE_MS = 8000;

let token = kept();
let asking = null;

/** What the edge answered that is no success. status: 0 when there was no answer. */
export class EdgeError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** Ask a page of the edge, by its path below /smartedge/; give back what its JSON says. Throws EdgeError. */
export async function ask(path, { method = "GET", body = null } = {}) {
  for (;;) {
    const used = token;
    const answer = await answerOf(path, method, body, used);
    if (answer.status !== 401) return read(answer);
    if (used === token) await newToken(used !== null);
  }
}

async function answerOf(path, method, body, used) {
  const headers = { Accept: "application/json" };
  if (used !== null) headers.Authorization = `Bearer ${used}`;
  if (body !== null) headers["Content-Type"] = "application/json";
  try {
    return await fetch(new URL(path, document.baseURI), {
      method, headers, body: body === null ? null : JSON.stringify(body),
      cache: "no-store", credentials: "omit", redirect: "error", signal: AbortSignal.timeout(PATIENCE_MS),
    });
  } catch {
    throw new EdgeError(0, t("no_answer"));
  }
}

async function read(answer) {
  let document = null;
  try {
    document = await answer.json();
  } catch {
    throw new EdgeError(answer.ok ? 0 : answer.status, t("no_answer"));
  }
  if (!answer.ok) throw new EdgeError(answer.status, document.detail ?? `${answer.status}`);
  return document;
}

/** Ask the person for the token, once however many requests need it. wrong: whether one was sent and refused. */
function newToken(wrong) {
  asking ??= prompt(wrong).finally(() => { asking = null; });
  return asking;
}

function prompt(wrong) {
  const dialog = byId("token"), form = dialog.querySelector("form"), input = dialog.querySelector("input"), error = byId("token-error");
  error.hidden = !wrong;
  error.textContent = wrong ? t("token_wrong") : "";
  input.value = "";
  dialog.showModal();
  input.focus();
  form.onsubmit = (event) => {
    event.preventDefault();
    keep(input.value.trim());
    input.value = "";
    dialog.close();
  };
  return new Promise((resolve) => { dialog.onclose = resolve; });  // without one it is asked for again
}

function keep(given) {
  token = given.replace(/[^\x21-\x7e]/g, "") || null;
  try {
    if (token !== null) sessionStorage.setItem(KEPT, token);
  } catch { /* a browser without storage asks again after a reload */ }
}

function kept() {
  try {
    return sessionStorage.getItem(KEPT);
  } catch {
    return null;
  }
}

/** The path of a backend's pages: an id may have an address behind a slash. */
export function backendPath(service, id, action = "") {
  const parts = [service, "backends", ...id.split("/"), ...(action ? [action] : [])];
  return `services/${parts.map(encodeURIComponent).join("/")}`;
}
