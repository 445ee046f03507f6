// The binary answers: frames of the probe, and relevance in 15 levels.

export const TOP = 7;

export async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// {palette: Uint8Array of rgb, screen(frame, stacked): Uint8Array of palette indices}
export async function readFrames(buffer, probe) {
  const bytes = await inflate(buffer);
  const colours = bytes[0] + 256 * bytes[1];
  const palette = bytes.subarray(2, 2 + 3 * colours);
  const area = probe.height * probe.width;
  const stacked = probe.indices.length * probe.stack;
  const body = bytes.subarray(2 + 3 * colours);
  const table = body.length < stacked * area ? indexTable(body, stacked) : null;
  const pixels = table ? body.subarray(2 * stacked) : body;
  const place = (frame, layer) => (table ? table[frame * probe.stack + layer] : frame * probe.stack + layer);
  const screen = (frame, layer) => pixels.subarray(place(frame, layer) * area, (place(frame, layer) + 1) * area);
  if (screen(probe.indices.length - 1, probe.stack - 1).length !== area) throw new Error("the probe's frames are cut short");
  return { palette, screen };
}

function indexTable(body, entries) {
  return Uint16Array.from({ length: entries }, (_, i) => body[2 * i] + 256 * body[2 * i + 1]);
}

// The header of a checkpoint's maps and, target by target, their levels, inflated when first asked for.
export async function readMaps(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const levels = new Map();
  let start = 4 + length;
  const packed = header.targets.map((target, i) => [target, new Uint8Array(buffer, (start += i ? header.lengths[i - 1] : 0), header.lengths[i])]);
  const parts = new Map(packed);
  const of = async (target) => {
    if (!parts.has(target)) return null;
    if (!levels.has(target)) levels.set(target, inflate(parts.get(target)).then((bytes) => undone(bytes, header)));
    return levels.get(target);
  };
  return { ...header, levels: of };
}

function undone(bytes, header) {
  const levels = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const wanted = header.shape.reduce((all, one) => all * one, 1);
  if (levels.length !== wanted) throw new Error(`a map must hold ${wanted} levels, got ${levels.length}`);
  return levels;
}

// The levels of one frame: of one stacked frame, or of the sum over the stack, which keeps to the scale.
export function frameLevels(levels, shape, frame, layer = null) {
  const [, stack, height, width] = shape;
  const area = height * width;
  const start = frame * stack * area;
  if (layer !== null) return levels.subarray(start + layer * area, start + (layer + 1) * area);
  const sum = new Int8Array(area);
  for (let pixel = 0; pixel < area; pixel++) {
    let total = 0;
    for (let each = 0; each < stack; each++) total += levels[start + each * area + pixel];
    sum[pixel] = Math.max(-TOP, Math.min(TOP, total));
  }
  return sum;
}

// Per frame, the mean absolute relevance per pixel of the difference of two maps, in Q units; of one map, its own.
export function frameAmounts(one, other) {
  const [frames, stack, height, width] = one.shape;
  const size = stack * height * width;
  return Float64Array.from({ length: frames }, (_, frame) => {
    let total = 0;
    for (let i = frame * size; i < (frame + 1) * size; i++) {
      total += Math.abs(one.levels[i] * one.unit - (other ? other.levels[i] * other.unit : 0));
    }
    return total / size;
  });
}
