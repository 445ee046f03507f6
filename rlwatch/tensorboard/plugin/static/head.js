// The head of the page: which run, target and checkpoint, and in one sentence what is to be seen there.
import { brief, button, el, fill, isNumber, offer, segmented, swatch, whole } from "./dom.js";
import {
  checkpointAt,
  coloursOf,
  indexAt,
  isLookedAt,
  measuredAt,
  objectsAt,
  sideOf,
  targetsOf,
  wordsOf,
} from "./model.js";
import { leftOut } from "./source.js";

export function head(app, sharing) {
  const row = el("div", { className: "row" }, runPickers(app), targetPicker(app), checkpointPicker(app), sharing);
  return el("div", { className: "head" }, row, headline(app), notices(app));
}

// What the page does not know of this run, and why.
function notices({ store, data }) {
  const line = el("p", { className: "note", id: "notices" });
  store.on(["data", "run"], (state) => {
    const { checkpoints = [], unreadable, missing = {} } = data.loaded.get(state.run) ?? {};
    const reasons = checkpoints.length ? Object.entries(missing).map(([part, reason]) => `no ${part}: ${reason}`) : [];
    const damaged = unreadable ? `${unreadable} checkpoints of this run cannot be read` : "";
    const ended = endOf(checkpoints);
    line.textContent = [ended, leftOut(), damaged, ...reasons].filter(Boolean).join(" · ");
    line.classList.toggle("bad", Boolean(ended));
  });
  return line;
}

// Since when there are no checkpoints any more, and why; a note of the last one says it.
function endOf(checkpoints) {
  return checkpoints.at(-1)?.notes?.find((note) => note.includes("nothing could be explained"));
}

function runPickers({ store, data }) {
  const run = el("select", { ariaLabel: "run", id: "run" });
  run.onchange = () => store.set({ run: run.value, step: null, frame: null, shown: null, object: "" });
  store.on(["data", "run"], (state) => {
    offer(run, namesOfRuns(data), state.run);
    run.title = state.run;
  });
  return el("div", { className: "runs" }, "Run ", run, overlays({ store, data }));
}

function namesOfRuns(data) {
  return data.runs.map((one) => one.run);
}

// A list of the other runs, each of which can be laid over the chosen one.
function overlays({ store, data }) {
  const filter = el("input", { type: "search", placeholder: "filter runs", ariaLabel: "filter runs" });
  const list = el("div", { className: "choices" });
  const summary = el("summary", { title: "Lay other runs over this one" });
  const menu = el("details", { className: "menu", id: "others" }, summary, el("div", {}, filter, list));
  const flip = (name, chosen) =>
    store.set({ others: chosen.includes(name) ? chosen.filter((one) => one !== name) : [...chosen, name] });
  const draw = ({ run, others }) => {
    const words = filter.value.toLowerCase();
    const names = namesOfRuns(data).filter((name) => name !== run);
    const fitting = names.filter((name) => name.toLowerCase().includes(words));
    fill(list, ...fitting.map((name) => checkbox(name, others.includes(name), () => flip(name, others))));
    summary.textContent = others.length ? `+ ${others.length}` : "+ runs";
    menu.hidden = !names.length;
  };
  filter.oninput = () => draw(store.get());
  store.on(["data", "run", "others"], draw);
  return menu;
}

function checkbox(name, checked, onchange) {
  return el("label", {}, el("input", { type: "checkbox", checked, onchange }), ` ${name}`);
}

function targetPicker({ store, data }) {
  const box = el("span");
  store.on(["data", "run", "target"], (state) => {
    const words = (one) => wordsOf(one, data.loaded.get(state.run)?.probe?.actions);
    const choices = targetsOf(data, state.run).map((one) => [one, words(one).button, words(one).title]);
    const made = segmented("target", choices, (target) => store.set({ target, map: "" }));
    made.press(state.target);
    fill(box, made.element);
  });
  return el("div", { className: "targets" }, "What the ", box, " rests on");
}

function checkpointPicker({ store, data }) {
  const checkpoints = () => data.loaded.get(store.get().run)?.checkpoints ?? [];
  const slider = el("input", { type: "range", min: 0, ariaLabel: "checkpoint", id: "step" });
  const move = (by) => store.set(moved(store.get(), checkpoints(), by));
  const told = el("span", { className: "number", id: "told" });
  slider.oninput = () => store.set({ step: stepAt(checkpoints(), +slider.value) });
  store.on(["data", "run", "step"], (state) => {
    const at = indexAt(checkpoints(), state.step);
    Object.assign(slider, { max: Math.max(0, checkpoints().length - 1) });
    slider.value = at;
    const one = checkpoints()[at];
    told.textContent = one
      ? `step ${whole(one.step)} · return ${brief(one.returns)} · ${at + 1}/${checkpoints().length}`
      : "no checkpoint yet";
  });
  const arrow = (text, by, title) => button(text, () => move(by), { title, className: "arrow" });
  return el(
    "div",
    { className: "checkpoint" },
    arrow("◀", -1, "Checkpoint before (↓)"),
    slider,
    arrow("▶", 1, "Next checkpoint (↑)"),
    told,
  );
}

// The newest checkpoint is "the newest" and not a number, so that the page follows a run that goes on.
function stepAt(checkpoints, at) {
  return at >= checkpoints.length - 1 ? null : checkpoints[at].step;
}

export function moved(state, checkpoints, by) {
  if (!checkpoints.length) return {};
  const at = Math.max(0, Math.min(checkpoints.length - 1, indexAt(checkpoints, state.step) + by));
  return { step: stepAt(checkpoints, at) };
}

function headline({ store, data }) {
  const line = el("p", { className: "headline", ariaLive: "polite" });
  store.on(["data", "run", "target", "step"], (state) => {
    const checkpoint = checkpointAt(data, sideOf(state, 0));
    if (!checkpoint) return fill(line, warming(data.loaded.get(state.run)));
    return fill(
      line,
      `At step ${whole(checkpoint.step)} ${wordsOf(state.target).rests} `,
      ...restsOn(checkpoint, state.target, coloursOf(data, state.run)),
    );
  });
  return line;
}

function warming(loaded) {
  if (!loaded) return "Loading…";
  const reason = loaded.missing.probe ?? loaded.missing.checkpoints;
  return reason
    ? `This run cannot be shown: ${reason}`
    : "This run is warming up: its first checkpoint has not been written yet.";
}

function untrainedOrChance(checkpoint, target) {
  return checkpoint.untrained?.[target] ? "an untrained network" : "chance";
}

// From this part on a place without a name is told, as it is in the notes.
const MUCH = 1 / 3;

function onNoObject(checkpoint, target) {
  const { gini, spot } = measuredAt(checkpoint, target);
  if (!isNumber(gini)) return "nothing at all: no map holds positive relevance.";
  if (spot?.share > MUCH)
    return `a place that belongs to no object: ${Math.round(100 * spot.share)} % of it around line ${Math.round(spot.y)}, column ${Math.round(spot.x)}.`;
  return `nothing in particular: no object stands clearly above ${untrainedOrChance(checkpoint, target)}.`;
}

function restsOn(checkpoint, target, colours) {
  const objects = objectsAt(checkpoint, target);
  const looked = Object.keys(objects).filter((name) => isLookedAt(checkpoint, target, name));
  looked.sort((one, other) => objects[other].lift - objects[one].lift);
  if (!Object.keys(objects).length) return ["places without a name: no objects are known in this game."];
  if (!looked.length) return [onNoObject(checkpoint, target)];
  const parts = looked
    .slice(0, 4)
    .map((name) => el("b", {}, swatch(colours[name]), `${name} ${brief(objects[name].lift)}×`));
  const spaced = parts.flatMap((part, i) => [i === 0 ? "the " : i === parts.length - 1 ? " and the " : ", the ", part]);
  const untold = isNumber(checkpoint.returns) ? "" : " (no return told yet)";
  return [...spaced, ` the average pixel.${untold}`];
}
