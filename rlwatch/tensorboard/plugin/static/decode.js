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
  const pictures = start + 2 * stacked;
  const expected = pictures + (Math.max(...table) + 1) * area;
  if (bytes.length < expected)
    throw new Error(`expected ${expected} bytes of frames, got ${bytes.length}: the file is damaged`);
  const screen = (frame, layer) => {
    const place = pictures + table[frame * stack + layer] * area;
    return bytes.subarray(place, place + area);
  };
  return { palette: bytes.subarray(2, start), screen };
}

// The header of a checkpoint's maps and `levels(target)`: its levels, inflated when first asked for, or null.
export async function readMaps(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const packed = new Map();
  let start = 4 + length;
  header.targets.forEach((target, i) => {
    packed.set(target, new Uint8Array(buffer, start, header.lengths[i]));
    start += header.lengths[i];
  });
  const inflated = new Map();
  const levels = async (target) => {
    if (!packed.has(target)) return null;
    if (!inflated.has(target)) inflated.set(target, inflatedMap(packed.get(target), header.shape));
    return inflated.get(target);
  };
  return { ...header, levels };
}

// Pairs of the zeros that come before a level, and the level; zeros behind the last.
async function inflatedMap(packed, shape) {
  const levels = new Int8Array(shape.reduce((all, one) => all * one, 1));
  const pairs = await inflate(packed, 2 * levels.length);
  let place = 0;
  for (let i = 0; i < pairs.length; i += 2) {
    place += pairs[i];
    levels[place++] = pairs[i + 1];
  }
  if (place > levels.length) throw new Error(`a map must hold ${levels.length} levels, got more: the file is damaged`);
  return levels;
}

// One frame's levels out of a map of one target, whose bytes run over stack, y, x and time, time fastest.
// Of one stacked frame, or of the sum over the stack.
function frameLevels(levels, [frames, stack, height, width], frame, layer = null) {
  const area = height * width;
  const layers = layer === null ? Array.from({ length: stack }, (_, i) => i) : [layer];
  const sum = new Int16Array(area);
  for (const each of layers) {
    for (let pixel = 0, at = each * area * frames + frame; pixel < area; pixel++, at += frames)
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
