// The RLWATCH tab. TensorBoard imports this module into an iframe and calls render(); a report file does the same.
import { el, fill } from "./dom.js";
import { alarmBanner, findingsList } from "./findings.js";
import { head } from "./head.js";
import { followTheme, onReload } from "./host.js";
import { listenToKeys } from "./keys.js";
import { targetsOf } from "./model.js";
import { objectTable } from "./objects.js";
import { player } from "./player.js";
import { shareButtons } from "./share.js";
import { isReport, listRuns, loadRun, refreshRun } from "./source.js";
import { createStore, fromHash, keepInAddress } from "./state.js";
import { strategySheet } from "./strategies.js";
import { timeline } from "./timeline.js";

// What the parts import is named here too, so that the browser asks for all at once and not for one floor after the other.
import "./actions.js";
import "./axis.js";
import "./csv.js";
import "./curves.js";
import "./decode.js";
import "./film.js";
import "./gif.js";
import "./moments.js";
import "./paint.js";
import "./picture.js";
import "./plot.js";
import "./published.js";
import "./screen.js";
import "./second.js";
import "./side.js";
import "./trust.js";

export async function render() {
  await style();
  followTheme();
  document.title = "rlwatch";
  const page = el("main", { id: "page" });
  document.body.append(page);
  const app = {
    store: createStore(fromHash(location.hash)),
    data: { runs: [], without: [], loaded: new Map() },
    sides: [],
  };
  onReload(() => refresh(app, page));
  await refresh(app, page);
  document.body.dataset.ready = performance.now();
}

// A report file holds its style already.
function style() {
  return isReport() ? null : Promise.all(["page.css", "player.css"].map(loadSheet));
}

function loadSheet(name) {
  const sheet = el("link", { rel: "stylesheet", href: `./static/${name}` });
  document.head.append(sheet);
  return new Promise((resolve) => Object.assign(sheet, { onload: resolve, onerror: resolve }));
}

// Asks anew for runs and checkpoints; the page is laid out once there is a run to show.
async function refresh(app, page) {
  const { store, data } = app;
  try {
    Object.assign(data, await listRuns());
  } catch (error) {
    if (!data.runs.length) fill(page, trouble(error));
    return;
  }
  if (!data.runs.length) return void fill(page, beginning(data.without));
  settleRuns(app);
  await loadChosen(app, true);
  settleTarget(app);
  if (!page.querySelector(".head")) layOut(app, page);
  store.set({ data: store.get().data + 1 });
}

// An address may name runs and targets that are not here, or not any more.
function settleRuns({ store, data }) {
  const { run, run2, others, step } = store.get();
  const isHere = (name) => data.runs.some((one) => one.run === name);
  if (!isHere(run)) store.set({ run: mostTold(data.runs).run, step: run ? null : step });
  store.set({ run2: isHere(run2) ? run2 : "", others: others.filter(isHere) });
}

function settleTarget({ store, data }) {
  const { run, target } = store.get();
  const [first = target] = targetsOf(data, run);
  if (!targetsOf(data, run).includes(target)) store.set({ target: first });
}

function mostTold(runs) {
  return runs.reduce((best, one) => (one.checkpoints > best.checkpoints ? one : best), runs[0]);
}

async function loadChosen({ store, data }, again = false) {
  const { run, others, run2 } = store.get();
  const chosen = [...new Set([run, ...others, run2])].filter((name) => data.runs.some((one) => one.run === name));
  const load = async (name) => {
    const known = data.loaded.get(name);
    if (!known || again) data.loaded.set(name, known ? await refreshRun(known) : await loadRun(name));
  };
  await Promise.all(chosen.map(load));
}

function layOut(app, page) {
  const { store } = app;
  const left = el("div", { className: "column" }, timeline(app), objectTable(app), strategySheet(app));
  const right = el("div", { className: "column" }, player(app), findingsList(app));
  const sharing = shareButtons(app, () => page);
  fill(page, head(app, sharing), alarmBanner(app), el("div", { className: "columns" }, left, right));
  store.on(["run", "others", "run2"], () => follow(app));
  store.on(["compare"], (state) => page.classList.toggle("comparing", state.compare));
  page.classList.toggle("comparing", store.get().compare);
  keepInAddress(store);
  listenToKeys(app);
}

// Loads what other runs were chosen, and tells all parts that it is there.
async function follow(app) {
  settleRuns(app);
  await loadChosen(app);
  settleTarget(app);
  app.store.set({ data: app.store.get().data + 1 });
}

function beginning(without) {
  const code = (text) => el("pre", { textContent: text });
  return el(
    "section",
    { className: "card beginning" },
    el("h1", { textContent: "No run with rlwatch data here yet" }),
    el("p", {
      textContent: "See what a DQN looks at while it trains. A demo, from a clone of rlwatch, takes a few minutes:",
    }),
    code("make demo"),
    el("p", { textContent: "Your own training needs one line; then point TensorBoard at that folder and reload:" }),
    code(
      'from rlwatch import Watch\n\nwatch = Watch(q_network, probe="breakout", logdir="runs/x")\nwatch(step)   # in your loop',
    ),
    el("p", { className: "note", textContent: without.length ? otherRuns(without) : "" }),
  );
}

// Such as those that `rlwatch compare --logdir` writes.
function otherRuns(without) {
  return `With curves in Scalars, but nothing for this tab: ${without.join(", ")}.`;
}

function trouble(error) {
  return el(
    "section",
    { className: "card beginning" },
    el("h1", { textContent: "The runs cannot be listed" }),
    el("p", { textContent: error.message }),
  );
}
