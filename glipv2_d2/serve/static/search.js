// The search page: a text, and the regions of the collection that fit it.

import * as api from "./api.js";

const $ = (id) => document.getElementById(id);
const TOP = 20;
let running = null;

function figure(region) {
  const item = document.createElement("li");
  const image = document.createElement("img");
  const name = document.createElement("span");
  const score = document.createElement("span");
  name.className = "name";
  name.textContent = region.file.split(/[/\\]/).pop();
  name.title = region.file;
  score.className = "score";
  score.textContent = region.score.toFixed(2);
  image.alt = `A region of ${region.file}`;
  item.append(image, name, score);
  return { item, image };
}

async function search(text, signal) {
  const { regions } = await api.ask("search", { text, top: TOP }, signal);
  const figures = regions.map(figure);
  for (const image of document.querySelectorAll("#regions img")) URL.revokeObjectURL(image.src);
  $("regions").replaceChildren(...figures.map(({ item }) => item));
  $("status").textContent = regions.length ? `${regions.length} regions, best first` : "nothing is found";
  await Promise.all(figures.map(async ({ image }, i) => {
    const { region, box } = regions[i];
    image.src = URL.createObjectURL(await api.picture({ region, box }, signal));
  }));
}

$("form").onsubmit = async (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  running?.abort();
  const own = new AbortController();
  running = own;
  $("error").hidden = true;
  $("status").textContent = "The model looks…";
  try {
    await search(text, own.signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    $("status").textContent = "";
    $("error").hidden = false;
    $("error").textContent = error.message;
  }
};
document.documentElement.dataset.ready = "true";
