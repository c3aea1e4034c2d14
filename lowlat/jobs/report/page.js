"use strict";
// Hovering, zooming and the keys. The plot is there already: zooming changes the SVGs' viewBox and the numbers beside them.
(() => {
  const { series, lines } = JSON.parse(document.getElementById("data").textContent);
  const stack = document.getElementById("stack");
  if (!stack || !series.some((one) => one.index.length)) return;
  const at = (id) => document.getElementById(id);
  const [cursor, selection, along, readout] = ["cursor", "selection", "along", "readout"].map(at);
  const frames = [...new Set(series.flatMap((one) => one.index))].sort((a, b) => a - b);
  const places = series.map((one) => new Map(one.index.map((frame, place) => [frame, place])));
  const first = frames[0] - 0.5, last = frames[frames.length - 1] + 0.5, NARROWEST = Math.min(4, last - first);
  let from = first, to = last, shown = null;

  // Round numbers, as plot.py has them.
  function ticks(low, high, most) {
    const room = Math.max(high - low, 1e-9) / most, power = 10 ** Math.floor(Math.log10(room));
    const step = power * [1, 2, 5, 10, 20].find((step) => step * power >= room), found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9; k++) found.push(+(k * step).toFixed(6));
    return found;
  }

  function element(name, text, attributes = {}) {
    const made = Object.assign(document.createElement(name), attributes);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // What the frames in sight reach, so that the curve fills its panel.
  function highest(column) {
    let top = 0;
    for (const one of series) {
      if (!one[column]) continue;
      one.index.forEach((frame, place) => {
        if (frame >= from && frame <= to && !one.startup[place]) top = Math.max(top, one[column][place]);
      });
    }
    return top;
  }

  function draw() {
    const tops = {
      latency: 1.06 * Math.max(highest("latency_ms"), ...lines.map((line) => line.ms)) || 1,
      age: 1.1 * highest("age") + 0.4,
    };
    for (const panel of stack.querySelectorAll(".panel")) {
      const top = tops[panel.dataset.panel] ?? 1;
      panel.querySelector("svg").setAttribute("viewBox", `${from} ${-top} ${to - from} ${top}`);
      const levels = panel.querySelector(".levels");
      if (!levels) continue;
      levels.replaceChildren(...ticks(0, top, panel.dataset.panel === "latency" ? 6 : 4).map((value) => {
        const level = element("div", undefined, { className: "level" });
        level.style.bottom = `${100 * value / top}%`;
        level.append(element("span", value));
        return level;
      }));
    }
    along.replaceChildren(...ticks(from, to, stack.clientWidth < 500 ? 4 : 8).filter(Number.isInteger).map((value) => {
      const tick = element("span", value);
      tick.style.left = `${100 * (value - from) / (to - from)}%`;
      return tick;
    }));
    at("in").disabled = to - from <= NARROWEST;
    at("out").disabled = at("all").disabled = from <= first && to >= last;
    at("earlier").disabled = from <= first;
    at("later").disabled = to >= last;
    point();
  }

  function view(low, high) {
    const width = Math.min(Math.max(high - low, NARROWEST), last - first);
    from = Math.min(Math.max((low + high - width) / 2, first), last - width);
    to = from + width;
    draw();
  }

  function zoom(factor, centre = shown !== null && shown >= from && shown <= to ? shown : (from + to) / 2) {
    view(centre - (centre - from) * factor, centre + (to - centre) * factor);
  }

  const pan = (share) => view(from + share * (to - from), to + share * (to - from));

  function point() {
    cursor.hidden = shown === null || shown < from || shown > to;
    cursor.style.left = `${100 * (shown - from) / (to - from)}%`;
  }

  const counted = (frames) => `${frames} ${frames === 1 ? "frame" : "frames"}`;

  // What is known of a frame, by row of the readout.
  function facts(one, place) {
    if (place === undefined) return { "latency": one.dropped?.includes(shown) ? "dropped" : "–" };
    const found = { "latency": `${one.latency_ms[place].toFixed(1)} ms` }, events = [];
    if (one.startup[place]) events.push("start-up");
    if (!one.age) return { ...found, "what happened": events.join(", ") || "–" };
    if (one.key[place]) events.push("key frame");
    if (one.landed[place] !== null) {
      events.push(`S_h of frame ${one.landed[place]} landed, ${counted(one.index[place] - one.landed[place])} late`);
    }
    if (one.degraded[place]) events.push("degraded");
    const stages = Object.entries(one.stages_ms[place]).map(([name, ms]) => `${name} ${ms.toFixed(1)}`);
    return {
      ...found, "age": counted(one.age[place]), "what happened": events.join("; ") || "nothing else",
      "stages, ms": stages.join(", "),
    };
  }

  function words(rows) {
    return series.map((one, number) => {
      const { latency, age, "what happened": happened } = rows[number];
      return [series.length > 1 ? one.name : "latency", latency, age && `age ${age}`, happened].filter(Boolean).join(", ");
    }).join("; ");
  }

  function show(frame) {
    shown = frame;
    const rows = series.map((one, number) => facts(one, places[number].get(frame)));
    const time = series.map((one, number) => one.time_s?.[places[number].get(frame)]).find((time) => time != null);
    const head = time === undefined ? `Frame ${frame}` : `Frame ${frame}, ${time.toFixed(2)} s`;
    const top = element("tr");
    top.append(element("th", head, { scope: "col" }), ...series.map((one) => element("th", one.name, { scope: "col" })));
    const body = ["latency", "age", "what happened", "stages, ms"].map((name) => {
      const row = element("tr");
      row.append(element("th", name, { scope: "row" }), ...rows.map((of) => element("td", of[name] ?? "–")));
      return row;
    });
    readout.tHead.replaceChildren(top);
    readout.tBodies[0].replaceChildren(...body);
    stack.setAttribute("aria-valuenow", frame);
    stack.setAttribute("aria-valuetext", `${head}: ${words(rows)}`);
    point();
    return time;
  }

  function nearest(wanted) {
    let low = 0, high = frames.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (frames[middle] < wanted) low = middle + 1; else high = middle;
    }
    return low > 0 && wanted - frames[low - 1] < frames[low] - wanted ? low - 1 : low;
  }

  const frameAt = (event) => {
    const box = stack.getBoundingClientRect();
    return from + (to - from) * Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
  };

  // The videos follow a chosen frame, and the plot a video that plays.
  const videos = [...document.querySelectorAll("video")];
  function seek(time) {
    if (time !== undefined) videos.forEach((video) => { video.currentTime = time + 0.001; });
  }
  const timed = series.find((one) => one.time_s?.some((time) => time !== null));
  videos.forEach((video) => video.addEventListener("timeupdate", () => {
    if (video.paused || !timed) return;
    let place = timed.time_s.findIndex((time) => time > video.currentTime);
    place = place < 0 ? timed.index.length - 1 : Math.max(0, place - 1);
    show(timed.index[place]);
  }));

  let begun = null;
  stack.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    begun = frameAt(event);
    stack.setPointerCapture(event.pointerId);
  });
  stack.addEventListener("pointermove", (event) => {
    const frame = frameAt(event);
    show(frames[nearest(frame)]);
    if (begun === null) return;
    selection.hidden = false;
    selection.style.left = `${100 * (Math.min(begun, frame) - from) / (to - from)}%`;
    selection.style.width = `${100 * Math.abs(frame - begun) / (to - from)}%`;
  });
  stack.addEventListener("pointerup", (event) => {
    if (begun === null) return;
    const frame = frameAt(event), low = Math.min(begun, frame), high = Math.max(begun, frame);
    const dragged = (high - low) / (to - from) * stack.clientWidth > 6;
    begun = null;
    selection.hidden = true;
    if (dragged) view(low, high); else seek(show(frames[nearest(frame)]));
  });
  stack.addEventListener("pointercancel", () => { begun = null; selection.hidden = true; });
  stack.addEventListener("dblclick", () => view(first, last));
  // The wheel alone scrolls the page; with Ctrl, as a pinch on a touchpad comes too, it zooms.
  stack.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) return;
    event.preventDefault();
    const turned = event.deltaY || event.deltaX;
    if (event.shiftKey) pan(Math.sign(turned) * 0.1); else zoom(turned > 0 ? 1.25 : 0.8, frameAt(event));
  }, { passive: false });

  function go(step) {
    const place = shown === null ? 0 : nearest(shown) + step;
    const frame = frames[Math.min(Math.max(place, 0), frames.length - 1)];
    if (frame < from || frame > to) view(frame - (to - from) / 2, frame + (to - from) / 2);
    show(frame);
  }
  const keys = {
    ArrowLeft: () => go(-1), ArrowRight: () => go(1), ArrowDown: () => go(-1), ArrowUp: () => go(1),
    PageDown: () => go(-10), PageUp: () => go(10), Home: () => go(-frames.length), End: () => go(frames.length),
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: () => view(first, last),
    Escape: () => view(first, last), Enter: () => shown !== null && seek(show(shown)),
  };
  stack.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  for (const [id, act] of Object.entries({
    in: () => zoom(0.5), out: () => zoom(2), earlier: () => pan(-0.5), later: () => pan(0.5), all: () => view(first, last),
  })) at(id).addEventListener("click", act);
  addEventListener("resize", draw);

  stack.setAttribute("aria-description", stack.getAttribute("aria-label"));
  stack.setAttribute("aria-label", "Frame");
  stack.setAttribute("role", "slider");
  stack.setAttribute("aria-valuemin", frames[0]);
  stack.setAttribute("aria-valuemax", frames[frames.length - 1]);
  stack.tabIndex = 0;
  for (const part of document.querySelectorAll("[data-script]")) part.hidden = false;
  show(frames[Math.min(1, frames.length - 1)]);
  draw();
})();
