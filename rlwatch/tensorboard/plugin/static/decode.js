// The binary answers: frames of the probe, and relevance in levels of one symmetric scale.

export const TOP = 7; // levels of colour on either side of 0, as in rlwatch's clips

// At most `limit` bytes: what a file claims to hold is not believed.
async function inflate(bytes, limit) {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const found = new Uint8Array(limit);
  let length = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    if (length + part.value.length > limit)
      throw new Error(`expected ${limit} bytes of pixels, got more: the file is damaged`);
    found.set(part.value, length);
    length += part.value.length;
  }
  return found.subarray(0, length);
}

// {palette: rgb of each colour, screen(frame, layer): the colours of one stacked frame, row by row}
export async function readFrames(buffer, { height, width, stack, indices }) {
  const area = height * width;
  const stacked = indices.length * stack;
  const bytes = await inflate(buffer, 2 + 3 * 256 + 2 * stacked + stacked * area);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const colours = view.getUint16(0, true);
  const start = 2 + 3 * colours;
  const table = Uint16Array.from({ length: stacked }, (_, i) => view.getUint16(start + 2 * i, true));
  const screens = Math.max(...table) + 1;
  const expected = start + 2 * stacked + screens * area;
  if (bytes.length < expected)
    throw new Error(`expected ${expected} bytes of frames, got ${bytes.length}: the file is damaged`);
  const pictures = turned(bytes.subarray(start + 2 * stacked), screens, area);
  const screen = (frame, layer) => {
    const place = table[frame * stack + layer] * area;
    return pictures.subarray(place, place + area);
  };
  return { palette: bytes.subarray(2, start), screen };
}

// Screen after screen, out of pixel after pixel with what it is on each screen.
function turned(pixels, screens, area) {
  const pictures = new Uint8Array(screens * area);
  for (let pixel = 0, at = 0; pixel < area; pixel++) {
    for (let screen = 0; screen < screens; screen++) pictures[screen * area + pixel] = pixels[at++];
  }
  return pictures;
}

// The header of a checkpoint's maps and `levels(target)`: its levels, read when first asked for, or null.
export async function readMaps(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const found = new Map();
  let pairs = null;
  const levels = async (target) => {
    const index = header.targets.indexOf(target);
    if (index < 0) return null;
    pairs ??= inflate(new Uint8Array(buffer, 4 + length), 2 * header.pairs);
    const told = await pairs;
    if (!found.has(target)) found.set(target, levelsOf(told, header, index));
    return found.get(target);
  };
  return { ...header, levels };
}

// The levels of one target, which run over y, x, stack and time, time fastest, out of pairs that run over y, x, stack,
// target and time: first the zeros before each level, then each level; zeros behind the last.
function levelsOf(told, { shape, targets, pairs }, index) {
  const [frames] = shape;
  const levels = new Int8Array(shape.reduce((all, one) => all * one, 1));
  let place = -1;
  for (let i = 0; i < pairs; i++) {
    place += told[i] + 1;
    const row = Math.floor(place / frames);
    if (row % targets.length === index)
      levels[((row - index) / targets.length) * frames + (place % frames)] = told[pairs + i];
  }
  const most = levels.length * targets.length;
  if (told.length !== 2 * pairs || place >= most)
    throw new Error(`maps must hold ${pairs} pairs for ${most} levels: the file is damaged`);
  return levels;
}

// One frame's levels out of those of one target: of one stacked frame, or of the sum over the stack.
function frameLevels(levels, [frames, stack, height, width], frame, layer = null) {
  const sum = new Int16Array(height * width);
  const layers = layer === null ? Array.from({ length: stack }, (_, i) => i) : [layer];
  for (const each of layers) {
    for (let pixel = 0, at = each * frames + frame; pixel < sum.length; pixel++, at += stack * frames)
      sum[pixel] += levels[at];
  }
  return sum;
}

// Levels as one of 15 colours; beyond the scale, full colour.
function coloursOfLevels(levels, top) {
  const colours = new Int8Array(levels.length);
  for (let i = 0; i < levels.length; i++) {
    const level = levels[i];
    if (level > 0) colours[i] = Math.min(TOP, Math.round((level * TOP) / top));
    else if (level < 0) colours[i] = -Math.min(TOP, Math.round((-level * TOP) / top));
  }
  return colours;
}

// One frame's heat for `paintScreen`, on a scale whose end is `top` levels; null where there are no levels.
export function heatAt(levels, shape, top, frame, layer = null) {
  if (!levels || frame >= shape[0]) return null;
  const raw = frameLevels(levels, shape, frame, layer);
  return { raw, levels: coloursOfLevels(raw, top), height: shape[2], width: shape[3] };
}

// Per frame, the mean absolute relevance per pixel of the difference of two maps, in Q units; of one map, its own.
export function frameAmounts(one, other) {
  const [frames] = one.shape;
  const totals = new Float64Array(frames);
  const { levels, unit } = one;
  for (let i = 0, frame = 0; i < levels.length; i++, frame = frame + 1 === frames ? 0 : frame + 1) {
    totals[frame] += Math.abs(levels[i] * unit - (other ? other.levels[i] * other.unit : 0));
  }
  return totals.map((total) => (total * frames) / levels.length);
}
