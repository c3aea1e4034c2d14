// The page of `lowlat serve`: one card a video. What goes on comes over /events, pictures over a socket for each video.

import { SAMPLE, drawChart } from "./chart.js";

const FIRST_PAUSE = 500, LONGEST_PAUSE = 5000, CAMERA_FPS = 15, SPAN_S = 180;
const byId = (id) => document.getElementById(id);
const cards = new Map();
let classes = { names: [], palette: [] };

function address(path) {
  return new URL(path, location.href.replace(/^http/, "ws")).href;
}

// A socket that is opened again, in growing pauses, until it is closed here.
class Socket {
  constructor(path, { onopen = () => {}, onmessage, onlost = () => {} }) {
    Object.assign(this, { path, onopen, onmessage, onlost, pause: FIRST_PAUSE, closed: false });
    this.open();
  }
  open() {
    this.socket = new WebSocket(address(this.path));
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.onopen(this.socket);
    this.socket.onmessage = (message) => {
      this.pause = FIRST_PAUSE;
      this.onmessage(message.data, this.socket);
    };
    this.socket.onclose = () => {
      if (this.closed) return;
      this.onlost();
      this.timer = setTimeout(() => this.open(), this.pause);
      this.pause = Math.min(2 * this.pause, LONGEST_PAUSE);
    };
  }
  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket.close();
  }
}

const milliseconds = (value) => (value == null ? "–" : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`);
const percent = (share) => `${Math.round(100 * share)} %`;

class Card {
  constructor(name) {
    this.name = name;
    this.samples = [];
    this.labels = null;
    this.article = byId("video").content.firstElementChild.cloneNode(true);
    const find = (selector) => this.article.querySelector(selector);
    this.state = find(".state");
    this.source = find(".source");
    this.picture = find(".picture");
    this.canvas = find("canvas");
    this.pointed = find(".pointed");
    this.figures = find("dl");
    this.chart = find("svg");
    this.described = 0;
    const title = find("h2");
    title.textContent = name;
    title.id = `video-${name}`;
    this.article.setAttribute("aria-labelledby", title.id);
    find(".close").setAttribute("aria-label", `Close ${name}`);
    find(".close").onclick = () => ask("DELETE", `videos/${name}`);
    this.canvas.onpointermove = (event) => this.point(event);
    this.canvas.onpointerleave = () => (this.pointed.textContent = "");
    byId("videos").append(this.article);
    this.socket = new Socket(`videos/${name}/pictures`, {
      // Two are asked for, so that one is on its way while the other is drawn.
      onopen: (socket) => ["next", "next"].forEach((word) => socket.send(word)),
      onmessage: async (data, socket) => {
        await this.draw(data);
        if (socket.readyState === WebSocket.OPEN) socket.send("next");
      },
    });
  }

  async draw(data) {
    const head = 4 + new DataView(data).getUint32(0);
    const about = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, head - 4)));
    const split = head + about.jpeg;
    const [frame, labels] = await Promise.all([
      createImageBitmap(new Blob([data.slice(head, split)], { type: "image/jpeg" })),
      createImageBitmap(new Blob([data.slice(split)], { type: "image/png" })),
    ]);
    this.labels?.close();
    this.frame?.close();
    Object.assign(this, { frame, labels });
    this.picture.classList.toggle("key", about.key);
    this.canvas.dataset.index = about.index;
    this.paint();
  }

  paint() {
    if (!this.frame) return;
    const { canvas, frame, labels } = this;
    if (canvas.width !== frame.width || canvas.height !== frame.height) {
      [canvas.width, canvas.height] = [frame.width, frame.height];
    }
    const context = canvas.getContext("2d");
    context.globalAlpha = 1;
    context.drawImage(frame, 0, 0);
    context.globalAlpha = byId("opacity").value / 100;
    context.drawImage(labels, 0, 0);
  }

  // The class under the pointer.
  point(event) {
    if (!this.labels) return;
    const box = this.canvas.getBoundingClientRect();
    const probe = new OffscreenCanvas(1, 1).getContext("2d");
    const x = ((event.clientX - box.left) / box.width) * this.canvas.width;
    const y = ((event.clientY - box.top) / box.height) * this.canvas.height;
    probe.drawImage(this.labels, -Math.floor(x), -Math.floor(y));
    const [red, green, blue] = probe.getImageData(0, 0, 1, 1).data;
    const found = classes.palette.findIndex(([r, g, b]) => r === red && g === green && b === blue);
    this.pointed.textContent = classes.names[found] ?? "";
  }

  show(video, now) {
    this.samples.push(...video.samples);
    this.samples = this.samples.filter((sample) => sample[SAMPLE.at] > now - SPAN_S);
    const last = this.samples.at(-1), { counts, figures } = video;
    const words = { live: "live", lost: "lost, trying again", opening: "opening", waiting: "waiting" };
    const state = words[video.state] ?? video.state;
    // Only what changes is read out.
    if (this.state.textContent !== state) this.state.textContent = state;
    this.state.dataset.state = video.state;
    this.state.title = video.reason;
    this.picture.classList.toggle("stale", video.state !== "live");
    this.source.textContent = video.source + (video.state === "live" || !video.reason ? "" : `: ${video.reason}`);
    const rows = {
      latency: milliseconds(last?.[SAMPLE.latency]),
      median: milliseconds(figures.median_ms),
      "99 of 100 below": milliseconds(figures.p99_ms),
      longest: milliseconds(figures.max_ms),
      "whole network": milliseconds(figures.baseline_ms),
      bound: milliseconds(figures.bound_ms),
      "frames a second": figures.fps == null ? "–" : figures.fps.toFixed(1),
      age: last ? `${last[SAMPLE.age]} ${last[SAMPLE.age] === 1 ? "frame" : "frames"}` : "–",
      labelled: counts.labelled,
      dropped: counts.dropped,
      skipped: counts.skipped,
      failed: counts.failed,
      "key frames": counts.key_frames,
      landings: counts.landings,
      "failures of S_h": counts.passes_failed,
      degraded: counts.degraded,
    };
    if (!this.figures.children.length) {
      for (const name of Object.keys(rows)) {
        const row = document.createElement("div");
        row.append(document.createElement("dt"), document.createElement("dd"));
        row.firstChild.textContent = name;
        row.dataset.figure = name;
        this.figures.append(row);
      }
    }
    Object.values(rows).forEach((value, index) => (this.figures.children[index].lastChild.textContent = value));
    drawChart(this.chart, this.samples, figures, now);
    this.describe(video, figures, now);
  }

  // What those hear who don't see the pictures; not so often that it could not be read to its end.
  describe(video, figures, now) {
    if (now - this.described < 3) return;
    this.described = now;
    const most = video.shares.map((share, index) => [share, classes.names[index]]).filter(([share]) => share >= 0.01);
    most.sort((one, other) => other[0] - one[0]);
    const words = most.map(([share, name]) => `${name} ${percent(share)}`).join(", ") || "no picture yet";
    this.canvas.setAttribute("aria-label", `Labelled picture of ${this.name}: ${words}`);
    const low = milliseconds(figures.median_ms), high = milliseconds(figures.max_ms);
    const beside = figures.baseline_ms == null ? "" : `; the whole network ${milliseconds(figures.baseline_ms)}`;
    this.chart.setAttribute("aria-label", `Latency of the last minutes: median ${low}, longest ${high}${beside}`);
  }

  remove() {
    this.socket.close();
    this.article.remove();
  }
}

async function ask(method, path, body) {
  byId("message").textContent = "";
  const answer = await fetch(path, { method, body: body && JSON.stringify(body) }).catch((error) => ({ error }));
  if (answer.ok) return true;
  const words = answer.error ? "the service does not answer" : (await answer.json().catch(() => ({}))).error;
  byId("message").textContent = words ?? `the service answers ${answer.status}`;
  return false;
}

function showClasses() {
  const list = classes.names.map((name, index) => {
    const item = document.createElement("li");
    const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const fill = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, value] of [["width", "100%"], ["height", "100%"], ["fill", `rgb(${classes.palette[index]})`]]) {
      fill.setAttribute(key, value);
    }
    swatch.setAttribute("aria-hidden", "true");
    swatch.append(fill);
    item.append(swatch, name);
    return item;
  });
  byId("classes").replaceChildren(...list);
}

function connected(words) {
  if (byId("connection").textContent !== words) byId("connection").textContent = words;
}

new Socket("events", {
  onmessage: (data) => {
    const message = JSON.parse(data);
    if (message.classes) {
      // A new connection: its history is told from the beginning.
      classes = message.classes;
      showClasses();
      byId("open").hidden = !message.may_open;
      for (const card of cards.values()) card.samples = [];
    }
    connected("connected");
    const names = new Set(message.videos.map((video) => video.name));
    for (const [name, card] of cards) {
      if (!names.has(name)) {
        card.remove();
        cards.delete(name);
      }
    }
    for (const video of message.videos) {
      if (!cards.has(video.name)) cards.set(video.name, new Card(video.name));
      cards.get(video.name).show(video, message.now);
    }
    byId("none").hidden = cards.size > 0;
  },
  onlost: () => {
    connected("connection lost, trying again …");
    for (const card of cards.values()) card.picture.classList.add("stale");
  },
});

byId("opacity").oninput = () => cards.forEach((card) => card.paint());
byId("open").onsubmit = async (event) => {
  event.preventDefault();
  if (await ask("POST", "videos", { source: byId("source").value })) event.target.reset();
};

// This device's camera: a frame is sent when the one before has been taken, so that none waits on the way.
let camera = null;
function stopCamera(words = "") {
  camera?.socket.close();
  camera?.stream.getTracks().forEach((track) => track.stop());
  camera = null;
  byId("camera").textContent = "Use this device's camera";
  byId("message").textContent = words;
}

byId("camera").onclick = async () => {
  if (camera) return stopCamera();
  if (!navigator.mediaDevices) {
    byId("message").textContent = "A browser gives its camera to pages over https, or of its own machine, alone.";
    return;
  }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640 } });
    const player = Object.assign(document.createElement("video"), { srcObject: stream, muted: true });
    await player.play();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [player.videoWidth, player.videoHeight];
    const name = `camera-${Math.random().toString(36).slice(2, 8)}`;
    const socket = new WebSocket(address(`videos/${name}/frames`));
    const send = () => {
      canvas.getContext("2d").drawImage(player, 0, 0);
      canvas.toBlob((blob) => socket.readyState === WebSocket.OPEN && socket.send(blob), "image/jpeg", 0.85);
    };
    let sent = 0;
    const next = () => setTimeout(() => ((sent = performance.now()), send()), sent + 1000 / CAMERA_FPS - performance.now());
    socket.onopen = next;
    socket.onmessage = next;
    socket.onclose = (event) => camera && stopCamera(event.reason || "the connection of the camera was lost");
    camera = { stream, socket };
    byId("camera").textContent = "Stop this device's camera";
  } catch (error) {
    byId("message").textContent = `The camera can't be used: ${error.message}`;
  }
};
