// Where data comes from: TensorBoard's routes, or what a report file carries within itself.
import { readFrames, readMaps } from "./decode.js";

const SCHEMA = 1;
const KEPT = 16; // checkpoints: of four targets they take 90 MB

function embedded() {
  const carrier = document.getElementById("rlwatch-data");
  if (!carrier) return null;
  embedded.parsed ??= JSON.parse(carrier.textContent);
  return embedded.parsed;
}

export function isReport() {
  return document.getElementById("rlwatch-data") !== null;
}

// The answer of one endpoint as a Response; throws with the server's words where there is none.
async function open(endpoint, run, step) {
  const carried = embedded();
  if (carried) return fromReport(carried, endpoint, run, step);
  const query = new URLSearchParams();
  if (run !== undefined) query.set("run", run);
  if (step !== undefined) query.set(endpoint === "checkpoints" ? "since" : "step", step);
  const response = await fetch(`./${endpoint}${query.size ? `?${query}` : ""}`);
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error ?? `${endpoint}: the server answered ${response.status}`);
}

function fromReport(carried, endpoint, run, step) {
  const path = [endpoint, run, step].filter((part) => part !== undefined);
  const found = path.reduce((inner, key) => (inner && Object.hasOwn(inner, key) ? inner[key] : undefined), carried);
  if (found === undefined) throw new Error(`this report holds no ${path.join(" ")}`);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(typeof found === "string" ? bytes(found) : JSON.stringify(found));
}

async function json(endpoint, run, step) {
  const answer = await (await open(endpoint, run, step)).json();
  if ((answer.schema ?? SCHEMA) > SCHEMA) {
    throw new Error(
      `this run was written by a newer rlwatch (format ${answer.schema}, this page reads ${SCHEMA}): upgrade`,
    );
  }
  return answer;
}

// {runs: [{run, checkpoints, game}…], without: runs that have nothing for the tab}
export async function listRuns() {
  const { runs, without = [] } = await json("runs");
  return { runs, without };
}

// What a report file left out, in words; empty in TensorBoard.
export function leftOut() {
  return embedded()?.thinned ?? "";
}

// All of a run but its maps. A part that is missing is null, with the reason in `missing`.
export async function loadRun(run) {
  const missing = {};
  const attempt = (part, loading) => loading.catch((error) => ((missing[part] = error.message), null));
  const [probe, frames, checkpoints, returns] = await Promise.all([
    attempt("probe", json("probe", run)),
    attempt(
      "frames",
      open("frames", run).then((response) => response.arrayBuffer()),
    ),
    attempt("checkpoints", json("checkpoints", run)),
    attempt("returns", json("returns", run)),
  ]);
  const decoded = probe && frames ? await attempt("frames", readFrames(frames, probe)) : null;
  const { checkpoints: told = [], unreadable = 0 } = checkpoints ?? {};
  return { run, probe, frames: decoded, checkpoints: told, unreadable, returns: returns?.tags ?? {}, missing };
}

// What came in since the checkpoint before the last that is known: the last one may have been completed.
export async function refreshRun(known) {
  if (isReport()) return known;
  const before = known.checkpoints.at(-2)?.step;
  if (before === undefined || !known.probe) return loadRun(known.run);
  const [fresh, returns] = await Promise.all([
    json("checkpoints", known.run, before).catch(() => null),
    json("returns", known.run).then(
      (answer) => answer.tags,
      () => known.returns,
    ),
  ]);
  if (!fresh) return { ...known, returns };
  const checkpoints = [...known.checkpoints.slice(0, -1), ...fresh.checkpoints];
  const isWhole = checkpoints.length === fresh.made; // a training that was taken up again may have gone back further
  return isWhole ? { ...known, checkpoints, returns } : loadRun(known.run);
}

// Maps of checkpoints, the latest used kept; an answer that failed is asked for again.
const keptMaps = new Map();

export function loadMaps(run, step) {
  return kept("maps", run, step);
}

// The same of every action.
export function loadActions(run, step) {
  return kept("actions", run, step);
}

function kept(endpoint, run, step) {
  const key = `${endpoint} ${step} ${run}`;
  const known = keptMaps.get(key);
  keptMaps.delete(key);
  const loading =
    known ??
    open(endpoint, run, step)
      .then((response) => response.arrayBuffer())
      .then(readMaps);
  keptMaps.set(key, loading);
  if (!known) loading.catch(() => keptMaps.delete(key));
  if (keptMaps.size > KEPT) keptMaps.delete(keptMaps.keys().next().value);
  return loading;
}
