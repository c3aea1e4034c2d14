// Draws the latency of the last minutes: a line for the frames, lines for what it is held against, marks for S_h.

const WIDTH = 600, HEIGHT = 170, LEFT = 36, TOP = 8, BOTTOM = 136, MARKS = 150, SPAN_S = 180;
export const SAMPLE = { number: 0, at: 1, latency: 2, age: 3, key: 4, landed: 5, degraded: 6, startup: 7 };

function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// A round number of ms at or above `value`.
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].find((step) => step * power >= value) * power;
}

export function drawChart(svg, samples, figures, now) {
  const shown = samples.filter((sample) => !sample[SAMPLE.startup] && sample[SAMPLE.at] > now - SPAN_S);
  const heights = [...shown.map((sample) => sample[SAMPLE.latency]), figures.baseline_ms, figures.bound_ms];
  const top = ceiling(Math.max(1, ...heights.filter((value) => value != null)));
  const x = (at) => LEFT + (WIDTH - LEFT) * (1 - (now - at) / SPAN_S);
  const y = (ms) => BOTTOM - (BOTTOM - TOP) * (ms / top);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    parts.push(element("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y(top * share), y2: y(top * share) }));
    parts.push(element("text", { x: 2, y: y(top * share) + 4 }, `${+(top * share).toPrecision(3)}`));
  }
  parts.push(element("text", { x: LEFT, y: HEIGHT - 4 }, "3 min ago"));
  parts.push(element("text", { x: WIDTH, y: HEIGHT - 4, "text-anchor": "end" }, "now, ms"));
  for (const [name, value] of [["baseline", figures.baseline_ms], ["bound", figures.bound_ms]]) {
    if (value != null) parts.push(element("line", { class: name, x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value) }));
  }
  // Of the frames within one step the longest latency is shown: what is late must not be lost.
  const step = SPAN_S / 400, points = new Map(), keys = new Set(), landings = new Set();
  for (const sample of shown) {
    const slot = Math.floor(sample[SAMPLE.at] / step);
    points.set(slot, Math.max(points.get(slot) ?? 0, sample[SAMPLE.latency]));
    if (sample[SAMPLE.key]) keys.add(slot);
    if (sample[SAMPLE.landed]) landings.add(slot);
  }
  let path = "", before = null;
  for (const [slot, latency] of points) {
    const gap = before === null || (slot - before) * step > 10;
    path += `${gap ? "M" : "L"}${x(slot * step).toFixed(1)} ${y(latency).toFixed(1)}`;
    before = slot;
  }
  parts.push(element("path", { class: "fast", d: path }));
  for (const slot of keys) {
    const at = x(slot * step).toFixed(1);
    parts.push(element("line", { class: "key", x1: at, x2: at, y1: MARKS - 10, y2: MARKS - 3 }));
  }
  for (const slot of landings) {
    const at = x(slot * step);
    parts.push(element("path", { class: "landed", d: `M${at - 3} ${MARKS + 2}l3 -4 3 4 -3 4z` }));
  }
  svg.replaceChildren(...parts);
}
