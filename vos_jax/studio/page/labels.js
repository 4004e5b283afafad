// Drawing into labels: an id for each pixel, row by row. Each function gives the rectangle
// [left, top, right, bottom] that it may have changed, or null.

// A stroke of a round brush from one point to another.
export function stroke(labels, width, height, from, to, radius, id) {
  const [x0, y0] = from, [x1, y1] = to, dx = x1 - x0, dy = y1 - y0, length = dx * dx + dy * dy;
  const left = Math.max(0, Math.floor(Math.min(x0, x1) - radius)), right = Math.min(width, Math.ceil(Math.max(x0, x1) + radius) + 1);
  const top = Math.max(0, Math.floor(Math.min(y0, y1) - radius)), bottom = Math.min(height, Math.ceil(Math.max(y0, y1) + radius) + 1);
  if (left >= right || top >= bottom) return null;
  const reach = Math.max(radius, 0.5) ** 2;
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const px = x + 0.5 - x0, py = y + 0.5 - y0;
      const along = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
      const ex = px - along * dx, ey = py - along * dy;
      if (ex * ex + ey * ey <= reach) labels[y * width + x] = id;
    }
  }
  return [left, top, right, bottom];
}

// All pixels whose centre is inside of a polygon (even-odd rule).
export function polygon(labels, width, height, points, id) {
  const ys = points.map((point) => point[1]);
  const top = Math.max(0, Math.floor(Math.min(...ys))), bottom = Math.min(height, Math.ceil(Math.max(...ys)));
  let left = width, right = 0;
  for (let y = top; y < bottom; y++) {
    const centre = y + 0.5, crossings = [];
    points.forEach(([x0, y0], index) => {
      const [x1, y1] = points[(index + 1) % points.length];
      if ((y0 <= centre) !== (y1 <= centre)) crossings.push(x0 + (centre - y0) / (y1 - y0) * (x1 - x0));
    });
    crossings.sort((a, b) => a - b);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const start = Math.max(0, Math.ceil(crossings[i] - 0.5)), end = Math.min(width, Math.ceil(crossings[i + 1] - 0.5));
      if (start >= end) continue;
      labels.fill(id, y * width + start, y * width + end);
      left = Math.min(left, start);
      right = Math.max(right, end);
    }
  }
  return left < right ? [left, top, right, bottom] : null;
}

// All pixels that have the id of the one at a point and hang together with it.
export function fill(labels, width, height, [px, py], id) {
  const x0 = Math.floor(px), y0 = Math.floor(py);
  if (x0 < 0 || y0 < 0 || x0 >= width || y0 >= height) return null;
  const old = labels[y0 * width + x0];
  if (old === id) return null;
  let left = x0, right = x0 + 1, top = y0, bottom = y0 + 1;
  const waiting = [y0 * width + x0];
  while (waiting.length) {
    const seed = waiting.pop(), y = Math.floor(seed / width), row = y * width;
    if (labels[seed] !== old) continue;
    let start = seed, end = seed + 1;
    while (start > row && labels[start - 1] === old) start--;
    while (end < row + width && labels[end] === old) end++;
    labels.fill(id, start, end);
    left = Math.min(left, start - row); right = Math.max(right, end - row);
    top = Math.min(top, y); bottom = Math.max(bottom, y + 1);
    for (const other of [y - 1, y + 1]) {
      if (other < 0 || other >= height) continue;
      for (let i = start - row + other * width, last = end - row + other * width, before = false; i < last; i++) {
        const same = labels[i] === old;
        if (same && !before) waiting.push(i);
        before = same;
      }
    }
  }
  return [left, top, right, bottom];
}

export function union(a, b) {
  if (!a || !b) return a || b;
  return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])];
}

export function cut(labels, width, [left, top, right, bottom]) {
  const part = new Uint8Array((right - left) * (bottom - top));
  for (let y = top; y < bottom; y++) part.set(labels.subarray(y * width + left, y * width + right), (y - top) * (right - left));
  return part;
}

export function paste(labels, width, [left, top, right, bottom], part) {
  const row = right - left;
  for (let y = top; y < bottom; y++) labels.set(part.subarray((y - top) * row, (y - top + 1) * row), y * width + left);
}

// Colours of a rectangle: masks at an opacity, their contours solid.
export function colour(labels, width, height, [left, top, right, bottom], table, solid) {
  const pixels = new ImageData(right - left, bottom - top), out = new Uint32Array(pixels.data.buffer);
  let at = 0;
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++, at++) {
      const i = y * width + x, id = labels[i];
      if (!id) continue;
      const edge = (x > 0 && labels[i - 1] !== id) || (x < width - 1 && labels[i + 1] !== id)
        || (y > 0 && labels[i - width] !== id) || (y < height - 1 && labels[i + width] !== id);
      out[at] = edge ? solid[id] : table[id];
    }
  }
  return pixels;
}
