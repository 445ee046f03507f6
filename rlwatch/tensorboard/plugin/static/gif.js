// Animated GIFs: only the pixels that change, in at most 255 colours.

const SAME = 255;

// `frames`: ImageData of one size, in order. `first`: packed colours that must be exact; others get an entry as long as
// there is one, and then the nearest of them. `progress` is told how many frames are done.
export async function encodeGif(frames, milliseconds, first, progress) {
  const palette = [...new Set(first)].slice(0, SAME);
  const colours = { palette, entries: new Map(palette.map((colour, i) => [colour, i])) };
  const [{ width, height }] = frames;
  const parts = [];
  let before = null;
  for (const [i, frame] of frames.entries()) {
    const now = indexed(frame, colours);
    const place = before ? changes(before, now, width, height) : { left: 0, top: 0, wide: width, tall: height };
    parts.push(control(milliseconds), descriptor(place), compress(cut(before, now, width, place)));
    before = now;
    await progress(i + 1);
  }
  return new Blob([header(width, height, palette), ...parts, Uint8Array.of(0x3b)], { type: "image/gif" });
}

function indexed(frame, colours) {
  const pixels = new Uint32Array(frame.data.buffer);
  const found = new Uint8Array(pixels.length);
  let last = -1;
  let entry = 0;
  for (let i = 0; i < pixels.length; i++) {
    if (pixels[i] !== last) {
      last = pixels[i];
      entry = colours.entries.get(last) ?? added(last, colours);
    }
    found[i] = entry;
  }
  return found;
}

function added(colour, { palette, entries }) {
  const entry = palette.length < SAME ? palette.push(colour) - 1 : nearestColour(colour, palette);
  entries.set(colour, entry);
  return entry;
}

function channels(colour) {
  return [colour & 255, (colour >> 8) & 255, (colour >> 16) & 255];
}

function nearestColour(colour, palette) {
  const wanted = channels(colour);
  const distance = (other) => channels(other).reduce((sum, part, i) => sum + (part - wanted[i]) ** 2, 0);
  return palette.reduce((best, one, i) => (distance(one) < distance(palette[best]) ? i : best), 0);
}

function header(width, height, palette) {
  const table = new Uint8Array(768);
  palette.forEach((colour, i) => table.set(channels(colour), 3 * i));
  const size = [width & 255, width >> 8, height & 255, height >> 8];
  const forEver = [0x21, 0xff, 0x0b, ..."NETSCAPE2.0"].map((one) =>
    typeof one === "string" ? one.charCodeAt(0) : one,
  );
  return new Blob([
    Uint8Array.of(...[..."GIF89a"].map((letter) => letter.charCodeAt(0)), ...size, 0xf7, 0, 0),
    table,
    Uint8Array.of(...forEver, 3, 1, 0, 0, 0),
  ]);
}

function control(milliseconds) {
  const hundredths = Math.round(milliseconds / 10);
  return Uint8Array.of(0x21, 0xf9, 4, 0x05, hundredths & 255, hundredths >> 8, SAME, 0);
}

function descriptor({ left, top, wide, tall }) {
  return Uint8Array.of(0x2c, ...[left, top, wide, tall].flatMap((one) => [one & 255, one >> 8]), 0);
}

// The smallest rectangle around what changes; one pixel where nothing does.
function changes(before, now, width, height) {
  let [left, right, top, bottom] = [width, -1, height, -1];
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (before[i] === now[i]) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = y;
    }
  }
  return right < 0
    ? { left: 0, top: 0, wide: 1, tall: 1 }
    : { left, top, wide: right - left + 1, tall: bottom - top + 1 };
}

function cut(before, now, width, { left, top, wide, tall }) {
  const part = new Uint8Array(wide * tall);
  for (let y = 0, i = 0; y < tall; y++) {
    for (let x = 0; x < wide; x++, i++) {
      const at = (top + y) * width + left + x;
      part[i] = before && before[at] === now[at] ? SAME : now[at];
    }
  }
  return part;
}

// LZW with codes of 9 to 12 bits; the dictionary begins anew when it is full.
const follows = new Int16Array(4096 * 256);

function compress(pixels) {
  const bits = bitWriter();
  let [next, size, prefix] = [258, 9, pixels[0]];
  follows.fill(0);
  bits.put(256, 9);
  for (let i = 1; i < pixels.length; i++) {
    const key = (prefix << 8) | pixels[i];
    if (follows[key]) {
      prefix = follows[key];
      continue;
    }
    bits.put(prefix, size);
    prefix = pixels[i];
    if (next === 4096) {
      bits.put(256, size);
      follows.fill(0);
      [next, size] = [258, 9];
      continue;
    }
    if (next === 1 << size) size++;
    follows[key] = next++;
  }
  bits.put(prefix, size);
  bits.put(257, next === 1 << size && size < 12 ? size + 1 : size);
  return blocks(bits.bytes());
}

function bitWriter() {
  const found = [];
  let [held, count] = [0, 0];
  const put = (code, size) => {
    held |= code << count;
    for (count += size; count >= 8; count -= 8) {
      found.push(held & 255);
      held >>>= 8;
    }
  };
  return { put, bytes: () => (count ? [...found, held & 255] : found) };
}

function blocks(bytes) {
  const parts = [Uint8Array.of(8)];
  for (let start = 0; start < bytes.length; start += 255) {
    const part = bytes.slice(start, start + 255);
    parts.push(Uint8Array.of(part.length, ...part));
  }
  return new Blob([...parts, Uint8Array.of(0)]);
}
