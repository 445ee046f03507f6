// ← → move frames, ↑ ↓ checkpoints, space plays; not while someone types.
import { moved } from "./head.js";

export function listenToKeys({ store, data }) {
  const frames = () => data.loaded.get(store.get().run)?.probe?.indices.length ?? 1;
  const frame = (by) => ({ frame: (store.get().frame + by + frames()) % frames(), playing: false });
  const checkpoint = (by) => moved(store.get(), data.loaded.get(store.get().run)?.checkpoints ?? [], by);
  const actions = {
    ArrowLeft: () => frame(-1),
    ArrowRight: () => frame(1),
    ArrowUp: () => checkpoint(1),
    ArrowDown: () => checkpoint(-1),
    " ": () => ({ playing: !store.get().playing }),
  };
  document.addEventListener("keydown", (event) => {
    if (!(event.key in actions) || event.ctrlKey || event.altKey || event.metaKey || isTyping(event.target)) return;
    event.preventDefault();
    store.set(actions[event.key]());
  });
  document.addEventListener("keyup", (event) => event.key === " " && !isTyping(event.target) && event.preventDefault());
}

function isTyping(element) {
  return element.matches?.("select, textarea, summary, input:not([type=range])") ?? false;
}
