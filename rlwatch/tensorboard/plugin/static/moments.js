// The film's frames in a row: how much relevance each has, or how much the two sides differ there.
import { el, sized, whole } from "./dom.js";

export function momentStrip(store) {
  const canvas = el("canvas", { className: "moments", id: "moments" });
  const slider = el("input", { type: "range", min: 0, value: 0, ariaLabel: "frame", id: "frame" });
  const told = el("div", { className: "told" });
  const strip = { element: el("footer", {}, canvas, slider, told), amounts: null };
  const at = (event) => Math.floor((event.offsetX / canvas.clientWidth) * (+slider.max + 1));
  const choose = (event) => store.set({ frame: Math.max(0, Math.min(+slider.max, at(event))) });
  slider.oninput = () => store.set({ frame: +slider.value });
  canvas.onpointerdown = (event) => (canvas.setPointerCapture(event.pointerId), choose(event));
  canvas.onpointermove = (event) => event.buttons && choose(event);
  strip.jump = () => jump(store, strip.amounts);
  strip.draw = ({ data }, state) =>
    drawMoments(canvas, slider, told, data.loaded.get(state.run)?.probe, strip.amounts, state);
  return strip;
}

// The next frame in the order of difference; after the tenth, from the first on again.
function jump(store, amounts) {
  if (!amounts) return;
  const order = [...amounts.keys()].sort((one, other) => amounts[other] - amounts[one]).slice(0, 10);
  store.set({ frame: order[(order.indexOf(store.get().frame) + 1) % order.length], playing: false });
}

function drawMoments(canvas, slider, told, probe, amounts, state) {
  if (!probe) return;
  const frames = probe.indices.length;
  const frame = Math.min(state.frame, frames - 1);
  slider.max = frames - 1;
  slider.value = frame;
  const words = `frame ${frame + 1}/${frames} · ${probe.situation[frame]} · step ${whole(probe.step[frame])} of episode ${probe.episode[frame]}`;
  const [bars, none] = state.compare
    ? ["bars: difference of A and B", "no maps of the same frames to compare"]
    : ["bars: relevance per frame", ""];
  told.textContent = [words, amounts ? bars : none].filter(Boolean).join(" · ");
  const { context, width, height } = sized(canvas);
  context.clearRect(0, 0, width, height);
  paintSituations(context, probe, width / frames, height);
  if (amounts) paintAmounts(context, amounts, frame, width / frames, height);
}

function paintSituations(context, { situation, segment }, wide, height) {
  context.font = "10px system-ui, Roboto, sans-serif";
  situation.forEach((word, i) => {
    if (i && segment[i] === segment[i - 1]) return;
    context.fillStyle = "#3a3f49";
    context.fillRect(i * wide, 0, 1, height);
    context.fillStyle = "#9aa0ab";
    context.fillText(word, i * wide + 4, 9);
  });
}

function paintAmounts(context, amounts, frame, wide, height) {
  const most = Math.max(...amounts) || 1;
  amounts.forEach((amount, i) => {
    const tall = Math.max(1, (amount / most) * (height - 12));
    context.fillStyle = i === frame ? "#ffb000" : "#7d8594";
    context.fillRect(i * wide + 1, height - tall, Math.max(1, wide - 2), tall);
  });
}
