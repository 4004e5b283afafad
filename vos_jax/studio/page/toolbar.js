// The buttons of the tools, and the list of keys.

const TOOLS = [
  ['box', 'Box', 'R', 'M4 6h16v12H4zM4 6h.01M20 6h.01M20 18h.01M4 18h.01'],
  ['scribble', 'Scribble', 'C', 'M4 17c3-9 5-12 7-11s-4 9-2 10 6-8 8-7-3 6-1 7 3-1 4-3'],
  ['brush', 'Brush', 'B', 'M14 6l4 4-7 7-4-4zM7 13c-3 0-3 3-3 5 2 0 6 0 7-1M15 5l2-2 4 4-2 2'],
  ['eraser', 'Eraser', 'E', 'M4 15l9-9 7 7-7 7H8zM9 10l7 7M8 20h12'],
  ['polygon', 'Polygon', 'P', 'M5 8l8-4 7 7-3 8-10 1zM5 8h.01M13 4h.01M20 11h.01M17 19h.01M7 20h.01'],
  ['fill', 'Fill', 'F', 'M5 12l7-7 7 7-7 7zM5 12h14M12 5L9 2M20 16c1 2 2 3 2 4a2 2 0 1 1-4 0c0-1 1-2 2-4z'],
];
const STEPS = [
  ['undo', 'Undo', 'Ctrl+Z', 'M9 7L4 12l5 5M4 12h10a6 6 0 0 1 0 8'],
  ['redo', 'Redo', 'Ctrl+Shift+Z', 'M15 7l5 5-5 5M20 12H10a6 6 0 0 0 0 8'],
];

const $ = (id) => document.getElementById(id);

export function buildToolbar(painter) {
  const box = $('tools'), buttons = {};
  for (const [name, text, key, path] of TOOLS) {
    buttons[name] = button(box, name, text, key, path);
    buttons[name].onclick = () => { painter.setTool(name); update(); };
  }
  box.append(document.createElement('hr'));
  const label = document.createElement('label'), slider = document.createElement('input');
  slider.type = 'range';
  slider.id = 'radius';
  slider.min = 1;
  slider.max = 150;
  slider.title = 'Size of the brush ([ and ])';
  label.append('Size', slider);
  box.append(label, document.createElement('hr'));
  slider.oninput = () => painter.setRadius(Number(slider.value));
  for (const [name, text, key, path] of STEPS) button(box, name, text, key, path).onclick = () => painter[name]();
  function update() {
    for (const [name, element] of Object.entries(buttons)) element.setAttribute('aria-pressed', String(painter.tool === name));
    slider.value = painter.radius;
  }
  update();
  return { update };
}

function button(box, name, text, key, path) {
  const element = document.createElement('button'), space = 'http://www.w3.org/2000/svg';
  element.id = `tool-${name}`;
  element.title = `${text} (${key})`;
  const icon = document.createElementNS(space, 'svg'), line = document.createElementNS(space, 'path');
  icon.setAttribute('viewBox', '0 0 24 24');
  icon.setAttribute('aria-hidden', 'true');
  line.setAttribute('d', path);
  icon.append(line);
  element.append(icon, text);
  box.append(element);
  return element;
}

// Two columns of keys and what they do.
export function showShortcuts(table, keys) {
  const shown = keys.filter(([, key]) => key), half = Math.ceil(shown.length / 2);
  for (let index = 0; index < half; index++) {
    const row = table.insertRow();
    for (const [, key, text] of [shown[index], shown[index + half] ?? [null, '', '']]) {
      const mark = document.createElement('kbd');
      mark.textContent = key;
      row.insertCell().append(key ? mark : '');
      row.insertCell().textContent = text;
    }
  }
}
