// What an operator does: drain, enable, disable, weigh a backend, or drain the whole edge. Each is asked about before it is done.

import { ask, backendPath } from "./edge_api.js";
import { byId, el, setText } from "./dom.js";
import { live, lookNow } from "./live.js";
import { t, word } from "./texts.js";

const STATE_AFTER = { drain: "draining", enable: "enabled", disable: "disabled" };
const SAID_MS = 8000;
let saidTimer = 0;

/** The four buttons of a backend, and why some of them do nothing now. */
export class BackendActions {
  constructor() {
    this.why = el("p", { class: "why", id: "why-not-operate" });
    this.buttons = Object.fromEntries([...Object.keys(STATE_AFTER), "weight"].map((action) =>
      [action, el("button", { type: "button", "aria-describedby": "why-not-operate", onclick: () => this.begin(action) }, t(`do_${action}`))]));
    this.node = el("div", { class: "actions", role: "group", "aria-label": t("actions") }, Object.values(this.buttons), this.why);
  }

  /** Say which may be pressed for this backend. */
  update(backend) {
    this.backend = backend;
    const never = live.lost ? t("why_lost") : backend ? live.document.may_not_operate && t(`why_${live.document.may_not_operate}`) : t("why_gone");
    for (const [action, button] of Object.entries(this.buttons)) {
      const done = backend && STATE_AFTER[action] === backend.state;
      button.disabled = Boolean(never || done);
      button.title = never || (done ? t("why_done", { state: word(backend.state) }) : "");
    }
    setText(this.why, never || t("is_now", { state: word(backend.state), weight: backend.weight }));
  }

  async begin(action) {
    const backend = this.backend;
    const others = live.backends.filter((one) => one.service === backend.service && one.id !== backend.id && one.why_not === null);
    const takesOut = action === "drain" || action === "disable";
    const done = await confirmed({
      title: t(`ask_${action}`, { backend: backend.name }),
      text: t(`means_${action}`, { in_flight: backend.in_flight }),
      warning: takesOut && others.length === 0 ? t("warn_last", { service: backend.service }) : "",
      button: t(`do_${action}`),
      weight: action === "weight" ? backend.weight : null,
      act: ({ persist, weight }) => ask(backendPath(backend.service, backend.id, action), {
        method: "POST", body: action === "weight" ? { weight, persist } : { persist } }),
    });
    if (done) say(done.message);
  }
}

/** Drain the whole edge, or take that back. */
export async function drainEdge(draining) {
  const action = draining ? "drain" : "enable";
  const done = await confirmed({
    title: t(`ask_edge_${action}`), text: t(`means_edge_${action}`), button: t(`do_${action}`), persistable: false,
    act: () => ask(action, { method: "POST" }),
  });
  if (done) say(done.message);
}

/** Ask whether it is meant, do it, and give back the answer; null if it is not meant. What the edge refuses is said in the dialog. */
function confirmed({ title, text, warning = "", button, weight = null, persistable = true, act }) {
  const dialog = byId("confirm"), form = dialog.querySelector("form"), [no, yes] = dialog.querySelectorAll("button");
  const number = dialog.querySelector("input[type=number]"), persist = dialog.querySelector("input[type=checkbox]"), error = byId("confirm-error");
  setText(byId("confirm-title"), title);
  setText(byId("confirm-text"), text);
  setText(byId("confirm-warning"), warning);
  setText(yes, button);
  byId("confirm-warning").hidden = !warning;
  byId("confirm-weight").hidden = weight === null;
  byId("confirm-persist").hidden = !persistable;
  number.required = weight !== null;
  number.value = weight ?? "";
  persist.checked = false;
  error.hidden = true;
  yes.disabled = false;
  dialog.showModal();
  (weight === null ? yes : number).focus();
  return new Promise((resolve) => {
    let result = null;
    no.onclick = () => dialog.close();
    dialog.onclose = () => resolve(result);
    form.onsubmit = async (event) => {
      event.preventDefault();
      yes.disabled = true;
      try {
        result = await act({ persist: persist.checked, weight: Number(number.value) });
        await lookNow(true);  // first, so that what is seen when the question has gone is what is
        dialog.close();
      } catch (refused) {
        error.hidden = false;
        setText(error, refused.message);
        yes.disabled = false;
      }
    };
  });
}

/** Say what has been done, for a while. */
function say(text) {
  const node = byId("said");
  setText(node, text);
  node.classList.add("shown");
  clearTimeout(saidTimer);
  saidTimer = setTimeout(() => node.classList.remove("shown"), SAID_MS);
}
