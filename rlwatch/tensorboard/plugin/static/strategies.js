// Strategies: clusters of heatmaps as a scatter and a list. Out of sight until a run has some.
import { el, fill, isNumber, percent, sized, swatch, whole } from "./dom.js";
import { frameOf } from "./findings.js";
import { OUTLINES, has, indexAt } from "./model.js";
import { paintScreen, screenOf } from "./screen.js";
import { heatAt } from "./decode.js";
import { loadMaps } from "./source.js";

const SHAPES = ["circle", "square", "triangle", "diamond"];
const MARGIN = 16;

export function strategySheet(app) {
  const { store } = app;
  const canvas = el("canvas", { className: "scatter", id: "scatter" });
  const peek = el("canvas", { className: "peek", width: 160, height: 210, hidden: true });
  const told = el("p", { className: "note" });
  const list = el("ul", { className: "strategies" });
  const field = el("div", { className: "plot dark" }, canvas, peek);
  const element = el(
    "section",
    { className: "card", hidden: true },
    el("header", {}, el("h2", { textContent: "Strategies" })),
    el("div", { className: "split" }, field, list),
    told,
  );
  const view = { element, canvas, peek, told, list, places: [], from: null };
  store.on(["data", "run", "step", "target", "frame"], () => drawStrategies(view, app));
  new ResizeObserver(() => drawStrategies(view, app)).observe(field);
  canvas.onpointermove = (event) => point(view, app, event);
  canvas.onpointerleave = () => (peek.hidden = true);
  canvas.onclick = (event) => store.set(frameOf(probeOf(app), closest(view.places, event)?.frame));
  return element;
}

function probeOf({ store, data }) {
  return data.loaded.get(store.get().run)?.probe;
}

// Strategies are costly, so the sheet is that of the last checkpoint up to the chosen one that has one.
function drawStrategies(view, { store, data }) {
  const state = store.get();
  const { checkpoints = [], probe } = data.loaded.get(state.run) ?? {};
  view.element.hidden = !has(checkpoints, "strategies");
  if (view.element.hidden || !probe) return;
  const before = checkpoints.slice(0, indexAt(checkpoints, state.step) + 1);
  view.from = before.findLast((one) => one.strategies?.length) ?? checkpoints.find((one) => one.strategies?.length);
  const names = view.from.strategies.map((one) => one.name);
  const points = (view.from.points ?? []).map(([x, y], frame) => ({
    x,
    y,
    frame,
    strategy: memberOf(view.from.strategies, frame),
  }));
  const { context, width, height } = sized(view.canvas);
  context.clearRect(0, 0, width, height);
  view.places = placed(points, width, height);
  view.places.forEach((one) => paintPoint(context, one, names.indexOf(one.strategy), one.frame === state.frame));
  fill(view.list, ...view.from.strategies.map((one, i) => strategyItem(one, i)));
  view.told.textContent = `Each point is a heatmap of the probe at step ${whole(view.from.step)}; point at one to see it, click to go to its frame.`;
}

function memberOf(strategies, frame) {
  return strategies.find((one) => one.members?.includes(frame))?.name ?? "none";
}

function placed(points, width, height) {
  const ends = (key) => [Math.min(...points.map((one) => one[key])), Math.max(...points.map((one) => one[key]))];
  const [[left, right], [low, high]] = [ends("x"), ends("y")];
  const along = (value, from, to, room) => MARGIN + ((value - from) / (to - from || 1)) * (room - 2 * MARGIN);
  return points.map((one) => ({ ...one, px: along(one.x, left, right, width), py: along(one.y, high, low, height) }));
}

function paintPoint(context, { px, py }, strategy, chosen) {
  const form = SHAPES[strategy % SHAPES.length];
  context.beginPath();
  if (form === "circle") context.arc(px, py, 5, 0, 2 * Math.PI);
  else if (form === "square") context.rect(px - 4.5, py - 4.5, 9, 9);
  else cornersOf(form).forEach(([right, down]) => context.lineTo(px + right, py + down));
  context.closePath();
  context.fillStyle = OUTLINES[Math.max(0, strategy) % OUTLINES.length];
  context.globalAlpha = chosen ? 1 : 0.75;
  context.fill();
  context.globalAlpha = 1;
  Object.assign(context, { strokeStyle: chosen ? "#fff" : "#16181d", lineWidth: chosen ? 2.5 : 1 });
  context.stroke();
}

function cornersOf(form) {
  return form === "triangle"
    ? [
        [0, -6],
        [6, 5],
        [-6, 5],
      ]
    : [
        [0, -6],
        [6, 0],
        [0, 6],
        [-6, 0],
      ];
}

function strategyItem({ name, share, step_born: born, members }, i) {
  const size = Array.isArray(members) ? ` · ${members.length} members` : "";
  const since = isNumber(born) ? ` · since step ${whole(born)}` : "";
  return el(
    "li",
    {},
    swatch(OUTLINES[i % OUTLINES.length]),
    el("b", { textContent: name }),
    ` ${percent(share)} of heatmaps${size}${since}`,
  );
}

function closest(places, event) {
  const distance = (one) => Math.hypot(one.px - event.offsetX, one.py - event.offsetY);
  const best = places.reduce((near, one) => (!near || distance(one) < distance(near) ? one : near), null);
  return best && distance(best) < 20 ? best : null;
}

async function point(view, { store, data }, event) {
  const { run, target } = store.get();
  const { probe, frames } = data.loaded.get(run);
  const found = closest(view.places, event);
  const { frame } = frameOf(probe, found?.frame);
  view.peek.hidden = frame === undefined || !frames;
  if (view.peek.hidden) return;
  const left = found.px < view.canvas.clientWidth / 2 ? found.px + 14 : found.px - 134;
  view.peek.style.left = `${left}px`;
  view.told.textContent = `${found.strategy} · frame ${frame + 1} of the clip · ${probe.situation[frame]}`;
  const maps = await loadMaps(run, view.from.step).catch(() => null);
  const heat = maps && heatAt(await maps.levels(target), maps.shape, maps.top, frame);
  paintScreen(view.peek, screenOf(probe, frames, frame), heat, "all");
}
