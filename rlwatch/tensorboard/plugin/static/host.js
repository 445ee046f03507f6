// What TensorBoard tells a page inside it: its dark mode, and that data came in.

export function followTheme() {
  const root = document.documentElement;
  const asked = window.matchMedia("(prefers-color-scheme: dark)");
  const body = window.parent === window ? null : reachable();
  const apply = () => root.classList.toggle("night", body ? body.classList.contains("dark-mode") : asked.matches);
  asked.addEventListener("change", apply);
  if (body) new MutationObserver(apply).observe(body, { attributes: true, attributeFilter: ["class"] });
  apply();
}

// A page of another origin around this one keeps its body to itself.
function reachable() {
  try {
    return window.parent.document.body;
  } catch {
    return null;
  }
}

// TensorBoard's reload button and its automatic reload, over the channel that its plugins share with it.
export function onReload(reload) {
  if (window.parent === window) return;
  const channel = new MessageChannel();
  channel.port1.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.isReply) return;
    channel.port1.postMessage(
      JSON.stringify({ type: message.type, id: message.id, payload: null, error: null, isReply: true }),
    );
    if (message.type === "experimental.DataReloaded") reload();
  };
  window.parent.postMessage("experimental.bootstrap", "*", [channel.port2]);
}
