// The lists beside the image.

import { color } from "./view.js";

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function swatch(classId) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  for (const [name, value] of Object.entries({ cx: 7, cy: 7, r: 6, fill: color(classId) })) {
    dot.setAttribute(name, value);
  }
  svg.setAttribute("width", "14");
  svg.setAttribute("height", "14");
  svg.setAttribute("aria-hidden", "true");
  svg.append(dot);
  return svg;
}

// The boxes that are shown, one button each; `activate(index or null)` points one out.
export function listFound(list, shown, activate) {
  list.replaceChildren(...shown.map(([index, found]) => {
    const score = element("span", { className: "score", textContent: `${(100 * found.score).toFixed(0)}%` });
    const name = element("span", { className: "name", textContent: found.phrase });
    const button = element("button", { type: "button" }, swatch(found.class_id), name, score);
    button.dataset.index = index;
    button.onpointerenter = button.onfocus = () => activate(index);
    button.onpointerleave = button.onblur = () => activate(null);
    return element("li", {}, button);
  }));
}

export function pointOut(list, index) {
  for (const button of list.querySelectorAll("button")) {
    button.classList.toggle("active", button.dataset.index === String(index));
  }
}

// A text whose phrases have the colors of their boxes.
export function writeWords(line, words) {
  line.hidden = !words;
  line.replaceChildren(...(words ?? []).map(({ text, class_id: classId }) => {
    if (classId === null) return document.createTextNode(text);
    const mark = element("mark", { textContent: text });
    mark.style.background = color(classId);
    return mark;
  }));
}

export function listAnswers(list, answers) {
  list.hidden = !answers;
  list.replaceChildren(...(answers ?? []).map(([text, probability]) => element(
    "li", {},
    element("span", { textContent: text || "(no answer)" }),
    element("span", { textContent: `${(100 * probability).toFixed(0)}%` }),
  )));
}

export function listExamples(list, examples, open) {
  list.replaceChildren(...examples.map((example) => {
    const image = element("img", { src: example.address, alt: `Example: ${example.prompt}` });
    return element("li", {}, element("button", { type: "button", onclick: () => open(example) }, image));
  }));
}

const KINDS = { detect: "Detect", answer: "Ask", caption: "Caption" };

// What was asked, newest first; `open(entry)` shows it again without asking.
export function listHistory(list, entries, current, open) {
  list.replaceChildren(...entries.map((entry) => {
    const title = entry.answer ? `${entry.text} ${entry.answer}` : entry.text;
    const button = element(
      "button", { type: "button", onclick: () => open(entry) },
      element("img", { src: entry.photo.address, alt: entry.photo.name }),
      element("span", { className: "name", textContent: title }),
      element("span", { className: "kind", textContent: KINDS[entry.task] }),
    );
    if (entry === current) button.setAttribute("aria-current", "true");
    return element("li", {}, button);
  }));
}
