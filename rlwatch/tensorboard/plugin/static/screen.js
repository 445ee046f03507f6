// The game's screen in dimmed greys and the relevance upon it, in the colours of rlwatch's clips.
import { TOP } from "./decode.js";

const FOR = [255, 66, 54];
const AGAINST = [62, 140, 255];
const GREYS = 14;
const DIMMED = 150;

export function heatColour(level, backdrop) {
  const strength = (Math.abs(level) / TOP) ** 0.75;
  const full = level < 0 ? AGAINST : FOR;
  return full.map((part, i) => roundHalfEven(strength * part + (1 - strength) * backdrop[i]));
}

// As NumPy rounds, so that a pixel here has the colour that it has in the clips.
function roundHalfEven(value) {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below % 2) : Math.round(value);
}

export function packed([red, green, blue]) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

// Colour of each level on each shade of grey; one table per choice of signs.
const heatTables = new Map();

export function heatTable(sign) {
  if (!heatTables.has(sign)) {
    const greys = Array.from({ length: GREYS }, (_, i) => Math.round((i / (GREYS - 1)) ** 0.9 * DIMMED));
    const seen = (level) =>
      sign === "positive" ? Math.max(0, level) : sign === "negative" ? Math.min(0, level) : level;
    const levels = Array.from({ length: 2 * TOP + 1 }, (_, i) => seen(i - TOP));
    heatTables.set(
      sign,
      Uint32Array.from(levels.flatMap((level) => greys.map((grey) => packed(heatColour(level, [grey, grey, grey]))))),
    );
  }
  return heatTables.get(sign);
}

// Per colour of the palette: its shade of grey (as OpenCV weighs it), and itself.
const shadesOfPalette = new WeakMap();

export function shadesOf(palette) {
  if (!shadesOfPalette.has(palette)) {
    const colours = Array.from({ length: palette.length / 3 }, (_, i) => [...palette.subarray(3 * i, 3 * i + 3)]);
    const grey = ([red, green, blue]) => Math.round(0.299 * red + 0.587 * green + 0.114 * blue);
    const shades = Uint8Array.from(colours, (colour) => Math.floor((grey(colour) * GREYS) / 256));
    shadesOfPalette.set(palette, { shades, colours: Uint32Array.from(colours, packed) });
  }
  return shadesOfPalette.get(palette);
}

// For each place along an edge of `to` pixels, the pixel out of `from` that is shown there.
const placesOfEdge = new Map();

function places(to, from) {
  const key = to * 4096 + from;
  if (!placesOfEdge.has(key))
    placesOfEdge.set(
      key,
      Uint16Array.from({ length: to }, (_, i) => Math.floor((i * from) / to)),
    );
  return placesOfEdge.get(key);
}

// One stacked frame of a probe as `paintScreen` takes it; the newest one where no layer is named.
export function screenOf({ height, width, stack }, { palette, screen }, frame, layer = stack - 1) {
  return { palette, pixels: screen(frame, layer), height, width };
}

// Fills a canvas with a screen. `heat`: {levels, height, width} or null; `sign` "none" shows the game's own colours.
export function paintScreen(canvas, { palette, pixels, height, width }, heat, sign) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const out = new Uint32Array(image.data.buffer);
  const { shades, colours } = shadesOf(palette);
  if (sign === "none") stretch(out, canvas, pixels, { height, width }, colours);
  else mix(out, canvas, { pixels, height, width, shades }, heat, heatTable(sign));
  context.putImageData(image, 0, 0);
  return image;
}

function stretch(out, canvas, pixels, { height, width }, colours) {
  const [rows, columns] = [places(canvas.height, height), places(canvas.width, width)];
  for (let y = 0, i = 0; y < canvas.height; y++) {
    const row = rows[y] * width;
    for (let x = 0; x < canvas.width; x++) out[i++] = colours[pixels[row + columns[x]]];
  }
}

function mix(out, canvas, { pixels, height, width, shades }, heat, table) {
  const [rows, columns] = [places(canvas.height, height), places(canvas.width, width)];
  const mapRows = heat && places(canvas.height, heat.height);
  const mapColumns = heat && places(canvas.width, heat.width);
  for (let y = 0, i = 0; y < canvas.height; y++) {
    const row = rows[y] * width;
    const mapRow = heat ? mapRows[y] * heat.width : 0;
    for (let x = 0; x < canvas.width; x++) {
      const level = heat ? heat.levels[mapRow + mapColumns[x]] : 0;
      out[i++] = table[(level + TOP) * GREYS + shades[pixels[row + columns[x]]]];
    }
  }
}

// A line around each object, outside of it, so that its own pixels and their heat stay as they are.
export function paintOutlines(canvas, image, boxes, colours, { height, width }) {
  const context = canvas.getContext("2d");
  const [down, right] = [canvas.height / height, canvas.width / width];
  const line = Math.max(1, Math.round(down * 0.6));
  for (const [name, some] of Object.entries(boxes)) {
    const rectangles = joined(some).map(([x, y, w, h]) => edges(x * right, y * down, (x + w) * right, (y + h) * down));
    context.fillStyle = colours[name];
    rectangles.forEach(([x, y, w, h]) => context.fillRect(x - line, y - line, w + 2 * line, h + 2 * line));
    rectangles.forEach(([x, y, w, h]) => w > 0 && h > 0 && context.putImageData(image, 0, 0, x, y, w, h));
  }
}

function edges(left, top, right, bottom) {
  const [x, y] = [Math.max(0, Math.round(left)), Math.max(0, Math.round(top))];
  return [x, y, Math.round(right) - x, Math.round(bottom) - y];
}

// Boxes that touch in a row, as bricks do, become one.
function joined(boxes) {
  const rows = [];
  const sorted = [...boxes].sort((one, other) => one[1] - other[1] || one[3] - other[3] || one[0] - other[0]);
  for (const [x, y, w, h] of sorted) {
    const last = rows.at(-1);
    if (last && last[1] === y && last[3] === h && last[0] + last[2] === x) last[2] += w;
    else rows.push([x, y, w, h]);
  }
  return rows;
}

export function objectsBelow(boxes, x, y) {
  const inBox = ([left, top, width, height]) => x >= left && x < left + width && y >= top && y < top + height;
  return Object.keys(boxes).filter((name) => boxes[name].some(inBox));
}
