// The clip as pictures: what the player shows, with the words that a picture needs once it has left the page.
import { TOP, heatAt } from "./decode.js";
import { brief, el, isNumber, whole } from "./dom.js";
import { OUTLINES, coloursOf, outlined, sideOf, wordsOf } from "./model.js";
import { heatColour, heatTable, packed, paintOutlines, paintScreen, screenOf, shadesOf } from "./screen.js";

const ZOOM = 2;
const EDGE = 12;
const HEADER = 52;
const FOOTER = 46;
const MOST_PIXELS = 40e6;

export function filmFrames({ store, data, sides }) {
  const state = store.get();
  const shown = sides.slice(0, state.compare ? 2 : 1).map((view) => view.shown);
  const { probe } = data.loaded.get(state.run);
  const frames = probe.indices.length;
  const width = shown.length * (ZOOM * probe.width + EDGE) + EDGE;
  const height = HEADER + ZOOM * probe.height + FOOTER;
  if (width * height * frames > MOST_PIXELS) {
    throw new Error(`a GIF of ${frames} frames of ${width} × ${height} pixels would be too big: show one side only`);
  }
  const method = shown[0]?.checkpoint?.method ? ` · ${shown[0].checkpoint.method}` : "";
  const canvas = el("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return Array.from({ length: frames }, (_, frame) => {
    paper(context, width, height, `frame ${frame + 1}/${frames} · ${probe.situation[frame]}${method}`);
    shown.forEach((one, side) => drawFilmSide(context, { store, data, side, one, frame }));
    return context.getImageData(0, 0, width, height);
  });
}

// Colours that the GIF must show exactly: those of the screen, of the outlines, and greys for the letters.
export function filmColours({ store, data }) {
  const state = store.get();
  const screens = [0, state.compare ? 1 : 0].map((side) => data.loaded.get(sideOf(state, side).run).frames.palette);
  const seen =
    state.sign === "none" ? screens.flatMap((palette) => [...shadesOf(palette).colours]) : heatTable(state.sign);
  const outlines = OUTLINES.map((words) => packed(words.match(/\d+/g).map(Number)));
  const letters = Array.from({ length: 12 }, (_, i) =>
    packed([22, 24, 29].map((part) => Math.round(part + ((244 - part) * i) / 11))),
  );
  return [...letters, ...outlines, ...seen];
}

function paper(context, width, height, words) {
  context.fillStyle = "#16181d";
  context.fillRect(0, 0, width, height);
  text(context, words, EDGE, height - 12, "#9aa0ab", 12);
  text(context, "rlwatch", width - EDGE, height - 12, "#9aa0ab", 12, "right");
}

function text(context, words, x, y, colour, size, align = "left") {
  Object.assign(context, {
    fillStyle: colour,
    font: `${size}px system-ui, Roboto, sans-serif`,
    textAlign: align,
    textBaseline: "alphabetic",
  });
  context.fillText(words, x, y);
}

function drawFilmSide(context, { store, data, side, one, frame }) {
  const state = store.get();
  const { run } = sideOf(state, side);
  const { probe, frames } = data.loaded.get(run);
  const left = EDGE + side * (ZOOM * probe.width + EDGE);
  const screen = el("canvas", { width: ZOOM * probe.width, height: ZOOM * probe.height });
  const heat = heatAt(one?.levels, one?.maps?.shape, one?.end / one?.unit, frame);
  const image = paintScreen(screen, screenOf(probe, frames, frame), heat, state.sign);
  paintOutlines(screen, image, outlined(probe, frame, state.object), coloursOf(data, run), probe);
  context.drawImage(screen, left, HEADER);
  const returns = isNumber(one?.checkpoint?.returns) ? ` · return ${brief(one.checkpoint.returns)}` : "";
  text(context, `${probe.game} · step ${whole(one?.checkpoint?.step ?? 0)}${returns}`, left, 22, "#f4f5f7", 16);
  text(context, `heat: ${wordsOf(one?.target ?? "", probe.actions).explains}`, left, 42, "#9aa0ab", 12);
  drawFilmScale(context, left, HEADER + screen.height + 6, screen.width, one?.end);
}

function drawFilmScale(context, left, top, width, end) {
  const start = left + 0.22 * width;
  const wide = (0.36 * width) / (2 * TOP + 1);
  for (let level = -TOP; level <= TOP; level++) {
    context.fillStyle = `rgb(${heatColour(level, [40, 40, 40]).join(",")})`;
    context.fillRect(Math.round(start + (level + TOP) * wide), top, Math.ceil(wide), 9);
  }
  if (!isNumber(end)) return;
  text(context, `−${+end.toPrecision(3)}`, start - 6, top + 9, "#f4f5f7", 11, "right");
  text(context, `+${+end.toPrecision(3)} Q per pixel`, start + 0.36 * width + 6, top + 9, "#f4f5f7", 11);
}
