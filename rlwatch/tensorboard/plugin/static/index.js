export async function render() {
  const runs = await (await fetch('./runs')).json();
  document.body.append(JSON.stringify(runs));
}
