// Axes: from values to places, and round numbers to write beside them.

export function linear(low, high, from, to) {
  const span = high - low || 1;
  const at = (value) => from + ((value - low) / span) * (to - from);
  return { at, back: (place) => low + ((place - from) / (to - from)) * span, ticks: linearTicks(low, high) };
}

// Values below `low`, 0 among them, stand at its place.
export function logarithmic(low, high, from, to) {
  const inner = linear(Math.log(low), Math.log(high), from, to);
  const at = (value) => inner.at(Math.log(Math.max(low, value)));
  return { at, back: (place) => Math.exp(inner.back(place)), ticks: logTicks(low, high) };
}

function linearTicks(low, high, wanted = 5) {
  const rough = (high - low) / wanted || 1;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = size * [1, 2, 5, 10].find((factor) => factor * size >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: Math.max(0, count) }, (_, i) => +((first + i) * step).toPrecision(12));
}

function logTicks(low, high) {
  const factors = high / low > 200 ? [1] : high / low > 30 ? [1, 3] : [1, 2, 5];
  const powers = Array.from({ length: 40 }, (_, i) => i - 20);
  const all = powers.flatMap((power) => factors.map((factor) => +(factor * 10 ** power).toPrecision(3)));
  return all.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
}

// The ends of an axis that holds all `values`.
export function extent(values) {
  const usable = values.filter(Number.isFinite);
  const high = Math.max(...usable, 0) || 1;
  return [Math.min(...usable, 0), high * 1.08];
}

// The same of a logarithmic one, which holds those of `always` too; `least` is the least that is told apart from 0.
export function extentOfLogarithms(values, always, least) {
  const usable = [...values.filter((value) => Number.isFinite(value) && value > 0), ...always];
  const high = Math.max(...usable, 0) || 1;
  return [Math.max(Math.min(...usable, high / 10) / 1.15, high / 1e4, least), high * 1.25];
}
