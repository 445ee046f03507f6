// The timeline: what each object gets, checkpoint by checkpoint. Pointing reads values, a click goes to a checkpoint.
import { usual, nearest } from "./curves.js";
import {
  brief,
  button,
  el,
  fill,
  flag,
  isNumber,
  offer,
  percent,
  segmented,
  sized,
  swatch,
  toggle,
  whole,
} from "./dom.js";
import { MEASURES, checkpointAt, coloursOf, probeOf, shownObjects, sideOf, wordsOf } from "./model.js";
import { paintChosen, paintPlot } from "./paint.js";
import { canCompare, isLogarithmic, makePlot } from "./plot.js";

const STYLES = ["———", "— —", "······", "— · —"]; // of DASHES in plot.js
const CONTENT = [
  "data",
  "run",
  "others",
  "mean",
  "target",
  "measure",
  "scale",
  "shown",
  "object",
  "published",
  "returns",
];
const CHOSEN = [...CONTENT, "step", "step2", "run2", "compare"];

export function timeline({ store, data }) {
  const below = el("canvas", { className: "fill" });
  const above = el("canvas", { className: "fill", id: "timeline", role: "img", ariaLabel: "curves over the training" });
  const tip = el("div", { className: "tip", hidden: true });
  const box = el("div", { className: "plot dark" }, below, above, tip);
  const note = el("p", { className: "note" });
  const element = el(
    "section",
    { className: "card timeline" },
    measureControls(store, data),
    legend(store, data),
    box,
    note,
  );
  const view = { below, above, tip, note, plot: null, hovered: null };
  const redraw = () => drawAll(view, data, store.get());
  store.on(CONTENT, redraw);
  store.on(CHOSEN, () => drawChosen(view, data, store.get()));
  new ResizeObserver(redraw).observe(box);
  above.onpointermove = (event) => hover(view, data, store.get(), event);
  above.onpointerleave = () => hover(view, data, store.get(), null);
  above.onclick = (event) => store.set({ step: stepBelow(view.plot, event.offsetX) });
  return element;
}

function measureControls(store, data) {
  const measures = Object.entries(MEASURES).map(([name, { text, title }]) => [name, text, title]);
  const measure = segmented("measure", measures, (chosen) => store.set({ measure: chosen }));
  const flip = () => store.set({ scale: store.get().scale === "log" ? "linear" : "log" });
  const log = toggle("log", flip, { title: "Logarithmic or linear axis" });
  const mean = flag(store, "mean", "mean of runs", { title: "One curve: the mean over the runs, with their range" });
  const title = "Lapuschkin et al. 2019, Fig. 2c: dotted, on its own axis of epochs";
  const published = flag(store, "published", "published 2019", { title });
  const returns = returnPicker(store, data);
  store.on(CONTENT, (state) => {
    measure.press(state.measure);
    log.press(isLogarithmic(state));
    log.element.disabled = state.measure === "share";
    mean.hidden = !state.others.length;
    published.hidden = !canCompare(data, state);
  });
  const heading = el("h2", { textContent: "Timeline" });
  return el("header", {}, heading, measure.element, log.element, mean, published, returns);
}

// Which of the training's returns is drawn, where it logged more than one.
function returnPicker(store, data) {
  const select = el("select", { ariaLabel: "return", id: "returns", title: "Which return is drawn" });
  select.onchange = () => store.set({ returns: select.value });
  store.on(["data", "run", "returns"], ({ run, returns }) => {
    const loaded = data.loaded.get(run);
    const tags = Object.keys(loaded?.returns ?? {});
    offer(select, tags, tags.includes(returns) ? returns : usual(loaded));
    select.hidden = tags.length < 2;
  });
  return select;
}

function legend(store, data) {
  const row = el("div", { className: "legend" });
  const flip = (name) => {
    const shown = shownObjects(data, { ...store.get(), object: "" });
    store.set({ shown: shown.includes(name) ? shown.filter((one) => one !== name) : [...shown, name] });
  };
  store.on(CONTENT, (state) => {
    const colours = coloursOf(data, state.run);
    const shown = shownObjects(data, state);
    fill(row, ...Object.keys(colours).map((name) => chip(name, colours[name], shown.includes(name), () => flip(name))));
  });
  return row;
}

function chip(name, colour, pressed, onclick) {
  const made = button("", onclick, { className: "chip", title: `Show or hide ${name}` });
  made.append(swatch(colour), name);
  made.setAttribute("aria-pressed", String(pressed));
  made.dataset.object = name;
  return made;
}

function drawAll(view, data, state) {
  if (!data.loaded.get(state.run)) return;
  const { context, width, height } = sized(view.below);
  if (width < 10) return;
  view.plot = makePlot(data, state, width, height);
  paintPlot(context, view.plot, width, height);
  view.note.textContent = explained(view.plot, state, data);
  drawChosen(view, data, state);
}

function explained(plot, state, data) {
  if (!plot.lines.length) return "No object is chosen, or none is known: only the return is drawn.";
  const parts = [`${state.measure} (${wordsOf(state.target).button}): ${MEASURES[state.measure].unit}`];
  if (state.measure === "lift") parts.push("1 = no preference");
  const averaged = state.mean && plot.runs.length > 1;
  if (averaged) parts.push(`mean of ${plot.runs.length} runs, as far as all have got · band: their range`);
  else if (state.measure === "lift") parts.push("band: 95 % interval");
  if (plot.untrained.length) parts.push("thin dashes: untrained");
  if (plot.marks.some((mark) => mark.kind === "onset" && mark.line)) parts.push("ring: looked at from here on");
  const isBelow = plot.isLog && plot.lines.some((one) => one.values.some((value) => value < plot.low));
  if (isBelow) parts.push(`at the bottom: ${brief(plot.low)} or less`);
  if (plot.returns.some((one) => one.steps.length)) parts.push(`grey: return (${plot.returns[0].tag})`);
  if (plot.runs.length > 1 && !state.mean) parts.push(`line styles: ${plot.runs.map(styled).join(", ")}`);
  const other = otherProbes(plot.runs, data);
  if (other.length) parts.push(`on another probe, so not to be compared: ${other.join(", ")}`);
  if (plot.published.length)
    parts.push("dotted: Lapuschkin et al. 2019, other masks: compare the order, not the height");
  return `${parts.join(" · ")}.`;
}

// Those of the runs whose checkpoints were asked about other frames than the first one's.
function otherProbes([first, ...others], data) {
  const digest = probeOf(data, first);
  return others.filter((run) => digest && probeOf(data, run) && probeOf(data, run) !== digest);
}

function styled(run, i) {
  return `${STYLES[i % STYLES.length]} ${run}`;
}

function drawChosen(view, data, state) {
  if (!view.plot) return;
  const { context, width, height } = sized(view.above);
  const sides = state.compare ? [0, 1] : [0];
  const chosen = sides.map((side) => checkpointAt(data, sideOf(state, side))?.step).filter(isNumber);
  paintChosen(context, view.plot, width, height, { chosen, hovered: view.hovered });
}

function stepBelow(plot, left) {
  return plot.steps.length ? plot.steps[nearest(plot.steps, plot.x.back(left))] : null;
}

function hover(view, data, state, event) {
  const { plot, tip } = view;
  const within = plot && event && event.offsetX > plot.box.left - 12 && event.offsetX < plot.box.right + 12;
  view.hovered = within ? stepBelow(plot, event.offsetX) : null;
  tip.hidden = view.hovered === null;
  if (!tip.hidden) {
    fill(tip, ...readings(plot, view.hovered, state));
    const left = plot.x.at(view.hovered);
    tip.style.left = `${left > view.above.clientWidth / 2 ? left - tip.offsetWidth - 14 : left + 14}px`;
    tip.style.top = `${Math.max(2, Math.min(event.offsetY - 20, view.above.clientHeight - tip.offsetHeight - 2))}px`;
  }
  drawChosen(view, data, state);
}

const MOST_ROWS = 12;

function readings(plot, step, { measure }) {
  const words = measure === "share" ? percent : brief;
  const many = new Set(plot.lines.map((one) => one.run)).size > 1;
  const lines = plot.lines.filter((one) => one.steps.length);
  const rows = lines.slice(0, MOST_ROWS).map((one) => readingOf(one, step, words, many ? ` · ${one.run}` : ""));
  const hidden = lines.length - rows.length;
  const returns = plot.returns
    .filter((one) => one.steps.length)
    .map((one) => `return${many ? ` · ${one.run}` : ""} ${brief(one.values[nearest(one.steps, step)])}`);
  const told = [hidden > 0 ? `and ${hidden} more curves` : "", ...returns].filter(Boolean);
  const close = plot.marks.filter((mark) => Math.abs(plot.x.at(mark.step) - plot.x.at(step)) < 7);
  return [
    el("strong", { textContent: `step ${whole(step)}` }),
    ...rows,
    ...told.map((textContent) => el("div", { textContent })),
    ...close.map((mark) => el("div", { className: "mark", textContent: mark.text })),
  ];
}

function readingOf({ name, colour, steps, values, low, high }, step, words, run) {
  const i = nearest(steps, step);
  const range = high && isNumber(low[i]) ? ` [${words(low[i])}, ${words(high[i])}]` : "";
  return el("div", {}, swatch(colour), `${name}${run} `, el("b", { textContent: words(values[i]) }), range);
}
