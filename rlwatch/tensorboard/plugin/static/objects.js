// The table of objects at the chosen checkpoint. A click on a row singles its object out everywhere.
import { curveOf } from "./curves.js";
import { brief, button, el, fill, isNumber, percent, swatch, whole } from "./dom.js";
import {
  causalAt,
  checkpointAt,
  coloursOf,
  has,
  indexAt,
  isLookedAt,
  lookingFrom,
  namesOf,
  objectsAt,
  sideOf,
} from "./model.js";
import { trustLights } from "./trust.js";

const WHEN = ["data", "run", "target", "step", "sort", "object"];
const COLUMNS = [
  { key: "name", text: "object", title: "Click a row to outline only that object" },
  {
    key: "lift",
    text: "lift",
    title: "Mean relevance of the object's pixels / mean of all pixels. 1 = no preference, 0 = ignored",
  },
  { key: "low", text: "95 % interval", title: "Bootstrap over the probe's episodes" },
  { key: "untrained", text: "untrained", title: "Lift in the same network with random weights: the baseline" },
  { key: "share", text: "share for", title: "Share of all positive relevance" },
  { key: "share_negative", text: "share against", title: "Share of all negative relevance: what speaks against" },
  {
    key: "effect",
    text: "effect",
    title: "|ΔQ| when the object is changed, in Q units; behind it, the control: as much changed elsewhere",
    causal: true,
  },
  { key: "trend", text: "trend", title: "Lift over all checkpoints of the run" },
  {
    key: "verdict",
    text: "",
    title: "Looked at: the whole interval lies above twice chance and twice the untrained networks",
  },
];

export function objectTable({ store, data }) {
  const body = el("tbody");
  const head = el("tr");
  const table = el("table", { className: "objects" }, el("thead", {}, head), body);
  const heading = el("h2", { textContent: "Objects" });
  const empty = el("p", { className: "note" });
  const element = el(
    "section",
    { className: "card" },
    el("header", {}, heading, trustLights({ store, data })),
    el("div", { className: "scroll" }, table),
    empty,
  );
  store.on(WHEN, (state) => {
    const side = sideOf(state, 0);
    const checkpoint = checkpointAt(data, side);
    const { checkpoints = [], probe } = data.loaded.get(side.run) ?? {};
    const columns = COLUMNS.filter((one) => !one.causal || has(checkpoints, "causal"));
    const rows = sorted(rowsOf(checkpoint, state.target, namesOf(data, side.run)), state.sort);
    fill(head, ...(rows.length ? columns : []).map((one) => headCell(one, state.sort, (sort) => store.set({ sort }))));
    fill(body, ...rows.map((row) => tableRow(row, columns, { state, store, data, checkpoints })));
    empty.textContent = rows.length ? "" : noObjects(probe, checkpoint);
  });
  return element;
}

function noObjects(probe, checkpoint) {
  if (!checkpoint) return "No checkpoint has been written yet: the run is still warming up.";
  return `No objects are known in ${probe?.game ?? "this game"}: the player shows its heat all the same.`;
}

// One record per object, those that are never measured too, so that nothing goes missing in silence.
function rowsOf(checkpoint, target, names) {
  const measured = objectsAt(checkpoint, target);
  const causal = causalAt(checkpoint, target);
  const untrained = checkpoint?.untrained?.[target] ?? {};
  return [...new Set([...names, ...Object.keys(measured)])].map((name) => ({
    name,
    ...measured[name],
    untrained: untrained[name]?.lift,
    effect: causal[name]?.effect,
    control: causal[name]?.control,
    looked: isLookedAt(checkpoint, target, name),
    from: lookingFrom(checkpoint, target, name),
    chance: lookingFrom(checkpoint, target, name) / 2,
  }));
}

function sorted(rows, sort) {
  const [key, down] = sort.startsWith("-") ? [sort.slice(1), -1] : [sort, 1];
  const rank = (row) => (key === "trend" || key === "verdict" ? row.lift : row[key]) ?? -Infinity;
  return [...rows].sort(
    (one, other) => (key === "name" ? one.name.localeCompare(other.name) : rank(one) - rank(other)) * down,
  );
}

function headCell({ key, text, title }, sort, onsort) {
  const down = sort === `-${key}`;
  const chosen = down || sort === key;
  const label = `${text}${chosen ? (down ? " ▾" : " ▴") : ""}`;
  const made = button(label, () => onsort(down || (key === "name" && !chosen) ? key : `-${key}`), {
    title,
    dataset: { sort: key },
  });
  return el(
    "th",
    { ariaSort: chosen ? (down ? "descending" : "ascending") : "none", className: `at-${key}` },
    key === "verdict" ? "" : made,
  );
}

function tableRow(row, columns, { state, store, data, checkpoints }) {
  const colour = coloursOf(data, state.run)[row.name];
  const choose = () => store.set({ object: state.object === row.name ? "" : row.name });
  const cells = columns.map(({ key }) =>
    el("td", { className: `at-${key}` }, cellOf(key, row, { colour, checkpoints, state })),
  );
  const made = el(
    "tr",
    {
      onclick: choose,
      tabIndex: 0,
      dataset: { object: row.name },
      className: state.object === row.name ? "chosen" : "",
    },
    ...cells,
  );
  made.addEventListener("keydown", (event) => event.key === "Enter" && choose());
  return made;
}

function cellOf(key, row, { colour, checkpoints, state }) {
  if (key === "name") return el("span", {}, swatch(colour), row.name);
  if (key === "lift") return el("span", { title: intervalOf(row), textContent: brief(row.lift) });
  if (key === "low") return intervalOf(row);
  if (key === "share" || key === "share_negative") return percent(row[key]);
  if (key === "effect") return isNumber(row.effect) ? `${brief(row.effect)} (${brief(row.control)})` : "–";
  if (key === "trend") return sparkline(checkpoints, state, row.name, colour);
  if (key === "verdict") return verdict(row);
  return brief(row[key]);
}

function intervalOf({ low, high }) {
  return isNumber(low) ? `${brief(low)} to ${brief(high)}` : "–";
}

// What the interval says, against twice chance and the untrained networks.
function verdict({ lift, low, high, frames, looked, from, chance }) {
  if (!frames) return light("unknown", "not on screen", "Never visible in the probe");
  if (!isNumber(lift)) return light("unknown", "no relevance", "The maps of the frames that show it hold nothing positive");
  if (!isNumber(low)) return light("unknown", "no interval", "One episode shows it: how sure its lift is cannot be told");
  if (looked) return light("good", "looked at", `The whole interval lies above ${brief(from)}`);
  if (low > chance) return light("some", "a little", `Above ${brief(chance)}, looked at from ${brief(from)} on`);
  if (high < 1) return light("", "below chance", "The whole interval lies below 1");
  const words = low > 1 ? "as untrained" : "as by chance";
  return light("", words, `Looked at from a lift of ${brief(from)} on, with the whole interval`);
}

function light(kind, textContent, title) {
  return el("span", { className: `light ${kind}`, textContent, title });
}

// Drawn once per run and object, kept as a picture; the chosen checkpoint is a line upon it.
const sparklines = new WeakMap();

function sparkline(checkpoints, { target, step }, name, colour) {
  if (!sparklines.has(checkpoints)) sparklines.set(checkpoints, new Map());
  const known = sparklines.get(checkpoints);
  const key = `${target} ${name}`;
  if (!known.has(key)) known.set(key, drawnSparkline(curveOf(checkpoints, target, name, "lift"), colour));
  const last = checkpoints.length - 1;
  const at = last > 0 ? indexAt(checkpoints, step) / last : 1;
  const line = el("i", { style: { left: `${100 * at}%` } });
  return el(
    "span",
    { className: "spark", title: `Lift of ${name} over ${whole(last + 1)} checkpoints` },
    known.get(key),
    line,
  );
}

function drawnSparkline({ values }, colour) {
  const canvas = el("canvas", { width: 168, height: 36 });
  const context = canvas.getContext("2d");
  const most = Math.max(...values.filter(Number.isFinite), 2);
  const x = (i) => (values.length > 1 ? 2 + (i / (values.length - 1)) * 164 : 166);
  context.beginPath();
  if (values.length === 1) context.moveTo(150, 33 - (values[0] / most) * 30);
  values.forEach((value, i) => Number.isFinite(value) && context.lineTo(x(i), 33 - (value / most) * 30));
  Object.assign(context, { strokeStyle: colour, lineWidth: 2.5, lineJoin: "round" });
  context.stroke();
  return canvas;
}
