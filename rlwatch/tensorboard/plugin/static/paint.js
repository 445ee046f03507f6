// The timeline on its canvases: one for what stays, one above it for the chosen checkpoint and the pointer.
import { nearest } from "./curves.js";
import { percent, short } from "./dom.js";
import { LONGEST_NAME, NAMES } from "./plot.js";

const INK = "#e8eaed";
const FAINT = "#9aa0ab";
const GRID = "rgba(255,255,255,.09)";
const RETURN = "rgba(176,186,204,.9)";
const ALARM = "#ffb000";
const FONT = "11px system-ui, Roboto, sans-serif";

export function paintPlot(context, plot, width, height) {
  context.clearRect(0, 0, width, height);
  context.font = FONT;
  paintAxes(context, plot);
  inside(context, plot.box, () => {
    plot.returns.forEach((one, i) => paintReturn(context, plot, one, i === 0));
    plot.untrained.forEach((one) => paintUntrained(context, plot, one));
    plot.lines.filter((one) => one.main && one.high).forEach((one) => paintBand(context, plot, one));
    plot.published.forEach((one) => paintPublished(context, plot, one));
    plot.lines.forEach((one) => paintLine(context, plot, one));
  });
  paintNames(context, plot);
  plot.marks.forEach((mark) => paintMark(context, plot, mark));
}

function inside(context, box, draw) {
  context.save();
  context.beginPath();
  context.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
  context.clip();
  draw();
  context.restore();
}

function paintAxes(context, plot) {
  const { box, x, y, r, state } = plot;
  const words = state.measure === "share" ? percent : plain;
  y.ticks.forEach((tick) => {
    rule(
      context,
      box.left,
      y.at(tick),
      box.right,
      y.at(tick),
      tick === 1 && state.measure === "lift" ? "rgba(255,255,255,.35)" : GRID,
    );
    write(context, words(tick), box.left - 6, y.at(tick), "right");
  });
  x.ticks.filter(Number.isInteger).forEach((tick) => {
    rule(context, x.at(tick), box.bottom, x.at(tick), box.bottom + 4, FAINT);
    write(context, short(tick), x.at(tick), box.bottom + 12, "center");
  });
  write(context, "agent steps", (box.left + box.right) / 2, box.bottom + 25, "center");
  write(context, `${state.measure}${plot.isLog ? " (log scale)" : ""}`, 6, 10, "left", INK);
  if (r) r.ticks.forEach((tick) => write(context, short(tick), box.right + 8, r.at(tick), "left", RETURN));
  if (r) write(context, "return", box.right + 4, 10, "left", RETURN);
  if (plot.published.length) paintEpochs(context, plot);
}

function plain(value) {
  return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(0) : String(+value.toPrecision(3));
}

function paintEpochs(context, { box, epochs }) {
  epochs.ticks.slice(1).forEach((tick) => {
    rule(context, epochs.at(tick), box.top - 17, epochs.at(tick), box.top - 13, FAINT);
    write(context, `epoch ${tick}`, epochs.at(tick), box.top - 24, "center");
  });
}

function rule(context, left, top, right, bottom, colour) {
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.setLineDash([]);
  context.beginPath();
  context.moveTo(left, top);
  context.lineTo(right, bottom);
  context.stroke();
}

function write(context, text, left, top, align, colour = FAINT) {
  context.fillStyle = colour;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.fillText(text, left, top);
}

const ALONE = 6; // pixels to each side

// A path over points, with a gap where a value is missing; a value between gaps is a dash.
function trace(context, xs, ys) {
  context.beginPath();
  const isDrawn = (i) => Number.isFinite(ys[i]);
  xs.forEach((x, i) => {
    const isAlone = !isDrawn(i - 1) && !isDrawn(i + 1);
    if (isDrawn(i)) context[isDrawn(i - 1) ? "lineTo" : "moveTo"](isAlone ? x - ALONE : x, ys[i]);
    if (isDrawn(i) && isAlone) context.lineTo(x + ALONE, ys[i]);
  });
}

function paintReturn(context, { x, r, box }, { steps, values, dash }, isFirst) {
  if (!steps.length) return;
  const [xs, ys] = [steps.map(x.at), values.map(r.at)];
  trace(context, xs, ys);
  Object.assign(context, { strokeStyle: RETURN, lineWidth: 1 });
  context.setLineDash(dash);
  context.globalAlpha = isFirst ? 0.8 : 0.5;
  context.stroke();
  context.globalAlpha = 1;
  if (!isFirst || ys.some((y) => !Number.isFinite(y))) return;
  context.lineTo(xs.at(-1), box.bottom);
  context.lineTo(xs[0], box.bottom);
  context.fillStyle = "rgba(176,186,204,.13)";
  context.fill();
}

function paintUntrained(context, { y, box }, { value, low, high, colour }) {
  context.fillStyle = colour;
  context.globalAlpha = 0.08;
  if (low < high) context.fillRect(box.left, y.at(high), box.right - box.left, y.at(low) - y.at(high));
  context.globalAlpha = 0.6;
  context.setLineDash([3, 5]);
  Object.assign(context, { strokeStyle: colour, lineWidth: 1 });
  context.beginPath();
  context.moveTo(box.left, y.at(value));
  context.lineTo(box.right, y.at(value));
  context.stroke();
  context.globalAlpha = 1;
}

function paintBand(context, { x, y, state }, { steps, low, high, colour, name }) {
  const sound = steps.map((_, i) => i).filter((i) => Number.isFinite(low[i]) && Number.isFinite(high[i]));
  context.beginPath();
  sound.forEach((i) => context.lineTo(x.at(steps[i]), y.at(high[i])));
  sound.reverse().forEach((i) => context.lineTo(x.at(steps[i]), y.at(low[i])));
  context.fillStyle = colour;
  context.globalAlpha = isQuiet(state, name) ? 0.04 : 0.17;
  context.fill();
  context.globalAlpha = 1;
}

function isQuiet({ object }, name) {
  return object !== "" && object !== name;
}

function paintLine(context, { x, y, state }, { steps, values, colour, dash, main, name }) {
  const quiet = isQuiet(state, name);
  trace(context, steps.map(x.at), values.map(y.at));
  Object.assign(context, {
    strokeStyle: colour,
    lineWidth: main ? 2.2 : 1.4,
    lineJoin: "round",
    globalAlpha: quiet ? 0.25 : main ? 1 : 0.75,
  });
  context.setLineDash(dash);
  context.stroke();
  context.globalAlpha = 1;
}

function paintPublished(context, { y, epochs }, { values, colour }) {
  trace(
    context,
    values.map((_, epoch) => epochs.at(epoch)),
    values.map(y.at),
  );
  Object.assign(context, { strokeStyle: colour, lineWidth: 1.3, globalAlpha: 0.85 });
  context.setLineDash([1.5, 2.5]);
  context.stroke();
  context.globalAlpha = 1;
}

// Names beside the ends of their curves, pushed apart where they would touch.
function paintNames(context, { lines, y, box }) {
  const ends = lines.filter((one) => one.main && one.values.some(Number.isFinite));
  const labels = ends
    .map((one) => ({ ...one, end: y.at(one.values.findLast(Number.isFinite)) }))
    .sort((one, other) => one.end - other.end);
  let free = box.top;
  labels.forEach((one) => (free = (one.place = Math.max(one.end, free)) + 13));
  let most = box.bottom - 4;
  labels.reverse().forEach((one) => (most = (one.place = Math.min(one.place, most)) - 13));
  labels.forEach(({ name, colour, place }) => {
    context.font = `600 ${FONT}`;
    const fitting = name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME - 1)}…` : name;
    write(context, fitting, box.right + NAMES, place, "left", colour);
    context.font = FONT;
  });
}

function paintMark(context, { x, y, box }, { kind, step, line }) {
  const left = x.at(step);
  if (kind === "onset") {
    if (!line) return;
    const at = nearest(line.steps, step);
    shape(context, left, y.at(line.values[at]), line.colour, "circle");
    return;
  }
  rule(context, left, box.top, left, box.bottom, kind === "alarm" ? "rgba(255,176,0,.7)" : "rgba(255,255,255,.3)");
  shape(context, left, box.top - 8, kind === "alarm" ? ALARM : INK, kind === "alarm" ? "triangle" : "diamond");
}

function shape(context, x, y, colour, form) {
  context.beginPath();
  if (form === "circle") context.arc(x, y, 5, 0, 2 * Math.PI);
  else {
    const corners =
      form === "triangle"
        ? [
            [0, -7],
            [7, 6],
            [-7, 6],
          ]
        : [
            [0, -6],
            [6, 0],
            [0, 6],
            [-6, 0],
          ];
    corners.forEach(([right, down]) => context.lineTo(x + right, y + down));
    context.closePath();
  }
  context.setLineDash([]);
  Object.assign(context, { fillStyle: form === "circle" ? "#16181d" : colour, strokeStyle: colour, lineWidth: 2 });
  context.fill();
  context.stroke();
  if (form === "triangle") write(context, "!", x, y + 1, "center", "#16181d");
}

// The letters of two checkpoints, on the sides that look away from one another, but never on the axis of values.
function paintLetters(context, { box, x }, chosen) {
  if (chosen.length < 2) return;
  const [first, last] = chosen[0] <= chosen[1] ? ["A", "B"] : ["B", "A"];
  const [low, high] = [...chosen].sort((one, other) => one - other).map(x.at);
  const left = Math.max(low - 9, box.left + 9);
  write(context, first, left, box.bottom - 18, "center", INK);
  write(context, last, Math.max(high + 9, left + 12), box.bottom - 18, "center", INK);
}

// The chosen checkpoints (a letter on each where there are two) and the step below the pointer.
export function paintChosen(context, plot, width, height, { chosen, hovered }) {
  context.clearRect(0, 0, width, height);
  context.font = `600 ${FONT}`;
  const { box, x, y } = plot;
  chosen.forEach((step, i) => {
    rule(context, x.at(step), box.top, x.at(step), box.bottom, INK);
    context.fillStyle = INK;
    context.fillRect(x.at(step) - 5, box.bottom, 10, 4);
  });
  paintLetters(context, plot, chosen);
  if (hovered === null) return;
  rule(context, x.at(hovered), box.top, x.at(hovered), box.bottom, "rgba(255,255,255,.4)");
  plot.lines.forEach((one) => {
    const value = one.values[nearest(one.steps, hovered)];
    if (Number.isFinite(value)) shape(context, x.at(hovered), y.at(value), one.colour, "circle");
  });
}
