// The page: which view is open, by the part of the address behind the #, and who is told when there is news.

import * as backends from "./backends.js";
import { BackendPanel } from "./backend_panel.js";
import { drawBanners } from "./banners.js";
import { byId, setText } from "./dom.js";
import { drawEdge, setUpEdge } from "./edge_view.js";
import { drawEvents, followEvents, setUpEvents } from "./events.js";
import { followHistory } from "./history.js";
import { live, lookNow, onLive } from "./live.js";
import { beginLines, drawOverview, setUpOverview } from "./overview.js";
import { RequestPanel } from "./request_panel.js";
import { setUpRequests, showRequests } from "./requests.js";
import { t, translate } from "./texts.js";

const VIEWS = ["backends", "requests", "events", "edge"];
let seeded = false, view = "backends", panel = null, panelAt = "", cameFrom = null;

function draw() {
  setText(byId("live-text"), t(live.lost ? "is_lost" : "is_live"));
  byId("live").classList.toggle("lost", Boolean(live.lost));
  setText(byId("version"), live.document?.version ?? "");
  drawBanners();
  drawOverview();
  drawOpen();
}

/** Only what can be seen is drawn. */
function drawOpen() {
  if (view === "backends") backends.draw();
  if (view === "events") drawEvents();
  if (view === "edge") drawEdge();
  panel?.draw();
}

/** `#/requests` is a view; `#/backend/web/b2` and `#/request/ID` open the panel beside the one that is there. */
function route() {
  if (location.hash && !location.hash.startsWith("#/")) return;  // the link past the navigation
  const [place, ...names] = location.hash.slice(2).split("/").map(decoded);
  if (place === "backend" && names.length === 2) return openPanel(() => new BackendPanel(...names));
  if (place === "request" && names.length === 1) return openPanel(() => new RequestPanel(...names));
  closePanel();
  view = VIEWS.includes(place) ? place : VIEWS[0];
  for (const section of document.querySelectorAll("[data-view]")) section.hidden = section.id !== `view-${view}`;
  for (const link of byId("tabs").children) {
    if (link.getAttribute("href") === (view === "backends" ? "#/" : `#/${view}`)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  showRequests(view === "requests");
  drawOpen();
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function openPanel(make) {
  if (panelAt === location.hash) return;
  if (!panel) cameFrom = document.activeElement;
  panel?.close();
  panelAt = location.hash;
  panel = make();
  setText(byId("panel-title"), panel.title);
  byId("panel-body").replaceChildren(panel.node);
  byId("panel").hidden = false;
  byId("panel").scrollTop = 0;
  byId("panel-title").focus({ preventScroll: true });
}

function closePanel() {
  if (!panel) return;
  panel.close();
  [panel, panelAt] = [null, ""];
  byId("panel").hidden = true;
  byId("panel-body").replaceChildren();
  if (cameFrom?.isConnected) cameFrom.focus({ preventScroll: true });
}

const leavePanel = () => { location.hash = view === "backends" ? "#/" : `#/${view}`; };

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape" && panel) leavePanel();
  if (event.key === "/" && view === "backends" && !event.target.closest("input, select, textarea")) {
    event.preventDefault();
    byId("filter").focus();
  }
}

translate(document);
setUpOverview();
backends.setUpBackends();
setUpRequests();
setUpEvents();
setUpEdge();
byId("panel-close").addEventListener("click", leavePanel);
addEventListener("hashchange", route);
addEventListener("keydown", onKey);
byId("app").hidden = false;
onLive(draw);
route();
await lookNow();
followEvents(drawOpen);
followHistory(() => { if (!seeded) beginLines(); seeded = true; drawOpen(); });
