// One side of the player: a checkpoint's heat on the screen, its four stacked frames, Q-values and colour scale.
import { TOP, heatAt } from "./decode.js";
import { brief, button, el, fill, fitted, isNumber, percent, whole } from "./dom.js";
import {
  actionNames,
  actionOf,
  checkpointAt,
  coloursOf,
  measuredAt,
  nearestWithActions,
  outlined,
  sideOf,
  wordsOf,
} from "./model.js";
import { actionBars } from "./actions.js";
import { heatColour, objectsBelow, paintOutlines, paintScreen, screenOf } from "./screen.js";
import { loadActions, loadMaps } from "./source.js";

export function playerSide({ store, data }, which) {
  const screen = el("canvas", { className: "screen", id: `screen${which}`, role: "img" });
  const title = el("div", { className: "title" });
  const message = el("div", { className: "message", hidden: true });
  const reading = el("div", { className: "reading" });
  const stack = el("div", { className: "stack" });
  const actions = actionBars((target) => store.set(chosenAction(store.get(), which, target)));
  const scale = colourScale();
  const about = el("div", { className: "heading" }, "Stack", el("small", { textContent: "share for, by frame" }));
  const aside = el("div", { className: "aside" }, el("div", {}, about, stack), actions.element, scale.element);
  const element = el(
    "div",
    { className: "side", dataset: { side: which } },
    title,
    el("div", { className: "stage" }, screen, message, reading),
    aside,
  );
  const view = { which, screen, title, message, reading, stack, actions, scale, shown: null, wanted: "" };
  screen.onpointermove = (event) => readPixel(view, store, data, event);
  screen.onpointerleave = () => (reading.textContent = "");
  return { element, view, load: () => loadSide(view, store, data), draw: () => drawSide(view, store, data) };
}

// Fetches what the side shows. Where the person has moved on in the meantime, the answer is left alone.
async function loadSide(view, store, data) {
  const state = store.get();
  const side = sideOf(state, view.which);
  const checkpoint = checkpointAt(data, side);
  const { target } = side;
  const wanted = JSON.stringify([side.run, checkpoint?.step, checkpoint?.all_actions, target]);
  if (wanted === view.wanted && view.shown) return drawSide(view, store, data);
  view.wanted = wanted;
  const shown = checkpoint
    ? await fetched(side.run, checkpoint, target)
    : { problem: "no checkpoint has been written yet" };
  if (view.wanted !== wanted) return null;
  view.shown = { ...shown, run: side.run, checkpoint, target };
  drawSide(view, store, data);
  return view.shown;
}

async function fetched(run, checkpoint, target) {
  try {
    const maps = await mapsWith(run, checkpoint, target);
    const levels = await maps.levels(target);
    const end = maps.scale[target];
    return { maps, levels, own: end, end, unit: end / maps.top, problem: levels ? "" : "missing" };
  } catch (error) {
    return { problem: `no maps of step ${whole(checkpoint.step)}: ${error.message}` };
  }
}

// The maps of a checkpoint that have a target among them, if any have.
export async function mapsWith(run, checkpoint, target) {
  const asksElsewhere = actionOf(target) !== null && checkpoint.all_actions;
  const actions = asksElsewhere ? loadActions(run, checkpoint.step) : null;
  actions?.catch(() => null); // told where it is awaited
  const maps = await loadMaps(run, checkpoint.step);
  return maps.targets.includes(target) ? maps : ((await actions) ?? maps);
}

// What a click on an action's bar asks for: its map, or the target's again. Side B follows A until it gets its own.
function chosenAction(state, which, target) {
  const isShown = sideOf(state, which).target === target;
  if (which === 0) return { map: isShown ? "" : target };
  return { target2: isShown ? (state.target2 ? "" : state.target) : target };
}

function drawSide(view, store, data) {
  const state = store.get();
  const { probe, frames, missing } = data.loaded.get(sideOf(state, view.which).run) ?? {};
  const problem =
    probe && frames ? view.shown?.problem : `nothing to play: ${missing?.probe ?? missing?.frames ?? "loading"}`;
  drawMessage(view, problem, store, data);
  if (!probe || !frames) return;
  const frame = Math.min(state.frame, probe.indices.length - 1);
  drawTitle(view, state, probe);
  drawMain(view, state, coloursOf(data, sideOf(state, view.which).run), { probe, frames, frame });
  drawStack(view, state, { probe, frames, frame });
  view.actions.draw(probe, view.shown, frame);
  view.scale.draw(view.shown?.end, wordsOf(view.shown?.target ?? state.target, probe.actions));
}

// Why there is no heat, and the way to where there is some.
function drawMessage({ message, shown, which }, problem, store, data) {
  message.hidden = !problem;
  if (!problem || problem !== "missing") return void (message.textContent = problem ?? "");
  const { probe, checkpoints } = data.loaded.get(shown.run);
  const { step } = shown.checkpoint;
  const value = wordsOf(shown.target, actionNames(probe, shown.maps.q_values[0]?.length)).button;
  const nearest = actionOf(shown.target) === null ? null : nearestWithActions(checkpoints, step);
  const about = JSON.stringify([value, step, nearest?.step]);
  if (message.dataset.about === about && message.firstChild) return null;
  message.dataset.about = about;
  if (!nearest)
    return fill(message, `This run did not log a map of ${value}; it logged ${shown.maps.targets.join(" and ")}.`);
  const go = () => store.set(which === 0 ? { step: nearest.step } : { step2: nearest.step });
  return fill(
    message,
    `No map of ${value} at step ${whole(step)}: every action's map is logged where the budget allows. `,
    button(`Go to step ${whole(nearest.step)}`, go, { className: "nearest" }),
  );
}

function drawTitle(view, state, probe) {
  const { checkpoint, target, run } = view.shown ?? {};
  if (!checkpoint) return fill(view.title);
  const letter = state.compare ? el("b", { className: "letter", textContent: "AB"[view.which] }) : null;
  const returns = isNumber(checkpoint.returns) ? ` · return ${brief(checkpoint.returns)}` : "";
  const heading = el("b", { textContent: `step ${whole(checkpoint.step)}${state.compare ? returns : ""}` });
  const { button: name, explains } = wordsOf(target, probe.actions);
  const words = state.compare ? [name, state.run2 && state.run2 !== state.run ? run : ""] : [explains];
  const small = [...words, checkpoint.method].filter(Boolean).join(" · ");
  view.title.title = [explains, run, checkpoint.method].filter(Boolean).join(" · ");
  view.screen.ariaLabel = `heatmap on the game's screen at step ${whole(checkpoint.step)}: ${explains}`;
  return fill(view.title, letter, heading, el("small", { textContent: small }));
}

function heatOf(shown, frame, layer) {
  return heatAt(shown?.levels, shown?.maps?.shape, shown?.end / shown?.unit, frame, layer);
}

function drawMain(view, state, colours, { probe, frames, frame }) {
  view.screen.style.aspectRatio = `${probe.width} / ${probe.height}`;
  if (!fitted(view.screen).width) return;
  const image = paintScreen(view.screen, screenOf(probe, frames, frame), heatOf(view.shown, frame), state.sign);
  paintOutlines(view.screen, image, outlined(probe, frame, state.object), colours, probe);
}

function drawStack(view, state, { probe, frames, frame }) {
  while (view.stack.children.length < probe.stack) view.stack.append(el("figure", {}, el("canvas"), el("figcaption")));
  const shares = measuredAt(view.shown?.checkpoint, view.shown?.target)?.stack ?? [];
  [...view.stack.children].forEach((figure, layer) => {
    const [canvas, caption] = figure.children;
    canvas.style.aspectRatio = `${probe.width} / ${probe.height}`;
    if (!fitted(canvas).width) return;
    paintScreen(canvas, screenOf(probe, frames, frame, layer), heatOf(view.shown, frame, layer), state.sign);
    const age = layer - probe.stack + 1;
    caption.textContent = `${age ? `−${-age}` : "now"}${isNumber(shares[layer]) ? ` · ${percent(shares[layer])}` : ""}`;
    figure.title = `Stacked frame ${age || "+0"}, and its part of all positive relevance over the probe`;
  });
}

function readPixel(view, store, data, event) {
  const state = store.get();
  const { probe } = data.loaded.get(sideOf(state, view.which).run) ?? {};
  if (!probe) return;
  const frame = Math.min(state.frame, probe.indices.length - 1);
  const x = Math.floor((event.offsetX / view.screen.clientWidth) * probe.width);
  const y = Math.floor((event.offsetY / view.screen.clientHeight) * probe.height);
  const names = objectsBelow(probe.boxes[frame] ?? {}, x, y).join(", ") || "no object";
  const heat = heatOf(view.shown, frame);
  const place =
    heat && Math.floor((y * heat.height) / probe.height) * heat.width + Math.floor((x * heat.width) / probe.width);
  const amount = heat ? `${signed(heat.raw[place] * view.shown.unit)} Q` : "no relevance logged";
  view.reading.textContent = `x ${x}, y ${y} · ${names} · ${amount}`;
}

// A level stands for all relevance that rounds to it.
function signed(value) {
  return value === 0 ? "≈ 0" : `≈ ${value > 0 ? "+" : "−"}${amount(Math.abs(value))}`;
}

function amount(size) {
  return size < 0.001 ? size.toExponential(1) : String(+size.toPrecision(2));
}

function colourScale() {
  const canvas = el("canvas", { width: 2 * TOP + 1, height: 1, className: "ramp" });
  const context = canvas.getContext("2d");
  for (let level = -TOP; level <= TOP; level++) {
    context.fillStyle = `rgb(${heatColour(level, [40, 42, 48]).join(",")})`;
    context.fillRect(level + TOP, 0, 1, 1);
  }
  const [low, middle, high] = ["", "0", ""].map((textContent) => el("span", { textContent }));
  const [against, speaksFor] = [el("span", { className: "against" }), el("span", { className: "for" })];
  const element = el(
    "div",
    { className: "scale" },
    el("div", { textContent: "heat in Q per pixel" }),
    canvas,
    el("div", { className: "ends" }, low, middle, high),
    el("div", { className: "ends words" }, against, speaksFor),
  );
  const draw = (end, words) => {
    low.textContent = isNumber(end) ? `−${amount(end)}` : "";
    high.textContent = isNumber(end) ? `+${amount(end)}` : "";
    against.textContent = words.blue;
    speaksFor.textContent = words.red;
  };
  return { element, draw };
}
