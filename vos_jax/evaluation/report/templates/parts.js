const DATA = JSON.parse(document.getElementById('data').textContent);

// Elements are made from text, never from markup: names of sequences may hold any character.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function shape(tag, attributes, text) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// + 0 makes a rounded -0 a plain zero.
const decimal = value => (Number((100 * value).toFixed(1)) + 0).toFixed(1);
const percent = value => (value === null || value === undefined ? '–' : decimal(value));
const change = value => (value === null ? '–' : (value > 0 ? '+' : '') + decimal(value));
const colour = id => DATA.colours[(id - 1) % DATA.colours.length];

function section(title, note, ...children) {
  const parts = [el('h2', {}, title)];
  if (note) parts.push(el('p', {class: 'note'}, note));
  const node = el('section', {}, ...parts, ...children);
  document.getElementById('page').append(node);
  return node;
}

// columns: [{name, value: row => number or text, show: value => text, mark: row => 1 or -1}]; mark says
// whether more is better, and colours the value.
function sortableTable(id, columns, rows, choose) {
  const body = el('tbody');
  const heads = columns.map((column, index) =>
    el('th', {scope: 'col'}, el('button', {onclick: () => sort(index)}, column.name)));
  function sort(index) {
    const ascending = heads[index].getAttribute('aria-sort') !== 'ascending';
    heads.forEach(head => head.removeAttribute('aria-sort'));
    heads[index].setAttribute('aria-sort', ascending ? 'ascending' : 'descending');
    const value = columns[index].value;
    const sorted = [...rows].sort((a, b) => compare(value(a), value(b)) * (ascending ? 1 : -1));
    fill(sorted);
  }
  function fill(ordered) {
    body.replaceChildren(...ordered.map(row => choose ? choosable(row) : el('tr', {}, ...cells(row))));
  }
  const cells = row => columns.map(column => cell(column, row));
  function choosable(row) {
    const mark = event => {
      body.querySelectorAll('.chosen').forEach(one => one.classList.remove('chosen'));
      event.currentTarget.classList.add('chosen');
      choose(row);
    };
    return el('tr', {class: 'choice', tabindex: 0, onclick: mark, onkeydown: event => {
      if (event.key === 'Enter') mark(event);
    }}, ...cells(row));
  }
  fill(rows);
  return el('div', {class: 'scroll'},
    el('table', {id}, el('thead', {}, el('tr', {}, ...heads)), body));
}

function cell(column, row) {
  const value = column.value(row);
  const text = column.show ? column.show(value) : String(value);
  const better = column.mark ? column.mark(row) * value : 0;
  const sign = better ? (better > 0 ? 'up' : 'down') : null;
  return el('td', {class: sign}, text);
}

function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === 'string') return a.localeCompare(b, undefined, {numeric: true});
  return a - b;
}

// series: [{name, colour, dash, points: [[x, y or null], ...], dots}]; y runs from 0 to 1.
function chart({series, label, title, ticks, domain, choose}) {
  const width = 560, height = 210, left = 34, right = 18, top = 10, bottom = 34;
  const xs = series.flatMap(one => one.points.map(point => point[0]));
  const [low, high] = domain || [Math.min(...xs), Math.max(...xs)];
  const x = value => left + (width - left - right) * (high > low ? (value - low) / (high - low) : 0.5);
  const y = value => top + (height - top - bottom) * (1 - value);
  const root = shape('svg', {viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': title});
  for (const value of [0, 0.25, 0.5, 0.75, 1]) {
    root.append(shape('line', {class: 'axis', x1: left, x2: width - right, y1: y(value), y2: y(value)}));
    root.append(shape('text', {x: left - 6, y: y(value) + 4, 'text-anchor': 'end'}, 100 * value));
  }
  for (const [value, text] of ticks || evenTicks(low, high)) {
    root.append(shape('text', {x: x(value), y: height - bottom + 15, 'text-anchor': 'middle'}, text));
  }
  root.append(shape('text', {x: (left + width - right) / 2, y: height - 3, 'text-anchor': 'middle'}, label));
  for (const one of series) {
    root.append(shape('path', {d: pathOf(one.points, x, y), fill: 'none', stroke: one.colour,
      'stroke-width': 1.8, 'stroke-linejoin': 'round', 'stroke-dasharray': one.dash || 'none'}));
    for (const [px, py] of one.dots ? one.points : lonePoints(one.points)) {
      if (py !== null) root.append(shape('circle', {cx: x(px), cy: y(py), r: 3, fill: one.colour}));
    }
  }
  const cursor = shape('line', {class: 'cursor', y1: top, y2: height - bottom, visibility: 'hidden'});
  root.append(cursor);
  root.moveCursor = value => {
    cursor.setAttribute('x1', x(value));
    cursor.setAttribute('x2', x(value));
    cursor.setAttribute('visibility', 'visible');
  };
  if (choose) {
    root.style.cursor = 'crosshair';
    root.addEventListener('click', event => {
      const box = root.getBoundingClientRect();
      const at = (event.clientX - box.left) / box.width * width;
      choose(Math.round(low + (at - left) / (width - left - right) * (high - low)));
    });
  }
  return root;
}

// A gap in a curve stays a gap: an object is not scored in every frame.
function pathOf(points, x, y) {
  let pen = 'M';
  return points.map(([px, py]) => {
    if (py === null) { pen = 'M'; return ''; }
    const step = `${pen}${x(px).toFixed(1)} ${y(py).toFixed(1)}`;
    pen = 'L';
    return step;
  }).join('') || 'M0 0';
}

function lonePoints(points) {
  return points.filter(([, value], index) => value !== null
    && (points[index - 1] || [0, null])[1] === null && (points[index + 1] || [0, null])[1] === null);
}

function evenTicks(low, high) {
  const step = Math.max(1, Math.ceil((high - low) / 8));
  const ticks = [];
  for (let value = Math.ceil(low); value <= high; value += step) ticks.push([value, String(value)]);
  return ticks;
}

function legend(entries) {
  return el('div', {class: 'legend'}, ...entries.map(([name, shade]) =>
    el('span', {}, dot(shade), name)));
}

function dot(shade) { return el('i', {class: 'dot', style: `background:${shade}`}); }

function pictureOf(kind, sequence, stem) {
  const name = `${encodeURIComponent(stem)}.${kind === 'frames' ? 'jpg' : 'png'}`;
  const folder = sequence.split('/').map(encodeURIComponent).join('/');
  return `pictures/${kind}/${folder}/${name}`;
}

// A frame with a mask over it; without frames the masks are on grey.
function stack(sequence, stem, kind, opacity) {
  const hasFrames = DATA.kinds.includes('frames');
  const images = [el('img', {src: pictureOf(hasFrames ? 'frames' : kind, sequence, stem),
    alt: `${sequence}, frame ${stem}`})];
  if (hasFrames) {
    const mask = el('img', {src: pictureOf(kind, sequence, stem), alt: kind});
    mask.style.opacity = opacity;
    images.push(mask);
  }
  return el('div', {class: 'stack'}, ...images);
}

function player(slider, show) {
  let timer = null;
  const button = el('button', {onclick: () => (timer ? stop() : start())}, 'Play');
  function start() {
    button.textContent = 'Pause';
    timer = setInterval(() => {
      slider.value = (Number(slider.value) + 1) % (Number(slider.max) + 1);
      show();
    }, 100);
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    button.textContent = 'Play';
  }
  return button;
}

// The left and right keys belong to a field that has the focus; elsewhere they move the frame.
function stepByKeys(slider, show) {
  document.addEventListener('keydown', event => {
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest('input, select')) return;
    event.preventDefault();
    slider.value = Number(slider.value) + step;
    show();
  });
}

function preload(kinds, sequence, stem) {
  for (const kind of kinds) new Image().src = pictureOf(kind, sequence, stem);
}
