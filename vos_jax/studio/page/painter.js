// The frame with its masks, and the tools that change them.
import * as draw from './labels.js';

const UNDO = 60;

export class Painter {
  // `onChange(number, held)` is called after each change that a person made; `onHint(values)` with a box or with
  // scribbles, for which the server finds the object.
  constructor(elements, onChange, onHint) {
    Object.assign(this, elements);  // pictures, stage, picture, mask, drawing
    this.onChange = onChange;
    this.onHint = onHint;
    this.tool = 'box';
    this.corner = null;
    this.lines = [];
    this.lineDown = false;
    this.radius = 10;
    this.id = 1;
    this.opacity = 0.5;
    this.zoom = 1;
    this.number = null;
    this.points = [];
    this.pointer = null;
    this.byKeys = false;
    this.penDown = false;
    this.steps = new Map();
    this.solid = new Uint32Array(256);
    this.table = new Uint32Array(256);
    this.drawing.className = this.tool;
    this.listen();
    new ResizeObserver(() => this.fit()).observe(this.stage);
  }

  setSize(height, width) {
    this.width = width;
    this.height = height;
    for (const canvas of [this.picture, this.mask, this.drawing]) {
      canvas.width = width;
      canvas.height = height;
    }
    this.labels = new Uint8Array(width * height);
    this.steps.clear();
    this.number = null;
    this.id = 0;
    this.drop();
    this.zoom = 1;
    this.radius = Math.max(3, Math.round(Math.min(height, width) / 24));
    this.fit();
  }

  setColours(objects) {
    for (const { id, colour } of objects) {
      const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
      this.solid[id] = (255 << 24 | b << 16 | g << 8 | r) >>> 0;
    }
    this.setOpacity(this.opacity);
  }

  setOpacity(opacity) {
    this.opacity = opacity;
    const alpha = Math.round(255 * opacity);
    this.solid.forEach((value, id) => { this.table[id] = ((value & 0xffffff) | alpha << 24) >>> 0; });
    if (this.number !== null) this.render();
  }

  // Shows a frame; the labels of `held` are copied.
  load(number, bitmap, held) {
    if (number !== this.number) this.drop();
    const { labels } = held;
    this.held = held;
    this.number = number;
    this.drawing.dataset.frame = number;
    this.labels = labels ? labels.slice() : new Uint8Array(this.width * this.height);
    this.picture.getContext('2d').drawImage(bitmap, 0, 0, this.width, this.height);
    this.render();
    this.sketch();
  }

  forgetSteps(number) { if (!this.steps.get(number)?.isKept) this.steps.delete(number); }

  // What was painted on a mask that is no longer there: one undo away.
  keep(number, mine, theirs) {
    const now = theirs ?? new Uint8Array(mine.length), area = [0, 0, this.width, this.height];
    this.steps.set(number, { undo: [{ area, old: mine, now }], redo: [], isKept: true });
  }

  render(rectangle = [0, 0, this.width, this.height]) {
    const [left, top, right, bottom] = rectangle;  // contours change one pixel further out
    const area = [Math.max(0, left - 1), Math.max(0, top - 1), Math.min(this.width, right + 1), Math.min(this.height, bottom + 1)];
    const solid = this.opacity ? this.solid : this.table;
    const pixels = draw.colour(this.labels, this.width, this.height, area, this.table, solid);
    this.mask.getContext('2d').putImageData(pixels, area[0], area[1]);
  }

  fit() {
    if (!this.width) return;
    const room = [this.stage.clientWidth - 16, this.stage.clientHeight - 16];
    if (room[0] < 50 || room[1] < 50) return;
    this.scale = Math.min(room[0] / this.width, room[1] / this.height) * this.zoom;
    this.pictures.style.width = `${Math.floor(this.width * this.scale)}px`;
    this.pictures.style.height = `${Math.floor(this.height * this.scale)}px`;
    this.pictures.classList.toggle('large', this.scale > 3);
    this.sketch();
  }

  // Zooms so that the point under the pointer stays.
  setZoom(zoom, event) {
    const box = this.pictures.getBoundingClientRect();
    const x = event ? (event.clientX - box.left) / box.width : 0.5, y = event ? (event.clientY - box.top) / box.height : 0.5;
    this.zoom = Math.min(16, Math.max(1, zoom));
    this.fit();
    const now = this.pictures.getBoundingClientRect();
    this.stage.scrollLeft += x * (now.width - box.width);
    this.stage.scrollTop += y * (now.height - box.height);
  }

  setTool(tool) {
    this.tool = tool;
    this.drop();
    this.drawing.className = tool;
    this.sketch();
  }

  setRadius(radius) {
    this.radius = Math.min(150, Math.max(1, radius));
    this.sketch();
  }

  // ---- changes, and the way back

  change(make) {
    const before = this.labels.slice(), area = make();
    this.finish(before, area);
  }

  finish(before, area) {
    if (!area) return;
    const old = draw.cut(before, this.width, area), now = draw.cut(this.labels, this.width, area);
    if (old.every((value, index) => value === now[index])) return;
    const steps = this.stepsOf(this.number);
    steps.undo.push({ area, old, now });
    if (steps.undo.length > UNDO) steps.undo.shift();
    steps.redo = [];
    this.changed(area);
  }

  changed(area) {
    this.render(area);
    this.held.labels = this.labels.slice();
    this.onChange(this.number, this.held);
  }

  // Paints an object's mask, found[i] = 1 inside; pixels of other objects stay. Gives the pixels it has now.
  takeMask(found, id) {
    let count = 0;
    this.change(() => {
      let [left, top, right, bottom] = [this.width, this.height, 0, 0];
      for (let y = 0, i = 0; y < this.height; y++) {
        for (let x = 0; x < this.width; x++, i++) {
          const old = this.labels[i], now = old && old !== id ? old : found[i] * id;
          count += now === id;
          if (now === old) continue;
          this.labels[i] = now;
          [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x + 1), y + 1];
        }
      }
      return left < right && [left, top, right, bottom];
    });
    return count;
  }

  stepsOf(number) {
    if (!this.steps.has(number)) this.steps.set(number, { undo: [], redo: [] });
    return this.steps.get(number);
  }

  undo() { this.replay('undo', 'redo', 'old'); }

  redo() { this.replay('redo', 'undo', 'now'); }

  replay(from, to, part) {
    this.lines = [];
    if (from === 'undo' && this.points.length) {
      this.points.pop();
      this.sketch();
      return;
    }
    const steps = this.stepsOf(this.number), step = steps[from].pop();
    if (!step) return;
    draw.paste(this.labels, this.width, step.area, step[part]);
    steps[to].push(step);
    this.changed(step.area);
  }

  closePolygon() {
    const points = this.points;
    this.points = [];
    if (points.length > 2) this.change(() => draw.polygon(this.labels, this.width, this.height, points, this.id));
    this.sketch();
  }

  cancel() {
    const had = this.points.length > 0 || this.penDown || this.lineDown || this.corner !== null;
    this.drop();
    this.sketch();
    return had;
  }

  // Forgets what is not yet drawn.
  drop() {
    this.points = [];
    this.corner = null;
    this.lines = [];
    this.penDown = this.lineDown = false;
  }

  closeBox(to) {
    const [left, top] = this.corner, [right, bottom] = to;
    this.corner = null;
    this.lines = [];
    if (Math.min(Math.abs(right - left), Math.abs(bottom - top)) >= 2) this.onHint({ box: [left, top, right, bottom] });
    this.sketch();
  }

  // A scribble is sent with those before it: what one of them says stays said.
  beginLine(at, inside) {
    if (this.lineId !== this.id) this.lines = [];
    this.lineId = this.id;
    this.lines.push({ inside, points: [at] });
    this.lineDown = true;
  }

  endLine() {
    this.lineDown = false;
    this.onHint({ scribbles: this.lines, radius: this.lineRadius() });
    this.sketch();
  }

  lineRadius() { return Math.max(1, this.radius / 5); }

  // ---- pointer

  place(event) {
    const box = this.drawing.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * this.width, (event.clientY - box.top) / box.height * this.height];
  }

  listen() {
    const canvas = this.drawing;
    let before = null, area = null, last = null, id = 0;
    const end = (event) => {
      if (before) this.finish(before, area);
      before = null;
      if (this.byKeys) return;
      if (this.corner) this.closeBox(this.place(event));
      if (this.lineDown) this.endLine();
    };
    canvas.addEventListener('pointerdown', (event) => {
      if (this.number === null || event.button === 1) return;
      this.byKeys = false;
      const at = this.place(event), erase = event.button === 2 || this.tool === 'eraser';
      if (this.tool === 'fill' && !erase) return this.change(() => draw.fill(this.labels, this.width, this.height, at, this.id));
      if (this.tool === 'polygon' && !erase) return this.addPoint(at);
      canvas.setPointerCapture(event.pointerId);
      if (this.tool === 'box' && !erase) {
        this.corner = at;
        return undefined;
      }
      if (this.tool === 'scribble') return this.beginLine(at, !erase && !event.shiftKey);
      before = this.labels.slice();
      id = erase ? 0 : this.id;
      last = at;
      area = draw.stroke(this.labels, this.width, this.height, at, at, this.radius, id);
      if (area) this.render(area);
      return undefined;
    });
    canvas.addEventListener('pointermove', (event) => {
      this.pointer = this.place(event);
      if (this.lineDown && !this.byKeys) this.lines.at(-1).points.push(this.pointer);
      if (before) {
        for (const one of event.getCoalescedEvents?.() ?? [event]) {
          const at = this.place(one);
          const part = draw.stroke(this.labels, this.width, this.height, last, at, this.radius, id);
          if (part) this.render(part);
          area = draw.union(area, part);
          last = at;
        }
      }
      this.sketch();
    });
    canvas.addEventListener('pointerup', end);
    canvas.addEventListener('pointercancel', end);
    canvas.addEventListener('lostpointercapture', end);
    canvas.addEventListener('pointerleave', () => { if (!this.byKeys) { this.pointer = null; this.sketch(); } });
    canvas.addEventListener('dblclick', () => { if (this.tool === 'polygon') this.closePolygon(); });
    canvas.addEventListener('contextmenu', (event) => event.preventDefault());
    this.stage.addEventListener('wheel', (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      this.setZoom(this.zoom * (event.deltaY < 0 ? 1.25 : 0.8), event);
    }, { passive: false });
    canvas.addEventListener('focus', () => {
      if (!canvas.matches(':focus-visible')) return;
      this.byKeys = true;
      this.pointer = [this.width / 2, this.height / 2];
      this.sketch();
    });
    canvas.addEventListener('blur', () => {
      if (this.byKeys) {
        this.pointer = null;
        this.cancel();
      }
      this.byKeys = false;
      this.sketch();
    });
  }

  addPoint(at) {
    const near = this.points.length > 2 && Math.hypot(at[0] - this.points[0][0], at[1] - this.points[0][1]) * this.scale < 10;
    if (near) return this.closePolygon();
    this.points.push(at);
    return this.sketch();
  }

  // ---- keys while the frame has the focus: true where the key was used

  key(event) {
    if (!this.byKeys) return false;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (moves[event.key]) {
      const step = (event.shiftKey ? 1 : 8) / Math.min(1, this.scale), [dx, dy] = moves[event.key], from = this.pointer;
      this.pointer = [Math.min(this.width, Math.max(0, from[0] + step * dx)), Math.min(this.height, Math.max(0, from[1] + step * dy))];
      if (this.penDown) this.dab(from, this.pointer);
      if (this.lineDown) this.lines.at(-1).points.push(this.pointer);
      this.sketch();
      return true;
    }
    if (event.key !== 'Enter') return false;
    const last = this.points.at(-1);
    if (this.tool === 'fill') this.change(() => draw.fill(this.labels, this.width, this.height, this.pointer, this.id));
    else if (this.tool === 'polygon') {
      if (last && last[0] === this.pointer[0] && last[1] === this.pointer[1]) this.closePolygon();
      else this.addPoint([...this.pointer]);
    } else if (this.tool === 'box') {
      if (this.corner) this.closeBox(this.pointer);
      else this.corner = this.pointer;
    } else if (this.tool === 'scribble') {
      if (this.lineDown) this.endLine();
      else this.beginLine(this.pointer, !event.shiftKey);
    } else {
      this.penDown = !this.penDown;
      if (this.penDown) this.dab(this.pointer, this.pointer);
    }
    this.sketch();
    return true;
  }

  dab(from, to) {
    const id = this.tool === 'eraser' ? 0 : this.id;
    this.change(() => draw.stroke(this.labels, this.width, this.height, from, to, this.radius, id));
  }

  // ---- what is not yet drawn: the pointer, an open polygon

  sketch() {
    const context = this.drawing.getContext('2d'), line = 1.6 / (this.scale || 1);
    context.clearRect(0, 0, this.width, this.height);
    if (this.pointer && (this.tool === 'brush' || this.tool === 'eraser' || this.byKeys)) {
      const [x, y] = this.pointer;
      for (const [colour, extra] of [['#000', line], ['#fff', 0]]) {
        context.strokeStyle = colour;
        context.lineWidth = line * (this.penDown ? 2 : 1);
        context.beginPath();
        context.arc(x, y, (this.tool === 'brush' || this.tool === 'eraser' ? this.radius : 4 / this.scale) + extra, 0, 2 * Math.PI);
        if (this.tool === 'eraser') { context.moveTo(x - 3 * line, y); context.lineTo(x + 3 * line, y); }
        context.stroke();
      }
    }
    if (this.corner && this.pointer) {
      const [[x0, y0], [x1, y1]] = [this.corner, this.pointer];
      this.trace(context, [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]], line);
    }
    for (const { inside, points } of this.lines) this.trace(context, points, line * 1.5, inside ? '#fff' : '#ff5252');
    if (!this.points.length) return;
    this.trace(context, [...this.points, ...(this.pointer ? [this.pointer] : [])], line);
    context.fillStyle = '#fff';
    this.points.forEach(([x, y], index) => {
      context.beginPath();
      context.arc(x, y, (index ? 3 : 5) * line, 0, 2 * Math.PI);
      context.fill();
    });
  }

  // A line that is seen on any ground.
  trace(context, path, line, inner = '#fff') {
    for (const [colour, width] of [['#000', 3 * line], [inner, 1.4 * line]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      path.forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.stroke();
    }
  }
}
