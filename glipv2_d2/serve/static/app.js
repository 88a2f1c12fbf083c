// The page: a photo, what is asked of it, and what was found.

import * as api from "./api.js";
import { listAnswers, listExamples, listFound, listHistory, pointOut, writeWords } from "./panels.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const LEAST = 0.05; // what scores less is not sent: the slider begins here
const REMEMBERED = 30;

const TASKS = {
  detect: {
    button: "Detect",
    label: "What to look for",
    hint: "Names with commas between them, or a sentence with its [phrases] in brackets.",
    body: (text) => ({ prompt: text, threshold: LEAST }),
  },
  answer: {
    button: "Ask",
    label: "Your question",
    hint: "What the question speaks of is found, too.",
    body: (text) => ({ question: text, threshold: LEAST }),
  },
  caption: {
    button: "Write a caption",
    label: "How it begins (may be empty)",
    hint: "What the caption speaks of is found, too.",
    body: (text) => ({ beginning: text, threshold: LEAST }),
  },
};

const view = new View($("canvas"));
const state = { model: null, photo: null, current: null, history: [], running: null };
const texts = { detect: "", answer: "", caption: "" };

function task() {
  return document.querySelector("input[name=task]:checked").value;
}

function fail(message) {
  $("error").hidden = !message;
  $("error").textContent = message ?? "";
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

// Photos

async function take(file, name = file.name) {
  fail();
  const limits = state.model.limits;
  if (file.size > limits.bytes) {
    return fail(`${name} has ${megabytes(file.size)}, and at most ${megabytes(limits.bytes)} are allowed`);
  }
  const image = new Image();
  const address = URL.createObjectURL(file);
  try {
    image.src = address;
    await image.decode();
  } catch {
    URL.revokeObjectURL(address);
    return fail(`${name} is no image that this browser can show: take a JPEG, PNG or WebP`);
  }
  state.running?.abort();
  const photo = { file, name, address, image, known: null };
  state.photo = photo;
  show({ photo, result: null });
  photo.known = send(photo); // meanwhile one types
  photo.known.catch((error) => state.photo === photo && fail(error.message));
}

async function send(photo) {
  return (await api.upload(photo.file)).image_id;
}

async function example({ address, prompt }) {
  try {
    await take(await (await fetch(address)).blob(), address.slice(1));
    texts.detect = prompt;
    $("text").value = texts[task()];
  } catch (error) {
    fail(error.message);
  }
}

// Questions

async function ask() {
  if (state.running) return state.running.abort();
  if (!state.photo) return fail("choose a photo first");
  const kind = task();
  const text = $("text").value.trim();
  if (!text && kind !== "caption") return fail(kind === "detect" ? "type what to look for" : "type a question");
  fail();
  const { photo } = state;
  const running = new AbortController();
  state.running = running;
  $("go").textContent = "Cancel";
  $("status").textContent = "The model looks…";
  try {
    const began = performance.now();
    const result = await askAbout(photo, kind, TASKS[kind].body(text), running.signal);
    const seconds = (performance.now() - began) / 1000;
    const entry = { photo, task: kind, text: text || result.caption, answer: result.answer, result, seconds };
    state.history = [entry, ...state.history].slice(0, REMEMBERED);
    show(entry);
  } catch (error) {
    if (error.name !== "AbortError") fail(error.message);
  } finally {
    state.running = null;
    $("status").textContent = "";
    choose(task());
  }
}

async function askAbout(photo, kind, body, signal) {
  const asked = async () => {
    photo.known ??= send(photo);
    const imageId = await photo.known.catch((error) => { photo.known = null; throw error; });
    return api.ask(kind, { ...body, image_id: imageId }, signal);
  };
  try {
    return await asked();
  } catch (error) {
    if (error.status !== 404) throw error;
    photo.known = null; // the server does not keep it any more
    return asked();
  }
}

// What is shown

function show(entry) {
  state.current = entry;
  state.photo = entry.photo;
  const { result } = entry;
  $("drop").hidden = true;
  $("canvas").hidden = $("tools").hidden = false;
  $("go").disabled = false;
  view.set(entry.photo.image, result?.detections ?? []);
  $("result").hidden = !result;
  if (result) {
    const isDetection = entry.task === "detect";
    writeWords($("words"), isDetection ? null : result.words);
    listAnswers($("answers"), result.answers);
    $("threshold").value = isDetection ? Math.max(LEAST, state.model.threshold) : LEAST;
  }
  listHistory($("history"), state.history, entry, show);
  $("past").hidden = !state.history.length;
  refresh();
}

// Without asking the server.
function refresh() {
  view.threshold = Number($("threshold").value);
  $("threshold-value").textContent = `${Math.round(100 * view.threshold)}%`;
  const shown = view.shown();
  const hidden = view.found.length - shown.length;
  const entry = state.current;
  const time = entry?.seconds === undefined ? "" : `, ${entry.seconds.toFixed(1)} s`;
  $("count").textContent = `${shown.length} found${hidden ? `, ${hidden} more with a lower score` : ""}${time}`;
  listFound($("found"), shown, activate);
  view.draw();
}

function activate(index) {
  if (view.active === index) return;
  view.active = index;
  pointOut($("found"), index);
  view.draw();
}

function choose(kind) {
  const { button, label, hint } = TASKS[kind];
  document.querySelector(`input[value=${kind}]`).checked = true;
  $("text-label").textContent = label;
  $("hint").textContent = hint;
  $("go").textContent = button;
}

// Files to take away

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function stem() {
  return state.photo.name.replace(/\.[^.]*$/, "") || "image";
}

async function saveLabels() {
  const detections = view.shown().map(([, found]) => found);
  const { width, height } = state.current.result;
  const format = $("format").value;
  try {
    if (format === "json") {
      const content = { file: state.photo.name, width, height, detections };
      return save(new Blob([JSON.stringify(content, null, 1)]), `${stem()}.json`);
    }
    const body = { format, file: state.photo.name, width, height, detections };
    save(await api.labels(body), `${stem()}-${format}.zip`);
  } catch (error) {
    fail(error.message);
  }
}

// Wiring

function wire() {
  $("form").onsubmit = (event) => { event.preventDefault(); ask(); };
  for (const input of document.querySelectorAll("input[name=task]")) {
    input.onchange = () => {
      choose(input.value);
      $("text").value = texts[input.value];
    };
  }
  $("text").oninput = () => { texts[task()] = $("text").value; };
  $("text").onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); ask(); }
  };
  $("choose").onclick = $("another").onclick = () => $("file").click();
  $("file").onchange = () => { if ($("file").files.length) take($("file").files[0]); $("file").value = ""; };
  $("threshold").oninput = refresh;
  $("show-boxes").onchange = () => { view.show.boxes = $("show-boxes").checked; view.draw(); };
  $("show-labels").onchange = () => { view.show.labels = $("show-labels").checked; view.draw(); };
  $("show-masks").onchange = () => { view.show.masks = $("show-masks").value; view.draw(); };
  $("save-picture").onclick = async () => save(await view.picture(), `${stem()}-found.png`);
  $("save-labels").onclick = saveLabels;
  $("canvas").onpointermove = $("canvas").onpointerdown = (event) => activate(view.at(event.clientX, event.clientY));
  // A finger leaves when it lets go: what it touched stays pointed out.
  $("canvas").onpointerleave = (event) => { if (event.pointerType === "mouse") activate(null); };
  wireDrops();
  document.addEventListener("keydown", shortcut);
}

function wireDrops() {
  const stage = $("stage");
  document.addEventListener("dragover", (event) => { event.preventDefault(); stage.classList.add("over"); });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) stage.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    stage.classList.remove("over");
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take(event.clipboardData.files[0], "pasted image");
  });
}

function shortcut(event) {
  if (event.key === "Escape") { state.running?.abort(); return activate(null); }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("textarea, select")) return;
  const keys = {
    "/": () => $("text").focus(),
    o: () => $("file").click(),
    b: () => $("show-boxes").click(),
    l: () => $("show-labels").click(),
    m: () => {
      const choice = $("show-masks");
      choice.selectedIndex = (choice.selectedIndex + 1) % choice.options.length;
      choice.onchange();
    },
  };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
}

async function start() {
  wire();
  choose("detect");
  try {
    state.model = await api.model();
  } catch (error) {
    return fail(error.message);
  }
  const { model: name, tasks, examples, formats } = state.model;
  $("model").textContent = name;
  $("mask-choice").hidden = !tasks.includes("masks");
  for (const kind of ["answer", "caption"]) {
    if (!tasks.includes(kind)) document.querySelector(`input[value=${kind}]`).parentElement.remove();
  }
  $("search-link").hidden = !tasks.includes("search");
  $("threshold").min = LEAST;
  $("format").append(...["json", ...formats].map((format) => new Option(format)));
  $("examples").hidden = !examples.length;
  listExamples($("example-list"), examples, example);
  document.documentElement.dataset.ready = "true";
}

start();
