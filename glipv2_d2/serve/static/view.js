// The image with its boxes, masks and labels, on a canvas.

import { maskCanvases } from "./masks.js";

// Bright and far apart; dark text on each can be read.
export function color(classId) {
  return `hsl(${Math.round((classId * 137.508 + 205) % 360)} 92% 68%)`;
}

function rgb(text) {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = text;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

function label(found) {
  return `${found.phrase} ${Math.round(100 * found.score)}%`;
}

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.image = null;
    this.found = []; // all, best first
    this.threshold = 0;
    this.active = null; // index in `found`
    this.show = { boxes: true, labels: true, masks: "fill" };
    this.masks = new Map();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  set(image, found) {
    if (found !== this.found) this.masks.clear();
    Object.assign(this, { image, found, active: null });
    this.draw();
  }

  // [index, detection] of those that score enough.
  shown() {
    return [...this.found.entries()].filter(([, found]) => found.score >= this.threshold);
  }

  draw() {
    if (!this.image || !this.canvas.clientWidth) return;
    const density = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.canvas.clientWidth * density);
    this.canvas.height = Math.round(this.canvas.clientHeight * density);
    const { x, y, scale } = this.place();
    const context = this.canvas.getContext("2d");
    context.setTransform(scale * density, 0, 0, scale * density, x * density, y * density);
    this.paint(context, 1 / scale);
    const seen = this.shown().map(([, found]) => label(found)).join(", ");
    this.canvas.setAttribute("aria-label", seen ? `Image with ${seen}` : "Image without boxes");
  }

  // The whole picture in its own pixels.
  picture() {
    const canvas = document.createElement("canvas");
    canvas.width = this.image.naturalWidth;
    canvas.height = this.image.naturalHeight;
    this.paint(canvas.getContext("2d"), Math.max(1, Math.max(canvas.width, canvas.height) / 900));
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  // The index of the smallest box at a point of the window.
  at(clientX, clientY) {
    if (!this.image) return null;
    const frame = this.canvas.getBoundingClientRect();
    const { x, y, scale } = this.place();
    const px = (clientX - frame.left - x) / scale;
    const py = (clientY - frame.top - y) / scale;
    const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
    const hits = this.shown().filter(([, { box }]) =>
      px >= box[0] && px <= box[2] && py >= box[1] && py <= box[3]);
    hits.sort(([, a], [, b]) => area(a.box) - area(b.box));
    return hits.length ? hits[0][0] : null;
  }

  place() {
    const { naturalWidth, naturalHeight } = this.image;
    const { clientWidth, clientHeight } = this.canvas;
    const scale = Math.min(clientWidth / naturalWidth, clientHeight / naturalHeight);
    return {
      scale,
      x: (clientWidth - naturalWidth * scale) / 2,
      y: (clientHeight - naturalHeight * scale) / 2,
    };
  }

  // In pixels of the image; `unit` of them are one of the screen.
  paint(context, unit) {
    context.drawImage(this.image, 0, 0);
    const shown = this.shown().reverse(); // the best on top
    for (const [index, found] of shown) this.paintMask(context, index, found);
    if (this.show.boxes) for (const [index, found] of shown) this.paintBox(context, unit, index, found);
    if (this.show.labels) for (const [index, found] of shown) this.paintLabel(context, unit, index, found);
  }

  paintMask(context, index, found) {
    if (this.show.masks === "off" || !found.mask) return;
    if (!this.masks.has(index)) {
      this.masks.set(index, maskCanvases(found.mask, found.box, rgb(color(found.class_id))));
    }
    const mask = this.masks.get(index);
    const filled = this.show.masks === "fill";
    const place = [mask.left, mask.top, mask.wide, mask.high];
    if (filled) {
      context.globalAlpha = this.faded(index) * (index === this.active ? 0.6 : 0.35);
      context.drawImage(mask.fill, ...place);
    }
    context.globalAlpha = this.faded(index);
    context.drawImage(mask.outline, ...place);
    context.globalAlpha = 1;
  }

  paintBox(context, unit, index, { box: [x0, y0, x1, y1], class_id }) {
    context.globalAlpha = this.faded(index);
    const width = (index === this.active ? 4 : 2.5) * unit;
    for (const [style, extra] of [["rgb(0 0 0 / 55%)", 2 * unit], [color(class_id), 0]]) {
      context.strokeStyle = style;
      context.lineWidth = width + extra;
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
    context.globalAlpha = 1;
  }

  paintLabel(context, unit, index, found) {
    const [x0, y0] = found.box;
    context.globalAlpha = this.faded(index);
    context.font = `600 ${13 * unit}px system-ui, sans-serif`;
    const text = label(found);
    const width = context.measureText(text).width + 10 * unit;
    const height = 20 * unit;
    const x = Math.max(0, Math.min(x0 - unit, this.image.naturalWidth - width));
    const y = y0 >= height ? y0 - height : Math.max(0, y0);
    context.fillStyle = color(found.class_id);
    context.fillRect(x, y, width, height);
    context.fillStyle = "#10131c";
    context.textBaseline = "middle";
    context.fillText(text, x + 5 * unit, y + height / 2 + unit / 2);
    context.globalAlpha = 1;
  }

  faded(index) {
    return this.active === null || this.active === index ? 1 : 0.35;
  }
}
