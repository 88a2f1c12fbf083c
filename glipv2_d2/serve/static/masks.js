// Masks in COCO's compressed run-length code, as small canvases of one color.

const LONGEST = 640; // of a mask's canvas: more is not seen

// Runs of pixels that are alternately off and on, down the columns.
function runs(code) {
  const lengths = [];
  for (let i = 0; i < code.length;) {
    let value = 0;
    let shift = 0;
    let bits;
    do {
      bits = code.charCodeAt(i++) - 48;
      value |= (bits & 31) << shift;
      shift += 5;
    } while (bits & 32);
    if (bits & 16) value |= -1 << shift;
    if (lengths.length > 2) value += lengths[lengths.length - 2];
    lengths.push(value);
  }
  return lengths;
}

// Where the mask is on, sampled in the box: {width, height, on}.
function sample(mask, [x0, y0, x1, y1]) {
  const [rows, columns] = mask.size;
  const left = Math.max(0, Math.floor(x0));
  const top = Math.max(0, Math.floor(y0));
  const wide = Math.max(1, Math.min(columns, Math.ceil(x1)) - left);
  const high = Math.max(1, Math.min(rows, Math.ceil(y1)) - top);
  const scale = Math.min(1, LONGEST / Math.max(wide, high));
  const width = Math.max(1, Math.round(wide * scale));
  const height = Math.max(1, Math.round(high * scale));
  const lengths = runs(mask.counts);
  const on = new Uint8Array(width * height);
  let run = 0;
  let end = lengths[0] ?? 0;
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      const column = left + Math.floor((x + 0.5) * wide / width);
      const pixel = column * rows + top + Math.floor((y + 0.5) * high / height);
      while (pixel >= end && run < lengths.length - 1) end += lengths[++run];
      on[y * width + x] = pixel < end ? run & 1 : 0;
    }
  }
  return { left, top, wide, high, width, height, on };
}

// The mask and its outline as canvases, with their place in the image.
export function maskCanvases(mask, box, [red, green, blue]) {
  const { left, top, wide, high, width, height, on } = sample(mask, box);
  const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && on[y * width + x];
  const paint = (shown) => {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (at(x, y) && shown(x, y)) pixels.data.set([red, green, blue, 255], 4 * (y * width + x));
      }
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  };
  const thick = Math.max(1, Math.round(Math.max(width, height) / 90));
  const edge = (x, y) => !(at(x - thick, y) && at(x + thick, y) && at(x, y - thick) && at(x, y + thick));
  return { left, top, wide, high, fill: paint(() => true), outline: paint(edge) };
}
